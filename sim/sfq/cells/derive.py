"""Every number of every cell's table, derived again from its netlist by simulation.

    derive(["DFF"])          # simulate and write hardware/sfq_cells/DFF.toml
    check("DFF")             # simulate and say what moved against the file

Delays: two JTL before and behind (``bench``), from the slip of the driver's last junction to that of the load's first.
Separations and rates by search, margins by sweep; what is right is what the cell's Mealy machine says, pulse by pulse.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from export.package import write_text
from hardware.sfq import CELLS
from hardware.sfq_cells import FOLDER, Provenance, SfqCell, SomaFit, Transition, load_cell
from sim.sfq.cells import analogue, converters, peer, sweep, truth
from sim.sfq.cells.bench import STEP_S, bench, digest
from sim.sfq.cells.machines import CONVERTERS, CURRENTS, MACHINES, Machine
from sim.sfq.circuit import Circuit

Progress = Callable[[float], None]
NOISE_K = 4.2
"""Of the jitter and the pass probability; delays, separations and margins are without noise."""

SOLVER = "spikeport sim.sfq, BDF2 in node phases"


def listing() -> list[str]:
    """Names of the cells that can be derived."""
    return [*MACHINES, *CURRENTS, *CONVERTERS]


def derive(
    names: Iterable[str] | None = None, folder: Path = FOLDER, progress: Progress | None = None, *, cells: Path = CELLS,
    josim: str | Path | None = None,
) -> list[Path]:  # fmt: skip
    """Derive cells (default all) from ``cells`` and write their tables, each beside its place and renamed.

    ``josim``: also run each bench in JoSIM, at nominal and at both ends of the bias margin, and say so as ``peer``;
    without it a table keeps what it says of an unchanged netlist.
    Raises ``ValueError`` for a name without a machine, DeckError for a cell that does not do what it should.
    """
    wanted = list(listing() if names is None else names)
    paths = []
    for k, name in enumerate(wanted):
        path = folder / f"{name}.toml"
        paths.append(write_text(path, to_toml(_with_peer(derived(name, cells), path, cells, josim))))
        if progress is not None:
            progress((k + 1) / len(wanted))
    return paths


def _with_peer(cell: SfqCell, path: Path, cells: Path, josim: str | Path | None) -> SfqCell:
    said = ""
    if josim is not None and cell.name in MACHINES:
        m = cell.margins["bias_global"]
        said = peer.compare(bench(MACHINES[cell.name], cells), josim, (1.0, m.low, m.high))
    elif path.is_file():
        old = load_cell(path).provenance
        said = old.peer if old.deck_sha256 == cell.provenance.deck_sha256 else ""
    return replace(cell, provenance=replace(cell.provenance, peer=said))


def derived(name: str, cells: Path = CELLS) -> SfqCell:
    """One cell, derived. Raises as :func:`derive`."""
    if name in CURRENTS:
        return _of_currents(CURRENTS[name], cells)
    if name in CONVERTERS:
        return _converter(CONVERTERS[name], cells)
    if name not in MACHINES:
        raise ValueError(f"no cell '{name}' to derive; there are {', '.join(listing())}")
    b, noisy = bench(MACHINES[name], cells), bench(MACHINES[name], cells, NOISE_K)
    cell = _frame(MACHINES[name], b.circuit, cells)
    return replace(
        cell, transitions=truth.transitions(b, noisy), separations=truth.separations(b), margins=sweep.margins(b),
        max_Hz=truth.max_rate_Hz(b),
        stochastic=analogue.pass_fit(noisy, NOISE_K) if cell.kind == "stochastic" else None,
    )  # fmt: skip


def _of_currents(machine: Machine, cells: Path) -> SfqCell:
    """A synapse on a soma, a soma under two synapses, or a neuron."""
    if machine.name == "NEURON":
        stand, cause, ways = analogue.neuron_stand(cells), "B1|X1|XD", (2, 12, 20e-12)
        fits = [analogue.soma_fit(stand, "IB2|XD", 1, cause, "B1|X2|XD")]
    else:
        plus = 1 if machine.name == "SYNM" else 2
        stand = analogue.soma_stand(plus, 2 - plus, machine.name, cells)
        cause, ways = ("B1|X1|XD" if machine.name == "SYNP" else "B1|X1|XS0"), (1, 8, analogue.PERIOD_S)
        fits = [] if machine.kind == "mealy" else [_branches(n, cells) for n in analogue.BRANCHES]
    delay, slips, ic = analogue.synapse(stand) if machine.kind == "mealy" else analogue.spikes(stand, cause, *ways[1:])
    to, out = machine.step(machine.start, machine.inputs[0])
    return replace(
        _frame(machine, stand.circuit, cells),
        transitions=(Transition(machine.start, machine.inputs[0], to, out, delay, 0.0, ic, slips),),
        margins=analogue.soma_margins(stand, *ways), soma=tuple(fits),
    )  # fmt: skip


def _converter(machine: Machine, cells: Path) -> SfqCell:
    dc = machine.name == "DCSFQ"
    circuit = converters.dc_circuit(cells) if dc else converters.level_circuit(cells)
    rows, margins, numbers = converters.dc_sfq(cells) if dc else converters.sfq_dc(cells)
    return replace(_frame(machine, circuit, cells), transitions=rows, margins=margins, converter=numbers)


def _branches(count: int, cells: Path) -> SomaFit:
    stand = analogue.soma_stand(count, cells=cells)
    return analogue.soma_fit(stand, "IB1|XD", count, "B1|X1|XS0", "B1|X1|XD")


def _frame(machine: Machine, circuit: Circuit, cells: Path) -> SfqCell:
    """The cell without its measured numbers."""
    currents = zip(circuit.currents.names, circuit.currents.shapes, strict=True)
    bias = sum(abs(shape.bias()) for name, shape in currents if name.split("|")[-1] == "XD")
    junctions = sum(name.split("|")[-1] == "XD" for name in circuit.junctions.names)
    return SfqCell(
        machine.name, machine.title, machine.name, machine.inputs, machine.outputs, machine.controls,
        tuple(p for p in (*machine.inputs, *machine.outputs) if p in machine.anti), machine.start, junctions, bias,
        machine.kind, (), (), {}, math.nan, (), None, _notes(machine), {},
        Provenance(digest(machine.name, cells), STEP_S, NOISE_K, SOLVER, datetime.date.today().isoformat()),
        FOLDER / f"{machine.name}.toml",
    )  # fmt: skip


def _notes(machine: Machine) -> tuple[str, ...]:
    return (machine.note,) if machine.note else ()


def check(name: str, folder: Path = FOLDER, *, cells: Path = CELLS) -> list[str]:
    """What moved between a cell's file and a fresh derivation, one line each; nothing if it stands.

    Times may differ by 0.1 ps, a jitter by 0.02 ps, currents by 0.02 uA, margins by one step, the rest by 1e-4.
    """
    old, new = load_cell(name, folder), derived(name, cells)
    moved: list[str] = []
    if old.provenance.deck_sha256 != new.provenance.deck_sha256:
        moved.append(f"{name}: the netlist changed after the table was derived")
    flat_old, flat_new = flat(old), flat(new)
    for key in [*flat_old, *(k for k in flat_new if k not in flat_old)]:
        a, b = flat_old.get(key), flat_new.get(key)
        if a is None or b is None or abs(a - b) > _slack(key, a):
            moved.append(f"{name}: {key} was {a}, is {b}")
    return moved


def _slack(key: str, value: float) -> float:
    if key.endswith("_s"):
        return 0.02e-12 if "jitter" in key else max(0.1e-12, 1e-4 * value)
    if key.startswith("converter"):
        return 1e-3 * abs(value)
    if key.endswith("_A"):
        return 0.02e-6  # written to 0.01 uA
    return 0.0101 if key.startswith("margin") else 1e-4 * abs(value)


def flat(cell: SfqCell) -> dict[str, float]:
    """The numbers of a cell by name, for comparing."""
    out: dict[str, float] = {"junctions": cell.junctions, "bias_A": cell.bias_A}
    for t in cell.transitions:
        head = f"{t.source} {t.on}"
        out |= {f"{head} slips": t.slips, f"{head} slip_ic_A": t.slip_ic_A}
        if t.out:
            out |= {f"{head} delay_s": t.delay_s, f"{head} jitter_s": t.jitter_s}
    out |= {f"{s.first} {s.then} least_s": s.least_s for s in cell.separations}
    for name, m in cell.margins.items():
        out |= {f"margin {name} low": m.low, f"margin {name} high": m.high}
    if not math.isnan(cell.max_Hz):
        out["max_Hz"] = cell.max_Hz
    for row in cell.soma:
        out |= {f"soma {row.branches} {k}": getattr(row, k) for k in ("pulse_A", "tau_s", "ic_A")}
    if cell.stochastic is not None:
        out |= {f"stochastic {k}": getattr(cell.stochastic, k) for k in ("i50_A", "sigma_A")}
    return out | {f"converter {k}": v for k, v in cell.converter.items()}


HEAD = """# SFQ cell {name}. Derived by simulation from hardware/sfq_cells.inc (sim/sfq/cells/derive.py); do not edit.
# Element values are our own realisation for a 10 kA/cm2-class niobium process; no foundry has made it.
"""


def to_toml(cell: SfqCell) -> str:
    """A cell's file: times to 10 fs, currents to 10 nA."""
    lines = [HEAD.format(name=cell.name)]
    lines += [f"{k} = {_text(getattr(cell, k))}" for k in ("name", "title", "subckt", "inputs", "outputs", "controls")]
    lines += [f"anti = {_text(cell.anti)}", f"start = {_text(cell.start)}", f"junctions = {cell.junctions}"]
    lines += [f"bias_A = {_amp(cell.bias_A)}", f"kind = {_text(cell.kind)}"]
    for t in cell.transitions:
        lines += ["", "[[transition]]", f"from = {_text(t.source)}", f"on = {_text(t.on)}", f"to = {_text(t.to)}"]
        lines += [f"out = {_text(t.out)}"]
        if t.out:
            lines += [f"delay_s = {_time(t.delay_s)}", f"jitter_s = {_time(t.jitter_s)}"]
        lines += [f"slip_ic_A = {_amp(t.slip_ic_A)}", f"slips = {t.slips}"]
    for s in cell.separations:
        lines += ["", "[[separation]]", f"first = {_text(s.first)}", f"then = {_text(s.then)}"]
        lines += [f"least_s = {_time(s.least_s)}"]
    lines += ["", *_extras(cell)]
    for note in cell.violations:
        lines += ["[[violation]]", f"note = {_text(note)}", ""]
    lines += ["[margin]"]
    lines += [f"{_key(n)} = {{ low = {m.low:g}, high = {m.high:g} }}" for n, m in cell.margins.items()]
    if not math.isnan(cell.max_Hz):
        lines += ["", "[rate]", f"max_Hz = {cell.max_Hz:.6g}"]
    lines += ["", "[provenance]"]
    p = cell.provenance
    lines += [
        f"deck_sha256 = {_text(p.deck_sha256)}",
        f"step_s = {p.step_s:.4g}",
        f"temperature_K = {p.temperature_K:g}",
    ]
    lines += [f"solver = {_text(p.solver)}", f"derived = {_text(p.derived)}"]
    lines += [f"peer = {_text(p.peer)}"] if p.peer else []
    return "\n".join(lines) + "\n"


