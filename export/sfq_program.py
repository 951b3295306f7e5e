"""An SFQ program: a deck that JoSIM and our solver open, and a comment line in it that says which wire is what.

The line is ``* spikeport {json}``: input sources, the junction that speaks for each neuron and when, synapse
junctions, owners of instances, usage and losses. A deck without that line is a plain deck: it runs as it stands.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from export.network import Loss
from export.package import PackageError, write_text
from export.program import Usage

MARK = "* spikeport {"
FORMAT, VERSION = "spikeport-sfq", 1
MAX_BYTES = 64 * 2**20
MAX_STEPS = 10**6
_NAME = re.compile(r"^[A-Z0-9_|]{1,200}$")

Junctions = Mapping[str, Sequence[str]]
Seconds = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Wiring:
    """Which wire is what. Junction and source names as flattened, ``B1|X1|XL1N0``; times in s.

    ``sources``: voltage source to ``(flat input index, +1 or -1)``. ``start_s``: first step of each flat input.
    ``delay_s``: by how much a source sends its pulses later than that.
    ``neurons`` and ``latency_s``: per spiking node the junction of each neuron, and by how much it lags an input
    pulse on the fastest way. ``synapses``: per node the junctions that a presynaptic pulse flips. ``owners``:
    prefix of a top-level instance (``I``, ``L1``) to node. ``steps``: of the pattern written in the deck.
    """

    network: str
    technology: str
    input_node: str
    input_shape: tuple[int, ...]
    output_node: str
    step_s: float
    steps: int
    start_s: tuple[float, ...]
    peak_V: float
    rise_s: float
    sources: Mapping[str, tuple[int, int]]
    neurons: Junctions
    latency_s: Seconds
    synapses: Junctions
    owners: Mapping[str, str]
    usage: Usage
    losses: tuple[Loss, ...]
    delay_s: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["losses"] = [[x.node, x.what, x.size] for x in self.losses]
        return json.dumps({"format": FORMAT, "version": VERSION} | data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Wiring:
        """Inverse of :meth:`to_json`, checked. Errors: ``ValueError`` saying what is wrong."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT or data.pop("version") != VERSION:
                raise ValueError(f"is not {FORMAT} version {VERSION}")
            data["losses"] = tuple(Loss(str(n), str(w), float(s)) for n, w, s in data["losses"])
            data["sources"] = {str(k): (int(i), int(s)) for k, (i, s) in data["sources"].items()}
            data["usage"] = {str(k): (int(u), int(m)) for k, (u, m) in data["usage"].items()}
            data["input_shape"] = tuple(int(n) for n in data["input_shape"])
            data["start_s"] = tuple(float(t) for t in data["start_s"])
            wiring = cls(**data)
            wiring.check()
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__} {error}") from None
        return wiring

    def check(self) -> None:
        """Numbers in range, names that a deck can have, lists that fit. Errors: ``ValueError``."""
        inputs = math.prod(self.input_shape)
        lags = (*(t for ts in self.latency_s.values() for t in ts), *self.delay_s.values())
        times = (self.step_s, self.rise_s, *self.start_s, *lags)
        in_range = all(isinstance(t, int | float) and 0.0 <= t < 1e-3 for t in times)
        if not in_range or not 0.0 < 2 * self.rise_s <= self.step_s:
            raise ValueError("a time is out of range, or a pulse is longer than a step")
        if not 1 <= self.steps <= MAX_STEPS or inputs < 1 or len(self.start_s) != inputs:
            raise ValueError(f"{self.steps} steps, {inputs} inputs, {len(self.start_s)} start times do not fit")
        driven = all(0 <= i < inputs and s in (1, -1) for i, s in self.sources.values())
        if not math.isfinite(self.peak_V) or not driven or not set(self.delay_s) <= set(self.sources):
            raise ValueError("a source is of no input")
        words = (self.network, self.input_node, self.output_node, *self.owners.values())
        if not all(isinstance(w, str) for w in words):
            raise ValueError("a node's name is no text")
        names = [*self.sources, *(j for group in (self.neurons, self.synapses) for js in group.values() for j in js)]
        if not all(isinstance(n, str) and _NAME.match(n) for n in names):
            raise ValueError("a source or junction has a name that no deck has")
        if self.output_node not in self.neurons or any(
            len(self.latency_s.get(n, ())) != len(js) for n, js in self.neurons.items()
        ):
            raise ValueError("neurons and their latencies do not fit")


@dataclass(frozen=True)
class SfqProgram:
    """``deck``: the netlist as text, self-contained if we wrote it. ``wiring`` None: somebody's plain deck.

    ``folder``: where the deck's includes are; None refuses them. ``source``: the deck's name in messages.
    """

    deck: str
    wiring: Wiring | None = None
    folder: Path | None = None
    source: str = field(default="<text>", compare=False)
    machine: ClassVar[str] = "sfq"

    @property
    def usage(self) -> Usage:
        """Junctions, bias current, branches of the widest soma; empty for a plain deck."""
        return {} if self.wiring is None else self.wiring.usage

    @property
    def losses(self) -> Sequence[Loss]:
        """What the mapping changed; nothing for a plain deck."""
        return () if self.wiring is None else self.wiring.losses

    @property
    def watched(self) -> tuple[str, ...]:
        """Probes ``"<node>.s"`` of every spiking node, then the voltage of each neuron's junction, 16 at most."""
        if self.wiring is None:
            return ()
        junctions = [j for js in self.wiring.neurons.values() for j in js]
        return (*(f"{n}.s" for n in self.wiring.neurons), *(f"V({j})" for j in junctions[:16]))

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one step of input; None for a plain deck, which takes none."""
        return None if self.wiring is None else self.wiring.input_shape

    def hash(self) -> str:
        """SHA-256 of the deck's text."""
        return hashlib.sha256(self.deck.encode()).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write the deck, beside and renamed. ``josim-cli`` opens it as it is."""
        return write_text(path, self.deck)

    @classmethod
    def load(cls, path: str | Path) -> SfqProgram:
        """Read a deck, ours or a plain one. Errors: ``PackageError`` naming the file."""
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise PackageError(f"{path}: is over {MAX_BYTES} bytes; split the deck")
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise PackageError(f"{path}: cannot be read ({error.strerror}); give a deck that 'export' wrote") from None
        line = next((s for s in text.splitlines() if s.startswith(MARK)), None)
        if line is None:
            return cls(text, None, path.resolve().parent, str(path))
        try:
            return cls(text, Wiring.from_json(line[len(MARK) - 1 :]), source=str(path))
        except ValueError as error:
            raise PackageError(f"{path}: its '* spikeport' line is damaged ({error}); export it again") from None
