"""Networks whose synapses learn their delays, and spoken digits with them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from neuro.delays import Annealing, DelayLinear, Spread, Tail
from neuro.modules import ChunkNorm1d, HeldDropout, Integrating, Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.surrogate import ATan


def delay_net(
    sizes: Sequence[int],
    *,
    taps: int = 25,
    tau: float = 1.005,
    dropout: float = 0.4,
    schedule: Spread | None = None,
    seed: int = 0,
) -> Stack:
    """``sizes`` = inputs, hidden layers, classes: DCLS-Delays' network, out of ``(N, classes)`` potentials a step.

    Each hidden layer: tail of h steps, delays, BatchNorm over T N, neurons ``v = v - v / tau + x``, threshold 1, reset
    to 0 and constant in the backward pass, arctan of 5, dropout held over time; the last layer integrates with the
    same leak and does not fire. ``taps`` 1 is the control without delays. ``tau`` in steps, 2 for half of v kept.

    Errors: ``ValueError`` for fewer than two sizes; others as of the layers.
    """
    if len(sizes) < 2:
        raise ValueError(f"delay_net.sizes: needs inputs and classes at least, got {list(sizes)}")
    schedule = Annealing() if schedule is None else schedule
    law, reach = Law(Tau(tau, decay_input=False)), (taps - 1) // 2
    parts: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for n_in, n_out in pairwise(sizes[:-1]):
            parts += [Tail(reach), DelayLinear(n_in, n_out, taps, schedule=schedule), ChunkNorm1d(n_out)]
            parts += [Spiking(law, ATan(5.0), detach_reset=True), HeldDropout(dropout)]
        parts += [Tail(reach), DelayLinear(*sizes[-2:], taps, schedule=schedule), Integrating(law.charge)]
        return Stack(*parts)