def _extras(cell: SfqCell) -> list[str]:
    lines: list[str] = []
    for row in cell.soma:
        lines += ["[[soma]]", f"branches = {row.branches}", f"pulse_A = {_amp(row.pulse_A)}"]
        lines += [f"tau_s = {_time(row.tau_s)}", f"ic_A = {_amp(row.ic_A)}", ""]
    if cell.stochastic is not None:
        f = cell.stochastic
        lines += ["[stochastic]", f"i50_A = {_amp(f.i50_A)}", f"sigma_A = {_amp(f.sigma_A)}"]
        lines += [f"temperature_K = {f.temperature_K:g}", ""]
    if cell.converter:
        lines += ["[converter]", *(f"{k} = {v:.4g}" for k, v in cell.converter.items()), ""]
    return lines


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else f'"{name}"'


def _text(value: str | Iterable[str]) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "[" + ", ".join(_text(v) for v in value) + "]"


def _time(value: float) -> str:
    return f"{value * 1e12:.2f}e-12"


def _amp(value: float) -> str:
    return f"{value * 1e6:.2f}e-6"


def moved(names: Iterable[str] | None = None, folder: Path = FOLDER) -> Mapping[str, list[str]]:
    """:func:`check` of several cells (default all), those that moved only."""
    found = {name: check(name, folder) for name in (listing() if names is None else names)}
    return {name: lines for name, lines in found.items() if lines}
