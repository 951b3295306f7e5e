"""A junction's card to its part: model, area, initial conditions, and the parasitics that WRspice's options ask for.

Source: JoSIM JJ.cpp; WRspice manual (Josephson junctions); docs/sfq.md 1.3.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from sim.sfq.elements import Card
from sim.sfq.errors import DeckError
from sim.sfq.models import JunctionModel

if TYPE_CHECKING:
    from sim.sfq.flatten import Expansion


def _model_of(into: Expansion, card: Card) -> tuple[JunctionModel, tuple[int, str]]:
    """The model that a junction names."""
    found = into.block.find_model(card.value)
    if found is None:
        raise DeckError(card.where, card.name, f"undefined model {card.value}", f"add .model {card.value} jj(..)")
    model_card, owner = found
    scope = into.scope if owner is into.block else owner.scope
    key = (id(scope), model_card.name)
    if key not in into.flat.models:
        into.flat.models[key] = model_card.build(lambda text: scope.evaluate(text, model_card.where, model_card.name))
    return into.flat.models[key], key


def add_junction(into: Expansion, card: Card) -> None:
    """A junction with its area, and the parasitics that WRspice's options ask for."""
    model, key = _model_of(into, card)
    option = "IC" if "IC" in card.options else "AREA"
    given = into.value(card, card.options.get(option, "1"))
    area = given / model.ic_A if option == "IC" else given
    if area <= 0:
        raise DeckError(card.where, card.name, f"{option.lower()} {given:g}", "give a value above 0")
    if "PIJJ" in card.options:
        model, key = _pi(into, card, model, key)
    scaled = into.flat.scaled.get((*key, area))
    if scaled is None:
        scaled = into.flat.scaled[(*key, area)] = len(into.flat.junctions)
        into.flat.junctions.append(model.scaled(area))
    a, b = (into.node(n, card) for n in card.nodes)
    start = tuple(into.option(card, k) for k in ("VJ", "PHI")) if card.options else (None, None)
    inner = a
    if card.options or model.vshunt_V:
        inner = _parasitics(into, card, into.flat.junctions[scaled], a, b)
    at = into.part.add("B", card.name, card.where, [inner, b], (scaled, *start))
    if card.options:
        into.noise(card, "B", at)


def _pi(
    into: Expansion, card: Card, model: JunctionModel, key: tuple[int, str]
) -> tuple[JunctionModel, tuple[int, str]]:
    """The model with its phase set by WRspice's ``pijj=`` of the instance."""
    on = bool(into.option(card, "PIJJ"))
    return replace(model, phi_rad=math.pi if on else 0.0), (key[0], f"{key[1]} pijj={on}")


def _parasitics(into: Expansion, card: Card, scaled: JunctionModel, a: int, b: int) -> int:
    """``lser=`` in series with the junction; ``vshunt`` a resistor beside the two, ``lsh=`` in series with it.

    Returns the node that the junction itself is on.
    """
    series = into.option(card, "LSER") or 0.0
    voltage = into.option(card, "VSHUNT")
    shunt = (scaled.vshunt_V if voltage is None else voltage) / scaled.ic_A
    lsh = into.option(card, "LSH")
    beside = scaled.lsh0_H + scaled.lsh1_H_ohm * shunt if lsh is None else lsh
    if min(series, shunt, beside) < 0:
        raise DeckError(card.where, card.name, "lser, lsh or vshunt below 0", "give 0 or more")
    if shunt:
        middle = into.part.node(into.free(f"{card.name}_SHUNT")) if beside else b
        into.part.add("R", into.free(f"R{card.name}_SHUNT"), card.where, [a, middle], shunt)
        if beside:
            into.part.add("L", into.free(f"L{card.name}_SHUNT"), card.where, [middle, b], beside)
    if not series:
        return a
    inner = into.part.node(into.free(f"{card.name}_SERIES"))
    into.part.add("L", into.free(f"L{card.name}_SERIES"), card.where, [a, inner], series)
    return inner
