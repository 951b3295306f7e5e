"""When each line of an SFQ network is driven, so that inhibition of a step comes first.

    latest   = start + two JTL + ceil(log2 n) (SPLIT + JTL)        of a line with n synapses behind it
    earliest = start + two JTL + floor(log2 n) (SPLIT + JTL)

A soma fires as soon as its current is high enough. If a step's excitation came before its inhibition, it would fire
where the sum of the step does not reach the threshold. So every line waits for the one with the deepest tree: the last
anti-pulse of a step reaches the somas ``lead_s`` before its first pulse. Source: docs/sfq.md 3.3, delays of the cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hardware.sfq import Technology

LEAD_S = 6e-12
"""What a synapse's delay varies by, 5 ps to 13 ps in the technology's table, is mostly within it."""

Delays = dict[tuple[int, int], float]
"""``(input, sign)`` to seconds that its pulses are sent later than the step begins."""


def drive_delays(weights: npt.NDArray[np.int64], technology: Technology, lead_s: float | None) -> Delays:
    """How much later each line of the first layer is driven; ``weights (neurons, inputs)``. None: all together."""
    if lead_s is None:
        return {}
    behind = {sign: np.maximum(sign * weights, 0).sum(axis=0) for sign in (1, -1)}
    level = technology.cells["SPLIT"].delay_s + technology.cells["JTL"].delay_s
    first = {i: level * (int(n).bit_length() - 1) for i, n in enumerate(behind[1]) if n}
    last = {i: level * (int(n) - 1).bit_length() for i, n in enumerate(behind[-1]) if n}
    excited = max(max(first.values(), default=0.0), max(last.values(), default=-lead_s) + lead_s)
    delays = {(i, 1): excited - t for i, t in first.items()}
    delays |= {(i, -1): excited - lead_s - t for i, t in last.items()}
    soonest = min(delays.values(), default=0.0)
    return {line: round(delay - soonest, 13) for line, delay in delays.items()}
