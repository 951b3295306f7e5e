"""How two runs of one network agree: spike for spike, in counts, in decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.run import Run


@dataclass(frozen=True)
class Agreement:
    """``equal`` of ``compared`` spike values are the same, over ``y`` and every probe ``"<node>.s"`` of both runs.

    ``by_node``: ``{node: (equal, compared)}``. ``decisions``: samples whose decoded class is the same.
    ``count_correlation``: Pearson r between the spike counts (sample, output neuron) of both, None where one is
    constant. ``first_departure``: first node, in the reference's order, that differs, else None.
    """

    reference: str
    equal: int
    compared: int
    by_node: dict[str, tuple[int, int]]
    decisions: tuple[int, int]
    count_correlation: float | None
    first_departure: str | None

    @property
    def exact(self) -> bool:
        """Every compared value is equal."""
        return self.equal == self.compared

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return dict(self.__dict__) | {"exact": self.exact}


def counts(y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Spike counts ``(samples, outputs)`` of ``y (samples, T, outputs...)``."""
    summed: npt.NDArray[np.float64] = y.astype(np.float64).sum(axis=1).reshape(len(y), -1)
    return summed


def decide(y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Class per sample: most spikes; a tie goes to the lower index. One output: 1 where it spiked at all."""
    c = counts(y)
    return (c[:, 0] > 0).astype(np.int64) if c.shape[1] == 1 else c.argmax(axis=1)


def accuracy(y: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Share of samples whose :func:`decide` equals ``labels (samples,)``."""
    if labels.shape != (len(y),):
        raise ValueError(f"labels must have shape ({len(y)},), one per sample, got {labels.shape}")
    return float((decide(y) == labels).mean())


def compare(reference: Run, run: Run) -> Agreement:
    """Agreement of ``run`` with ``reference`` on the same input.

    Errors: ``ValueError`` where the output shapes differ: another network, or another input.
    """
    if reference.y.shape != run.y.shape:
        raise ValueError(
            f"{run.machine} answered {run.y.shape}, {reference.machine} {reference.y.shape}: "
            "compare runs of one network on one input"
        )
    by_node = {}
    for name in (k for k in reference.probes if k.endswith(".s") and k in run.probes):
        a, b = reference.probes[name], run.probes[name]
        if a.shape == b.shape:
            by_node[name.removesuffix(".s")] = (int((a == b).sum()), int(a.size))
    by_node["y"] = (int((reference.y == run.y).sum()), int(run.y.size))
    a, b = counts(reference.y).ravel(), counts(run.y).ravel()
    r = float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else None
    return Agreement(
        reference=reference.machine,
        equal=sum(n for n, _ in by_node.values()),
        compared=sum(m for _, m in by_node.values()),
        by_node=by_node,
        decisions=(int((decide(reference.y) == decide(run.y)).sum()), len(run.y)),
        count_correlation=r,
        first_departure=next((k for k, (n, m) in by_node.items() if n < m), None),
    )
