"""Decks that several tests read."""

from __future__ import annotations

EVERYTHING = """
.model a jj(rtype=0, rn=8, phi=1, cpr={1, 0.25, -0.1})
.model b jj(icrit=0.1m cpr=0.9)
.model w jj(vshunt=0.4m, icrit=0.3m, cct=1)
.subckt s p q
B1 p q a area=1.3 vj=1m phi=0.2 temp=4
B2 p 0 b ic=0.37m neb=3g
R1 p q 0
L1 q 0 0
L2 p 9 -2p
L3 9 0 3p spread=0.2
K1 L2 L4 0.1
L4 q 0 -1p
C1 p 0 1f
.ends
X1 s 1 2
X2 s 2 3
B7 3 0 w lser=0.1p
T1 1 0 4 0 z0=5 td=1p
E1 5 0 1 2 3
F1 6 0 V1 2
G1 7 0 1 2 -1m
H1 8 0 9 10 5
V1 1 0 dc 1m
P1 3 0 pws(0 0 5p 1)
I1 0 1 pulse(0 1m 5p)
I2 0 2 pulse(0 1 2 3 4 5 6)
I3 0 3 sin(0 1m)
I4 0 4 sin(0 1m 2g 3p 4 5 6)
I5 0 5 exp(0 1)
I6 0 6 exp(0 1 2 3 4 5)
I7 0 7 cus(w.dat 2p 3 2 1p 1)
I8 0 8 noise(1u 2p)
I9 0 9 noise(1u 2p 3p)
I10 0 10 1m
I11 0 10 pulse(0 1m 5p) + pwl(0 0 5p 1u)
.tran 0.1p 90p 1p 0.5p 2p UIC DST
.spread 0.1 L=0.05
.option seed=77
.print p(B1.X1) v(1)
.file A.csv
.print i(L2.X2) v(1,2)
"""
