"""Accuracy on the integer engine against the trained float network: real data, trained here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.from_torch import from_torch
from export.to_loihi import compile_loihi
from neuro import encode
from neuro.data.digits import digits
from neuro.data.folder import data_folder
from neuro.data.nmnist import binary, frames_by_time, nmnist
from neuro.data.split import stratified
from neuro.methods.qat import prepare
from neuro.methods.sltt import SLTT
from neuro.models import digits as digits_model
from neuro.models import nmnist as nmnist_model
from neuro.train import adam, spike_ce, spike_mse, train
from sim import engines
from sim.compare import accuracy, compare
from sim.run import Run

STEPS = 8


def on_both(net: nn.Module, x: Any) -> tuple[Run, Run]:
    """The float law and the integer engine on the same samples."""
    network = from_torch(net, x.shape[2:])
    return engines.run(network, x, "torch"), engines.run(compile_loihi(network), x, "loihi")


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """What these trainings give depends on the number of threads: they are run as they were measured."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_digits_lose_at_most_half_a_point() -> None:
    data = digits()
    x, test = encode.rate(data.train_x, STEPS), encode.rate(data.test_x, STEPS)
    net = digits_model.digits_net(seed=0)
    train(net, (x, data.train_y), method=SLTT(STEPS), epochs=12, batch=32, optimizer=adam(4e-3))
    before, chip = on_both(net, test)
    right = accuracy(before.y, data.test_y)
    assert right > 0.95
    assert right - accuracy(chip.y, data.test_y) <= 0.015  # plain quantisation
    tuned = prepare(net)
    train(tuned, (x, data.train_y), method=SLTT(STEPS), loss=spike_mse, epochs=4, batch=32, optimizer=adam(2e-4))
    after, chip = on_both(tuned, test)
    assert right - accuracy(chip.y, data.test_y) <= 0.005
    agreed = compare(after, chip)
    assert agreed.equal / agreed.compared > 0.999
    assert agreed.decisions[0] >= agreed.decisions[1] - 1


@pytest.mark.slow
def test_nmnist_frames_lose_at_most_a_point() -> None:
    if not data_folder("nmnist_small").is_dir():
        pytest.skip("N-MNIST is not here: put it into $SPIKEPORT_DATA/nmnist_small")
    given, held = nmnist()
    data = stratified(binary(frames_by_time(given, STEPS)), given.label, test_share=0.2, seed=0)
    x, y = np.concatenate([data.test_x, binary(frames_by_time(held, STEPS))]), np.concatenate([data.test_y, held.label])
    net = nmnist_model.nmnist_net(seed=0, channels=8)
    options: dict[str, Any] = {"method": SLTT(STEPS), "loss": spike_ce, "batch": 36}
    train(net, (data.train_x, data.train_y), epochs=12, optimizer=adam(4e-3), **options)
    right = accuracy(on_both(net, x)[0].y, y)
    assert right > 0.75
    tuned = prepare(net)
    train(tuned, (data.train_x, data.train_y), epochs=3, optimizer=adam(3e-4), **options)
    after, chip = on_both(tuned, x)
    assert right - accuracy(chip.y, y) <= 0.01
    assert accuracy(after.y, y) - accuracy(chip.y, y) <= 0.01
    agreed = compare(after, chip)
    assert agreed.equal / agreed.compared > 0.998
