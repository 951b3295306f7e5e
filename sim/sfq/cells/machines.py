"""What each cell of the library is meant to do: its Mealy machine, pins, kind. No times in here; they are derived.

A machine is written as rows ``state: pin -> state, outputs``. Inputs that a row leaves out keep the state and give
nothing. Names of pins are those of the subcircuits in ``hardware/sfq_cells.inc``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Row = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Machine:
    """A cell as its user sees it. ``rows[state, input] = (next state, outputs)``; ``anti`` pins carry anti-fluxons.

    ``controls`` are pins for a current.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rows: Mapping[tuple[str, str], Row]
    start: str
    kind: str = "mealy"
    controls: tuple[str, ...] = ()
    anti: frozenset[str] = field(default_factory=frozenset)
    note: str = ""
    control_A: float = 0.0
    """Current into each control pin at which the machine holds."""

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, the start first."""
        return tuple(dict.fromkeys((self.start, *(s for s, _ in self.rows))))

    def step(self, state: str, on: str) -> Row:
        """Next state and outputs."""
        return self.rows[state, on]

    def play(self, word: Iterable[str], state: str | None = None) -> list[tuple[str, ...]]:
        """Outputs of each input of a word, one after the other."""
        at, out = state or self.start, []
        for on in word:
            at, pulses = self.rows[at, on]
            out.append(pulses)
        return out

    def after(self, word: Iterable[str], state: str | None = None) -> str:
        """The state that a word leads to."""
        at = state or self.start
        for on in word:
            at, _ = self.rows[at, on]
        return at

    def way(self, state: str) -> tuple[str, ...]:
        """The shortest word from the start to a state. Errors: ``ValueError`` for a state out of reach."""
        seen: dict[str, tuple[str, ...]] = {self.start: ()}
        queue = [self.start]
        for at in queue:
            for on in self.inputs:
                to = self.rows[at, on][0]
                if to not in seen:
                    seen[to] = (*seen[at], on)
                    queue.append(to)
        if state not in seen:
            raise ValueError(f"{self.name}: state '{state}' is out of reach of '{self.start}'; correct the machine")
        return seen[state]

    def probes(self) -> tuple[tuple[str, ...], ...]:
        """Words whose outputs together tell every two states apart: by what a cell answers one knows its state."""
        words: list[tuple[str, ...]] = []
        states = self.states
        for k, a in enumerate(states):
            for b in states[:k]:
                if all(self.play(w, a) == self.play(w, b) for w in words):
                    words.append(self._apart(a, b))
        return tuple(words) or ((self.inputs[0],),)

    def _apart(self, a: str, b: str) -> tuple[str, ...]:
        seen, queue = {(a, b)}, [(a, b, ())]
        for x, y, word in queue:
            for on in self.inputs:
                (u, p), (v, q) = self.rows[x, on], self.rows[y, on]
                if p != q:
                    return (*word, on)
                if (u, v) not in seen:
                    seen.add((u, v))
                    queue.append((u, v, (*word, on)))  # type: ignore[arg-type]  # a word is a tuple of any length
        raise ValueError(f"{self.name}: states '{a}' and '{b}' answer alike for ever; make them one")


def every_word(inputs: Sequence[str], length: int) -> list[str]:
    """A sequence that holds every word of that length once (de Bruijn), its beginning repeated at the end."""
    k = len(inputs)
    if k == 1:
        return [inputs[0]] * max(length, 1)
    seen: list[int] = []
    word = [0] * (length * k)

    def grow(t: int, period: int) -> None:
        if t > length:
            if length % period == 0:
                seen.extend(word[1 : period + 1])
            return
        word[t] = word[t - period]
        grow(t + 1, period)
        for symbol in range(word[t - period] + 1, k):
            word[t] = symbol
            grow(t + 1, t)

    grow(1, 1)
    return [inputs[s] for s in seen + seen[: length - 1]]


def tour(machine: Machine) -> list[str]:
    """A word from the start that takes every transition and is followed by others: every word of 3 or 4 inputs.

    One input: 8 pulses; two: words of 4; three: of 3. What is missing after that is walked to.
    """
    length = {1: 8, 2: 4}.get(len(machine.inputs), 3)
    word = every_word(machine.inputs, length)
    for state in machine.states:
        for on in machine.inputs:
            if (state, on) not in taken(machine, word):
                word += [*_walk(machine, machine.after(word), state), on]
    return word


def taken(machine: Machine, word: Iterable[str]) -> set[tuple[str, str]]:
    """Transitions that a word takes."""
    at, seen = machine.start, set()
    for on in word:
        seen.add((at, on))
        at = machine.rows[at, on][0]
    return seen


def _walk(machine: Machine, here: str, there: str) -> tuple[str, ...]:
    seen: dict[str, tuple[str, ...]] = {here: ()}
    queue = [here]
    for at in queue:
        for on in machine.inputs:
            to = machine.rows[at, on][0]
            if to not in seen:
                seen[to] = (*seen[at], on)
                queue.append(to)
    return seen[there]


def _machine(
    name: str, title: str, inputs: str, outputs: str, rules: str, *, start: str = "idle", kind: str = "mealy",
    controls: str = "", anti: str = "", note: str = "", control_A: float = 0.0,
) -> Machine:  # fmt: skip
    """Rules are lines ``state: pin -> state, out out``; pins left out keep the state and give nothing."""
    ins = tuple(inputs.split())
    rows: dict[tuple[str, str], Row] = {}
    for line in filter(None, (r.strip() for r in rules.splitlines())):
        state, rest = line.split(":")
        on, result = rest.split("->")
        to, _, out = result.partition(",")
        rows[state.strip(), on.strip()] = (to.strip(), tuple(out.split()))
    states = dict.fromkeys((start, *(s for s, _ in rows), *(to for to, _ in rows.values())))
    for state in states:
        for pin in ins:
            rows.setdefault((state, pin), (state, ()))
    pins = tuple(outputs.split())
    ordered = {(s, pin): rows[s, pin] for s in states for pin in ins}
    return Machine(
        name, title, ins, pins, ordered, start, kind, tuple(controls.split()), frozenset(anti.split()), note, control_A
    )


def _two_bits(answer: Mapping[str, bool], *, both: str = "ab") -> str:
    """Rules of a clocked gate of a and b; ``both`` is the state that two data lead to."""
    rules = [f"0: a -> a\n0: b -> b\na: b -> {both}\nb: a -> {both}"]
    states = ["0", "a", "b"] + ([both] if both == "ab" else [])
    rules += [f"{s}: c -> 0{', q' if answer[s] else ''}" for s in states]
    return "\n".join(rules)


_PASS = "idle: a -> idle, q"
_FORK = "idle: a -> idle, q0 q1"

MACHINES: dict[str, Machine] = {
    m.name: m
    for m in (
        _machine("JTL", "Josephson transmission line", "a", "q", _PASS),
        _machine("JTLN", "JTL for anti-fluxons", "a", "q", _PASS, anti="a q"),
        _machine("SPLIT", "splitter", "a", "q0 q1", _FORK),
        _machine("SPLITN", "splitter for anti-fluxons", "a", "q0 q1", _FORK, anti="a q0 q1"),
        _machine("MERGE", "confluence buffer", "a b", "q", "idle: a -> idle, q\nidle: b -> idle, q"),
        _machine("DFF", "D flip-flop, destructive read-out", "a c", "q", "0: a -> 1\n1: c -> 0, q", start="0"),
        _machine("TFF", "toggle flip-flop, every second pulse", "a", "q", "0: a -> 1\n1: a -> 0, q", start="0"),
        _machine("INV", "pulse to anti-pulse", "a", "q", _PASS, anti="q"),
        _machine("NDRO", "set, reset and non-destructive read-out", "s r c", "q",
                 "0: s -> 1\n1: r -> 0\n1: c -> 1, q", start="0"),
        _machine("AND", "clocked AND", "a b c", "q",
                 _two_bits({"0": False, "a": False, "b": False, "ab": True}), start="0"),
        _machine("OR", "clocked OR", "a b c", "q",
                 "0: a -> 1\n0: b -> 1\n1: c -> 0, q", start="0"),
        _machine("XOR", "clocked exclusive OR", "a b c", "q",
                 _two_bits({"0": False, "a": True, "b": True}, both="0"), start="0"),
        _machine("STSYN", "stochastic synapse: passes a pulse with a chance set by the current into w", "a", "q", _PASS,
                 kind="stochastic", controls="w", control_A=110e-6),
        _machine("NOT", "clocked inverter", "a c", "q", "1: c -> 0\n0: a -> 1\n0: c -> 0, q", start="1"),
    )
}  # fmt: skip
"""Cells that answer pulse by pulse."""

CURRENTS: dict[str, Machine] = {
    m.name: m
    for m in (
        _machine("SYNP", "synapse: a pulse adds a decaying current to a soma", "a", "n", "idle: a -> idle, n"),
        _machine("SYNM", "synapse of negative weight, for anti-fluxons", "a", "n", "idle: a -> idle, n", anti="a n"),
        _machine("SOMA", "soma: fires when the current at its node passes a threshold", "n", "q", "idle: n -> idle, q",
                 kind="soma"),
        _machine("NEURON", "leaky integrate-and-fire neuron with one input", "a", "q", "idle: a -> idle, q",
                 kind="soma"),
    )
}  # fmt: skip
"""Cells that add currents; their machine only names the pins. ``analogue.py`` measures them."""

CONVERTERS: dict[str, Machine] = {
    m.name: m
    for m in (
        _machine("DCSFQ", "DC to SFQ: an event at a is its current rising through rise_A, then falling through fall_A",
                 "a", "q", "low: a -> high, q\nhigh: a -> low", start="low", kind="converter"),
        _machine("SFQDC", "SFQ to DC: set puts a voltage on v, reset takes it off", "s r", "v",
                 "off: s -> on\non: r -> off", start="off", kind="converter"),
    )
}  # fmt: skip
"""Cells with a level at one side. ``converters.py`` measures them."""
