"""Event recordings to integer frames and bins, pure functions.

    frames_by_time, frames_by_count     T windows a recording          (N, T, 2, H, W)
    frames_by_duration                  windows of one length          [(T_k, 2, H, W)] a recording
    bins                                spikes a channel and window    (N, T, channels)

Windows and what becomes of the remainder are those of SpikingJelly (Fang et al. 2023, Science Advances 9), which most
published figures use; a window in which nothing happened is empty here, and an error there. Counts are uint16 unless
``dtype`` says uint8; one that does not fit is refused, not wrapped. Errors, all: ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.data.events import Events, SpikeTrains

Frames = npt.NDArray[np.uint16]
Integers = npt.NDArray[np.integer[Any]]
SLACK = 1e-9
"""Of a window, so that a time k dt is in window k whatever its binary form."""


def frames_by_time(events: Events, T: int, *, dtype: npt.DTypeLike = np.uint16) -> Frames:
    """Events counted in T windows of equal time: ``(N, T, 2, H, W)``.

    A window lasts ``(last - first) // T`` microseconds from the first event on; the last one takes the rest.
    """

    def window(t: Integers) -> Integers:
        since = (t - t[0]).astype(np.int64)
        return np.minimum(since // max(1, int(since[-1]) // T), T - 1)

    return _fixed("frames_by_time", events, T, window, dtype)


def frames_by_count(events: Events, T: int, *, dtype: npt.DTypeLike = np.uint16) -> Frames:
    """Events counted in T windows of ``events // T`` each, the last one with the rest: ``(N, T, 2, H, W)``.

    With fewer events than T all of them are in the last window, as the rule says.
    """

    def window(t: Integers) -> Integers:
        each = len(t) // T
        return np.minimum(np.arange(len(t)) // each, T - 1) if each else np.full(len(t), T - 1)

    return _fixed("frames_by_count", events, T, window, dtype)


def frames_by_duration(events: Events, dt_us: int, *, dtype: npt.DTypeLike = np.uint16) -> list[Frames]:
    """Events counted in windows of ``dt_us``: ``(T_k, 2, H, W)`` a recording, ``T_k = ceil((last - first) / dt_us)``.

    An event on the end of the last window is in it; a recording without length has one window.
    """
    _positive("frames_by_duration.dt_us", dt_us)
    out = []
    for k in range(len(events)):
        t = events.t_us[events.span(k)].astype(np.int64)
        t = t - t[0] if len(t) else t
        count = max(1, -(-int(t[-1]) // dt_us)) if len(t) else 1
        out.append(_counted(events, k, np.minimum(t // dt_us, count - 1), count, dtype))
    return out


def binary(frames: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """1 where anything happened: spikes for a chip whose synapses take 0 and 1."""
    return (frames > 0).astype(np.float32)


def padded(frames: list[npt.NDArray[Any]], T: int) -> npt.NDArray[Any]:
    """Recordings of unequal length as ``(N, T, ...)``: cut after T windows, zeros where there are fewer."""
    _positive("padded.T", T)
    if not frames:
        raise ValueError("padded: needs one recording or more")
    out = np.zeros((len(frames), T, *frames[0].shape[1:]), frames[0].dtype)
    for k, f in enumerate(frames):
        out[k, : min(T, len(f))] = f[:T]
    return out


def downsampled(events: Events, factor: int) -> Events:
    """Pixels joined ``factor x factor``: x and y divided and rounded down, the sensor rounded up; no event is lost."""
    _positive("downsampled.factor", factor)
    height, width = (-(-s // factor) for s in events.sensor)
    return replace(events, x=events.x // factor, y=events.y // factor, sensor=(height, width))


def cropped(events: Events, top: int, left: int, height: int, width: int) -> Events:
    """Only the pixels of one window, counted from its corner. Errors: a window that is not within the sensor."""
    rows, columns = events.sensor
    if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
        raise ValueError(
            f"cropped: rows {top} to {top + height} and columns {left} to {left + width} are not within the "
            f"{rows} x {columns} pixels"
        )
    inside = (events.y >= top) & (events.y < top + height) & (events.x >= left) & (events.x < left + width)
    x, y = ((a.astype(np.int64) - corner).astype(a.dtype) for a, corner in ((events.x, left), (events.y, top)))
    return events.kept(inside, x=x, y=y, sensor=(height, width))


def between(events: Events, start_us: int, stop_us: int) -> Events:
    """Events from ``start_us`` on and before ``stop_us``, both counted from each recording's first event."""
    if not 0 <= start_us < stop_us:
        raise ValueError(f"between: needs 0 <= start_us < stop_us, got {start_us} and {stop_us}")
    has = events.counts() > 0
    time = events.t_us.astype(np.int64)
    since = time - np.repeat(time[events.offset[:-1][has]], events.counts()[has])
    return events.kept((since >= start_us) & (since < stop_us))


