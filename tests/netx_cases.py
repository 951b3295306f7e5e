"""Netx files of every kind, ours and as lava-dl's exporter writes them, with input; and what its loader made of them.

``python tests/netx_cases.py`` with SPIKEPORT_LAVA_DL_PYTHON set runs the loader and writes ``tests/golden/netx.npz``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from export.assemble import assemble
from export.from_netx import from_netx
from export.loihi import (
    ConvEdge,
    Delta,
    DenseEdge,
    InputNode,
    Lif,
    LoihiProgram,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from export.to_netx import netx_program

GOLDEN = Path(__file__).parent / "golden" / "netx.npz"
LOADER = Path(__file__).parent / "netx_loader.py"
STEPS = 36


@dataclass
class Case:
    """A file, what the loader and :func:`from_netx` are called with, and an input (samples, T, ...).

    ``feed``: into the loader's network as spikes, its delta encoder, or as the bias of its input neurons. ``lag``:
    step of the loader whose output is the program's first.
    """

    data: bytes
    x: Any
    loader: dict[str, Any] = field(default_factory=dict)
    reader: dict[str, Any] = field(default_factory=dict)
    feed: str = "spikes"
    lag: int = 0


def ours(program: LoihiProgram, rng: Any, loader: dict[str, Any] | None = None) -> Case:
    """A program that :mod:`export.to_netx` writes."""
    made = netx_program(program)
    with tempfile.TemporaryDirectory() as folder:
        data = made.save(Path(folder) / "a.net").read_bytes()
    shift = int(any(isinstance(n, Delta) for n in program.nodes.values()))
    call: dict[str, Any] = {"input_message_bits": made.arguments.input_message_bits}
    if any("reset_interval=STEPS" in x.what for x in made.losses):
        call |= {"reset_interval": 1000, "reset_offset": made.arguments.reset_offset}
    lag = program.latency - shift
    x = drawn(program, rng)
    x[:, STEPS - lag :] = 0  # the last steps are there to let the first ones through
    return Case(data, x, call | (loader or {}), {}, "delta" if shift else "spikes", lag)


def drawn(program: LoihiProgram, rng: Any) -> Any:
    bits = getattr(program.nodes[program.input], "message_bits", 0)
    x = rng.random((1, STEPS, *program.input_shape)) < 0.3
    return (x * (rng.integers(-(2**bits) + 1, 2**bits, x.shape) if bits else 1)).astype(np.int16)


def theirs(layers: list[dict[str, Any]]) -> bytes:
    """Layers as lava-dl's ``export_hdf5`` writes them: float weights that hold integers, int64 numbers, S10 types."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.net"
        with h5py.File(path, "w") as f:
            for k, layer in enumerate(layers):
                group = f.create_group(f"layer/{k}")
                group.create_dataset("type", (1,), "S10", [layer["type"].encode()])
                for key, value in layer.items():
                    if key != "type":
                        group.create_dataset(key, data=value)
        return path.read_bytes()


def cuba(vth: int, i_decay: int = 4096, v_decay: int = 512) -> dict[str, Any]:
    """Neuron datasets."""
    numbers = {"iDecay": i_decay, "vDecay": v_decay, "vThMant": vth, "refDelay": 1}
    return {f"neuron/{k}": v for k, v in numbers.items()} | {"neuron/type": "CUBA", "neuron/gradedSpike": False}


