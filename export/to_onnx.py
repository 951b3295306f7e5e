"""A Network as an ONNX graph, built node by node: one step a call, state in and out, or one Scan over all steps.

The floating-point operations stand in the order of ``neuro.neuron``. Opset 17 and IR 8, which onnxruntime-web and
older runtimes read too. Inputs of a step: ``x (N, ...)`` and each state; outputs: ``y``, each next state
``<state>_next``, and every hidden spike train ``<node>.s``. The batch ``N`` is symbolic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from export.network import AvgPool2d, Conv2d, Flatten, Linear, Loss, Network, Shape, Spiking
from export.package import PackageError, write_bytes
from export.program import Usage
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau

OPSET, IR_VERSION = 17, 8
MAX_MODEL_BYTES = 2**31 - 1  # the protobuf limit
FORMAT = "spikeport-onnx-1"


@dataclass(frozen=True)
class OnnxProgram:
    """An ONNX model with what is needed to step it in its metadata; see :meth:`meta`."""

    model: bytes
    losses: Sequence[Loss] = ()
    machine: str = "onnx"
    usage: Usage = field(default_factory=dict)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """``form``, ``dt_s``, ``network`` (hash), ``input_shape``, ``states`` {name: {shape, init}}, ``spikes``."""
        return _meta(self.model, "program")

    @property
    def input_shape(self) -> Shape:
        """One step of one sample."""
        return tuple(self.meta["input_shape"])

    @property
    def source_hash(self) -> str:
        """Hash of the Network it was made from."""
        return str(self.meta["network"])

    def hash(self) -> str:
        """SHA-256 of the model's bytes."""
        return hashlib.sha256(self.model).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write the ``.onnx``, beside and renamed."""
        return write_bytes(path, self.model)

    @classmethod
    def load(cls, path: str | Path) -> OnnxProgram:
        """Read and check an ``.onnx`` that this module wrote. Errors: ``PackageError`` naming the file."""
        path = Path(path)
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise PackageError(f"{path}: is larger than an ONNX file can be")
        data = path.read_bytes()
        meta = _meta(data, str(path))
        return cls(data, tuple(Loss(str(n), str(w), float(s)) for n, w, s in meta["losses"]))


def to_onnx_step(network: Network) -> OnnxProgram:
    """One step a call (form c): the form for streaming, microcontrollers and runtimes without control flow."""
    g = _Graph(network)
    g.build()
    graph = _onnx().helper.make_graph(
        g.nodes, network.name, g.inputs(), g.outputs(), [_tensor(k, v) for k, v in g.weights.items()]
    )
    return _program(g, graph, "step")


def to_onnx_scan(network: Network) -> OnnxProgram:
    """All steps in one call (form b): ``x (T, N, ...) -> y (T, N, ...)``, a Scan whose body is the step.

    States start from their initial values inside the graph; final states are outputs.
    """
    onnx = _onnx()
    h = onnx.helper
    g = _Graph(network)
    g.build()
    body = h.make_graph(g.nodes, "step", [*g.inputs()[1:], g.inputs()[0]], [*g.outputs()[1 : 1 + len(g.states)], *g.scans()])
    nodes = [h.make_node("Shape", ["x_seq"], ["x_seq_n"], start=1, end=2)]
    weights = [_tensor(k, v) for k, v in g.weights.items()]
    for s, (shape, init) in g.states.items():
        weights.append(_tensor(f"{s}_dims", np.array(shape, np.int64)))
        nodes.append(h.make_node("Concat", ["x_seq_n", f"{s}_dims"], [f"{s}_shape"], axis=0))
        value = onnx.numpy_helper.from_array(np.array([init], g.dtype))
        nodes.append(h.make_node("ConstantOfShape", [f"{s}_shape"], [f"{s}_0"], value=value))
    seq = [v.name + "_seq" for v in g.scans()]
    nodes.append(
        h.make_node(
            "Scan",
            [*(f"{s}_0" for s in g.states), "x_seq"],
            [*(f"{s}_final" for s in g.states), *seq],
            num_scan_inputs=1,
            body=body,
        )
    )
    info = h.make_tensor_value_info
    x_in = info("x_seq", g.elem, ["T", "N", *g.shapes[network.input]])
    finals = [info(f"{s}_final", g.elem, ["N", *shape]) for s, (shape, _) in g.states.items()]
    outs = [info(n, g.elem, ["T", "N", *_dims(v)[1:]]) for n, v in zip(seq, g.scans(), strict=True)]
    return _program(g, h.make_graph(nodes, network.name, [x_in], [*outs, *finals], weights), "scan")


class _Graph:
    """Nodes, weights and states of one step."""

    def __init__(self, network: Network) -> None:
        network.check()
        self.network, self.shapes = network, network.shapes()
        kinds = {n.weight.dtype for _, n in network if isinstance(n, Linear | Conv2d)}
        self.dtype = np.result_type(*kinds) if kinds else np.dtype(np.float32)
        self.elem = _onnx().helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.states: dict[str, tuple[Shape, float]] = {}

    def build(self) -> None:
        """Lower every node, then shift the delay lines."""
        for name, node in self.network:
            into = self._input(name)
            if isinstance(node, Linear | Conv2d):
                self._weights(name, node, into)
            elif isinstance(node, AvgPool2d):
                pads = [*node.padding, *node.padding]
                self.op(
                    "AveragePool", [into], name, kernel_shape=node.kernel, strides=node.stride, pads=pads, count_include_pad=1
                )
            elif isinstance(node, Flatten):
                self.op("Flatten", [into], name, axis=1)
            elif isinstance(node, Spiking):
                self._spiking(name, node.law, into)
            elif name == self.network.output:
                self.op("Identity", [into], "y")
        for e in self.network.edges:
            for k in range(e.delay):
                source = f"{e.src}>{e.dst}.{k + 1}" if k + 1 < e.delay else self._value(e.src)
                self.op("Identity", [source], f"{e.src}>{e.dst}.{k}_next")

    def inputs(self) -> list[Any]:
        """``x`` and the states."""
        info = _onnx().helper.make_tensor_value_info
        x = info("x", self.elem, ["N", *self.shapes[self.network.input]])
        return [x, *(info(s, self.elem, ["N", *shape]) for s, (shape, _) in self.states.items())]

    def outputs(self) -> list[Any]:
        """``y``, the next states, the hidden spikes."""
        info = _onnx().helper.make_tensor_value_info
        nexts = [info(f"{s}_next", self.elem, ["N", *shape]) for s, (shape, _) in self.states.items()]
        y, *hidden = self.scans()
        return [y, *nexts, *hidden]

    def scans(self) -> list[Any]:
        """What a step says besides its states: ``y`` and the hidden spikes."""
        info = _onnx().helper.make_tensor_value_info
        y = info("y", self.elem, ["N", *self.shapes[self.network.output]])
        return [y, *(info(f"{n}.s", self.elem, ["N", *self.shapes[n]]) for n in self.network.spiking())]

    def op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append one ONNX node and return its output."""
        self.nodes.append(_onnx().helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """An initialiser in the network's float type."""
        self.weights[name] = np.asarray(value, self.dtype)
        return name

    def _value(self, name: str) -> str:
        if isinstance(self.network.nodes[name], Spiking):
            return f"{name}.s"
        return "x" if name == self.network.input else name

    def _input(self, name: str) -> str:
        parts = []
        for e in self.network.sources(name):
            if e.delay:
                for k in range(e.delay):
                    self.states[f"{e.src}>{e.dst}.{k}"] = (self.shapes[e.src], 0.0)
                parts.append(f"{e.src}>{e.dst}.0")
            else:
                parts.append(self._value(e.src))
        total = parts[0] if parts else "x"
        for k, part in enumerate(parts[1:]):
            total = self.op("Add", [total, part], f"{name}.sum{k}")
        return total

    def _weights(self, name: str, node: Linear | Conv2d, into: str) -> None:
        inputs = [into, self.constant(f"{name}.weight", node.weight)]
        if node.bias is not None:
            inputs.append(self.constant(f"{name}.bias", node.bias))
        if isinstance(node, Linear):
            self.op("Gemm", inputs, name, transB=1)
        else:
            self.op(
                "Conv",
                inputs,
                name,
                kernel_shape=node.weight.shape[2:],
                strides=node.stride,
                pads=[*node.padding, *node.padding],
                dilations=node.dilation,
                group=node.groups,
            )

    def _spiking(self, name: str, law: Law, x: str) -> None:
        v = f"{name}.v"
        self.states[v] = (self.shapes[name], law.v_reset)
        h = self._charge(name, law, v, x)
        over = self.op("Sub", [h, self.constant(f"{name}.threshold", law.threshold)], f"{name}.over")
        fires = "GreaterOrEqual" if law.fires == ">=" else "Greater"
        fired = self.op(fires, [over, self.constant(f"{name}.zero", 0.0)], f"{name}.fired")
        s = self.op("Cast", [fired], f"{name}.s", to=self.elem)
        if law.reset == "subtract":
            drop = self.op("Mul", [s, f"{name}.threshold"], f"{name}.drop")
            self.op("Sub", [h, drop], f"{v}_next")
        else:
            self.op("Where", [fired, self.constant(f"{name}.v_reset", law.v_reset), h], f"{v}_next")

    def _charge(self, name: str, law: Law, v: str, x: str) -> str:
        c = law.charge
        if isinstance(c, NoLeak):
            return self.op("Add", [v, x], f"{name}.h")
        if isinstance(c, Decay):
            i = f"{name}.i"
            self.states[i] = (self.shapes[name], 0.0)
            kept = self.op("Mul", [i, self.constant(f"{name}.current", c.current)], f"{name}.kept")
            self.op("Add", [kept, x], f"{i}_next")
            slow = self.op("Mul", [v, self.constant(f"{name}.voltage", c.voltage)], f"{name}.slow")
            return self.op("Add", [slow, f"{i}_next"], f"{name}.h")
        scale = self.constant(f"{name}.leak", c.tau if isinstance(c, Tau) else c.rate)
        kind = "Div" if isinstance(c, Tau) else "Mul"
        return self._leak(name, c, kind, scale, v, x)

    def _leak(self, name: str, c: Tau | Rate, kind: str, scale: str, v: str, x: str) -> str:
        from_rest = self.op("Sub", [v, self.constant(f"{name}.rest", c.rest)], f"{name}.from_rest")
        if c.decay_input:
            drive = self.op("Sub", [x, from_rest], f"{name}.drive")
            return self.op("Add", [v, self.op(kind, [drive, scale], f"{name}.change")], f"{name}.h")
        lost = self.op(kind, [from_rest, scale], f"{name}.lost")
        return self.op("Add", [self.op("Sub", [v, lost], f"{name}.decayed"), x], f"{name}.h")


def _program(g: _Graph, graph: Any, form: str) -> OnnxProgram:
    onnx, network = _onnx(), g.network
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="spikeport")
    model.ir_version = IR_VERSION
    manifest, _ = network.to_manifest()
    meta = {
        "snn.format": FORMAT,
        "snn.form": form,
        "snn.dt_s": network.dt_s,
        "snn.network": network.hash(),
        "snn.input_shape": list(g.shapes[network.input]),
        "snn.states": {s: {"shape": list(shape), "init": init} for s, (shape, init) in g.states.items()},
        "snn.spikes": network.spiking(),
        "snn.losses": manifest["losses"],
        "snn.nodes": manifest["nodes"],
        "snn.edges": manifest["edges"],
        "snn.name": network.name,
    }
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in meta.items()})
    onnx.checker.check_model(model, full_check=True)
    return OnnxProgram(model.SerializeToString(deterministic=True), tuple(network.losses))


