"""The junction model of a deck: names, defaults and what an instance makes of it.

    I = Ic F(phi - PHI) + V G(V) + C dV/dt,    F(x) = sum_k CPR[k] sin(k x)

G has three regions (RTYPE 1): 1/R0 below the gap VG - DELV/2, Ic/(ICFCT DELV) across it, 1/RN above; RTYPE 0 is
1/RN throughout. Ic and C scale with the area, R0 and RN against it. Giving T, TC or D turns the temperature on:
``Delta = 1.76 kB TC sqrt(cos((pi/2)(T/TC)^2))``, ``RN = pi Delta/(2 e Ic) tanh(Delta/2kT)`` and
``F = sin(x)/q tanh(q Delta/2kT)/tanh(Delta/2kT)``, ``q = sqrt(1 - D sin^2(x/2))``.
Source: JoSIM Model.hpp (defaults), JJ.cpp, Simulation.cpp; docs/sfq.md 1.3, 1.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from sim.sfq import constants
from sim.sfq.errors import DeckError, Where
from sim.sfq.lines import Line, split_outside


@dataclass(frozen=True)
class JunctionModel:
    """A ``.model`` line with its values; the defaults are JoSIM's (docs/sfq.md 1.3). SI units, radians, kelvin."""

    rtype: int = 1
    vg_V: float = 2.8e-3
    ic_A: float = 1e-3
    rn_ohm: float = 5.0
    r0_ohm: float = 30.0
    c_F: float = 2.5e-12
    delv_V: float = 0.1e-3
    icfct: float = math.pi / 4
    phi_rad: float = 0.0
    cpr: tuple[float, ...] = (1.0,)
    temperature_K: float = 4.2
    tc_K: float = 9.1
    transparency: float = 0.0
    thermal: bool = False

    def gap_over_2kt(self) -> float:
        """``Delta(T)/2 kB T``, or 0 where the model has no temperature."""
        if not self.thermal:
            return 0.0
        return self.gap_J() / (2.0 * constants.BOLTZMANN_J_K * self.temperature_K)

    def gap_J(self) -> float:
        """``Delta(T) = 1.76 kB TC sqrt(cos((pi/2)(T/TC)^2))`` in J."""
        x = 0.5 * math.pi * (self.temperature_K / self.tc_K) ** 2
        return constants.GAP_PER_KTC * constants.BOLTZMANN_J_K * self.tc_K * math.sqrt(math.cos(x))

    def scaled(self, area: float) -> JunctionModel:
        """The model of an instance of this relative area."""
        ic = self.ic_A * area
        rn = self.rn_ohm / area
        if self.thermal:
            rn = math.pi * self.gap_J() / (2.0 * constants.ELECTRON_C * ic) * math.tanh(self.gap_over_2kt())
        r0 = rn if self.rtype == 0 else self.r0_ohm / area
        return replace(self, ic_A=ic, c_F=self.c_F * area, rn_ohm=rn, r0_ohm=r0)


NAMES = {
    "RTYPE": "rtype", "VG": "vg_V", "VGAP": "vg_V", "IC": "ic_A", "ICRIT": "ic_A", "RN": "rn_ohm", "R0": "r0_ohm",
    "C": "c_F", "CAP": "c_F", "DELV": "delv_V", "ICFCT": "icfct", "ICFACT": "icfct", "PHI": "phi_rad",
    "T": "temperature_K", "TC": "tc_K", "D": "transparency",
}  # fmt: skip
POSITIVE = ("vg_V", "ic_A", "rn_ohm", "r0_ohm", "delv_V", "icfct", "temperature_K", "tc_K")


@dataclass(frozen=True)
class ModelCard:
    """A ``.model`` line as written: ``(parameter, text)`` pairs, evaluated when the deck is flattened."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    where: Where

    def build(self, evaluate: Callable[[str], float]) -> JunctionModel:
        """The model with its numbers. Raises DeckError for a value outside its range."""
        values: dict[str, object] = {}
        for key, text in self.pairs:
            if key == "CPR":
                values["cpr"] = tuple(evaluate(v) for v in split_outside(text.strip("{}"), ", "))
            else:
                values[NAMES[key]] = evaluate(text)
                values["thermal"] = values.get("thermal", False) or key in ("T", "TC", "D")
        rtype = values.get("rtype", 1)
        if rtype not in (0, 1):
            raise DeckError(
                self.where, self.name, f"rtype={rtype}", "use 0 (normal resistance) or 1 (piecewise linear)"
            )
        values["rtype"] = int(rtype == 1)
        model = JunctionModel(**values)  # type: ignore[arg-type]  # keys are NAMES, values float
        self._check(model)
        return model

    def _check(self, model: JunctionModel) -> None:
        for key in POSITIVE:
            if getattr(model, key) <= 0:
                raise DeckError(self.where, self.name, f"{key} is {getattr(model, key):g}", "give a value above 0")
        if model.c_F < 0 or not 0 <= model.transparency < 1 or not model.cpr:
            raise DeckError(self.where, self.name, "C < 0, D outside 0..1 or an empty CPR", "correct the value")
        if model.thermal and model.temperature_K >= model.tc_K:
            raise DeckError(
                self.where, self.name, f"T {model.temperature_K:g} K is not below TC", "lower T or raise TC"
            )


def parse_model(line: Line) -> ModelCard:
    """``.model name JJ(key=value, ..)``; brackets and commas are optional. Raises DeckError."""
    m = re.match(r"^\.?MODEL\s+(\S+)\s+(JJ)?\s*\(?(.*?)\)?\s*$", re.sub(r"\s*=\s*", "=", line.text), re.DOTALL)
    if m is None or m[2] is None:
        raise DeckError(line.where, line.text, "not a junction model", "write .model name jj(rtype=1, icrit=0.1mA, ..)")
    pairs = []
    for part in split_outside(m[3], ", \t"):
        key, _, text = part.partition("=")
        if not text or (key not in NAMES and key != "CPR"):
            raise DeckError(line.where, m[1], f"unknown model parameter {part!r}", f"known: {', '.join(NAMES)}, CPR")
        pairs.append((key, text))
    return ModelCard(m[1], tuple(pairs), line.where)
