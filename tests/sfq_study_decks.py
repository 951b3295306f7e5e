"""Small circuits whose margins are known on paper."""

from __future__ import annotations

from math import inf

from sim.sfq import Deck, loads
from sim.sfq.study.criterion import AllOf, Counts

SWITCH = """B1 1 0 jm
RS 1 0 5
I1 0 1 pwl(0 0 10p 80u)
I2 0 1 pwl(0 0 200p 0 202p 40u)
.model jm jj(rtype=0, rn=1000, cap=0.001pF, icrit=0.1mA)
.tran 0.1p 400p
"""
"""An overdamped junction of 100 uA: it must hold 80 uA without a slip, and slip at 120 uA.

Static limits, I scaled by x: 0.8 x < 1 < 1.2 x, so 5/6 < x < 5/4; Ic by x: 4/5 < x < 6/5; I1 alone: 3/4 < x < 5/4;
I2 alone: 1/2 < x. Near a limit a slip takes ``Phi0/(R sqrt(I^2 - Ic^2))``, 29 ps at 1 % above it, of 200 ps given.
"""


def switch() -> Deck:
    return loads(SWITCH)


def switches() -> AllOf:
    """Holds before 200 ps, slips after."""
    return AllOf((Counts({"B1": (0, 0)}, before_s=200e-12), Counts({"B1": (1, inf)}, after_s=200e-12)))


JTL = """.model jmit jj(rtype=1, vg=2.8mV, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)
.subckt J250 a
B1 a p jmit area=2.5
LP p 0 0.2p
RS a s 2.744
LS s p 1p
.ends
.subckt JTL a q
L1 a 1 2p
X1 J250 1
L2 1 b 2p
L3 b 2 2p
IB 0 b pwl(0 0 5p 350u)
X2 J250 2
L4 2 q 2p
.ends
VA a 0 pwl(0 0 50p 0 52.5p 827.13u 55p 0)
XA JTL a b
XB JTL b c
RT c 0 3
.tran 0.1p 80p
"""
"""Two JTL of the own cell set, one pulse."""
