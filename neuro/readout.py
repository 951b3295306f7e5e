"""Where a chip ends: the network up to its last neurons, and what a host does with their spikes."""

from __future__ import annotations

from torch import nn

from neuro.modules import Spiking, Stack


def split_readout(module: nn.Sequential) -> tuple[Stack, Stack]:
    """``(up to the last population, what follows it)`` of a row of modules, which both share with ``module``.

    A chip sends spikes, so logits of a last linear layer are the host's: ``host(chip(x))`` step by step is
    ``module(x)``. Errors: ``ValueError`` where no population stands in the row itself, or nothing follows it.
    """
    rows = list(module.named_children())
    at = max((k for k, (_, m) in enumerate(rows) if isinstance(m, Spiking)), default=-1)
    if at < 0 or at + 1 == len(rows):
        raise ValueError("split_readout: needs a row of modules with a Spiking one, and a readout behind the last")
    first, rest = Stack(), Stack()
    for k, (name, m) in enumerate(rows):
        (first if k <= at else rest).add_module(name, m)
    return first, rest
