"""Programs, an encoder and an environment to try loops with."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.assemble import assemble
from export.loihi import DenseEdge, InputNode, Lif, LoihiProgram
from neuro.stream import Coded
from neuro.tuning import Scaled
from sim.loop import Loop

SEEDS = {
    "dense": 9,
    "delay": 4,
    "recurrent": 3,
    "conv": 8,
    "ternary": 6,
    "sigma delta": 10,
    "resonate": 11,
    "graded": 1,
}
"""Random programs whose output neither rests nor fires in every step."""


def relay(lines: int = 2) -> LoihiProgram:
    """Every input spike leaves two steps later on the same line: L = 2."""
    w = np.eye(lines, dtype=np.int16) * 100
    return assemble(
        {"in": InputNode((lines,)), "h": Lif((lines,), 4095, 4095, 50), "o": Lif((lines,), 4095, 4095, 50)},
        [DenseEdge("in", "h", w, "excitatory"), DenseEdge("h", "o", w, "excitatory")],
        "o",
    )


def closed(loop: Loop, steps: int) -> list[Any]:
    """An environment that answers: what is seen next depends on what was done."""
    obs = np.linspace(0.1, 0.9, loop.encoder.observations)
    actions = []
    for t in range(steps):
        a = loop.act(obs)
        actions.append(a)
        obs = np.abs(np.sin(obs * 3.0 + np.sum(a) + t))
    return actions


def scaled(n: int, train: Any) -> Coded:
    return Coded(Scaled((0.0,) * n, (1.0,) * n), train)
