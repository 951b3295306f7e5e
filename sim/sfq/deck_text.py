"""A circuit as the text of a flat deck that JoSIM opens: all subcircuits expanded, all values numbers.

``loads(flat(c)).flatten()`` is ``c`` again, up to the order of its nodes; of a model with a temperature T and TC are
found from RN and the gap, to some 1e-14. What JoSIM does not know (initial conditions) stands where it does not look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sim.sfq.circuit import Circuit, Floats, Ints, Sources
from sim.sfq.constants import BOLTZMANN_J_K, ELECTRON_C, GAP_PER_KTC
from sim.sfq.deck import Tran
from sim.sfq.shapes import Custom, Dc, Exp, Noise, Pulse, Pwl, Pws, Shape, Sin, Sum


def flat(circuit: Circuit, title: str = "flat deck") -> str:
    """The deck's text. Errors: ``ValueError`` for a source whose shape no deck can write."""
    names = circuit.nodes
    lines = [f"* {line}" for line in title.splitlines() or ["flat deck"]]
    lines += _models(circuit)
    lines += _two(circuit)
    lines += _junctions(circuit)
    for sources in (circuit.currents, circuit.voltages, circuit.phases):
        lines += _sources(sources, names)
    m, t, k = circuit.mutuals, circuit.lines, circuit.controlled
    inductors = circuit.inductors.names
    for name, la, lb, value in zip(m.names, m.la.tolist(), m.lb.tolist(), m.k.tolist(), strict=True):
        lines.append(f"{name} {inductors[la]} {inductors[lb]} {value!r}")
    for name, ends, z0, td in zip(t.names, _named(names, t.a, t.b, t.c, t.d), *_lists(t.z0_ohm, t.td_s), strict=True):
        lines.append(f"{name} {ends} Z0={z0!r} TD={td!r}")
    for name, ends, gain in zip(k.names, _named(names, k.a, k.b, k.ca, k.cb), k.gain.tolist(), strict=True):
        lines.append(f"{name} {ends} {gain!r}")
    lines += _controls(circuit)
    return "\n".join([*lines, ".end", ""])


def _lists(*arrays: Floats) -> list[list[float]]:
    return [a.tolist() for a in arrays]


def _named(names: tuple[str, ...], *ends: Ints) -> Iterator[str]:
    """The node names of each element, with spaces."""
    for nodes in zip(*(e.tolist() for e in ends), strict=True):
        yield " ".join(names[n] for n in nodes)


def _two(circuit: Circuit) -> Iterator[str]:
    for kind in ("resistors", "inductors", "capacitors"):
        group = getattr(circuit, kind)
        extra = _extras(circuit, kind, len(group))
        for k, (name, ends, value) in enumerate(
            zip(group.names, _named(circuit.nodes, group.a, group.b), group.value.tolist(), strict=True)
        ):
            yield f"{name} {ends} {value!r}{extra[k] if extra else ''}"


def _extras(circuit: Circuit, kind: str, count: int) -> list[str]:
    """`` temp=.. neb=.. spread=..`` of each element; empty where the circuit has none."""
    words = ("temp", "neb", "spread") if kind in ("resistors", "junctions") else ("spread",)
    per = {"temp": circuit.temperature_K, "neb": circuit.neb_Hz, "spread": circuit.spread}
    given = {w: getattr(per[w], kind).tolist() for w in words if per[w] is not None}
    if not given:
        return []
    return ["".join(f" {w}={values[k]!r}" for w, values in given.items() if values[k]) for k in range(count)]


def _model_rows(circuit: Circuit) -> list[tuple[float, ...]]:
    j = circuit.junctions
    columns = (j.rtype, j.ic_A, j.c_F, j.r0_ohm, j.rn_ohm, j.vg_V, j.delv_V, j.icfct, j.phi_rad, j.gap, j.transparency)
    rows = zip(*(c.tolist() for c in columns), strict=True)
    return [(*row, *cpr) for row, cpr in zip(rows, j.cpr.tolist(), strict=True)]


def _numbers(circuit: Circuit) -> dict[tuple[float, ...], int]:
    """The different models, numbered in the order of their first junction."""
    numbers: dict[tuple[float, ...], int] = {}
    for row in _model_rows(circuit):
        numbers.setdefault(row, len(numbers))
    return numbers


def _models(circuit: Circuit) -> Iterator[str]:
    for row, number in _numbers(circuit).items():
        rtype, ic, c, r0, rn, vg, delv, icfct, phi, gap, transparency, *cpr = row
        values = {
            "RTYPE": int(rtype),
            "ICRIT": ic,
            "CAP": c,
            "R0": r0,
            "RN": rn,
            "VG": vg,
            "DELV": delv,
            "ICFCT": icfct,
        }
        if phi:
            values["PHI"] = phi
        if gap:
            values |= dict(zip(("T", "TC"), _temperatures(ic, rn, gap), strict=True)) | {"D": transparency}
        while len(cpr) > 1 and not cpr[-1]:
            cpr.pop()
        harmonics = "" if cpr == [1.0] else f", CPR={cpr[0]!r}" if len(cpr) == 1 else f", CPR={{{_words(cpr, ',')}}}"
        yield f".model M{number} jj({', '.join(f'{k}={v!r}' for k, v in values.items())}{harmonics})"


