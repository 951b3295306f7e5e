"""A network that runs for one step as a single pass: ``x (N, ...) -> y (N, ...)``, no state, no loop.

What IIR-SNN ends in: at T = 1 populations are threshold gates, ``Conv -> Greater -> Cast -> AveragePool -> Gemm``. The
rules are in :mod:`export.onnx_once`; metadata, hash and file are those of :mod:`export.to_onnx`, ``snn.form`` is once.
Thresholds stand as constants ``<node>.threshold``, so a machine with thresholds finds them. Spikes are the float 0 and
1; behind a mean over k pixels they are multiples of 1/k, exact in float for the k = 4 of 2 x 2.
"""

from __future__ import annotations

from export.network import Network
from export.program import MappingError
from export.to_onnx import OPSET, OnnxProgram, program_of


def to_onnx_once(network: Network, *, steps: int = 1, watch: bool = True, opset: int = OPSET) -> OnnxProgram:
    """The program. ``steps``: T that the network was trained for, which must be 1; ``watch``: spikes are outputs too.

    Errors: :class:`MappingError` for T above 1, delays, loops, and a membrane that does not begin at 0.
    """
    if steps != 1:
        raise MappingError(
            f"{network.name}: runs for {steps} steps, a single pass is one; train it down to T = 1 "
            "(neuro.methods.iir), or export it with to_onnx_step or to_onnx_scan"
        )
    return program_of(network, "once", watch, opset)
