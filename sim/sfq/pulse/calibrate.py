"""The pulse level's times, from the junction level: ``python -m sim.sfq.pulse.calibrate`` writes ``timing.toml``.

What a cell does is its table in ``hardware/sfq_cells``; here is when. Two minutes for all cells. Every cell is measured
between JTLs, then every driver with every load, then every transition after every input, then the somas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from export.package import write_text
from hardware.sfq import library as netlists
from hardware.sfq_cells import load_cells
from sim.sfq.pulse import soma
from sim.sfq.pulse.bench import STEP_S
from sim.sfq.pulse.cells import PulseCell, SomaRow
from sim.sfq.pulse.gaps import Gap, gaps
from sim.sfq.pulse.library import TIMING, machines
from sim.sfq.pulse.measure import Blend, Pair, base, blends, blocked, pairs, twin
from sim.sfq.pulse.to_deck import used

Progress = Callable[[float], None]
KNOWN_S = 0.03e-12
"""Extra delays below this are not written: the simulation's step does not tell them."""
BIASES_A = (0.0, 60e-6, 110e-6, 140e-6, 165e-6, 190e-6, 215e-6)
MEANS_S = (12e-12, 16e-12, 22e-12, 32e-12)
"""Between two pulses into a soma, all branches together."""


def calibrate(path: Path = TIMING, progress: Progress | None = None) -> Path:
    """Measure everything and write it. Errors: CellError for a cell that does not do what its table says."""
    library = {name: twin(cell) for name, cell in machines().items()}
    mealy = [name for name, cell in library.items() if cell.kind != "soma"]
    lines = [_head(library)]
    for k, name in enumerate(mealy):
        library[name] = base(library, library[name])
        lines += _delays(library[name])
        lines += [row for gap in gaps(library, library[name]) for row in _gap(name, gap)]
        _tell(progress, 0.4 * (k + 1) / len(mealy))
    for name in mealy:
        if library[name].controls:
            slips, ic = blocked(library, library[name])
            lines.append(f'[[blocked]]\ncell = "{name}"\nslips = {slips}\nslip_ic_A = {ic:.4g}\n')
        lines += [_blend(blend) for blend in blends(library, library[name])]
    _tell(progress, 0.5)
    lines += [row for pair in pairs(library) for row in _pair(pair)]
    _tell(progress, 0.7)
    rows = [(name, row) for name in ("SOMA", "NEURON") for row in load_cells()[name].soma]
    for k, (name, s) in enumerate(rows):
        begin = SomaRow(s.branches, s.pulse_A, s.tau_s, s.ic_A, float(s.branches))
        lines.append(_soma(name, *soma.fit(list(soma_records(library, s.branches, name)), begin)))
        _tell(progress, 0.7 + 0.3 * (k + 1) / len(rows))
    return write_text(path, "\n".join(lines))


def soma_records(library: Mapping[str, PulseCell], branches: int, cell: str = "SOMA") -> Iterable[soma.Record]:
    """Random trains at several rates and biases, in half of the runs a part of the branches inhibits."""
    for n, bias in enumerate(BIASES_A):
        rng = np.random.default_rng(100 * branches + n)
        for k, mean in enumerate(MEANS_S):
            down = (branches // 4 + (1 < branches < 4)) * (k % 2 == 0)
            signs = [1] * (branches - down) + [-1] * down
            trains = soma.random_trains(rng, branches, max(28e-12, branches * mean))
            yield soma.record(library, signs, bias, trains, cell)


def _tell(progress: Progress | None, part: float) -> None:
    if progress is not None:
        progress(part)


def _ps(seconds: float) -> str:
    return f"{seconds * 1e12:.3f}e-12"


def _head(library: Mapping[str, PulseCell]) -> str:
    return (
        "# Times of the SFQ cells between their neighbours, derived from hardware/sfq_cells.inc by simulation at\n"
        "# junction level; do not edit: python -m sim.sfq.pulse.calibrate writes it again. Keys: see library.py.\n\n"
        f'version = 1\nstep_s = {STEP_S:g}\nsolver = "spikeport sim.sfq, BDF2 in node phases"\n\n'
        f"[netlists]\n{''.join(f'{n} = {chr(34)}{fingerprint(n)}{chr(34)}{chr(10)}' for n in library)}"
    )


def fingerprint(cell: str) -> str:
    """Of the netlist of a cell and all that it is made of."""
    model, cells = netlists()
    return hashlib.sha256("\n".join([model, *used(cells, {cell})]).encode()).hexdigest()[:16]


def _delays(cell: PulseCell) -> list[str]:
    return [
        f'[[delay]]\ncell = "{cell.name}"\nfrom = "{t.state}"\non = "{t.on}"\nout = "{e.out}"\n'
        f"delay_s = {_ps(e.delay_s)}\n"
        for t in cell.transitions
        for e in t.emits
    ]  # fmt: skip


def _gap(name: str, gap: Gap) -> list[str]:
    where = f'cell = "{name}"\nfrom = "{gap.state}"\nfirst = "{gap.first}"\nthen = "{gap.then}"'
    out = [f"[[separation]]\n{where}\nleast_s = {_ps(gap.least_s)}\n"] if gap.least_s > 0.0 else []
    known = [k for k, extra in enumerate(gap.extra_s) if abs(extra) >= KNOWN_S]
    if known:
        n = min(known[-1] + 2, len(gap.since_s))
        since, extra = (", ".join(_ps(v) for v in row[:n]) for row in (gap.since_s, gap.extra_s))
        out.append(f"[[recovery]]\n{where}\nsince_s = [{since}]\nextra_s = [{extra}]\n")
    return out


def _blend(blend: Blend) -> str:
    row = f'[[blend]]\ncell = "{blend.cell}"\non = "{blend.on}"\nout = "{blend.out}"'
    return f"{row}\nper_s = {blend.per_s:.4g}\n"


def _pair(pair: Pair) -> list[str]:
    row = f'[[pair]]\ndriver = "{pair.driver}"\nload = "{pair.load}"'
    n = pair.neighbours
    if pair.misfit:
        return [f'{row}\nmisfit = "{pair.misfit.replace(chr(34), chr(39))}"\n']
    if max(map(abs, (*n.later_s, *n.after_s, *n.aside_s.values()))) < KNOWN_S / 3:
        return []
    later, after = (", ".join(map(_ps, values)) for values in (n.later_s, n.after_s))
    aside = ", ".join(f"{port} = {_ps(t)}" for port, t in n.aside_s.items())
    return [f"{row}\nlater_s = [{later}]\nafter_s = [{after}]\naside_s = {{ {aside} }}\n"]


def _soma(name: str, row: SomaRow, rms: float) -> str:
    return (
        f'[[soma]]\ncell = "{name}"\nbranches = {row.branches}\npulse_A = {row.pulse_A:.5g}\ntau_s = {row.tau_s:.5g}\n'
        f"ic_A = {row.ic_A:.6g}\nreset = {row.reset:g}\nslip_s = {_ps(row.slip_s)}\nlate_s = {_ps(row.late_s)}\n"
        f"late_v = {row.late_v:.3f}\nrms = {rms:.2f}\n"
    )


def main() -> None:
    """Measure with a line of progress."""
    print(calibrate(progress=lambda part: print(f"\r{part:5.0%}", end="", flush=True)))


if __name__ == "__main__":
    main()
