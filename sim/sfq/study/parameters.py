"""What a factor scales: all biases, all inductors, one element, one element of every instance of a cell.

Written as text (:func:`parameter`): a letter for all of a kind, or the element's name, which may be a pattern.

    I            every current source with a constant bias (a signal's amplitude stays)
    V            every voltage source with one; P phase sources
    L R C K      every inductor, resistor, capacitor, coupling
    IC or B      every junction: Ic and C times the factor, its own resistances divided by it
    L1|X1        that element; L1.X1 is the same
    L*|XF        all that fit the pattern (* any text, ? one sign)
    JTL:L1       L1 in every instance of the subcircuit JTL; needs the deck, not only the circuit
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.sfq.circuit import Circuit, Floats
from sim.sfq.corners import Corners
from sim.sfq.deck import Block, Deck
from sim.sfq.flatten import subckt_of

LETTERS = {
    "I": "currents", "V": "voltages", "P": "phases", "L": "inductors", "R": "resistors", "C": "capacitors",
    "K": "mutuals", "B": "junctions", "IC": "junctions",
}  # fmt: skip
GROUP_OF = {letter: group for letter, group in LETTERS.items() if letter != "IC"}
SOURCES = ("currents", "voltages", "phases")
VANISHING = (*SOURCES, "mutuals")
"""Groups whose factor may be 0 or below."""


@dataclass(frozen=True)
class Part:
    """Elements of one group of a circuit that are multiplied by ``factor ** power``."""

    group: str
    names: tuple[str, ...]
    power: float = 1.0


@dataclass(frozen=True)
class Parameter:
    """A name and what it scales. Several parts move together: a junction's area and, with power -1, its shunt."""

    name: str
    parts: tuple[Part, ...]

    @property
    def may_vanish(self) -> bool:
        """A factor of 0 is possible: only sources and couplings are scaled."""
        return all(p.group in VANISHING and p.power > 0 for p in self.parts)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all elements it scales."""
        return tuple(n for p in self.parts for n in p.names)


def together(name: str, *parameters: Parameter) -> Parameter:
    """One parameter that scales what several scale."""
    return Parameter(name, tuple(part for p in parameters for part in p.parts))


def inverse(p: Parameter) -> Parameter:
    """The parameter that divides: ``together("J1", B1, inverse(RS1))`` keeps the damping of a shunted junction."""
    return Parameter(p.name, tuple(Part(x.group, x.names, -x.power) for x in p.parts))


def shunted(circuit: Circuit, *instances_: str) -> Parameter:
    """Junctions with their shunts, Ic times and R divided by the factor: the damping stays. ``instances_`` are the
    paths that hold both, ``X1|XM`` in the own cells; several move together. Errors: ``ValueError`` for no junction."""
    paths = [i.upper().replace(".", "|") for i in instances_]
    found = [matching(circuit, f"*|{path}") for path in paths]
    junctions, resistors = (tuple(n for f in found for n in f[g]) for g in ("junctions", "resistors"))
    if not all(f["junctions"] for f in found):
        raise ValueError(f"parameter: an instance of {paths} holds no junction; name it from inside out, X1|XM")
    return Parameter(" ".join(paths), (Part("junctions", junctions), Part("resistors", resistors, -1.0)))


def parameter(source: Deck | Circuit, text: str | Parameter) -> Parameter:
    """The parameter that ``text`` names in a deck or circuit; see the module. Errors: ``ValueError`` for no element."""
    if isinstance(text, Parameter):
        return text
    circuit = source.flatten() if isinstance(source, Deck) else source
    key = text.upper().replace(".", "|")
    if key in LETTERS:
        found = {LETTERS[key]: _biased(circuit, LETTERS[key])}
    elif ":" in key:
        found = _of_cell(source, circuit, *key.split(":", 1))
    else:
        found = matching(circuit, key)
    parts = tuple(Part(group, names) for group, names in found.items() if names)
    if not parts:
        raise ValueError(
            f"parameter {text}: no element fits; write a letter ({' '.join(LETTERS)}), a name such as L1|X1, "
            "a pattern L*|X1, or CELL:L1"
        )
    return Parameter(key, parts)


def matching(circuit: Circuit, pattern: str) -> dict[str, tuple[str, ...]]:
    """Names of all elements that fit a pattern, by group; its first letter need not be given (``*|X1``)."""
    fits = re.compile(fnmatch.translate(pattern.upper().replace(".", "|").replace("[", "[[]"))).match
    return {g: tuple(n for n in getattr(circuit, g).names if fits(n)) for g in GROUP_OF.values()}


def elements(circuit: Circuit, pattern: str = "*", groups: Sequence[str] = ()) -> list[Parameter]:
    """A parameter for each single element that fits a pattern, in the order of the circuit; signals are left out.

    ``groups``: fields of the circuit, default currents, inductors, resistors, capacitors, couplings and junctions.
    """
    wanted = groups or ("currents", "inductors", "resistors", "capacitors", "mutuals", "junctions")
    found = matching(circuit, pattern)
    kept = {g: set(_biased(circuit, g)) for g in wanted}
    return [Parameter(n, (Part(g, (n,)),)) for g in wanted for n in found[g] if n in kept[g]]


def of_instance(circuit: Circuit, instance: str) -> list[Parameter]:
    """A parameter for each element inside an instance, ``X1|XA1``, however deep. Errors: ``ValueError`` for none."""
    path = instance.upper().replace(".", "|")
    found = elements(circuit, f"*|{path}")
    if not found:
        raise ValueError(
            f"parameter: the instance {path} holds no element; instances are named from inside out, X1|XA1"
        )
    return found


def instances(deck: Deck, cell: str) -> list[str]:
    """Paths ``X1|XA1`` of all instances of a subcircuit. Errors: ``ValueError`` where there is none."""
    found = [path for path, name in _walk(deck.top, "") if name == cell.upper()]
    if not found:
        raise ValueError(f"{deck.source}: no instance of a subcircuit {cell.upper()}; check the name")
    return found


def _walk(block: Block, path: str) -> Iterator[tuple[str, str]]:
    for card in block.cards:
        if card.kind == "X":
            sub, _ = subckt_of(block, card)
            inner = f"{card.name}|{path}" if path else card.name
            yield inner, sub.name
            yield from _walk(sub, inner)


def _of_cell(source: Deck | Circuit, circuit: Circuit, cell: str, element: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(source, Deck):
        raise ValueError(f"parameter {cell}:{element}: a flat circuit does not know its cells; pass the deck")
    found: dict[str, tuple[str, ...]] = {}
    for path in instances(source, cell):
        for group, names in matching(circuit, f"{element}|{path}").items():
            found[group] = (*found.get(group, ()), *names)
    return found


def _biased(circuit: Circuit, group: str) -> tuple[str, ...]:
    """All elements of a group; of sources those with a constant bias."""
    all_ = getattr(circuit, group)
    if group not in SOURCES:
        return tuple(all_.names)
    return tuple(n for n, s in zip(all_.names, all_.shapes, strict=True) if s.bias() != 0.0)


def corners_of(circuit: Circuit, parameters: Sequence[Parameter], factors: Floats) -> Corners:
    """Corners with ``factors (count, parameters)``; what several parameters scale gets the product."""
    count = len(factors)
    groups: dict[str, Floats] = {}
    at: dict[str, dict[str, int]] = {}
    for k, p in enumerate(parameters):
        for part in p.parts:
            names = getattr(circuit, part.group).names
            if part.group not in groups:
                groups[part.group] = np.ones((count, len(names)))
                at[part.group] = {n: i for i, n in enumerate(names)}
            columns = [at[part.group][n] for n in part.names]
            factor = factors[:, k] if part.power == 1.0 else factors[:, k] ** part.power
            groups[part.group][:, columns] *= factor[:, None]
    scaled: dict[str, Any] = dict(groups)
    return Corners(count, **scaled)


def value_of(circuit: Circuit, p: Parameter) -> float:
    """The value (SI) of a parameter's first element: A of a junction, ohm, H, F, k, or a source's bias."""
    group, name = p.parts[0].group, p.parts[0].names[0]
    elements_ = getattr(circuit, group)
    k = elements_.names.index(name)
    if group in SOURCES:
        return float(elements_.shapes[k].bias())
    column = {"junctions": "ic_A", "mutuals": "k"}.get(group, "value")
    return float(getattr(elements_, column)[k])
