"""The junction model of a deck: names, defaults and what an instance makes of it.

    I = Ic F(phi - PHI) + V G(V) + C dV/dt,    F(x) = sum_k CPR[k] sin(k x)

G has three regions (RTYPE 1): 1/R0 below the gap VG - DELV/2, Ic/(ICFCT DELV) across it, 1/RN above; RTYPE 0 is
1/RN throughout. Ic and C scale with the area, R0 and RN against it. Giving T, TC or D turns the temperature on:
``Delta = 1.76 kB TC sqrt(cos((pi/2)(T/TC)^2))``, ``RN = pi Delta/(2 e Ic) tanh(Delta/2kT)`` and
``F = sin(x)/q tanh(q Delta/2kT)/tanh(Delta/2kT)``, ``q = sqrt(1 - D sin^2(x/2))``.

A parameter that only WRspice has makes the model WRspice's: its defaults, RTYPE 0 for a junction without conductance,
R0 = VM/ICRIT, RN = ICRN/ICRIT, and VSHUNT a resistor of VSHUNT/Ic with LSH0 + LSH1 R in series, beside the junction.
Source: JoSIM Model.hpp (defaults), JJ.cpp, Simulation.cpp; WRspice manual, RSJ model; docs/sfq.md 1.3, 1.4.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

from sim.sfq import constants
from sim.sfq.errors import DeckError, DeckWarning, Where
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
    vshunt_V: float = 0.0
    lsh0_H: float = 0.0
    lsh1_H_ohm: float = 0.0

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
WRSPICE = {
    "VM", "ICRN", "RSUB", "RNORM", "CPIC", "CMU", "GMU", "CCT", "PIJJ", "ICON", "ICS", "LEVEL", "TNOM", "DEFTEMP",
    "TCFCT", "TDEBYE", "FORCE", "VSHUNT", "LSH0", "LSH1", "TSFACTOR", "TSACCEL", "NOISE", "GMIN", "COEFFSET",
}  # fmt: skip
"""Parameters of WRspice that JoSIM does not have."""

ABSENT_OHM = 1e12
"""A resistance that is not there."""

POSITIVE = ("vg_V", "ic_A", "rn_ohm", "r0_ohm", "delv_V", "icfct", "temperature_K", "tc_K")


@dataclass(frozen=True)
class ModelCard:
    """A ``.model`` line as written: ``(parameter, text)`` pairs, evaluated when the deck is flattened."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    where: Where

    def build(self, evaluate: Callable[[str], float]) -> JunctionModel:
        """The model with its numbers. Raises DeckError for a value outside its range."""
        numbers: dict[str, float] = {}
        cpr: tuple[float, ...] = (1.0,)
        for key, text in self.pairs:
            if key == "CPR":
                cpr = tuple(evaluate(v) for v in split_outside(text.strip("{}"), ", "))
            else:
                numbers[key] = 0.0 if key == "COEFFSET" else evaluate(text)
        model = self._wrspice(numbers) if WRSPICE & numbers.keys() else self._josim(numbers)
        model = replace(model, cpr=cpr)
        self._check(model)
        return model

    def _josim(self, numbers: dict[str, float]) -> JunctionModel:
        values: dict[str, float] = {NAMES[key]: value for key, value in numbers.items()}
        rtype = values.pop("rtype", 1.0)
        if rtype not in (0, 1):
            said = f"{self.where}: {self.name}: rtype={rtype:g} is taken as 1 (piecewise linear), as in JoSIM"
            warnings.warn(DeckWarning(said), stacklevel=2)
        thermal = not {"T", "TC", "D"}.isdisjoint(numbers)
        return JunctionModel(rtype=int(rtype != 0), thermal=thermal, **values)  # type: ignore[arg-type]  # keys are NAMES

    def _wrspice(self, numbers: dict[str, float]) -> JunctionModel:
        """WRspice's RSJ model; what of it has no equal here is said."""
        get = numbers.get
        ic = get("ICRIT", get("ICS", get("IC", 1e-3)))
        cap = get("CAP", get("C", get("CPIC", 0.7e-9) * ic))
        level, rtype, cct = get("LEVEL", 1.0), get("RTYPE", 1.0), get("CCT", 1.0)
        r0 = get("R0", get("RSUB", get("VM", 16.5e-3) / (ic or 1.0)))
        rn = get("RN", get("RNORM", get("ICRN", 1.65e-3) / (ic or 1.0)))
        if rtype == 0:
            r0 = rn = ABSENT_OHM
        different = [
            what
            for what, true in (
                (f"level={level:g} (taken as 1, the RSJ model)", level not in (1, 2)),
                (f"rtype={rtype:g} (taken as 1, piecewise linear)", rtype not in (0, 1)),
                (f"cct={cct:g} (taken as 1, a fixed critical current)", cct != 1),
                ("cmu, gmu (all values scale with the area)", bool(get("CMU") or get("GMU"))),
                ("deftemp unlike tnom (values are those at tnom)", get("DEFTEMP", 4.2) != get("TNOM", 4.2)),
            )
            if true
        ]
        if different:
            said = f"{self.where}: {self.name}: not modelled of WRspice's: {'; '.join(different)}"
            warnings.warn(DeckWarning(said), stacklevel=2)
        return JunctionModel(
            rtype=int(rtype != 0), vg_V=get("VG", get("VGAP", 2.6e-3)), ic_A=ic, rn_ohm=rn, r0_ohm=r0, c_F=cap,
            delv_V=get("DELV", 80e-6), icfct=get("ICFCT", get("ICFACT", math.pi / 4)),
            phi_rad=math.pi if get("PIJJ") else get("PHI", 0.0),
            vshunt_V=get("VSHUNT", 0.0), lsh0_H=get("LSH0", 0.0), lsh1_H_ohm=get("LSH1", 0.0),
        )  # fmt: skip

    def _check(self, model: JunctionModel) -> None:
        for key in POSITIVE:
            if getattr(model, key) <= 0:
                raise DeckError(self.where, self.name, f"{key} is {getattr(model, key):g}", "give a value above 0")
        if model.c_F < 0 or not 0 <= model.transparency < 1 or not model.cpr:
            raise DeckError(self.where, self.name, "C < 0, D outside 0..1 or an empty CPR", "correct the value")
        if model.vshunt_V < 0 or model.lsh0_H < 0 or model.lsh1_H_ohm < 0:
            raise DeckError(self.where, self.name, "VSHUNT, LSH0 or LSH1 below 0", "correct the value")
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
        if not text:
            raise DeckError(line.where, m[1], f"{part!r} is no key=value", f"known: {', '.join(NAMES)}, CPR")
        if key not in NAMES and key not in WRSPICE and key != "CPR":
            said = f"{line.where}: {m[1]}: unknown model parameter {part} is ignored, as in JoSIM"
            warnings.warn(DeckWarning(f"{said}; known: {', '.join(NAMES)}, CPR"), stacklevel=2)
            continue
        pairs.append((key, text))
    return ModelCard(m[1], tuple(pairs), line.where)
