"""Populations and connections of an integer program as lava's own processes. Worker side.

Populations are flat, in C order of torch's (c, h, w); a convolution is wired through lava's transpose and reshape
ports to its (w, h, c).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.graded.process import GradedReluVec, GradedVec
from lava.proc.lif.models import AbstractPyLifModelFixed
from lava.proc.lif.process import LIF, LIFReset, TernaryLIF
from lava.proc.rf.process import RF
from lava.proc.rf_iz.process import RF_IZ
from lava.proc.sdn.process import ActivationMode, Delta, Sigma, SigmaDelta
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csc_matrix

from sim.lava import shim

Fields = dict[str, Any]
"""A node or connection as its manifest entry, arrays in place."""

SIGNS = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}


class SoftLif(LIF):  # type: ignore[misc]  # lava has no types
    """LIF with reset by subtraction. Not stock: an extension of ours on lava's abstract fixed-point model."""


@implements(proc=SoftLif, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SoftLifModel(AbstractPyLifModelFixed):  # type: ignore[misc]  # lava has no types
    """``v -= subtract << 6`` where it fires; everything else is lava's."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: Any = LavaPyType(int, np.int32, precision=17)

    def scale_threshold(self) -> None:
        """As in lava's LIF."""
        self.effective_vth = np.left_shift(self.vth, self.vth_shift)
        self.isthrscaled = True

    def spiking_activation(self) -> Any:
        """As in lava's LIF."""
        return self.v > self.effective_vth

    def reset_voltage(self, spike_vector: Any) -> None:
        """The extension."""
        self.v[spike_vector] -= self.proc_params["subtract"] << self.vth_shift


CUSTOM = {SoftLif: SoftLifModel}


def population(node: Fields) -> tuple[Any, dict[str, Any]]:
    """``(process, variables to set when the population starts)``."""
    shape = (int(np.prod(node["shape"])),)
    process, late = MAKE[node["kind"]](node, shape)
    return process, {k: np.broadcast_to(np.asarray(v, np.int32), shape) for k, v in late.items()}


def _lif(node: Fields, shape: tuple[int, ...]) -> tuple[Any, Fields]:
    late = _given(node, u="u0", v="v0", bias_mant="bias")
    now, late = ({}, late) if node["start"] else (late, {})
    common = {"shape": shape, "du": node["du"], "dv": node["dv"], "bias_exp": node["bias_exp"], **now}
    if node["kind"] == "ternary":
        made = TernaryLIF(vth_hi=node["vth_hi"], vth_lo=node["vth_lo"], **common)
        for name in ("vth_hi", "vth_lo"):  # lava declares one threshold for all; one each is only a longer variable
            getattr(made, name).shape = np.shape(node[name]) or (1,)
        return made, late
    if node["reset"] == "subtract":
        return SoftLif(vth=node["vth"], subtract=node["subtract"], **common), late
    period = node.get("reset_interval", 0)
    if period:
        offset = node["reset_offset"]
        return LIFReset(vth=node["vth"], reset_interval=period, reset_offset=offset, **common), late
    return LIF(vth=node["vth"], **common), late


def _sigma_delta(node: Fields, shape: tuple[int, ...]) -> tuple[Any, Fields]:
    common = {"shape": shape, **{k: node[k] for k in ("vth", "cum_error", "spike_exp", "state_exp")}}
    if node["kind"] == "delta":
        return Delta(**common), {}
    mode = ActivationMode.RELU if node["activation"] == "relu" else ActivationMode.UNIT
    bias = 0 if node["bias"] is None else np.asarray(node["bias"], np.int64)
    if not node["start"]:
        return SigmaDelta(act_mode=mode, bias=bias, **common), {}
    scaled = SigmaDelta(act_mode=mode, bias=bias, **common).bias.init
    return SigmaDelta(act_mode=mode, bias=0, **common), {} if node["bias"] is None else {"bias": scaled}


def _sigma(_: Fields, shape: tuple[int, ...]) -> tuple[Any, Fields]:
    return Sigma(shape=shape), {}


def _resonate(node: Fields, shape: tuple[int, ...]) -> tuple[Any, Fields]:
    cls = RF_IZ if node["izhikevich"] else RF
    made = cls(
        shape=shape, period=10, alpha=0.1, state_exp=node["state_exp"], decay_bits=node["decay_bits"], vth=node["vth"]
    )
    made.sin_decay.init, made.cos_decay.init = node["sin_decay"], node["cos_decay"]
    return made, {}


def _graded(node: Fields, shape: tuple[int, ...]) -> tuple[Any, Fields]:
    return (GradedReluVec if node["relu"] else GradedVec)(shape=shape, vth=node["vth"]), {}


def _given(node: Fields, **names: str) -> Fields:
    return {mine: node[theirs] for mine, theirs in names.items() if node.get(theirs) is not None}


MAKE = {
    "lif": _lif,
    "ternary": _lif,
    "sigma_delta": _sigma_delta,
    "delta": _sigma_delta,
    "sigma": _sigma,
    "resonate_fire": _resonate,
    "graded": _graded,
}

STATES = {
    "lif": ("u", "v"),
    "ternary": ("u", "v"),
    "sigma_delta": ("sigma", "act", "residue", "error"),
    "delta": ("act", "residue", "error"),
    "sigma": ("sigma",),
    "resonate_fire": ("real", "imag"),
    "graded": (),
}
"""Variables that can be read, per kind; the names are lava's."""


def connect(edge: Fields, source: Any, target: Any, src: Fields, dst: Fields) -> Any:
    """A connection process between the port ``source`` and the population ``target``."""
    port = getattr(target, f"a_{edge['port']}_in" if dst["kind"] == "resonate_fire" else "a_in")
    if edge["kind"] == "conv":
        return _conv(edge, source, port, src, dst)
    made = (_dense if edge["kind"] == "dense" else _sparse)(edge, src, dst)
    source.connect(made.s_in)
    made.a_out.connect(port)
    return made


def _dense(edge: Fields, _src: Fields, _dst: Fields) -> Any:
    common = _common(edge) | {"weights": edge["w"].astype(np.int32)}
    if edge["delays"] is not None:
        return DelayDense(delays=edge["delays"].astype(int), **common)
    return DelayDense(delays=int(edge["delay"]), **common) if edge["delay"] else Dense(**common)


def _sparse(edge: Fields, src: Fields, dst: Fields) -> Any:
    shape = (int(np.prod(dst["shape"])), int(np.prod(src["shape"])))
    place = (edge["target"], edge["pointer"])

    def matrix(a: Any, dtype: Any) -> Any:
        return csc_matrix((a.astype(dtype), *place), shape).tocsr()

    common = _common(edge) | {"weights": matrix(edge["w"], np.int32)}
    if edge["delays"] is not None:
        return DelaySparse(delays=matrix(edge["delays"], int), **common)
    if edge["delay"]:
        return DelaySparse(delays=matrix(np.full(edge["w"].shape, edge["delay"]), int), **common)
    return Sparse(**common)


def _common(edge: Fields) -> Fields:
    return {k: edge[k] for k in ("weight_exp", "num_weight_bits", "num_message_bits")} | {
        "sign_mode": SIGNS[edge["sign_mode"]]
    }


def _conv(edge: Fields, source: Any, port: Any, src: Fields, dst: Fields) -> Any:
    """Torch's correlation (out, in, kh, kw) as lava's convolution (out, kw, kh, in), pairs (h, w) as (w, h)."""
    made = shim.conv()(
        weight=np.ascontiguousarray(edge["w"][:, :, ::-1, ::-1].transpose(0, 3, 2, 1)).astype(np.int32),
        input_shape=tuple(src["shape"][::-1]),
        groups=edge["groups"],
        num_weight_bits=edge["num_weight_bits"],
        num_message_bits=edge["num_message_bits"],
        **{k: tuple(edge[k][::-1]) for k in ("stride", "padding", "dilation")},
    )
    source.reshape(tuple(src["shape"])).transpose([2, 1, 0]).connect(made.s_in)
    made.a_out.transpose([2, 1, 0]).reshape((int(np.prod(dst["shape"])),)).connect(port)
    return made
