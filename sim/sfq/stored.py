"""What a circuit holds: magnetic, electric and Josephson energy of a state, to close the balance of a run.

    L   sigma^2/2 f inv(Lmat) f        C, B   C V^2/2        B   sigma int_0^x Ic F(u) du,  x = phi - PHI
    T   what is on its way: sum over the last td of (V + Z I)^2/(4 Z) h of both directions

Source: docs/sfq.md 1.2; F of the junction's model.
"""

from __future__ import annotations

import numpy as np

from sim.sfq.circuit import Circuit, Floats
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout
from sim.sfq.reference import supercurrent
from sim.sfq.state import State
from sim.sfq.system import System, coupled_groups, inverse_inductance


def stored_J(circuit: Circuit, system: System, layout: Layout, state: State) -> float:
    """The energy (J) of a state of one corner."""
    f = state.f[:, :, 0]
    node = f[0, layout.state]
    coils, caps = circuit.inductors, circuit.capacitors
    flux = SIGMA_VS * (node[coils.a] - node[coils.b])
    alone = np.ones(len(coils), dtype=bool)
    total = 0.0
    for group in coupled_groups(circuit):
        alone[group] = False
        total += 0.5 * float(flux[group] @ inverse_inductance(circuit, group)[0] @ flux[group])
    total += 0.5 * float((flux[alone] ** 2 / coils.value[alone]).sum())
    past = f[:, layout.state[caps.a]] - f[:, layout.state[caps.b]]
    volt = SIGMA_VS / (2.0 * system.h) * (3.0 * past[0] - 4.0 * past[1] + past[2])
    total += 0.5 * float((caps.value * volt**2).sum())
    total += 0.5 * float((circuit.junctions.c_F * state.jv[0, :, 0] ** 2).sum())
    total += SIGMA_VS * float(_josephson(system, state.jp[:, 0]).sum())
    for k, (ohm, delay) in enumerate(zip(circuit.lines.z0_ohm, circuit.lines.td_s, strict=True)):
        steps = min(int(np.ceil(delay / system.h)), system.depth)
        total += float((state.tw[:steps, 2 * k : 2 * k + 2, 0] ** 2).sum()) * system.h / (4.0 * ohm)
    return total


def _josephson(system: System, phase: Floats) -> Floats:
    """``int_0^x Ic F(u) du`` of each junction in A rad, whole turns left out: they give nothing."""
    x = phase - system.phi
    if system.plain:
        return np.asarray(system.jamp[:, 0] * (1.0 - np.cos(x)))
    x = np.remainder(x + np.pi, 2.0 * np.pi) - np.pi
    at, weight = np.polynomial.legendre.leggauss(24)
    values = np.array([supercurrent(system, 0.5 * x * (1.0 + u) + system.phi) for u in at])
    return np.asarray(0.5 * x * (weight @ values))
