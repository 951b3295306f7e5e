"""ONNX graphs of a Network from its :class:`export.onnx_step.Step`, and the file around them.

Imports onnx, so import it only where a program is made or read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.network import Network, Shape
from export.onnx_once import Once
from export.onnx_step import State, Step
from export.package import Arrays, PackageError

Graph: TypeAlias = tuple[onnx.GraphProto, list[dict[str, Any]], dict[str, Shape]]


def step_graph(network: Network, watch: bool) -> Graph:
    """The graph of one step, its states and its watched outputs as ``OnnxProgram`` lists them."""
    return _flat(Step(network), network, watch)


def once_graph(network: Network, watch: bool) -> Graph:
    """The graph of the only step there is, without states."""
    return _flat(Once(network), network, watch)


def _flat(step: Step, network: Network, watch: bool) -> Graph:
    inputs = [step.info("x", ["N", *step.shapes[network.input]])]
    inputs += [step.info(s.name, ["N", *s.shape]) for s in step.states]
    outputs = [step.info("y", ["N", *step.shapes[network.output]])]
    outputs += [step.info(s.next, ["N", *s.shape]) for s in step.states]
    watched = step.watched if watch else {}
    outputs += [step.info(n, ["N", *shape]) for n, shape in watched.items()]
    graph = helper.make_graph(step.nodes, network.name, inputs, outputs, step.tensors())
    return graph, [s.to_dict() for s in step.states], watched


def scan_graph(network: Network, watch: bool) -> Graph:
    """One Scan over the leading axis of ``x``; the body captures the weights of the outer graph."""
    step = Step(network, suffix="_t")
    watched = step.watched if watch else {}
    seen = {"y": step.shapes[network.output]} | watched
    body = helper.make_graph(
        step.nodes,
        f"{network.name}.step",
        [
            *(step.info(step.named(s.name), ["N", *s.shape]) for s in step.states),
            step.info("x_t", ["N", *step.shapes[network.input]]),
        ],
        [
            *(step.info(step.named(s.next), ["N", *s.shape]) for s in step.states),
            *(step.info(step.named(n), ["N", *shape]) for n, shape in seen.items()),
        ],
    )
    begin = [
        helper.make_node("Shape", ["x"], ["x.shape"]),
        helper.make_node("Slice", ["x.shape", step.index("x.one", [1]), step.index("x.two", [2])], ["x.batch"]),
        *(node for s in step.states for node in _begin(step, s)),
    ]
    scan = helper.make_node(
        "Scan",
        [*(s.name for s in step.states), "x"],
        [*(s.next for s in step.states), *seen],
        name="scan",
        body=body,
        num_scan_inputs=1,
    )
    outputs = [step.info(n, ["T", "N", *shape]) for n, shape in seen.items()]
    outputs += [step.info(s.next, ["N", *s.shape]) for s in step.states]
    x = step.info("x", ["T", "N", *step.shapes[network.input]])
    graph = helper.make_graph([*begin, scan], network.name, [x], outputs, step.tensors())
    return graph, [s.to_dict() for s in step.states], watched


GRAPHS: dict[str, Callable[[Network, bool], Graph]] = {"step": step_graph, "scan": scan_graph, "once": once_graph}
"""By ``OnnxProgram.form``."""


def _begin(step: Step, state: State) -> list[onnx.NodeProto]:
    tail = step.index(f"{state.name}.shape", state.shape)
    value = numpy_helper.from_array(np.array([state.init], step.dtype))
    return [
        helper.make_node("Concat", ["x.batch", tail], [f"{state.name}.size"], axis=0),
        helper.make_node("ConstantOfShape", [f"{state.name}.size"], [state.name], value=value),
    ]


def write(graph: onnx.GraphProto, meta: Mapping[str, str], opset: int, ir_version: int) -> tuple[bytes, dict[str, str]]:
    """The file's bytes, checked by onnx in full with shape inference, and the metadata with the seal."""
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="spikeport",
    )
    helper.set_model_props(model, dict(meta))
    sealed = dict(meta) | {"snn.sha256": seal(model)}
    helper.set_model_props(model, sealed)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True), sealed


def read(data: bytes, owner: str) -> tuple[onnx.ModelProto, dict[str, str], Arrays]:
    """Model, metadata and constants of a file's bytes. Errors: ``PackageError`` naming ``owner``."""
    try:
        model = onnx.load_model_from_string(data)
        arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    except Exception as error:  # protobuf's own type differs between its backends
        raise PackageError(
            f"{owner}: cannot be read ({error}); the file is truncated or no .onnx file, export it again"
        ) from None
    return model, {p.key: p.value for p in model.metadata_props}, arrays


def seal(model: onnx.ModelProto) -> str:
    """SHA-256 over the graph and the metadata, without the seal itself."""
    h = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    for p in sorted(model.metadata_props, key=lambda p: p.key):
        if p.key != "snn.sha256":
            h.update(f"{p.key}\0{p.value}\0".encode())
    return h.hexdigest()
