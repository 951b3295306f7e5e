"""A deck's whole part to the arrays of a circuit."""

from __future__ import annotations

import numpy as np

from sim.sfq.circuit import (
    Branches,
    Circuit,
    Controlled,
    Floats,
    Ints,
    Junctions,
    Lines,
    Mutuals,
    PerElement,
    Sources,
)  # fmt: skip
from sim.sfq.deck import Deck
from sim.sfq.errors import DeckError, Where
from sim.sfq.models import JunctionModel
from sim.sfq.parts import KINDS, Part, Rows


def circuit(deck: Deck, part: Part, models: list[JunctionModel]) -> Circuit:
    """The circuit of a part without pins. Raises DeckError for names that are taken twice and for couplings."""
    rows = {kind: part.of(kind, 4 if kind in "TEFGH" else 0 if kind == "K" else 2) for kind in KINDS}
    where = _where(rows, part)
    start_V, start_rad = _starts(rows["B"])
    return Circuit(
        tuple(part.nodes), _branches(rows["R"]), _branches(rows["L"]), _branches(rows["C"]),
        _mutuals(rows["K"], rows["L"]), _junctions(rows["B"], models), _sources(rows["I"]), _sources(rows["V"]),
        _sources(rows["P"]), _lines(rows["T"]), _controlled(rows),
        temperature_K=_per_element(part, "TEMP", {"R": deck.temp_K, "B": deck.temp_K}),
        neb_Hz=_per_element(part, "NEB", dict.fromkeys("RB", deck.neb_Hz or 0.0)),
        spread=_per_element(part, "SPREAD", {k: deck.spread.get(k, deck.spread.get("", 0.0)) for k in "RLCB"}),
        start_V=start_V, start_rad=start_rad, seed=deck.seed, tran=deck.tran, requests=tuple(deck.requests),
        where=where,
    )  # fmt: skip


def _where(rows: dict[str, Rows], part: Part) -> dict[str, Where]:
    where: dict[str, Where] = {}
    for r in rows.values():
        where.update(zip(r.names, r.where, strict=True))
    if len(where) != sum(len(r.names) for r in rows.values()):
        seen: set[str] = set()
        for kind, r in rows.items():
            for name, place in zip(r.names, r.where, strict=True):
                if name in seen and kind != "K":
                    raise DeckError(place, name, "defined twice, once inside a subcircuit", "rename one of the two")
                seen.add(name)
    for name, place in part.instances:
        where.setdefault(name, place)
    return where


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _floats(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def _ends(rows: Rows) -> list[Ints]:
    """The nodes of all elements, one array an end."""
    table = _ints(rows.ends).reshape(-1, rows.width)
    return [table[:, k].copy() for k in range(rows.width)]


def _branches(rows: Rows) -> Branches:
    a, b = _ends(rows)
    return Branches(tuple(rows.names), a, b, _floats(rows.values))


def _sources(rows: Rows) -> Sources:
    a, b = _ends(rows)
    return Sources(tuple(rows.names), a, b, tuple(rows.values))


def _lines(rows: Rows) -> Lines:
    a, b, c, d = _ends(rows)
    z0, td = (_floats([value[k] for value in rows.values]) for k in (0, 1))
    return Lines(tuple(rows.names), a, b, c, d, z0, td)


def _controlled(rows: dict[str, Rows]) -> Controlled:
    mine = [rows[kind] for kind in "EFGH"]
    kinds = tuple(kind for kind in "EFGH" for _ in rows[kind].names)
    a, b, ca, cb = (np.concatenate(ends) for ends in zip(*(_ends(r) for r in mine), strict=True))
    gain = _floats([v for r in mine for v in r.values])
    return Controlled(tuple(n for r in mine for n in r.names), kinds, a, b, ca, cb, gain)


def _junctions(rows: Rows, models: list[JunctionModel]) -> Junctions:
    which = _ints([v[0] for v in rows.values])
    cpr = np.zeros((len(models), max((len(m.cpr) for m in models), default=1)))
    for row, m in zip(cpr, models, strict=True):
        row[: len(m.cpr)] = m.cpr
    a, b = _ends(rows)

    def of(values: list[float]) -> Floats:
        return _floats(values)[which]

    return Junctions(
        tuple(rows.names), a, b, ic_A=of([m.ic_A for m in models]), c_F=of([m.c_F for m in models]),
        r0_ohm=of([m.r0_ohm for m in models]), rn_ohm=of([m.rn_ohm for m in models]),
        vg_V=of([m.vg_V for m in models]), delv_V=of([m.delv_V for m in models]),
        icfct=of([m.icfct for m in models]), rtype=_ints([m.rtype for m in models])[which],
        phi_rad=of([m.phi_rad for m in models]), cpr=cpr[which], gap=of([m.gap_over_2kt() for m in models]),
        transparency=of([m.transparency for m in models]),
    )  # fmt: skip


def _starts(rows: Rows) -> tuple[Floats | None, Floats | None]:
    """Initial voltages and phases; what is not given starts at 0 where anything of its sort is."""
    columns = [[v[k] for v in rows.values] for k in (1, 2)]
    volt, rad = (None if all(v is None for v in c) else _floats([v or 0.0 for v in c]) for c in columns)
    return volt, rad


def _mutuals(rows: Rows, inductors: Rows) -> Mutuals:
    pairs: set[frozenset[int]] = set()
    for name, place, (a, b, _) in zip(rows.names, rows.where, rows.values, strict=True):
        pair = frozenset((a, b))
        if a == b or pair in pairs:
            named = f"{inductors.names[a]} and {inductors.names[b]}"
            raise DeckError(place, name, f"{named} are one or coupled twice", "keep one K a pair")
        if inductors.values[a] * inductors.values[b] < 0:
            raise DeckError(place, name, "couples inductors of unlike sign", "turn the nodes of one, and the coupling")
        pairs.add(pair)
    return Mutuals(
        tuple(rows.names), _ints([v[0] for v in rows.values]), _ints([v[1] for v in rows.values]),
        _floats([v[2] for v in rows.values]),
    )  # fmt: skip


def _per_element(part: Part, what: str, base: dict[str, float]) -> PerElement | None:
    """The global value, then what blocks and elements say; None where all is 0."""
    arrays = {kind: np.full(len(part.of(kind).names), base.get(kind, 0.0)) for kind in "RBLC"}
    for fill in reversed(part.fills):
        if fill.what == what:
            arrays[fill.kind][fill.start : fill.stop] = fill.value
    if not any(a.any() for a in arrays.values()):
        return None
    return PerElement(*(arrays[kind] for kind in "RBLC"))
