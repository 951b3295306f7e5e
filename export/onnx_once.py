"""One step from silence as ONNX nodes: what :class:`export.onnx_step.Step` lowers, with nothing to remember.

    NoLeak, Leaky, Decay, Tau and Rate that do not scale their input     h = x
    Tau, Rate with decay_input                                           h = x / tau;  h = x * rate
    fires                                                                s = Cast(Greater(h, threshold))

No reset, for nothing comes after it. v begins at 0, so each line has the bits of the full law.
Imports onnx, so import it only where a graph is made.
"""

from __future__ import annotations

from onnx import helper

from export.network import Delay, Integrator, Node
from export.onnx_step import Step
from export.program import MappingError
from neuro.neuron import Charge, Law, Rate, Tau


class Once(Step):
    """The nodes of the only step.

    Errors: ``MappingError`` for a delay, a loop, and a membrane that begins elsewhere than at 0.
    """

    def __post_init__(self) -> None:
        for e in self.network.edges:
            if e.delay:
                raise MappingError(f"{e.src} -> {e.dst}: arrives {e.delay} steps later, and there is one; {_INSTEAD}")
        super().__post_init__()
        if self.states:
            raise MappingError(f"{self.states[0].name}: has to be remembered from step to step; {_INSTEAD}")

    def _lower(self, name: str, node: Node) -> str:
        if isinstance(node, Delay) and node.depth:
            raise MappingError(f"{name}: delays by up to {node.depth} steps, and there is one; {_INSTEAD}")
        return super()._lower(name, node)

    def _neurons(self, name: str, law: Law, x: str) -> str:
        h = self._charge(name, law.charge, law.v_reset, x)
        compare = "GreaterOrEqual" if law.fires == ">=" else "Greater"
        fired = self.emit(compare, [h, self.scalar(f"{name}.threshold", law.threshold)], f"{name}.fired")
        return self.emit("Cast", [fired], f"{name}.s", to=helper.np_dtype_to_tensor_dtype(self.dtype))

    def _integrator(self, name: str, node: Integrator, x: str) -> str:
        h = self._charge(name, node.charge, node.rest, x)
        return self.emit("Add", [h, self.scalar(f"{name}.offset", node.offset)], f"{name}.out") if node.offset else h

    def _charge(self, name: str, charge: Charge, start: float, x: str) -> str:
        if start or getattr(charge, "rest", 0.0):
            raise MappingError(f"{name}: its membrane begins at {start:g} or rests away from 0; {_INSTEAD}")
        if isinstance(charge, Tau) and charge.decay_input:
            return self.emit("Div", [x, self.scalar(f"{name}.tau", charge.tau)], f"{name}.h")
        if isinstance(charge, Rate) and charge.decay_input:
            return self.emit("Mul", [x, self.scalar(f"{name}.rate", charge.rate)], f"{name}.h")
        return x


_INSTEAD = "export it with to_onnx_step or to_onnx_scan, which keep states"