def network_of(program: OnnxProgram) -> Network:
    """The Network inside an ONNX program: laws from its metadata, weights from its initialisers."""
    from export.network import Edge, _node_from

    model = _parse(program.model, "program")
    arrays = {t.name: _onnx().numpy_helper.to_array(t) for t in model.graph.initializer}
    meta = program.meta
    nodes = {d["name"]: _node_from(d, arrays) for d in meta["nodes"]}
    edges = [Edge(s, t, k) for s, t, k in meta["edges"]]
    return Network(nodes, edges, meta["dt_s"], meta["name"], program.losses)


def _meta(data: bytes, where: str) -> dict[str, Any]:
    found = {p.key: p.value for p in _parse(data, where).metadata_props}
    if "snn.format" not in found or json.loads(found["snn.format"]) != FORMAT:
        raise PackageError(f"{where}: is ONNX without spikeport's metadata; export the network with to_onnx_step")
    return {k.removeprefix("snn."): json.loads(v) for k, v in found.items() if k.startswith("snn.")}


def _parse(data: bytes, where: str) -> Any:
    try:
        return _onnx().load_model_from_string(data)
    except ImportError:
        raise
    except Exception as error:  # protobuf's own exception type differs between its backends
        raise PackageError(f"{where}: no readable ONNX ({error}); the file is truncated, export it again") from None


def _tensor(name: str, value: Any) -> Any:
    return _onnx().numpy_helper.from_array(np.ascontiguousarray(value), name)


def _dims(value_info: Any) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value_info.type.tensor_type.shape.dim]


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise ValueError("this needs onnx: pip install 'spikeport[edge]'") from None
    return onnx
