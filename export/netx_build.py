"""Layers of a netx file as populations and connections, as lava-dl's loader builds them; :mod:`export.from_netx`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from export.loihi import (
    MAX_DELAY,
    ConvEdge,
    Delta,
    Edge,
    InputNode,
    Int,
    Lif,
    Node,
    ResonateFire,
    Sigma,
    SigmaDelta,
    SignMode,
    SparseEdge,
)
from export.network import Loss, Shape
from export.netx_file import Layer
from export.netx_layers import (
    BIAS_EXP,
    DECAY_BITS,
    GRADED_BITS,
    STATE_EXP,
    UnloadableError,
    edges_of,
    spread_delays,
    stored,
)
from export.package import PackageError
from export.program import MappingError

FIXES = {
    "average": "read the spikes of the layer before and average them outside",
    "concat": "netx holds one chain; merge the branches before export",
    "pool": "train with a strided convolution, whose export the loader takes",
    "unpool": "train with a convolution that keeps the size",
    "convT": "train with a convolution that keeps the size",
    "dense_comp": "export it as 'dense' with weight/real and weight/imag",
}
"""Layer types that lava-dl writes and its loader refuses."""


@dataclass(frozen=True)
class Settings:
    """The loader's arguments, see :func:`export.from_netx.from_netx`."""

    bits: int
    reset_interval: int
    reset_offset: int
    spike_exp: int


@dataclass(eq=False)
class Builder:
    """The program so far. ``last``: name and shape of the layer that the next one reads; ``bits`` of its messages."""

    settings: Settings
    names: list[str]
    last: str
    shape: Shape | None
    bits: int
    shift: int = 0
    flat: bool = True
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def name(self, layer: Layer, kind: str) -> str:
        """The name of the population of this layer."""
        k = len(self.nodes) - 1
        return self.names[k] if k < len(self.names) else f"{kind}{layer.index}"


def add_layer(b: Builder, layer: Layer) -> None:
    kind = layer.text("type")
    if kind in FIXES:
        raise MappingError(
            f"{layer.label}: '{kind}' is no layer that lava-dl's loader takes: {FIXES[kind]}, or pass "
            f"num_layers={layer.index} to stop before it"
        )
    if kind == "input":
        _input(b, layer)
    elif kind == "flatten":
        b.flat = True
    elif kind in ("dense", "dense_rec", "conv"):
        _source(b, layer, kind)
        node = _neuron(b, layer, _shape(b, layer, kind))
        name = b.name(layer, kind)
        if kind == "conv":
            _conv(b, layer, name)
        else:
            _dense(b, layer, name, node)
        _ignored(b, layer, name)
        _add(b, layer, name, node)
        b.flat = kind != "conv"
    else:
        raise MappingError(f"{layer.label}: type '{kind}' is unknown; there are input, flatten, dense, dense_rec, conv")
    b.losses += [
        Loss(b.last, f"fractions of dataset '{k}' cut off, as the loader does, largest", v)
        for k, v in layer.rounded.items()
    ]


def _input(b: Builder, layer: Layer) -> None:
    if b.nodes:
        raise MappingError(f"{layer.label}: an input layer behind others; netx has one chain from one input")
    b.shape = layer.shape()
    b.flat = len(b.shape) != 3
    if "neuron/type" not in layer:
        return
    kind = layer.text("neuron/type")
    b.bits = b.settings.bits or GRADED_BITS
    _source(b, layer, "input")
    b.shift = 1
    if kind in ("LOIHI", "CUBA"):
        # the caller writes its bias, which is what arrives here; the dataset 'bias' is for input_transform()
        node: Node = replace(_neuron(b, layer, b.shape), du=4095, bias=None, bias_exp=0)
    elif kind == "SDNN":
        node = Delta(b.shape, layer.number("neuron/vThMant"), spike_exp=b.settings.spike_exp, state_exp=STATE_EXP)
    else:
        raise MappingError(f"{layer.label}: the loader has no input layer of '{kind}'; use CUBA or SDNN")
    n = int(np.prod(b.shape))
    name, each = b.name(layer, "input"), np.arange(n + 1)
    ones = np.ones(n, np.int16)
    edge = SparseEdge(b.last, name, each, each[:-1].astype(np.int32), ones, "excitatory", num_message_bits=b.bits)
    b.edges.append(edge)
    _add(b, layer, name, node)


