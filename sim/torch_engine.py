"""The network as a torch module, so that torch is one machine among the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from export.network import Network
from sim.run import Run, versions


def run(
    network: Network,
    x: npt.NDArray[Any],
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """Step :func:`export.to_torch.to_torch` over ``x (samples, T, ...)``; ``probes``: ``"<node>.s"``.

    Counts: ``spikes`` per spiking node. Errors: ``ValueError`` for a shape that is not the network's.
    """
    from export.to_torch import run_torch

    start = time.perf_counter()
    y, spikes = run_torch(network, x, progress=progress)
    return Run(
        machine="torch",
        y=y,
        counts={"spikes": {n: int(s.sum()) for n, s in spikes.items()}},
        samples=x.shape[0],
        steps=x.shape[1],
        dt_s=network.dt_s,
        probes={f"{n}.s": s for n, s in spikes.items() if f"{n}.s" in probes},
        wall_s=time.perf_counter() - start,
        versions=versions("torch"),
    )
