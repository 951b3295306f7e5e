"""Numbers as text: SI prefixes, significant digits, shares, names of events. Nothing here computes."""

from __future__ import annotations

import math
from collections.abc import Callable

from hardware.energy import Span

PREFIXES = {-24: "y", -21: "z", -18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}

NARROW = "\N{NARROW NO-BREAK SPACE}"
"""Between thousands, as the SI brochure asks."""

EVENTS = {
    "synaptic_events": "synaptic events",
    "synaptic_events_dense": "synaptic events, dense",
    "synaptic_events_sparse": "synaptic events, sparse",
    "synaptic_events_conv": "synaptic events, convolution",
    "neuron_updates": "neuron updates",
    "neuron_updates_active": "neuron updates, active",
    "neuron_updates_inactive": "neuron updates, idle",
    "fired": "neurons fired",
    "messages": "messages",
    "hops_ew": "hops east-west",
    "hops_ns": "hops north-south",
    "macs": "multiply-accumulates",
    "acs": "accumulates",
    "effective_macs": "effective multiply-accumulates",
    "elementwise_ops": "elementwise operations",
    "weight_bytes": "weight bytes",
    "activation_bytes": "activation bytes",
    "slip_ic_nA": "junction slips (nA of Ic)",
    "bias_charge_nA_ps": "static bias (nA ps)",
}


def event(name: str) -> str:
    """An event in words; an unknown one as it is, without underscores."""
    return EVENTS.get(name, name.replace("_", " "))


def si(value: float | None, unit: str, digits: int = 3) -> str:
    """``1.842e-7, "J", 3 -> "184 nJ"``; a dash for None. ``digits``: significant digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return f"0 {unit}"
    value = float(f"{value:.{digits - 1}e}")  # round first: 999.9 n becomes 1 µ
    power = min(max(3 * math.floor(math.log10(abs(value)) / 3), min(PREFIXES)), max(PREFIXES))
    return f"{_plain(value / 10.0**power, digits)} {PREFIXES[power]}{unit}".rstrip()


def given(value: float, unit: str, digits: int = 3) -> str:
    """:func:`si` for a number that stands in a table: no zeros that it does not have."""
    number, _, tail = si(value, unit, digits).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {tail}".rstrip()


def span(value: Span | None, unit: str, digits: int = 3, text: Callable[[float, str, int], str] = si) -> str:
    """``low to high``, or empty where they print alike."""
    if value is None:
        return ""
    low, high = text(value.low, unit, digits), text(value.high, unit, digits)
    return "" if low == high else f"{low} to {high}"


def share(part: float, whole: float) -> str:
    """Percent, with a decimal below 10; ``<0.1 %`` rather than 0."""
    if whole <= 0:
        return "–"
    percent = 100.0 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"


def fraction(value: float) -> str:
    """An accuracy, in percent with two decimals; never rounded up to 100."""
    text = f"{100.0 * value:.2f}"
    return "<100 %" if text == "100.00" and value < 1 else f"{text} %".replace(".00 %", " %")


def whole(value: int | float | None) -> str:
    """An integer with thousands apart; a dash for None."""
    return "–" if value is None else f"{value:,.0f}".replace(",", NARROW)


def clean(text: object) -> str:
    """Text from a file, for a terminal: control characters, which could move the cursor, are replaced."""
    spaced = str(text).replace(NARROW, " ")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in spaced)


def _plain(value: float, digits: int) -> str:
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
