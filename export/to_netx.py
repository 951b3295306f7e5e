"""An integer program as lava-dl's netx HDF5 (``.net``), which its loader puts on lava-nc and on the chip.

Group ``layer``, children ``"0"``, ``"1"``, ... one per layer; the datasets are those of lava-dl's ``export_hdf5``. The
format holds a chain of layers without residual paths. Dataset ``spikeport`` beside it, which the loader passes over,
keeps what the layout has no place for: names, ``dt_s``, starts, the loader's arguments.

The loader prepares numbers in its own way (:mod:`export.netx_layers`); every one is foreseen here, and what would not
arrive as it is here is refused. :func:`fitted` rounds a program to what the format holds, with every loss told.
Source: lava-dl at d825ac5, ``netx/hdf5.py``, run by ``tests/test_netx_lava_dl.py``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import numpy.typing as npt

from export.ends import NATURAL, windows
from export.loihi import ConvEdge, Delta, Edge, Int, Lif, LoihiProgram, ResonateFire, Sigma
from export.network import Loss, Network, Shape
from export.netx_call import Arguments, arguments, late_bias
from export.netx_file import NOTE, NOTE_VERSION
from export.netx_layers import BIAS_EXP, shifted, written_decay
from export.netx_plan import Step, chain
from export.package import digest, write_bytes
from export.program import MappingError, Usage
from export.to_loihi import compile_loihi

Datasets = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class NetxProgram:
    """A program as a netx file holds it: ``datasets`` by path; ``arguments``: what its loader must be called with."""

    program: LoihiProgram
    datasets: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    arguments: Arguments
    losses: Sequence[Loss]
    machine: ClassVar[str] = "netx"

    @property
    def name(self) -> str:
        """Of the program."""
        return self.program.name

    @property
    def notes(self) -> tuple[str, ...]:
        """How lava-dl loads it."""
        return (f"load it with lava.lib.dl.netx.hdf5.{self.arguments}",)

    @property
    def usage(self) -> Usage:
        """Of the program."""
        return self.program.usage

    def hash(self) -> str:
        """SHA-256 of every dataset."""
        return digest({"format": "netx"}, dict(self.datasets))

    def save(self, path: str | Path) -> Path:
        """Write the HDF5 file, uncompressed, beside and renamed."""
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as f:
            for name, value in self.datasets.items():
                f.create_dataset(name, data=value)
        return write_bytes(path, buffer.getvalue())


def to_netx(program: LoihiProgram, path: str | Path) -> list[Loss]:
    """Write ``program`` for ``lava.lib.dl.netx.hdf5.Network``; what the file changes or does not say is in the losses.

    Resetting between samples is an argument of the loader, not of the file: see ``netx_program(program).arguments``.
    Errors: ``MappingError`` naming node, rule and fix, for what the format or its loader cannot hold.
    """
    made = netx_program(program)
    made.save(path)
    return list(made.losses)


def compile_netx(network: Network | LoihiProgram, **options: Any) -> NetxProgram:
    """A network through :func:`~export.to_loihi.compile_loihi` with ``options``, or a program, :func:`fitted`."""
    ends = windows(network) if isinstance(network, Network) else []
    if ends:
        raise MappingError(f"{ends[0]}: netx holds a chain of layers, and a window's clock lies beside it; {NATURAL}")
    program = network if isinstance(network, LoihiProgram) else compile_loihi(network, **options)
    return netx_program(fitted(program))


def netx_program(program: LoihiProgram) -> NetxProgram:
    """``program`` in the layout of a netx file. Errors: as :func:`to_netx`."""
    program.check()
    steps = chain(program)
    call = arguments(program, steps)
    layers: list[Datasets] = []
    if not isinstance(steps[0].node, Delta):
        layers.append(_head("input", program.input_shape))
    image = len(program.input_shape) == 3
    for k, step in enumerate(steps):
        if step.conv is not None:
            if k and not steps[k - 1].image:
                raise MappingError(
                    f"{step.name}: a convolution behind the dense layer {steps[k - 1].name} has no image to read in "
                    "netx; lower it to dense, or the layer before to a convolution"
                )
            layers.append(_conv(step, step.conv))
        elif isinstance(step.node, Delta):
            layers.append(_head("input", step.node.shape))
        else:
            if image:
                size = next(iter(step.matrices.values())).shape[1]
                layers.append(_head("flatten", (size,)))
            layers.append(_dense(step))
        layers[-1] |= _bias(step) | {f"neuron/{key}": a for key, a in _neuron(step).items()}
        image = step.image
    datasets = {f"layer/{k}/{key}": a for k, layer in enumerate(layers) for key, a in layer.items()}
    datasets[NOTE] = np.array(_note(program, steps, call).encode())
    return NetxProgram(program, datasets, call, [*program.losses, *_varied(steps), *late_bias(steps, call)])


def fitted(program: LoihiProgram) -> LoihiProgram:
    """The program rounded to what netx holds, each change a loss: the result runs here as the loader runs its file.

    Weights, threshold and bias of a population share one factor: where ``weight_exp`` takes its weights out of 8 bits,
    all of them are divided by ``2^weight_exp``. Biases become whole threshold units. ``u0`` is dropped.
    """
    nodes, edges, losses = dict(program.nodes), list(program.edges), list(program.losses)
    for name, node in program.populations.items():
        if not isinstance(node, Lif):
            continue
        exp = _excess([e for e in edges if e.dst == name])
        edges = [replace(e, weight_exp=e.weight_exp - exp) if e.dst == name else e for e in edges]
        nodes[name], lost = _fitted(name, node, exp)
        losses += lost
    made = replace(program, nodes=nodes, edges=edges, losses=tuple(losses))
    made.check()
    return made


def _excess(edges: Sequence[Edge]) -> int:
    """What ``weight_exp`` must come down by; 0 where the shifted weights still fit."""
    dense = [e for e in edges if not isinstance(e, ConvEdge) and e.w.size]
    if len(dense) < len(edges) or not dense:
        return 0
    high, low = (max(int(f(e.w)) << max(e.weight_exp, 0) for e in dense) for f in (np.max, lambda w: -np.min(w)))
    fits = high <= (254 if low > 0 else 255) and low <= (256 if high > 0 else 255)
    return 0 if fits else max(max(e.weight_exp for e in dense), 0)


def _fitted(name: str, node: Lif, exp: int) -> tuple[Lif, list[Loss]]:
    losses = []
    vth: int | Int = node.vth
    if exp:
        steady = np.all(np.equal(node.du, 4095)) and np.all(np.equal(node.dv, 0)) and node.bias is None
        unit = 1 << exp
        vth = node.vth >> exp if steady else (node.vth + unit // 2) >> exp
        vth = np.maximum(vth, 1) if isinstance(vth, np.ndarray) else max(vth, 1)
        error = float(np.max(np.abs((np.asarray(vth) << exp) - node.vth)))
        if error and not steady:
            losses.append(Loss(name, f"threshold divided by 2^{exp} for netx and rounded, error in old units", error))
        if not steady:
            what = f"weights, threshold and bias divided by 2^{exp} for netx: decays cut at 1/64 of a larger unit"
            losses.append(Loss(name, what, float(unit)))
    bias, bias_exp = node.bias, node.bias_exp
    if bias is not None:
        full = bias * 2.0**bias_exp
        bias = np.rint(full / (1 << BIAS_EXP + exp)).astype(np.int32)
        error = float(np.abs((bias.astype(np.int64) << BIAS_EXP + exp) - full).max())
        bias_exp = BIAS_EXP
        if error:
            losses.append(
                Loss(name, "bias rounded to whole threshold units for netx, error in 1/64 of an old one", error)
            )
    if node.u0 is not None and node.u0.any():
        what = "current before the first step dropped for netx, in 1/64 of a weight unit"
        losses.append(Loss(name, what, float(np.abs(node.u0).max())))
    return replace(node, vth=vth, bias=bias, bias_exp=bias_exp, u0=None), losses


def _head(kind: str, shape: Shape) -> Datasets:
    return {"type": np.array([kind.encode()], "S10"), "shape": np.array(shape, np.int32)}


def _conv(step: Step, edge: ConvEdge) -> Datasets:
    numbers = {
        "inChannels": edge.w.shape[1] * edge.groups,
        "outChannels": edge.w.shape[0],
        "kernelSize": edge.w.shape[2:],
        "stride": edge.stride,
        "padding": edge.padding,
        "dilation": edge.dilation,
        "groups": edge.groups,
        "weight": edge.w,
    }
    return _head("conv", step.node.shape) | {k: np.array(v, np.int32) for k, v in numbers.items()}


def _dense(step: Step) -> Datasets:
    w = next(iter(step.matrices.values()))
    out = _head("dense" if step.recurrent is None else "dense_rec", (len(w),))
    out |= {"inFeatures": np.array(w.shape[1], np.int32), "outFeatures": np.array(len(w), np.int32)}
    if isinstance(step.node, ResonateFire):
        return out | {f"weight/{port}": a.astype(np.int32) for port, a in step.matrices.items()}
    out["weight"] = w.astype(np.int32)
    if step.recurrent is not None:
        out["weight_rec"] = step.recurrent.astype(np.int32)
    if step.delays is not None:
        out["delay"] = _delay(step.delays, w != 0).astype(np.int32)
    return out


def _delay(delays: Int, on: npt.NDArray[np.bool_]) -> Int:
    """The shortest form that cannot be misread: a vector as long as both sides of a square layer is per target."""
    for axis in ((0, 1), 1, 0):
        most = np.where(on, delays, 0).max(axis=axis, keepdims=True)
        if (on & (delays != most)).any() or (axis == 0 and on.shape[0] == on.shape[1]):
            continue
        return np.asarray(most.reshape(() if axis == (0, 1) else -1))
    return np.where(on, delays, 0)


def _bias(step: Step) -> Datasets:
    node = step.node
    bias = getattr(node, "bias", None)
    if bias is None or not bias.any():
        return {}
    wide = bias.astype(np.int64)
    if isinstance(node, Lif):
        full = shifted(wide, node.bias_exp)
        wide = full >> BIAS_EXP
        if (wide << BIAS_EXP != full).any():
            raise MappingError(
                f"{step.name}: bias is no whole number of threshold units, the loader's bias_exp is {BIAS_EXP}; take "
                "fitted() of export.to_netx, which rounds it with a loss"
            )
    if step.conv is None:
        return {"bias": wide.astype(np.int32)}
    image = wide.reshape(node.shape)
    by_channel = image[:, 0, 0]
    if (image == by_channel[:, None, None]).all():
        return {"bias": by_channel.astype(np.int32)}
    return {"bias": np.ascontiguousarray(image.transpose(2, 1, 0)).astype(np.int32)}  # the loader takes (W, H, C) as is


def _neuron(step: Step) -> Datasets:
    node, numbers = step.node, dict[str, Any]()
    if isinstance(node, Lif):
        kind = "CUBA"
        du, dv, vth = (_shared(step, what, getattr(node, what)) for what in ("du", "dv", "vth"))
        numbers = {"iDecay": du + 1, "vDecay": dv, "vThMant": vth, "refDelay": 1}
    elif isinstance(node, ResonateFire):
        kind = "RF_IZHIKEVICH" if node.izhikevich else "RF_PHASE"
        decays = {"sinDecay": written_decay(node.sin_decay), "cosDecay": written_decay(node.cos_decay)}
        return {"type": np.array(kind.encode()), "vThMant": np.array(node.vth, np.int32)} | {
            k: np.array(v) for k, v in decays.items()
        }
    else:
        kind = "SDNN"
        numbers = {"vThMant": getattr(node, "vth", 0)} | ({"sigma_output": 1} if isinstance(node, Sigma) else {})
    extra = {"gradedSpike": np.array(False)} if kind == "CUBA" else {"activation": np.array(b"relu")}
    return {"type": np.array(kind.encode())} | {k: np.array(v, np.int32) for k, v in numbers.items()} | extra


def _shared(step: Step, what: str, value: int | Int) -> Int:
    """One number for all neurons, or what lava broadcasts: one per neuron of a dense layer, per channel of an image."""
    full = np.broadcast_to(value, (int(np.prod(step.node.shape)),))
    if (full == full[0]).all():
        return np.asarray(full[0])
    if step.conv is None:
        return full
    by_channel = full.reshape(step.node.shape[0], -1)
    if (by_channel != by_channel[:, :1]).any():
        raise MappingError(f"{step.name}: {what} differs within a channel of a convolution, netx has one per channel")
    return by_channel[:, 0]


def _varied(steps: Sequence[Step]) -> list[Loss]:
    """A chip's own compiler may want one value for a population, as lava documents it."""
    what = "differs between neurons: lava-nc runs it so, a chip may not take it"
    named = [
        (s.name, key, getattr(s.node, key)) for s in steps if isinstance(s.node, Lif) for key in ("du", "dv", "vth")
    ]
    return [
        Loss(n, f"{key} {what}", float(np.ptp(a))) for n, key, a in named if isinstance(a, np.ndarray) and np.ptp(a)
    ]


def _note(program: LoihiProgram, steps: Sequence[Step], call: Arguments) -> str:
    return json.dumps(
        {
            "version": NOTE_VERSION,
            "name": program.name,
            "dt_s": program.dt_s,
            "profile": program.profile,
            "source": program.source_hash,
            "input": program.input,
            "input_shape": list(program.input_shape),
            "message_bits": getattr(program.nodes[program.input], "message_bits", 0),
            "layers": [
                {"name": s.name, "shape": list(s.node.shape), "start": s.node.start, "scale": program.scale.get(s.name)}
                for s in steps
            ],
            "input_message_bits": call.input_message_bits,
            "reset_interval": call.reset_interval,
            "reset_offset": call.reset_offset,
            "spike_exp": call.spike_exp,
            "load": str(call),
        },
        sort_keys=True,
    )
