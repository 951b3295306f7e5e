"""Section search: the edge of the region that works, many points at a time.

From a value that works towards a limit: first a grid over the whole way, then grids inside the bracket of the last
point that works and the first that fails, until the two are ``tolerance`` apart. Points beyond the first failure that
work again are kept apart: they do not belong to the region.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sim.sfq.circuit import Floats
from sim.sfq.study.criterion import Bools


@dataclass(frozen=True)
class Side:
    """Works from the start up to ``works_at`` and fails at ``fails_at`` (None: works to the limit of the search).

    ``again`` are values beyond the first failure at which it works again.
    """

    works_at: float
    fails_at: float | None
    again: tuple[float, ...] = ()

    @property
    def size(self) -> float:
        """Distance of a factor from 1 to the last that works."""
        return abs(self.works_at - 1.0)


@dataclass
class Section:
    """A search under way: ``good`` works, ``bad`` fails (None: not found yet). ``column`` is the caller's."""

    good: float
    limit: float
    column: int = 0
    bad: float | None = None
    again: list[float] = field(default_factory=list)
    tried: Floats = field(default_factory=lambda: np.zeros(0))
    asked: bool = False

    def ask(self, points: int, tolerance: float) -> Floats:
        """The next values, outwards: to the limit at first, then inside the bracket; none when it is done."""
        if not self.asked:
            self.tried = self.good + (self.limit - self.good) * np.arange(1, points + 1) / points
        elif self.bad is None:
            self.tried = np.zeros(0)
        else:
            n = max(0, min(points, int(np.ceil(abs(self.bad - self.good) / tolerance - 1e-9)) - 1))
            self.tried = self.good + (self.bad - self.good) * np.arange(1, n + 1) / (n + 1)
        self.asked = True
        return self.tried

    def tell(self, right: Bools) -> None:
        """Shrink the bracket to the first failure among the values asked for."""
        wrong = np.flatnonzero(~right)
        first = int(wrong[0]) if len(wrong) else len(right)
        if first > 0:
            self.good = float(self.tried[first - 1])
        if first < len(right):
            self.bad = float(self.tried[first])
            self.again += [float(f) for f in self.tried[first:][right[first:]]]

    def side(self) -> Side:
        """What is known now."""
        return Side(self.good, self.bad, tuple(sorted(self.again)))