def dense(w: Any, neuron: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A dense layer."""
    return {"type": "dense", "shape": np.array([len(w)]), "weight": np.asarray(w, np.float32)} | neuron | more


def weights(rng: Any, n_out: int, n_in: int, most: int = 250, zeros: float = 0.3) -> Any:
    """Even integers of both signs."""
    w = rng.integers(-most // 2, most // 2, (n_out, n_in)) * 2
    w[rng.random((n_out, n_in)) < zeros] = 0
    return w.astype(np.int16)


def our_cases(rng: Any) -> dict[str, Case]:
    """Programs of every layer that netx holds."""

    def mixed(src: str, dst: str, w: Any, **more: Any) -> DenseEdge:
        return DenseEdge(src, dst, w, "mixed", **more)

    def some(n: int) -> Any:
        return rng.integers(-20, 60, n)

    pair = {
        "in": InputNode((12,)),
        "h": Lif((10,), 4095, 1024, 160, some(10), 6),
        "o": Lif((10,), 2047, 512, 200, some(10), 6),
    }
    square = np.repeat(rng.integers(0, 5, (1, 10)), 10, 0)
    images = {
        "in": InputNode((2, 7, 6)),
        "c": Lif((4, 3, 5), 4095, 500, 200, np.repeat(some(4), 15), 6),
        "d": Lif((2, 3, 5), 4095, 500, 100, some(30), 6),
        "o": Lif((5,), 4095, 1024, 90),
    }
    first, second = rng.integers(-100, 120, (4, 1, 3, 2)), rng.integers(-100, 120, (2, 4, 3, 3))
    loop = {"in": InputNode((8,)), "h": Lif((9,), 1000, 500, 300), "o": Lif((4,), 4095, 1024, 200, some(4), 6)}
    graded = {"in": InputNode((8,), 8), "h": Lif((9,), 3000, 500, 9000), "o": Lif((4,), 4095, 1024, 90)}
    sdn = {
        "in": InputNode((2, 6, 6), 8),
        "d": Delta((2, 6, 6), 3, spike_exp=6, state_exp=6, start=1),
        "c": SigmaDelta((3, 4, 4), 5, np.repeat(some(3), 16), spike_exp=6, state_exp=6, start=1),
        "h": SigmaDelta((6,), 2, some(6), spike_exp=6, state_exp=6, start=1),
        "o": Sigma((3,), start=1),
    }
    turn = {
        "in": InputNode((8,)),
        "r": ResonateFire((7,), 2081, 3042, 12, 200, 6),
        "q": ResonateFire((6,), 3146, -2290, 12, 300, 6, izhikevich=True),
        "o": Lif((4,), 4095, 1024, 200),
    }
    pairs = [(*pair, port) for pair in (("in", "r", 7, 8), ("r", "q", 6, 7)) for port in ("real", "imag")]
    reset = {
        "in": InputNode((8,)),
        "h": Lif((9,), 1000, 100, 300, some(9), 6, start=1, reset_interval=9, reset_offset=2),
        "o": Lif((4,), 2000, 100, 200, some(4), 6, start=2, reset_interval=9, reset_offset=3),
    }
    chain = [mixed("in", "h", weights(rng, 9, 8)), mixed("h", "o", weights(rng, 4, 9))]
    programs = {
        "delay_synapse": assemble(
            pair,
            [
                mixed("in", "h", weights(rng, 10, 12), delays=rng.integers(0, 7, (10, 12))),
                DenseEdge("h", "o", np.abs(weights(rng, 10, 10)), "excitatory"),
            ],
            "o",
        ),
        "delay_vectors": assemble(
            pair,
            [
                mixed("in", "h", weights(rng, 10, 12, 160), delays=np.repeat(rng.integers(0, 9, (10, 1)), 12, 1)),
                mixed("h", "o", weights(rng, 10, 10, 160), delays=square),
            ],
            "o",
        ),
        "delay_all": assemble(
            pair,
            [mixed("in", "h", weights(rng, 10, 12), delay=3), mixed("h", "o", weights(rng, 10, 10), delay=12)],
            "o",
        ),
        "conv": assemble(
            images,
            [
                ConvEdge("in", "c", first.astype(np.int16), "mixed", (2, 1), groups=2),
                ConvEdge("c", "d", second.astype(np.int16), "mixed", padding=(1, 1)),
                mixed("d", "o", weights(rng, 5, 30)),
            ],
            "o",
        ),
        "recurrent": assemble(loop, [*chain, mixed("h", "h", weights(rng, 9, 9, 100))], "o"),
        "graded": assemble(graded, [replace(chain[0], num_message_bits=8), chain[1]], "o"),
        "reset": assemble(reset, [*chain, mixed("h", "h", weights(rng, 9, 9, 60))], "o"),
        "sigma_delta": assemble(
            sdn,
            [
                DenseEdge("in", "d", np.eye(72, dtype=np.int16), "excitatory", num_message_bits=8),
                ConvEdge("d", "c", weights(rng, 54, 1, 40).reshape(3, 2, 3, 3), "mixed", num_message_bits=16),
                mixed("c", "h", weights(rng, 6, 48, 40), num_message_bits=16),
                mixed("h", "o", weights(rng, 3, 6, 40), num_message_bits=16),
            ],
            "o",
            late=False,
        ),
        "resonate": assemble(
            turn,
            [mixed(a, b, weights(rng, n, m), port=p) for a, b, n, m, p in pairs]
            + [mixed("q", "o", np.abs(weights(rng, 4, 6)))],
            "o",
        ),
    }
    call = {"reset": {"reset_interval": 9, "reset_offset": 1}}
    return {name: ours(program, rng, call.get(name)) for name, program in programs.items()}


def their_cases(rng: Any) -> dict[str, Case]:
    """What slayer may write, into the loader's corners."""
    spikes = (rng.random((1, STEPS, 6)) < 0.4).astype(np.int16)
    odd = rng.integers(-120, 200, (6, 6)) | 1
    down = -np.abs(odd) * (rng.random((6, 6)) < 0.6)
    up = rng.integers(1, 120, (6, 6))
    image = {"type": "input", "shape": np.array([2, 5, 5]), "weight": np.float32(36), "bias": np.float32(34)} | cuba(25)
    kernel = {
        "type": "conv", "shape": np.array([3, 2, 2]), "kernelSize": [3, 3], "stride": [2, 2], "padding": [1, 0],
        "dilation": 1, "groups": 1, "weight": rng.integers(-40, 50, (3, 2, 3, 3, 1)).astype(np.float32),
        "bias": rng.integers(-40, 60, 3) + 0.5,
    }  # fmt: skip
    kernel |= {"shape": np.array([3, 3, 2])} | cuba(80) | {"neuron/vThMant": np.array([80, 60, 100])}  # per channel
    flat = {"type": "flatten", "shape": np.array([18, 1, 1])}
    out = dense(rng.integers(-50, 50, (4, 18)), cuba(60))
    recurrent = dense(up, cuba(90), weight_rec=-up.astype(np.float32), bias=np.zeros(6)) | {"type": "dense_rec"}
    flattened = {"weight": odd.ravel().astype(np.float32), "shape": np.array([6, 1, 1])}
    short = dense(odd // 4, cuba(90), weight_rec=odd // 4, delay=np.arange(6)) | {"type": "dense_rec"}
    files = {
        "per_neuron": [
            dense(up, cuba(90) | {"neuron/vThMant": np.arange(6) * 30 + 60, "neuron/vDecay": np.arange(6) * 400})
        ],
        "odd_mixed": [
            dense(odd, cuba(150)) | flattened,
            dense(odd // 2, cuba(90, 1000), delay=rng.integers(0, 9, 6).astype(float)),
        ],
        "inhibited": [dense(up, cuba(90)), dense(down, cuba(90), bias=np.full(6, 95.0))],
        "powers": [dense(up, cuba(60)), dense(-(np.eye(6) * 126) - 2, cuba(60), bias=np.full(6, 130.0))],
        "recurrent_signs": [recurrent],
        "recurrent_delay": [short],
        "delay_beyond": [dense(up, cuba(200), delay=np.array([0, 70, 3, 63, 9, 1]))],
    }
    made = {}
    for name, layers in files.items():
        free = name in ("inhibited", "powers")  # with a bias, and run without reset
        made[name] = Case(theirs(layers), spikes, {}, {"late": False} if free else {})
    still = rng.integers(0, 60, (1, 1, 2, 5, 5)).repeat(STEPS, 1).astype(np.int16)
    layers = [image, kernel, flat, out]
    made["bias_input"] = Case(theirs(layers), still, {"reset_interval": 500}, {}, "bias")
    made["bias_input_free"] = Case(theirs(layers), still, {}, {"late": False}, "bias")
    made["resets"] = Case(
        theirs(
            [dense(up, cuba(300, 1000, 9), bias=np.full(6, 9.0)), dense(up, cuba(300, 99, 9), bias=np.full(6, 8.0))]
        ),
        spikes,
        {"reset_interval": 7, "reset_offset": 3},
        {"reset_interval": 7, "reset_offset": 3, "late": False},
    )
    return {name: with_lag(case) for name, case in made.items()}


def with_lag(case: Case) -> Case:
    """Its lag, from the program that is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.net"
        path.write_bytes(case.data)
        program = from_netx(path, **case.reader)
    lag = program.latency - (case.feed != "spikes")
    if case.feed == "spikes":
        case.x = case.x.copy()
        case.x[:, STEPS - lag :] = 0
    return replace(case, lag=lag)


def loader(cases: list[Case], python: str, folder: Path, timeout: float = 600) -> list[Any]:
    """What lava-dl's loader makes of them, (samples, T, ...) each; ``python``: an interpreter that has it."""
    arrays: dict[str, Any] = {}
    jobs = []
    for k, case in enumerate(cases):
        path = folder / f"{k}.net"
        path.write_bytes(case.data)
        jobs.append({"path": str(path), "kwargs": case.loader, "feed": case.feed})
        arrays[f"x{k}"] = case.x
    np.savez(folder / "jobs.npz", jobs=np.array(json.dumps(jobs)), **arrays)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [python, str(LOADER), str(folder / "jobs.npz"), str(folder / "result.npz")]
    log = folder / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True) as job,
    ):
        try:
            code = job.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        if code is None:  # an error in a process of lava's leaves the others waiting: end all of them
            os.killpg(job.pid, signal.SIGKILL)
    if code != 0:
        raise RuntimeError(f"{LOADER.name} ended with {code}: {log.read_text()[-3000:]}")
    with np.load(folder / "result.npz") as z:
        return [z[f"y{k}"] for k in range(len(cases))]


def golden() -> dict[str, tuple[Case, Any]]:
    """The cases that were run, with what the loader made of them."""
    with np.load(GOLDEN, allow_pickle=False) as z:
        names = json.loads(str(z["cases"]))
        return {
            name: (Case(z[f"{name}.net"].tobytes(), z[f"{name}.x"].astype(np.int32), **about), z[f"{name}.y"])
            for name, about in names.items()
        }


def main(python: str) -> None:
    """Writes the golden file."""
    rng = np.random.default_rng(20)
    cases = our_cases(rng) | their_cases(rng)
    with tempfile.TemporaryDirectory() as folder:
        results = loader(list(cases.values()), python, Path(folder))
    arrays: dict[str, Any] = {}
    about = {}
    for (name, case), y in zip(cases.items(), results, strict=True):
        arrays[f"{name}.net"] = np.frombuffer(case.data, np.uint8)
        arrays[f"{name}.x"], arrays[f"{name}.y"] = case.x, y.astype(np.int8 if np.abs(y).max() < 2 else np.int32)
        about[name] = {"loader": case.loader, "reader": case.reader, "feed": case.feed, "lag": case.lag}
    arrays["cases"] = np.array(json.dumps(about))
    arrays["source"] = np.array("lava-dl d825ac5, lava-nc 0.10.0, CPython 3.10.13, numpy 1.26.4")
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {len(cases)} cases, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main(os.environ.get("SPIKEPORT_LAVA_DL_PYTHON") or sys.exit("set SPIKEPORT_LAVA_DL_PYTHON"))