def _temperatures(ic: float, rn: float, gap: float) -> tuple[float, float]:
    """T and TC of which RN and Delta/2kT come: the equations of ``models`` solved for them."""
    delta = rn * 2.0 * ELECTRON_C * ic / (math.pi * math.tanh(gap))
    t = delta / (2.0 * gap * BOLTZMANN_J_K)
    # 2 gap = 1.76 x sqrt(cos(pi/2 / x^2)) grows with x = TC/T from 0 at x = 1
    low, high = 1.0, 2.0 + 2.0 * gap
    for _ in range(200):
        x = 0.5 * (low + high)
        low, high = (x, high) if GAP_PER_KTC * x * math.sqrt(math.cos(0.5 * math.pi / x**2)) < 2.0 * gap else (low, x)
    return t, t * high


def _junctions(circuit: Circuit) -> Iterator[str]:
    j, numbers, extra = circuit.junctions, _numbers(circuit), _extras(circuit, "junctions", len(circuit.junctions))
    starts = {"VJ": circuit.start_V, "PHI": circuit.start_rad}
    area = "" if circuit.spread is None else " area=1"
    ends = _named(circuit.nodes, j.a, j.b)
    for k, (name, nodes, row) in enumerate(zip(j.names, ends, _model_rows(circuit), strict=True)):
        start = "".join(f" {w}={v[k].item()!r}" for w, v in starts.items() if v is not None)
        yield f"{name} {nodes}{start} M{numbers[row]}{area}{extra[k] if extra else ''}"


def _sources(sources: Sources, names: tuple[str, ...]) -> Iterator[str]:
    for name, ends, shape in zip(sources.names, _named(names, sources.a, sources.b), sources.shapes, strict=True):
        short = name[0] in "RL" and shape == Dc(0.0)
        yield f"{name} {ends} {'0' if short else shape_text(shape, name)}"


def shape_text(shape: Shape, name: str) -> str:
    """A shape as a deck writes it. Errors: ``ValueError`` naming the source for a shape that has no text."""
    if isinstance(shape, Dc):
        return f"dc {shape.v!r}"
    if isinstance(shape, Pwl | Pws):
        points = [v for pair in zip(shape.times, shape.values, strict=True) for v in pair]
        return f"{'pwl' if isinstance(shape, Pwl) else 'pws'}({_words(points)})"
    if isinstance(shape, Pulse):
        edges = [shape.rise, shape.fall, shape.width, shape.period]
        return f"pulse({_words([shape.low, shape.high, shape.delay, *edges])})"
    if isinstance(shape, Sin):
        rest = [] if shape.frequency is None else [shape.delay, shape.damping, shape.phase_deg, shape.cycles]
        return f"sin({_words([shape.offset, shape.amplitude, shape.frequency, *rest])})"
    if isinstance(shape, Exp):
        return f"exp({_words([shape.first, shape.second, shape.delay1, shape.tau1, shape.delay2, shape.tau2])})"
    if isinstance(shape, Custom):
        numbers = [shape.interval, shape.scale, shape.mode, shape.delay, int(shape.periodic)]
        return f"cus({shape.file} {_words(numbers)})"
    if isinstance(shape, Noise):
        return f"noise({_words([shape.amplitude, shape.delay, shape.interval])})"
    if isinstance(shape, Sum):
        return " + ".join(shape_text(term, name) for term in shape.terms)
    raise ValueError(f"{name}: no deck can write its shape {shape}; give it one of the shapes of sim.sfq.shapes")


def _words(numbers: list[float] | list[float | None], separator: str = " ") -> str:
    """Numbers that read back as they are, up to the first that is left to its default."""
    given = [repr(v) for v in numbers if v is not None]
    return separator.join(given[: next((k for k, v in enumerate(numbers) if v is None), len(numbers))])


def _controls(circuit: Circuit) -> Iterator[str]:
    if circuit.seed is not None:
        yield f".option seed={circuit.seed}"
    if circuit.tran is not None:
        yield _tran(circuit.tran)
    file = ""
    for request in circuit.requests:
        if request.file != file:
            file = request.file
            yield f".file {file}"
        yield f".print {request.label}"


def _tran(tran: Tran) -> str:
    window = f" {tran.window_s!r}" if tran.window_s or tran.uic else ""
    words = f"{' UIC' if tran.uic else ''}{'' if tran.startup else ' DST'}"
    return f".tran {tran.step_s!r} {tran.stop_s!r} {tran.print_start_s!r} {tran.print_step_s!r}{window}{words}"