def without_empty(events: Events) -> Events:
    """Only recordings with an event in them. Errors: where none has."""
    return events.take(events.counts() > 0)


def bins(
    spikes: SpikeTrains,
    dt_s: float,
    T: int | None = None,
    *,
    join: int = 1,
    from_first: bool = True,
    dtype: npt.DTypeLike = np.uint8,
) -> npt.NDArray[Any]:
    """Spikes counted in windows of ``dt_s`` on channels joined by ``join``: ``(N, T, channels / join)``.

    Time is counted from a recording's first spike, or from 0 with ``from_first=False``. ``T`` None: as many windows as
    the longest recording has, ``ceil(last / dt_s)``; a spike on the end of a recording's last window is in it. What is
    later than T windows is cut. ``dt_s=0.01, join=5`` makes 140 lines of the 700 of SHD and SSC, as DCLS-Delays does
    (Hammouamri et al. 2024).

    Errors: ``ValueError`` for dt or T that is not positive, and for channels that ``join`` does not divide.
    """
    if not (math.isfinite(dt_s) and dt_s > 0):
        raise ValueError(f"bins.dt_s: must be above 0 seconds, got {dt_s}")
    if join < 1 or spikes.channels % join:
        raise ValueError(f"bins.join: must divide the {spikes.channels} channels, got {join}")
    at = [_window(spikes.time_s[spikes.span(k)], dt_s, from_first) for k in range(len(spikes))]
    if T is None:
        T = max(int(a[-1]) + 1 if len(a) else 1 for a in at)
    _positive("bins.T", T)
    lines = spikes.channels // join
    out = np.zeros((len(spikes), T, lines), dtype)
    for k, window in enumerate(at):
        kept = window < T
        flat = window[kept] * lines + spikes.channel[spikes.span(k)][kept] // join
        _store(spikes.name, out[k], np.bincount(flat, minlength=T * lines))
    return out


def framed(
    parts: Iterable[Events], make: Callable[[Events], npt.NDArray[Any]]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """``make(part)`` of recordings that come a few at a time, joined, and their labels: ``(N, ...), (N,)``.

    For sets whose events do not fit into memory while their frames do. Errors: where no part comes.
    """
    made = [(make(part), part.label) for part in parts]
    if not made:
        raise ValueError("framed: needs one recording or more")
    return np.concatenate([x for x, _ in made]), np.concatenate([y for _, y in made])


def _window(time_s: npt.NDArray[Any], dt_s: float, from_first: bool) -> npt.NDArray[np.int64]:
    t = time_s.astype(np.float64)
    if not len(t):
        return t.astype(np.int64)
    t = t - t[0] if from_first else t
    at = t / dt_s
    last = max(1, math.ceil(at[-1] - SLACK)) - 1
    return np.minimum(np.floor(at + SLACK).astype(np.int64), last)


def _fixed(name: str, events: Events, T: int, window: Callable[[Integers], Integers], dtype: npt.DTypeLike) -> Frames:
    _positive(f"{name}: T", T)
    out = np.zeros((len(events), T, *events.frame), dtype)
    for k in range(len(events)):
        t = events.t_us[events.span(k)]
        if len(t):
            out[k] = _counted(events, k, window(t), T, dtype)
    return out


def _counted(events: Events, k: int, at: Integers, T: int, dtype: npt.DTypeLike) -> Frames:
    part, (_, height, width) = events.span(k), events.frame
    place = ((at * 2 + events.p[part]) * height + events.y[part]) * width + events.x[part]
    out = np.zeros((T, *events.frame), dtype)
    _store(events.name, out, np.bincount(place.astype(np.int64), minlength=out.size))
    return out


def _store(name: str, out: npt.NDArray[Any], counts: npt.NDArray[Any]) -> None:
    most = np.iinfo(out.dtype).max
    if len(counts) and counts.max() > most:
        raise ValueError(
            f"{name}: {counts.max()} events in one window and place, {out.dtype} counts to {most}; use more"
        )
    out[...] = counts.reshape(out.shape)


def _positive(what: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{what} must be at least 1, got {value}")