def _source(b: Builder, layer: Layer, kind: str) -> None:
    """Makes the input node where this is the first layer."""
    if b.nodes:
        return
    if b.shape is None and kind == "conv":
        raise MappingError(f"{layer.label}: a convolution without an input layer before it; pass input_shape=(c, h, w)")
    if b.shape is None:
        w = layer.array("weight" if "weight" in layer else "weight/real")
        b.shape = (w.size // max(int(np.prod(layer.shape())), 1),)
    b.nodes[b.last] = InputNode(b.shape, b.bits)


def _shape(b: Builder, layer: Layer, kind: str) -> Shape:
    shape = layer.shape()
    if kind == "conv" and (len(shape) != 3 or len(b.shape or ()) != 3 or (b.flat and len(b.nodes) > 1)):
        raise MappingError(f"{layer.label}: a convolution reads and makes (c, h, w), not {b.shape} to {shape}")
    return shape if kind == "conv" else (int(np.prod(shape)),)


def _add(b: Builder, layer: Layer, name: str, node: Node) -> None:
    if isinstance(node, Lif) and b.settings.reset_interval:
        offset = b.settings.reset_offset + len(b.nodes) + b.shift
        node = replace(node, reset_interval=b.settings.reset_interval, reset_offset=offset)
    if name in b.nodes:
        raise PackageError(f"{layer.label}: two layers are called '{name}'; export the network again")
    b.nodes[name], b.last, b.shape = node, name, node.shape
    b.bits = GRADED_BITS if node.graded else 0


def _neuron(b: Builder, layer: Layer, shape: Shape) -> Any:
    """The population, as the loader chooses it from ``neuron/type``."""
    if "neuron/type" not in layer:  # the loader's integrator: the current never decays, the voltage shows it
        return Lif(shape, -1, 4096, 1 << 17, *_lif_bias(layer, shape))
    kind = layer.text("neuron/type")
    if kind in ("LOIHI", "CUBA"):
        du, dv, vth = (_decay(layer, f"neuron/{k}", shape) for k in ("iDecay", "vDecay", "vThMant"))
        return Lif(shape, du - 1, dv, vth, *_lif_bias(layer, shape))
    if kind == "SDNN":
        if "neuron/sigma_output" in layer:
            if "bias" in layer:
                raise MappingError(f"{layer.label}: the loader's Sigma takes no bias; train the last layer without")
            return Sigma(shape)
        vth = layer.number("neuron/vThMant")
        return SigmaDelta(shape, vth, _spread_bias(layer, shape), spike_exp=b.settings.spike_exp, state_exp=STATE_EXP)
    if kind in ("RF", "RF_PHASE", "RF_IZHIKEVICH"):
        sin, cos = (layer.array(f"neuron/{k}Decay").ravel() for k in ("sin", "cos"))
        if sin.size != 1 or cos.size != 1:
            raise MappingError(f"{layer.label}: sinDecay and cosDecay differ between neurons; share them in the layer")
        if sin.dtype.kind != "f" or cos.dtype.kind != "f":
            what = "the loader rounds integer decays by the machine's sine: sinDecay, cosDecay may be 1 less there"
            b.losses.append(Loss(b.name(layer, "dense"), what, 1.0))
        return ResonateFire(
            shape, int(sin[0]), int(cos[0]), DECAY_BITS, layer.number("neuron/vThMant"), STATE_EXP, kind != "RF_PHASE"
        )
    raise MappingError(
        f"{layer.label}: neuron type '{kind}' is none that the loader runs by its law; there are CUBA, LOIHI, SDNN, "
        "RF_PHASE and RF_IZHIKEVICH"
    )


def _decay(layer: Layer, name: str, shape: Shape) -> Any:
    a = layer.ints(name).ravel()
    if a.size == 1:
        return int(a[0])
    if a.size == shape[0] and len(shape) == 3:
        return np.repeat(a, shape[1] * shape[2])
    if a.size != int(np.prod(shape)):
        raise MappingError(f"{layer.label}: '{name}' has {a.size} values for {shape}; share it in the layer")
    return a


def _spread_bias(layer: Layer, shape: Shape) -> Int | None:
    """One per neuron, from one for all, one per channel, one per neuron, or lava's (w, h, c)."""
    if "bias" not in layer:
        return None
    a, n = layer.ints("bias"), int(np.prod(shape))
    if a.ndim == 3 and len(shape) == 3 and a.shape == shape[::-1]:
        return np.ascontiguousarray(a.transpose(2, 1, 0)).ravel()
    a = a.ravel()
    if a.size in (1, n):
        return np.broadcast_to(a, (n,)).copy()
    if len(shape) == 3 and a.size == shape[0]:
        return np.repeat(a, shape[1] * shape[2])
    raise MappingError(f"{layer.label}: bias of {a.size} values fits neither the channels nor the neurons of {shape}")


def _lif_bias(layer: Layer, shape: Shape) -> tuple[Int | None, int]:
    """``(mantissa, exponent)``: threshold units are 64; where the mantissa is too wide, an even one with 7."""
    bias = _spread_bias(layer, shape)
    if bias is None or not bias.any():
        return None, 0
    wide = np.abs(bias).max() > 4095 and not (bias & 1).any()
    return (bias >> wide).astype(np.int32), BIAS_EXP + int(wide)


def _conv(b: Builder, layer: Layer, name: str) -> None:
    w = layer.ints("weight")
    if w.ndim < 4 or int(np.prod(w.shape[4:])) != 1:
        raise PackageError(f"{layer.label}: kernel {w.shape} must be (out, in / groups, kh, kw); export it again")
    w = w.reshape(w.shape[:4])
    if np.abs(w).max() > 256:
        raise MappingError(f"{layer.label}: kernel weights reach {int(np.abs(w).max())}, a chip holds 8 bits; quantise")
    sign: SignMode = "excitatory" if w.min() >= 0 else "inhibitory" if w.max() <= 0 else "mixed"
    groups = layer.number("groups") if "groups" in layer else 1
    edge = ConvEdge(
        b.last, name, w.astype(np.int16), sign, layer.pair("stride", 1), layer.pair("padding", 0),
        layer.pair("dilation", 1), groups, num_message_bits=b.bits,
    )  # fmt: skip
    if "delay" in layer and layer.ints("delay").any():
        what = "delay of a convolution ignored, as the loader does"
        b.losses.append(Loss(name, what, float(layer.ints("delay").max())))
    b.edges.append(edge)


def _dense(b: Builder, layer: Layer, name: str, node: Any) -> None:
    if not b.flat and len(b.nodes) > 1:
        b.losses.append(Loss(name, "no flatten layer before it, the loader wants one; read as if there were", 1.0))
    n_out, n_in = int(np.prod(node.shape)), int(np.prod(b.shape or ()))
    if isinstance(node, ResonateFire):
        for port in ("real", "imag"):
            part = _prepared(layer, [_matrix(layer, f"weight/{port}", n_out, n_in)])[0]
            b.edges += edges_of(b.last, name, part, b.bits, port=port)
        return
    if "weight/real" in layer:
        raise MappingError(f"{layer.label}: complex weights want a neuron of type RF; dense layers have 'weight'")
    recurrent = layer.text("type") == "dense_rec"
    parts = [_matrix(layer, "weight", n_out, n_in)]
    if recurrent:
        parts.append(_matrix(layer, "weight_rec", n_out, n_out))
    clipped = max(float((np.abs(p - np.clip(p, -256, 254))).max()) for p in parts)
    if clipped and min(p.min() for p in parts) < 0 <= max(p.max() for p in parts):
        b.losses.append(Loss(name, "weights clipped to -256..254, as the loader does, largest change", clipped))
    delays = _delays(b, layer, name, n_out, n_in)
    if recurrent and delays is not None and n_in != n_out:
        raise MappingError(f"{layer.label}: the loader gives a recurrent layer's delays to both matrices; drop them")
    made = _prepared(layer, parts)
    for src, w, part in zip((b.last, name), parts, made, strict=False):
        value = part.w if recurrent and delays is not None else part.value()
        error = float(np.abs(value - w).max()) if value is not None else 1.0
        if error and not clipped:
            b.losses.append(Loss(name, f"weights from {src} changed as the loader changes them, largest change", error))
        b.edges += edges_of(src, name, part, b.bits, delays, exponent=not recurrent or delays is None)


def _prepared(layer: Layer, parts: list[Int]) -> Any:
    try:
        return stored(parts)
    except UnloadableError as error:
        raise MappingError(f"{layer.label}: {error}; quantise its weights to 8 bits and export again") from None


def _matrix(layer: Layer, name: str, n_out: int, n_in: int) -> Int:
    w = layer.ints(name)
    if w.size != n_out * n_in:
        raise MappingError(
            f"{layer.label}: '{name}' {w.shape} does not join {n_in} to {n_out} neurons; export it again"
        )
    return w.reshape(n_out, n_in)


def _delays(b: Builder, layer: Layer, name: str, n_out: int, n_in: int) -> Int | None:
    if "delay" not in layer:
        return None
    d = layer.ints("delay")
    if d.min() < 0:
        raise MappingError(f"{layer.label}: delays start at {int(d.min())}, no synapse looks ahead; shift them up")
    if d.max() > MAX_DELAY:
        what = f"delays clamped to {MAX_DELAY}, as the loader does, largest change"
        b.losses.append(Loss(name, what, float(d.max() - MAX_DELAY)))
    try:
        return spread_delays(np.minimum(d, MAX_DELAY), n_out, n_in)
    except ValueError as error:
        raise MappingError(f"{layer.label}: {error}; export it again") from None


def _ignored(b: Builder, layer: Layer, name: str) -> None:
    """Losses for what the loader passes over."""
    for key, plain in (("refDelay", 1), ("wgtExp", 0), ("gradedSpike", 0), ("weight_exp", 0)):
        if f"neuron/{key}" in layer and (layer.ints(f"neuron/{key}") != plain).any():
            value = float(np.abs(layer.ints(f"neuron/{key}")).max())
            b.losses.append(Loss(name, f"neuron/{key} is not {plain} and ignored, as the loader does", value))
    if "neuron/activation" in layer and layer.text("neuron/activation") != "relu":
        b.losses.append(Loss(name, "another activation runs as ReLU, as the loader does", 1.0))
    if "neuron/messageBits" in layer:
        b.losses.append(Loss(name, "neuron/messageBits is ignored; lava-dl's loader stops at it", 1.0))
