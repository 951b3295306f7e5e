"""Literal numbers that lava-nc itself gives, one corner of the law each, and our engines beside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from lava_programs import ready

from export.assemble import assemble
from export.loihi import (
    ConvEdge,
    Delta,
    DenseEdge,
    Graded,
    InputNode,
    Lif,
    LoihiProgram,
    ResonateFire,
    Sigma,
    SigmaDelta,
    SparseEdge,
    Ternary,
)
from sim.lava.client import Client, Result
from sim.loihi import engine, reference

pytestmark = pytest.mark.lava
BIG = 2**24 - 1


def net(node: Any, w: Any, bits: int = 0, sign: Any = "mixed", sparse: bool = False, **edge: Any) -> LoihiProgram:
    """An input, one connection, one population."""
    w = np.asarray(w, np.int16)
    made = DenseEdge("in", "o", w, sign, num_message_bits=bits, **edge)
    return assemble(
        {"in": InputNode((w.shape[1],), bits), "o": node}, [SparseEdge.of_dense(made) if sparse else made], "o"
    )


def lif(**more: Any) -> Lif:
    return Lif((1,), **({"du": 4095, "dv": 0, "vth": 131072} | more))


SERIES: dict[str, tuple[LoihiProgram, list[Any], str, list[int]]] = {
    "one spike of 254 over a threshold of 100": (net(lif(vth=100), [[254]]), [1, 0, 0], "s", [1, 0, 0]),
    "v equal to vth does not spike": (net(lif(vth=100), [[100]]), [1, 0, 1], "s", [0, 0, 1]),
    "excitatory 300 is 255": (net(lif(), [[300]], sign="excitatory"), [1, 0], "v", [16320, 16320]),
    "mixed 101 is 100": (net(lif(), [[101]]), [1, 0], "v", [6400, 6400]),
    "a payload of -7": (net(lif(), [[100]], 4), [-7, 0], "v", [-44800, -44800]),
    "a payload to a binary synapse is 1": (
        assemble(
            {"in": InputNode((1,), 4), "o": lif()}, [DenseEdge("in", "o", np.array([[100]], np.int16), "mixed")], "o"
        ),
        [-7, 0],
        "v",
        [6400, 6400],
    ),
    "bias 5 << 3": (net(lif(bias=np.array([5]), bias_exp=3), [[0]]), [0] * 4, "v", [40, 80, 120, 160]),
    "bias 10 >> 2": (net(lif(bias=np.array([10]), bias_exp=-2), [[0]]), [0] * 4, "v", [2, 4, 6, 8]),
    "du 0 decays by 1/4096": (net(lif(du=0), [[100]]), [1, 0, 0], "u", [6400, 6398, 6396]),
    "du -1 does not decay": (net(lif(du=-1), [[100]]), [1, 0, 0], "u", [6400, 6400, 6400]),
    "inhibitory -1 with exponent -3": (net(lif(), [[-1]], sign="inhibitory", weight_exp=-3), [1, 0], "v", [-64, -64]),
    "dv 4095 leaves a residue": (net(lif(dv=4095), [[100]]), [1, 0, 0], "v", [6400, 1, 0]),
    "dv 4096 clears": (net(lif(dv=4096), [[100]]), [1, 0, 0], "v", [6400, 0, 0]),
    "the current wraps": (net(lif(), [[254]], 16), [1000, 0], "u", [254000 * 64 - 2**24, 0]),
    "the voltage saturates": (net(lif(du=-1), [[254]], 16), [500, 0, 0], "v", [8128000, 2**23 - 1, 2**23 - 1]),
    "u0 and v0 of a late population": (
        net(lif(dv=2048, u0=np.array([640]), v0=np.array([100])), [[0]]),
        [0, 0, 0],
        "v",
        [50, 25, 12],
    ),
    "reset before step t with t mod 3 = 1, input counts": (
        net(lif(du=-1, reset_interval=3, reset_offset=4), [[2]]),
        [1, 0, 0, 0],
        "v",
        [128, 256, 0, 0],
    ),
    "a delay of 62": (net(lif(), [[100]], delay=62), [1] + [0] * 63, "v", [0] * 62 + [6400, 6400]),
    "thresholds of each neuron": (
        net(Ternary((2,), 4095, 0, np.array([50, 150]), np.array([-200, -50])), [[100], [-100]]),
        [1],
        "s",
        [1, -1],
    ),
    "sigma delta keeps a residue": (
        net(SigmaDelta((1,), 5, None, "relu"), [[2]], 8),
        [2, 1, 1, -20],
        "s",
        [0, 6, 0, -6],
    ),
    "sigma delta cumulates its error": (
        net(SigmaDelta((1,), 9, None, "unit", True), [[2]], 8),
        [2, 0, 0, 0],
        "s",
        [0, 0, 4, 0],
    ),
    "delta shifts its input": (net(Delta((1,), 3, False, 1, 2), [[2]], 8), [1, 2, 4], "s", [0, 8, 8]),
    "graded sends above its threshold": (net(Graded((1,), 6), [[2]], 8), [3, 4, -4], "s", [0, 8, -8]),
    "graded relu": (net(Graded((1,), 6, True), [[2]], 8), [3, 4, -4], "s", [0, 8, 0]),
    "izhikevich resets to vth - 1": (
        net(ResonateFire((1,), 0, 64, 6, 100, izhikevich=True), [[100]], port="imag"),
        [1, 0],
        "imag",
        [99, 99],
    ),
    "a kernel is flipped and the sum wraps at 24 bits": (
        assemble(
            {"in": InputNode((1, 1, 2), 16), "o": Graded((1, 1, 1), 0)},
            [ConvEdge("in", "o", np.array([[[[256, -2]]]], np.int16), "mixed", num_message_bits=16)],
            "o",
        ),
        [[65535, 1], [1, 3]],
        "s",
        [256 * 65535 - 2 - 2**24, 250],
    ),
}
"""Name: program, input, variable of ``o``, its series."""

WRAPS: dict[str, tuple[LoihiProgram, list[Any], str, list[int]]] = {
    f"{name} shifts right {what}": (
        net(Sigma((1,)), [[128, 128]], 24, weight_exp=-6, delay=delay, sparse=sparse),
        [[BIG, BIG], [0, 0]],
        "sigma",
        [0] * delay + [value] * (2 - delay),
    )
    for name, what, sparse, delay, value in (
        ("dense", "a sum that wrapped at 32 bits", False, 0, -4),
        ("sparse", "a sum that wrapped at 32 bits", True, 0, -4),
        ("delay sparse", "a sum that wrapped at 32 bits", True, 1, -4),
        ("delay dense", "a sum of 64 bits", False, 1, 67108860),
    )
}
WRAPS["delay dense wraps each product at 32 bits"] = (
    net(Sigma((1,)), [[254, 254]], 24, weight_exp=-6, delay=1),
    [[BIG, BIG], [0, 0]],
    "sigma",
    [0, -1048584],
)


@pytest.fixture(scope="module")
def judged() -> Iterator[dict[str, Result]]:
    """What lava makes of all of them, in one graph."""
    ready()
    every = SERIES | WRAPS
    with Client() as lava:
        lava.load_many([p for p, *_ in every.values()])
        done = lava.run_many(
            [given(p, x) for p, x, *_ in every.values()], [(f"o.{v}",) for _, _, v, _ in every.values()]
        )
        yield dict(zip(every, done, strict=True))


def given(program: LoihiProgram, x: list[Any]) -> Any:
    return np.array(x, np.int32).reshape(1, len(x), *program.input_shape)


def same(program: LoihiProgram, x: list[Any], variable: str, want: list[int]) -> None:
    """Both engines give the series."""
    probe = f"o.{variable}"
    for run in (reference.run, engine.run, partial(engine.run, numba=False)):
        assert run(program, given(program, x), probes=(probe,)).probes[probe].ravel().tolist() == want


@pytest.mark.parametrize("name", [*SERIES, *WRAPS])
def test_lava_gives_this_series(judged: dict[str, Result], name: str) -> None:
    _, _, variable, want = (SERIES | WRAPS)[name]
    assert judged[name].found[f"o.{variable}"].ravel().tolist() == want


@pytest.mark.parametrize("name", [*SERIES, *WRAPS])
def test_our_engines_give_it_too(name: str) -> None:
    same(*(SERIES | WRAPS)[name])
