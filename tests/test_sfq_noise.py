"""Thermal noise against the equipartition theorem, and random numbers against the vectors of their authors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.sfq import batch, loads, transient
from sim.sfq.constants import BOLTZMANN_J_K
from sim.sfq.noise import normals
from sim.sfq.philox import fill_normals, philox

GOLDEN = Path(__file__).parent / "golden" / "sfq"


def test_philox_gives_the_published_words() -> None:
    """Known answers of Random123 (Salmon et al., SC11), philox4x32-10."""

    def run(counter: list[int], key: list[int]) -> list[int]:
        k, a, b = (np.uint64(x[0] | x[1] << 32) for x in (key, counter[:2], counter[2:]))
        return [int(w) >> shift & 0xFFFFFFFF for w in philox(k, a, b) for shift in (0, 32)]

    assert run([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert run([ones] * 4, [ones] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    counter, key = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]
    assert run(counter, key) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_normals_are_normal_and_by_counter() -> None:
    ids, elements = np.arange(5), np.array([3, 9])
    whole = normals(7, ids, elements, -40, 20000)
    assert whole.shape == (20000, 2, 5)
    assert whole.mean() == pytest.approx(0.0, abs=5 / np.sqrt(whole.size))
    assert whole.var() == pytest.approx(1.0, abs=5 * np.sqrt(2 / whole.size))
    assert (whole**4).mean() == pytest.approx(3.0, abs=0.1)
    flat = whole.reshape(-1, 10).T
    assert np.abs(np.corrcoef(flat) - np.eye(10)).max() < 5 / np.sqrt(20000)
    assert (normals(7, ids[2:3], elements[1:], 17, 33) == whole[57:90, 1:, 2:3]).all()
    without_a_compiler = np.empty((400, 2, 5))
    fill_normals(np.uint64(7), ids, elements, -10, without_a_compiler)
    assert without_a_compiler == pytest.approx(normals(7, ids, elements, -40, 400), abs=1e-12)


@pytest.mark.parametrize("neb", ["", ".neb 20T\n"])
@pytest.mark.parametrize("h", [0.1e-12, 0.03e-12])
def test_equipartition(neb: str, h: float) -> None:
    """R || C at T: <V^2> = kT/C. 60 corners of 0.8 ns, RC = 2 ps: about 60 * 200 independent values."""
    deck = loads(f"R1 1 0 10\nC1 1 0 0.2p\n.temp 4.2\n{neb}.tran 0.1p 0.82n 20p 1p\n.print v(1)\n")
    v = batch(deck, 60, h=h, probes=["V(1)"], seed=1).traces["V(1)"]
    assert v.mean() == pytest.approx(0.0, abs=5 * v.std() / np.sqrt(60 * 200))
    assert v.var() == pytest.approx(BOLTZMANN_J_K * 4.2 / 0.2e-12, rel=0.05)


def test_noise_does_not_depend_on_the_step() -> None:
    """The same path at h and h/2, so that the difference of two runs is the step's and not the noise's."""
    deck = loads("R1 1 0 2\nL1 1 2 5p\nC1 2 0 0.2p\nR2 2 0 3\n.temp 4.2\n.tran 0.1p 0.2n 0 0.1p\n.print v(2)\n")
    one, half = (transient(deck, h=h, seed=9).traces["V(2)"] for h in (0.1e-12, 0.05e-12))
    assert np.abs(one - half).std() < 0.1 * one.std()
    other = transient(deck, seed=10).traces["V(2)"]
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.3


def test_a_deck_without_temperature_has_no_noise() -> None:
    text = "R1 1 0 2\nC1 1 0 0.2p\n.tran 0.1p 10p\n.print v(1)\n"
    assert not transient(loads(text)).traces["V(1)"].any()
    assert transient(loads(".temp 4.2\n" + text)).traces["V(1)"].any()


@pytest.mark.parametrize(("bias_uA", "passed"), [(66, 38), (70, 183), (74, 344), (78, 393)])
def test_stochastic_synapse_passes_as_in_josim(bias_uA: int, passed: int) -> None:
    """Pulses that pass of 398 (docs/sfq.md 3.4; JoSIM 2.7, 4.2 K, NEB 1 THz): within 4 standard errors of both."""
    text = (GOLDEN / "tb_stsyn.cir").read_text()
    text = text.replace("IBW=60u", f"IBW={bias_uA}u").replace(".param NPER", ".temp 4.2\n.neb 1T\n.param NPER")
    run = batch(loads(text, GOLDEN), 16, seed=2, watch=["B1.X2.XA2", "B1.X2.XQ2"])
    sent, through = (int(run.count(j).sum()) for j in run.names)
    assert sent == 16 * 99
    p, q = through / sent, passed / 398
    assert abs(p - q) <= 4 * np.sqrt(q * (1 - q) / 398 + p * (1 - p) / sent)
