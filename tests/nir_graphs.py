"""NIR graphs for the tests: neurons, a chain of nodes, and what such a graph leaves unsaid."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np

from export import Network
from sim import numpy_engine

DT = 1e-4
EULER: dict[str, Any] = {"dt_s": DT, "reset": "hard", "fires": ">", "discretization": "euler"}


def graph(*nodes: Any, shape: tuple[int, ...] = (3,), **metadata: Any) -> nir.NIRGraph:
    """A chain with an Input of ``shape``; no type check, as real files need."""
    named = {"in": nir.Input(np.array(shape))} | {f"n{k}": n for k, n in enumerate(nodes)}
    named["out"] = nir.Output(np.array(shape))
    return nir.NIRGraph(named, list(pairwise(named)), metadata=metadata, type_check=False)


def full(value: float, n: int = 3) -> Any:
    return np.full(n, value)


def lif(n: int = 3, **changes: Any) -> nir.LIF:
    p = {"tau": full(1e-3, n), "r": full(10.0, n), "v_leak": full(0.0, n), "v_threshold": full(1.0, n)}
    return nir.LIF(**p | {"v_reset": full(0.0, n)} | changes)


def cuba(n: int = 3, **changes: Any) -> nir.CubaLIF:
    p = {"tau_syn": 2e-4, "tau_mem": 4e-4, "r": 4.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, "w_in": 2.0}
    return nir.CubaLIF(**{k: full(v, n) for k, v in p.items()} | changes)


def outputs(net: Network, x: Any) -> Any:
    return numpy_engine.run(net, np.asarray(x, np.float64)[None]).y[0]
