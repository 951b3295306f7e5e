"""One step of a Network as ONNX nodes: every lowering rule, in the order of operations of the network's law.

Imports onnx, so import it only where a graph is made. Rules, each operator an ONNX node (``h``: charged
membrane, ``s``: spike):

    NoLeak                    h = v + x
    Tau, decay_input          h = v + (x - (v - rest)) / tau
    Tau                       h = (v - (v - rest) / tau) + x
    Rate                      the same with ``* rate``
    Leaky                     h = v * beta + x
    Decay                     i' = i * current + x;  h = v * voltage + i'
    fires                     b = GreaterOrEqual(h, threshold) or Greater;  s = Cast(b)
    reset zero, subtract      v' = Where(b, v_reset, h);  v' = h - s * threshold
    Integrator                y = h, or h + offset;  v' = h
    Linear, Conv, AvgPool2d   Gemm(transB), Conv, AveragePool(count_include_pad)
    SumPool2d, Scale          Conv with ones, one channel a group;  Mul
    delay d of a source       q (N, D, ...), oldest first: value = q[:, D - d];  q' = Concat(q[:, 1:], s)
    Delay node                d (N, D, ...) likewise of its input; per distinct d a Where that takes those elements
    DelayedLinear             p (out, in, N) = Gather(Transpose(Reshape(Concat(d, x))), (D - delays) in + i)
                              y = MatMul(W (out, 1, in), p) turned + bias
    Window                    y = Where(t < stop, x, 0);  t' = t + 1

Edges into one node add: those without delay first, then delayed ones, each in the order of the edge list.
``v - rest`` with rest 0 is left out: it has the bits of ``v``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    DelayedLinear,
    Flatten,
    Input,
    Integrator,
    Linear,
    Lined,
    Network,
    Node,
    Output,
    Scale,
    Shape,
    Spiking,
    SumPool2d,
    Weighted,
    Window,
    floats,
)
from export.onnx_names import input_value
from export.program import MappingError
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau


@dataclass(frozen=True)
class State:
    """A tensor ``(N, *shape)`` from step to step: input ``name``, output ``<name>.next``, first ``init``."""

    name: str
    shape: Shape
    init: float

    @property
    def next(self) -> str:
        """Name of the output that holds it after the step."""
        return f"{self.name}.next"

    def to_dict(self) -> dict[str, Any]:
        """As in the metadata."""
        return {"name": self.name, "next": self.next, "shape": list(self.shape), "init": self.init}


@dataclass
class Step:
    """The nodes of one step, their constants, and the names that go in and out.

    ``suffix`` ends the name of every value inside, for a graph that becomes the body of a Scan.
    """

    network: Network
    suffix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    watched: dict[str, Shape] = field(default_factory=dict)
    """Outputs for who counts: spikes ``<node>.s``, and those ``<layer>.in`` of :mod:`export.onnx_names`."""

    def __post_init__(self) -> None:
        self.shapes = self.network.shapes()
        self.dtype = element_type(self.network)
        self.value: dict[str, str] = {}
        self.heard: dict[str, str] = {}
        self.delays = {e.src: 0 for e in self.network.edges if e.delay}
        for e in self.network.edges:
            if e.delay:
                self.delays[e.src] = max(self.delays[e.src], e.delay)
        for source, depth in self.delays.items():
            self.states.append(State(f"{source}.q", (depth, *self.shapes[source]), 0.0))
        for name, node in self.network:
            self.value[name] = self._lower(name, node)
        for source, depth in self.delays.items():
            self._push(f"{source}.q", self.value[source], depth)
        for name, node in self.network:
            if isinstance(node, Lined) and name not in self.heard:
                self.heard[name] = self._heard(name, node)
            if isinstance(node, Lined) and node.depth:
                self._push(f"{name}.d", self.heard[name], node.depth)
        self.emit("Identity", [self.value[self.network.output]], "y")

    def named(self, name: str) -> str:
        """The name of a value inside this step."""
        return name + self.suffix

    def emit(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add one node whose result is ``name``; gives the result's name."""
        self.nodes.append(helper.make_node(op, list(inputs), [self.named(name)], name=self.named(name), **attributes))
        return self.named(name)

    def scalar(self, name: str, value: float) -> str:
        """A constant of the graph's float type."""
        self.constants[name] = np.array(value, self.dtype)
        return name

    def index(self, name: str, values: int | Sequence[int]) -> str:
        """A constant of integers."""
        self.constants[name] = np.array(values, np.int64)
        return name

    def _lower(self, name: str, node: Node) -> str:
        if isinstance(node, Input):
            return self.named("x")
        if isinstance(node, Delay):
            return self._delay(name, node)
        if isinstance(node, DelayedLinear):
            return self._late_sums(name, node)
        if isinstance(node, Weighted):
            return self._layer(name, node)
        x = self._sum(name)
        if isinstance(node, Scale):
            self.constants[f"{name}.scale"] = node.scale
            return self.emit("Mul", [x, f"{name}.scale"], f"{name}.out")
        if isinstance(node, SumPool2d):
            return self._sum_pool(name, node, x)
        if isinstance(node, AvgPool2d):
            pads = [*node.padding, *node.padding]
            return self.emit(
                "AveragePool",
                [x],
                f"{name}.out",
                kernel_shape=node.kernel,
                strides=node.stride,
                pads=pads,
                count_include_pad=1,
            )
        if isinstance(node, Flatten):
            if len(self.shapes[name]) == 1:
                return self.emit("Flatten", [x], f"{name}.out", axis=1)
            return self.emit("Reshape", [x, self.index(f"{name}.shape", [0, *self.shapes[name]])], f"{name}.out")
        if isinstance(node, Window):
            return self._window(name, node, x)
        if isinstance(node, Integrator):
            return self._integrator(name, node, x)
        if isinstance(node, Spiking):
            self.watched[f"{name}.s"] = self.shapes[name]
            return self._neurons(name, node.law, x)
        if isinstance(node, Output):
            return x
        raise MappingError(f"{name}: a {type(node).__name__} has no ONNX rule; exchange it before the export")

    def _sum_pool(self, name: str, node: SumPool2d, x: str) -> str:
        channels = self.shapes[name][0]
        self.constants[f"{name}.ones"] = np.ones((channels, 1, *node.kernel), self.dtype)
        return self.emit(
            "Conv", [x, f"{name}.ones"], f"{name}.out", kernel_shape=node.kernel, strides=node.stride,
            pads=[*node.padding, *node.padding], group=channels,
        )  # fmt: skip

    def _integrator(self, name: str, node: Integrator, x: str) -> str:
        h = self._charge(name, node.charge, node.rest, x)
        self.emit("Identity", [h], f"{name}.v.next")
        return self.emit("Add", [h, self.scalar(f"{name}.offset", node.offset)], f"{name}.out") if node.offset else h

    def _delay(self, name: str, node: Delay) -> str:
        """Where takes, of one distinct delay after the other, the elements that have it."""
        self.constants[f"{name}.steps"] = node.steps  # for who reads the network back
        self._line(name, node)
        total = ""
        for d in (int(k) for k in np.unique(node.steps)):
            x = self.heard[name] if d == 0 else self._past(f"{name}.d", node.depth - d, f"{name}.past.{d}")
            if total:
                mask = f"{name}.has.{d}"
                self.constants[mask] = (node.steps == d)[None]
                x = self.emit("Where", [mask, x, total], f"{name}.to.{d}")
            total = x
        return total

    def _line(self, name: str, node: Lined) -> None:
        if node.depth:
            self.states.append(State(f"{name}.d", (node.depth, *_in_shape(self.network, self.shapes, name)), 0.0))
        if not node.early:
            self.heard[name] = self._heard(name, node)

    def _heard(self, name: str, node: Node) -> str:
        """What enters a node, watched where it is a layer whose input has no name yet."""
        x = self._sum(name)
        if isinstance(node, Weighted | DelayedLinear) and input_value(self.network, name) == f"{name}.in":
            self.watched[f"{name}.in"] = _in_shape(self.network, self.shapes, name)
            x = self.emit("Identity", [x], f"{name}.in")
        return x

    def _late_sums(self, name: str, node: DelayedLinear) -> str:
        """Every synapse picks its input out of the line, which costs no more than a matrix product without delays."""
        self._line(name, node)
        features, rows, line = node.weight.shape[1], node.depth, self.named(f"{name}.d")
        if not node.early:
            now = self.heard[name]
            if rows:
                now = self.emit("Unsqueeze", [now, self.index(f"{name}.axis", [1])], f"{name}.now")
                now = self.emit("Concat", [line, now], f"{name}.past", axis=1)
            line, rows = now, rows + 1
        flat = self.emit("Reshape", [line, self.index(f"{name}.flat", [0, rows * features])], f"{name}.row")
        self.constants[f"{name}.delays"], self.constants[f"{name}.weight"] = node.delays, node.weight
        late = self.emit("Cast", [f"{name}.delays"], f"{name}.late", to=onnx.TensorProto.INT64)
        row = self.emit("Sub", [self.index(f"{name}.depth", node.depth), late], f"{name}.at.row")
        first = self.emit("Mul", [row, self.index(f"{name}.width", features)], f"{name}.at.first")
        at = self.emit("Add", [first, self.index(f"{name}.inputs", range(features))], f"{name}.at")
        rows_first = self.emit("Transpose", [flat], f"{name}.rows", perm=[1, 0])  # a batch is copied as one piece
        picked = self.emit("Gather", [rows_first, at], f"{name}.picked", axis=0)
        middle = self.index(f"{name}.middle", [1])
        weight = self.emit("Unsqueeze", [f"{name}.weight", middle], f"{name}.weights")
        each = self.emit("MatMul", [weight, picked], f"{name}.each")
        turned = self.emit("Squeeze", [each, middle], f"{name}.sums")
        total = self.emit("Transpose", [turned], f"{name}.total", perm=[1, 0])
        if node.bias is None:
            return total
        self.constants[f"{name}.bias"] = node.bias
        return self.emit("Add", [total, f"{name}.bias"], f"{name}.out")

    def _window(self, name: str, node: Window, x: str) -> str:
        state = State(f"{name}.t", (1,) * len(self.shapes[name]), 0.0)
        self.states.append(state)
        t = self.named(state.name)
        open_ = self.emit("Less", [t, self.scalar(f"{name}.stop", node.stop)], f"{name}.open")
        self.emit("Add", [t, self.scalar(f"{name}.one", 1.0)], state.next)
        return self.emit("Where", [open_, x, self.scalar(f"{name}.zero", 0.0)], f"{name}.out")

    def _layer(self, name: str, node: Weighted) -> str:
        x = self._heard(name, node)
        inputs = [x, f"{name}.weight"]
        self.constants[inputs[1]] = node.weight
        if node.bias is not None:
            inputs.append(f"{name}.bias")
            self.constants[inputs[2]] = node.bias
        if isinstance(node, Linear):
            return self.emit("Gemm", inputs, f"{name}.out", transB=1)
        return self.emit(
            "Conv",
            inputs,
            f"{name}.out",
            kernel_shape=node.weight.shape[2:],
            strides=[node.stride] if isinstance(node, Conv1d) else node.stride,
            pads=[node.padding] * 2 if isinstance(node, Conv1d) else [*node.padding, *node.padding],
            dilations=[node.dilation] if isinstance(node, Conv1d) else node.dilation,
            group=node.groups,
        )

    def _sum(self, name: str) -> str:
        edges = self.network.sources(name)
        terms = [self.value[e.src] for e in edges if not e.delay]
        terms += [self._delayed(e.src, e.delay, f"{name}.from.{k}") for k, e in enumerate(edges) if e.delay]
        total = terms[0]
        for k, term in enumerate(terms[1:]):
            total = self.emit("Add", [total, term], f"{name}.sum.{k}")
        return total

    def _delayed(self, source: str, delay: int, name: str) -> str:
        return self._past(f"{source}.q", self.delays[source] - delay, name)

    def _past(self, line: str, at: int, name: str) -> str:
        return self.emit("Gather", [self.named(line), self.index(f"{name}.at", at)], name, axis=1)

    def _push(self, line: str, value: str, depth: int) -> None:
        ones = self.index(f"{line}.axis", [1])
        new = self.emit("Unsqueeze", [value, ones], f"{line}.new")
        if depth == 1:
            self.emit("Identity", [new], f"{line}.next")
            return
        end = self.index(f"{line}.end", [depth])
        kept = self.emit("Slice", [self.named(line), ones, end, ones], f"{line}.kept")
        self.emit("Concat", [kept, new], f"{line}.next", axis=1)

    def _neurons(self, name: str, law: Law, x: str) -> str:
        h = self._charge(name, law.charge, law.v_reset, x)
        threshold = self.scalar(f"{name}.threshold", law.threshold)
        compare = "GreaterOrEqual" if law.fires == ">=" else "Greater"
        fired = self.emit(compare, [h, threshold], f"{name}.fired")
        s = self.emit("Cast", [fired], f"{name}.s", to=helper.np_dtype_to_tensor_dtype(self.dtype))
        if law.reset == "zero":
            self.emit("Where", [fired, self.scalar(f"{name}.v_reset", law.v_reset), h], f"{name}.v.next")
        else:
            drop = self.emit("Mul", [s, threshold], f"{name}.drop")
            self.emit("Sub", [h, drop], f"{name}.v.next")
        return s

    def _charge(self, name: str, charge: Charge, start: float, x: str) -> str:
        """h; ``start``: v before the first step."""
        self.states.append(State(f"{name}.v", self.shapes[name], start))
        if isinstance(charge, Decay):
            self.states.append(State(f"{name}.i", self.shapes[name], 0.0))
        v = self.named(f"{name}.v")
        if isinstance(charge, NoLeak):
            return self.emit("Add", [v, x], f"{name}.h")
        if isinstance(charge, Leaky):
            kept = self.emit("Mul", [v, self.scalar(f"{name}.beta", charge.beta)], f"{name}.v.kept")
            return self.emit("Add", [kept, x], f"{name}.h")
        if isinstance(charge, Decay):
            kept = self.emit(
                "Mul",
                [self.named(f"{name}.i"), self.scalar(f"{name}.current", charge.current)],
                f"{name}.i.kept",
            )
            i = self.emit("Add", [kept, x], f"{name}.i.next")
            kept = self.emit("Mul", [v, self.scalar(f"{name}.voltage", charge.voltage)], f"{name}.v.kept")
            return self.emit("Add", [kept, i], f"{name}.h")
        above = v
        if charge.rest:
            above = self.emit("Sub", [v, self.scalar(f"{name}.rest", charge.rest)], f"{name}.above")
        if charge.decay_input:
            pull = self.emit("Sub", [x, above], f"{name}.pull")
            return self.emit("Add", [v, self._scale(name, charge, pull)], f"{name}.h")
        kept = self.emit("Sub", [v, self._scale(name, charge, above)], f"{name}.v.kept")
        return self.emit("Add", [kept, x], f"{name}.h")

    def _scale(self, name: str, charge: Tau | Rate, value: str) -> str:
        if isinstance(charge, Tau):
            return self.emit("Div", [value, self.scalar(f"{name}.tau", charge.tau)], f"{name}.scaled")
        return self.emit("Mul", [value, self.scalar(f"{name}.rate", charge.rate)], f"{name}.scaled")

    def tensors(self) -> list[onnx.TensorProto]:
        """The constants, weights included."""
        return [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self.constants.items()]

    def info(self, name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
        """A value of the graph's float type with named or numbered axes."""
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self.dtype), list(shape))


def element_type(network: Network) -> np.dtype[Any]:
    """float32, or float64 where every weight is float64.

    Errors: ``MappingError`` for mixed or other types, and for float64 with a convolution or pooling, which
    onnxruntime has for float32 only.
    """
    types = {a.dtype for node in network.nodes.values() for a in floats(node)}
    if not types <= {np.dtype(np.float32), np.dtype(np.float64)} or len(types) > 1:
        found = ", ".join(sorted(str(t) for t in types))
        raise MappingError(f"{network.name}: weights of {found}; make all of them float32 before the export")
    dtype = types.pop() if types else np.dtype(np.float32)
    for name, node in network:
        if dtype == np.float64 and isinstance(node, Conv1d | Conv2d | AvgPool2d | SumPool2d):
            raise MappingError(
                f"{name}: onnxruntime has no {type(node).__name__} in float64; "
                "make all weights float32 before the export"
            )
    return dtype


def _in_shape(network: Network, shapes: dict[str, Shape], name: str) -> Shape:
    return shapes[network.sources(name)[0].src]
