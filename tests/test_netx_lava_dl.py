"""lava-dl's own loader, live, on fresh random networks: in an interpreter that SPIKEPORT_LAVA_DL_PYTHON names.

That interpreter has lava-nc 0.10.0 and lava-dl (torch as lava-dl wants it, or none where ``lava.lib.dl.netx`` imports
without). SPIKEPORT_LAVA_DL_TESTS: the folder ``tests/lava/lib/dl/netx`` of lava-dl, for the files it ships.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import netx_cases
import numpy as np
import pytest

from export.from_netx import from_netx
from sim.loihi import reference

PYTHON = os.environ.get("SPIKEPORT_LAVA_DL_PYTHON", "")
SHIPPED = os.environ.get("SPIKEPORT_LAVA_DL_TESTS", "")
live = pytest.mark.skipif(not PYTHON, reason="no lava-dl: SPIKEPORT_LAVA_DL_PYTHON names no interpreter that has it")
shipped = pytest.mark.skipif(not SHIPPED, reason="no files of lava-dl: SPIKEPORT_LAVA_DL_TESTS names no folder of them")


@live
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_files_run_here_as_in_lava_dl(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    cases = netx_cases.our_cases(rng) | netx_cases.their_cases(rng)
    results = netx_cases.loader(list(cases.values()), PYTHON, tmp_path)
    for (name, case), y in zip(cases.items(), results, strict=True):
        path = tmp_path / f"{name}.net"
        path.write_bytes(case.data)
        ran = reference.run(from_netx(path, **case.reader), case.x).y
        want = y[:, case.lag :].reshape(len(y), y.shape[1] - case.lag, -1)
        np.testing.assert_array_equal(ran.reshape(len(y), ran.shape[1], -1)[:, : want.shape[1]], want, name)


def recorded(name: str) -> Any:
    """A trace that lies beside a file, (c, h, w, T) or (w, h, c, T)."""
    return np.load(Path(SHIPPED) / "gts" / name)


@shipped
def test_tiny_net_gives_the_spikes_that_slayer_recorded() -> None:
    program = from_netx(Path(SHIPPED) / "tiny.net")
    bias = recorded("tinynet/input_bias.npy").astype(np.int64).transpose(2, 1, 0)
    ran = reference.run(program, np.repeat(bias[None, None], 15, 1), probes=program.watched)
    for node, name in zip(program.populations, ("input", "layer1", "output"), strict=True):
        trace = recorded(f"tinynet/{name}.npy")[0].transpose(3, 0, 1, 2)[1:]
        np.testing.assert_array_equal(ran.probes[f"{node}.s"][0].reshape(15, -1), trace.reshape(15, -1))


@shipped
@pytest.mark.slow
def test_pilotnet_gives_the_sums_that_lava_recorded() -> None:
    program = from_netx(Path(SHIPPED) / "gts/pilotnet_sdnn/network.net", late=False)
    image = recorded("pilotnet_sdnn/input.npy")[..., 0].transpose(2, 1, 0)[None]
    state, sums = None, []
    for _ in range(10):
        y, state = reference.step(program, state, image)
        sums.append(int(y.item()))
    assert sums[1:] == recorded("pilotnet_sdnn/output.npy").ravel().tolist()  # the loader's encoder is a step ahead


@shipped
@pytest.mark.slow
def test_spiking_pilotnet_gives_every_layers_spikes_as_recorded() -> None:
    program = from_netx(Path(SHIPPED) / "gts/pilotnet_lif/network.net")
    image = recorded("pilotnet_lif/image.npy").astype(np.int64).transpose(2, 1, 0).reshape(1, -1)
    state = reference.initial(program, 1)
    spikes: dict[str, list[Any]] = {n: [] for n in program.populations}
    for t in range(program.latency + 15):
        moments, state = reference.advance(program, state, image)
        for n, node in program.populations.items():
            if node.start <= t < node.start + 15:
                spikes[n].append(moments[n].s[0])
    names = ["input", *(f"conv-{k}" for k in range(5)), *(f"fc-{k}" for k in range(3))]
    for lag, (node, name) in enumerate(zip(list(program.populations)[:-1], names, strict=True)):
        trace = recorded(f"pilotnet_lif/{name}.npy")
        trace = trace.transpose(*range(trace.ndim - 1, -1, -1)).reshape(trace.shape[-1], -1)
        np.testing.assert_array_equal(np.array(spikes[node]), trace[lag : lag + 15], name)
