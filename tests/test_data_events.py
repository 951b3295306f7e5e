"""Event recordings, frames, bins and augmentation: SpikingJelly counts the same, and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.datasets import shd as jelly_shd
from spikingjelly.datasets import utils as jelly
from torch import nn

from neuro import frames
from neuro.data import augment
from neuro.data.events import Events, SpikeTrains, joined, sorted_by_time
from neuro.methods.augmented import Augmented
from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.models.digits import digits_net
from neuro.train import train

SENSOR = (20, 30)


def events(*counts: int, seed: int = 0, last_us: int = 90_000) -> Events:
    """Recordings of so many events, time not from 0."""
    rng, n = np.random.default_rng(seed), sum(counts)
    t = np.concatenate([np.sort(rng.integers(7, last_us, c)) for c in counts]).astype(np.uint32)
    x, y, p = (rng.integers(0, k, n).astype(np.uint8) for k in (SENSOR[1], SENSOR[0], 2))
    offset = np.cumsum([0, *counts]).astype(np.int64)
    return Events(x, y, p, t, offset, np.arange(len(counts)), SENSOR, len(counts))


def theirs(e: Events, k: int) -> dict[str, Any]:
    s = e.span(k)
    return {"t": e.t_us[s].astype(np.int64), **{n: getattr(e, n)[s].astype(int) for n in ("x", "y", "p")}}


@pytest.mark.parametrize("T", [1, 3, 8, 10])
def test_fixed_numbers_of_frames_are_spikingjellys(T: int) -> None:
    e = events(500, 77, 1003)
    for by, mine in (("time", frames.frames_by_time(e, T)), ("number", frames.frames_by_count(e, T))):
        assert mine.dtype == np.uint16
        for k in range(3):
            want = jelly.integrate_events_by_fixed_frames_number(theirs(e, k), by, T, *SENSOR)
            np.testing.assert_array_equal(mine[k], want)


@pytest.mark.parametrize("dt_us", [500, 9_999, 10_000, 89_000, 10**6])
def test_frames_of_fixed_duration_are_spikingjellys(dt_us: int) -> None:
    e = events(400, 63, seed=1)
    at = e.t_us.copy()
    at[399] = at[0] + 80_000  # the last event on the end of a window
    at[1:399] = np.minimum(at[1:399], at[399])
    e = replace(e, t_us=at)
    for k, mine in enumerate(frames.frames_by_duration(e, dt_us)):
        np.testing.assert_array_equal(mine, jelly.integrate_events_by_fixed_duration(theirs(e, k), dt_us, *SENSOR))


def test_remainders_of_windows_as_stated() -> None:
    t = np.array([10, 11, 12, 13, 14, 15, 16, 20], np.int64)
    e = Events(np.arange(8), np.zeros(8, int), np.ones(8, int), t, np.array([0, 8]), np.array([0]), (1, 8))
    assert frames.frames_by_time(e, 3)[0, :, 1, 0].tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1],
    ]
    assert frames.frames_by_count(e, 3)[0, :, 1, 0].sum(1).tolist() == [2, 2, 4]
    assert frames.frames_by_count(e, 9)[0].sum((1, 2, 3)).tolist() == [0] * 8 + [8]
    assert frames.frames_by_time(e, 20)[0].sum() == 8
    (f,) = frames.frames_by_duration(e, 5)
    assert f[:, 1, 0].sum(1).tolist() == [5, 3]
    assert frames.padded([f, f[:1]], 3).sum((2, 3, 4)).tolist() == [[5, 3, 0], [5, 0, 0]]
    assert frames.padded([f], 1).shape == (1, 1, 2, 1, 8)
    assert frames.binary(frames.frames_by_count(e, 1)).tolist() == [[[[[0.0] * 8], [[1.0] * 8]]]]


def test_counts_that_do_not_fit_are_refused() -> None:
    n = 300
    e = Events(*(np.zeros(n, int) for _ in range(3)), np.arange(n), np.array([0, n]), np.array([0]), (1, 1))
    assert frames.frames_by_count(e, 1).max() == 300
    with pytest.raises(ValueError, match="300 events in one window and place, uint8 counts to 255"):
        frames.frames_by_count(e, 1, dtype=np.uint8)


def test_parts_of_recordings() -> None:
    e = events(300, 200, 100, seed=2)
    small = frames.downsampled(e, 3)
    assert small.sensor == (7, 10)
    assert len(small.x) == 600
    padded = np.pad(frames.frames_by_count(e, 4), [(0, 0)] * 3 + [(0, 1), (0, 0)])
    np.testing.assert_array_equal(frames.frames_by_count(small, 4), padded.reshape(3, 4, 2, 7, 3, 10, 3).sum((4, 6)))
    part = frames.cropped(e, 4, 7, 11, 13)
    whole = frames.frames_by_duration(e, 10**6)
    for k, f in enumerate(frames.frames_by_duration(part, 10**6)):
        np.testing.assert_array_equal(f, whole[k][..., 4:15, 7:20])
    early = frames.between(e, 0, 30_000)
    for k in range(3):
        t = e.t_us[e.span(k)].astype(np.int64)
        assert early.counts()[k] == (t - t[0] < 30_000).sum()
    taken = e.take([2, 0])
    assert taken.label.tolist() == [2, 0]
    np.testing.assert_array_equal(taken.t_us[:100], e.t_us[500:])
    np.testing.assert_array_equal(joined([e.take([0]), e.take([1, 2])]).x, e.x)
    hollow = e.kept(np.repeat([True, False, True], [300, 200, 100]))
    assert hollow.counts().tolist() == [300, 0, 100]
    assert frames.without_empty(frames.between(hollow, 0, 10**7)).label.tolist() == [0, 2]
    assert frames.frames_by_time(hollow, 3)[1].sum() == 0
    x, y = frames.framed((e.take([k]) for k in (1, 2)), lambda part: frames.frames_by_count(part, 2))
    np.testing.assert_array_equal(x, frames.frames_by_count(e, 2)[1:])
    assert y.tolist() == [1, 2]
    for bad in ((-1, 0, 3, 3), (0, 0, 21, 3), (0, 0, 0, 3)):
        with pytest.raises(ValueError, match="are not within the 20 x 30 pixels"):
            frames.cropped(e, *bad)
    with pytest.raises(ValueError, match="needs 0 <= start_us < stop_us"):
        frames.between(e, 5, 5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": (7, 30)}, r"recording 0, event 7 lies outside the 20 x 30 pixels"),
        ({"y": (45, 20)}, r"recording 1, event 5 lies outside"),
        ({"p": (3, 2)}, r"recording 0, event 3 has a polarity that is neither 0 nor 1"),
        ({"t_us": (20, 0)}, r"recording 0, event 20 is earlier than the one before it"),
        ({"label": (1, 2)}, r"labels must be 0 to 1, got 0 to 2"),
        ({"offset": (0, 1)}, r"offsets must rise from 0 to the 70 events"),
        ({"offset": (1, 71)}, r"offsets must rise"),
    ],
)
def test_broken_events_are_named(change: dict[str, tuple[int, int]], says: str) -> None:
    e = events(40, 30)
    ((name, (at, value)),) = change.items()
    column = getattr(e, name).copy()
    column[at] = value
    with pytest.raises(ValueError, match=says):
        replace(e, **{name: column})
    with pytest.raises(ValueError, match="one-dimensional integers"):
        replace(e, **{name: column.astype(float)})


def trains(*counts: int, seed: int = 0) -> SpikeTrains:
    rng, n = np.random.default_rng(seed), sum(counts)
    time = np.concatenate([np.sort(rng.uniform(0.001, 1.2, c)) for c in counts])
    channel = rng.integers(0, 700, n).astype(np.uint16)
    return SpikeTrains(channel, time, np.cumsum([0, *counts]).astype(np.int64), np.arange(len(counts)))


@pytest.mark.parametrize("dt_ms", [1, 4, 10])
def test_bins_are_spikingjellys_fixed_durations(dt_ms: int) -> None:
    s = trains(900, 30, 2000)
    mine = frames.bins(s, dt_ms / 1000)
    for k in range(3):
        part = s.span(k)
        given = {"t": s.time_s[part], "x": s.channel[part].astype(int)}
        want = jelly_shd._integrate_events_by_fixed_duration(given, dt_ms, 700)
        np.testing.assert_array_equal(mine[k, : len(want)], want)
        assert not mine[k, len(want) :].any()
    joined_5 = frames.bins(s, dt_ms / 1000, 60, join=5)
    assert joined_5.shape == (3, 60, 140)
    assert joined_5.dtype == np.uint8
    full = np.pad(mine, [(0, 0), (0, 60), (0, 0)])[:, :60]
    np.testing.assert_array_equal(joined_5, full.reshape(3, 60, 140, 5).sum(3))


def test_bins_know_round_times_from_zero_or_first() -> None:
    time = np.array([0.05, 0.06, 0.25, 0.29, 0.3], np.float64)
    s = SpikeTrains(np.arange(5), time, np.array([0, 5]), np.array([0]), 5)
    assert np.argwhere(frames.bins(s, 0.01, from_first=False)[0])[:, 0].tolist() == [5, 6, 25, 29, 29]
    assert np.argwhere(frames.bins(s, 0.01)[0])[:, 0].tolist() == [0, 1, 20, 24, 24]
    assert frames.bins(s, 0.01, 7).sum() == 2
    for args, says in (((0.0,), "above 0 seconds"), ((0.1, 0), "at least 1")):
        with pytest.raises(ValueError, match=says):
            frames.bins(s, *args)
    with pytest.raises(ValueError, match="must divide the 5 channels"):
        frames.bins(s, 0.1, join=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channel": (3, 700)}, "event 3 is on none of the 700 channels"),
        ({"time_s": (3, math.nan)}, "event 3 has a time that is no number"),
        ({"time_s": (3, -1.0)}, "event 3 has a time that is no number"),
        ({"time_s": (9, 0.0)}, "event 9 is earlier"),
    ],
)
def test_broken_spike_trains_are_named(change: dict[str, tuple[int, float]], says: str) -> None:
    s = trains(40, 30)
    ((name, (at, value)),) = change.items()
    column = getattr(s, name).copy()
    column[at] = value
    with pytest.raises(ValueError, match=f"recording 0, {says}"):
        replace(s, **{name: column})


def test_sorting_keeps_the_order_of_equal_times() -> None:
    t, x = sorted_by_time(np.array([3, 1, 3, 1]), np.arange(4))
    assert (t.tolist(), x.tolist()) == ([1, 1, 3, 3], [1, 3, 0, 2])


def test_shifts_are_numpys_roll_without_what_wraps() -> None:
    x = np.random.default_rng(0).random((40, 3, 2, 9, 12)).astype(np.float32) + 1
    moved = augment.shifted(x, 4, seed=1)
    moves = np.random.default_rng(1).integers(-4, 5, (40, 2))
    for k, (dy, dx) in enumerate(moves):
        want = np.roll(x[k], (dy, dx), (-2, -1))
        rows, columns = np.arange(9) - dy, np.arange(12) - dx
        inside = ((rows >= 0) & (rows < 9))[:, None] & ((columns >= 0) & (columns < 12))
        np.testing.assert_array_equal(moved[k], want * inside)
    assert len({tuple(m) for m in moves}) > 20
    np.testing.assert_array_equal(augment.shifted(x, 0, seed=1), x)
    np.testing.assert_array_equal(moved, augment.shifted(x, 4, seed=1))


def test_turns_are_numpys_quarter_turns_and_keep_the_middle() -> None:
    """Scaling by 1 and no turn is the identity; a turn by 90 degrees is numpy.rot90; scipy turns the same."""
    rng = np.random.default_rng(0)
    x = rng.random((3, 2, 9, 9)).astype(np.float32)
    np.testing.assert_array_equal(augment.turned(x, 0.0, seed=0), x)

    class Fixed:
        def __init__(self, degrees: float, size: float) -> None:
            self.draws = iter((np.full(3, degrees), np.full(3, size)))

        def uniform(self, *_: Any) -> Any:
            return next(self.draws)

    def with_(degrees: float, size: float) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np.random, "default_rng", lambda _: Fixed(degrees, size))
            return augment.turned(x, 90.0, 0.5, seed=0)

    quarter = with_(90.0, 1.0)
    assert any(np.array_equal(quarter, np.rot90(x, k, (-2, -1))) for k in (1, 3))
    np.testing.assert_array_equal(with_(180.0, 1.0), x[..., ::-1, ::-1])
    half = with_(0.0, 0.5)
    np.testing.assert_array_equal(half[..., 2:7, 2:7], x[..., ::2, ::2])
    assert not half[..., 0, :].any()
    from scipy import ndimage

    a = math.radians(20.0)
    matrix = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    want = ndimage.affine_transform(x[0, 0], matrix, offset=4 - matrix @ [4, 4], order=0)
    np.testing.assert_array_equal(with_(20.0, 1.0)[0, 0, 1:8, 1:8], want[1:8, 1:8])
    drawn = augment.turned(np.ones((500, 1, 21, 21), np.float32), 30.0, 0.3, seed=1)
    assert (drawn[:, 0, 10, 10] == 1).all()
    assert 0.5 < drawn.mean() < 1.0
    with pytest.raises(ValueError, match="degrees must be in"):
        augment.turned(x, 181.0, seed=0)


def test_flips_drops_and_cuts() -> None:
    x = np.ones((2000, 2, 6, 5), np.float32) * np.arange(1, 6, dtype=np.float32)
    before = x.copy()
    mirrored = augment.flipped(x, 0.3, seed=2)[:, 0, 0, 0] == 5
    assert abs(mirrored.mean() - 0.3) < 5 * math.sqrt(0.21 / 2000)
    kept = augment.dropped(x, 0.2, seed=3)
    assert abs((kept == 0).mean() - 0.2) < 5 * math.sqrt(0.16 / x.size)
    assert set(np.unique(kept)) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    silenced = (augment.cut(x, 3, seed=4) == 0).sum((1, 2, 3))
    assert silenced.max() == 2 * 9
    assert silenced.min() == 2 * 2 * 1 + 2 * 2 * 1  # a corner: centre 0 leaves rows 0 and 1
    np.testing.assert_array_equal(x, before)
    for call, says in (
        (lambda: augment.shifted(x, 5, seed=0), "shifted.most"),
        (lambda: augment.flipped(x, 1.5, seed=0), "flipped.share"),
        (lambda: augment.dropped(x, math.nan, seed=0), "dropped.share"),
        (lambda: augment.cut(x, 6, seed=0), "cut.size"),
        (lambda: augment.cut(x[0, 0], 1, seed=0), "frames must be"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_augmented_training_resumes_to_the_same_bits(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    data = (rng.random((40, 3, 1, 8, 8)) < 0.4).astype(np.float32), rng.integers(0, 10, 40)
    assert Augmented(SLTT(3), augment.shifted_by(1)).readout is not None

    def run(epochs_first: int, path: Any) -> dict[str, Any]:
        for stop in (epochs_first, 3):
            net: nn.Module = digits_net(seed=0, channels=4)

            def tell(done: int, *_: Any, stop: int = stop) -> None:
                if done == stop < 3:
                    raise KeyboardInterrupt

            try:
                train(
                    net, data, method=Augmented(SLTT(3), augment.shifted_by(1), "shift 1"), epochs=3, batch=16,
                    checkpoint=path, resume=True, progress=tell,
                )  # fmt: skip
            except KeyboardInterrupt:
                continue
        return net.state_dict()

    whole, parts = run(3, tmp_path / "a.pt"), run(1, tmp_path / "b.pt")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    plain = digits_net(seed=0, channels=4)
    train(plain, data, method=SLTT(3), epochs=3, batch=16)
    assert not torch.equal(plain.state_dict()["fc.weight"], whole["fc.weight"])
    assert Augmented(BPTT(), augment.shifted_by(1)).readout is Augmented(SLTT(), augment.shifted_by(1)).readout
