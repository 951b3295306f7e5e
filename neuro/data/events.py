"""Event recordings: one checked value for all event cameras and one for all spike-train audio.

Recordings lie one after the other in columns; those of recording i are ``offset[i]:offset[i + 1]``. What makes steps of
them is in :mod:`neuro.frames`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
AnyEvents = TypeVar("AnyEvents", bound="Events")


@dataclass(frozen=True, eq=False)
class _Recorded(ABC):
    """What both kinds share: labels, offsets, picking; ``_columns`` names what has one entry an event."""

    def __len__(self) -> int:
        return len(self._get("label"))

    def _get(self, name: str) -> Any:
        return getattr(self, name)

    @property
    @abstractmethod
    def _columns(self) -> tuple[str, ...]:
        """Names of the columns with one entry an event."""

    def counts(self) -> npt.NDArray[np.int64]:
        """Events of each recording, ``(N,)``."""
        counts: npt.NDArray[np.int64] = np.diff(self._get("offset"))
        return counts

    def span(self, k: int) -> slice:
        """Where recording k lies in the columns."""
        o = self._get("offset")
        return slice(int(o[k]), int(o[k + 1]))

    def take(self, which: npt.ArrayLike) -> Self:
        """The recordings ``which``, indices or a mask, in that order, as a value of their own."""
        picked = np.arange(len(self))[np.asarray(which)].reshape(-1)
        spans = [self.span(int(k)) for k in picked]
        new: Any = {c: _joined([self._get(c)[s] for s in spans], self._get(c).dtype) for c in self._columns}
        new["offset"] = np.concatenate([[0], np.cumsum([s.stop - s.start for s in spans])]).astype(np.int64)
        new["label"] = self._get("label")[picked]
        return replace(self, **new)

    def kept(self, keep: npt.NDArray[np.bool_], **changed: Any) -> Self:
        """Only the events of the mask, with some columns changed; a recording may become empty."""
        before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
        new: Any = {c: changed.pop(c, self._get(c))[keep] for c in self._columns}
        new["offset"] = before[self._get("offset")]
        return replace(self, **new, **changed)

    def where(self, event: int) -> str:
        """``recording k, event i`` of a column's entry, for errors."""
        o = self._get("offset")
        k = int(np.searchsorted(o, event, "right")) - 1
        return f"recording {k}, event {event - int(o[k])}"

    def _check_offsets(self) -> None:
        name, o, label = self._get("name"), self._get("offset"), self._get("label")
        n = len(self._get(self._columns[0]))
        if any(np.shape(self._get(c)) != (n,) for c in self._columns) or len(o) != len(label) + 1:
            raise ValueError(f"{name}: {n} events and {len(label)} labels, but columns of other lengths")
        if not len(label) or o[0] != 0 or o[-1] != n or (np.diff(o) < 0).any():
            raise ValueError(f"{name}: offsets must rise from 0 to the {n} events, at least one recording")
        classes = self._get("classes")
        if classes is not None and (label.min() < 0 or label.max() >= classes):
            last = classes - 1
            raise ValueError(f"{name}: labels must be 0 to {last}, got {label.min()} to {label.max()}; fix the table")

    def _check_time(self, time: Column) -> None:
        back = np.flatnonzero(time[1:] < time[:-1]) + 1
        back = back[~np.isin(back, self._get("offset"))]
        if len(back):
            raise ValueError(
                f"{self._get('name')}: {self.where(int(back[0]))} is earlier than the one before it; sort by time"
            )


@dataclass(frozen=True, eq=False)
class Events(_Recorded):
    """Recordings of an event camera of ``sensor = (height, width)`` pixels and two polarities.

    ``x, y``: column and row from the corner where the data set has its own; ``p``: 1 brighter, 0 darker; ``t_us``:
    microseconds, not falling within a recording; ``label (N,)`` below ``classes`` where that is known. Columns keep
    the integer type in which they are given.

    Errors: ``ValueError`` naming recording and event for a pixel outside the sensor, a polarity that is neither 0
    nor 1, time that is negative or runs backwards, a label out of range, offsets that do not fit.
    """

    x: Column
    y: Column
    p: Column
    t_us: Column
    offset: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    sensor: tuple[int, int] = (128, 128)
    classes: int | None = None
    name: str = "Events"

    @property
    def _columns(self) -> tuple[str, ...]:
        return ("x", "y", "p", "t_us")

    @property
    def frame(self) -> tuple[int, int, int]:
        """Shape of one frame: polarity, y, x."""
        return (2, *self.sensor)

    def __post_init__(self) -> None:
        _whole(self)
        self._check_offsets()
        height, width = self.sensor
        if height < 1 or width < 1:
            raise ValueError(f"{self.name}.sensor: (height, width) must be at least 1, got {self.sensor}")
        outside = (self.x >= width) | (self.y >= height) | (self.x < 0) | (self.y < 0)
        for what, bad in (
            (f"lies outside the {height} x {width} pixels", outside),
            ("has a polarity that is neither 0 nor 1", (self.p != 0) & (self.p != 1)),
            ("has a time below 0", self.t_us < 0),
        ):
            if bad.any():
                raise ValueError(f"{self.name}: {self.where(int(bad.argmax()))} {what}; fetch the file again")
        self._check_time(self.t_us)


@dataclass(frozen=True, eq=False)
class SpikeTrains(_Recorded):
    """Recordings of spikes on ``channels`` lines, as a model cochlea gives them: ``channel``, ``time_s``, ``label``.

    Errors: ``ValueError`` naming recording and event for a channel out of range, a time that is not finite, is
    negative or runs backwards, a label out of range, offsets that do not fit.
    """

    channel: Column
    time_s: npt.NDArray[np.floating[Any]]
    offset: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    channels: int = 700
    classes: int | None = None
    name: str = "SpikeTrains"
    speaker: npt.NDArray[np.int64] | None = None

    @property
    def _columns(self) -> tuple[str, ...]:
        return ("channel", "time_s")

    def __post_init__(self) -> None:
        _whole(self)
        self._check_offsets()
        if not np.issubdtype(self.time_s.dtype, np.floating):
            raise ValueError(f"{self.name}.time_s: must be seconds in floats, got {self.time_s.dtype}")
        if self.speaker is not None and len(self.speaker) != len(self.label):
            raise ValueError(f"{self.name}.speaker: {len(self.speaker)} of them for {len(self.label)} recordings")
        for what, bad in (
            (f"is on none of the {self.channels} channels", (self.channel < 0) | (self.channel >= self.channels)),
            ("has a time that is no number of seconds from 0", ~np.isfinite(self.time_s) | (self.time_s < 0)),
        ):
            if bad.any():
                raise ValueError(f"{self.name}: {self.where(int(bad.argmax()))} {what}; fetch the file again")
        self._check_time(self.time_s)

    def take(self, which: npt.ArrayLike) -> Self:
        """As of every recording, with the speakers."""
        if self.speaker is None:
            return super().take(which)
        without = replace(self, speaker=None)
        return replace(_Recorded.take(without, which), speaker=self.speaker[np.asarray(which)].reshape(-1))


def joined(parts: Sequence[AnyEvents]) -> AnyEvents:
    """All recordings of ``parts``, in order, of one sensor. Errors: ``ValueError`` for none, or sensors that differ."""
    if not parts or any(p.sensor != parts[0].sensor for p in parts):
        raise ValueError(f"joined: needs recordings of one sensor, got {sorted({p.sensor for p in parts})}")
    new: Any = {c: np.concatenate([getattr(p, c) for p in parts]) for c in ("x", "y", "p", "t_us", "label")}
    ends = np.cumsum([c for p in parts for c in p.counts()])
    return replace(parts[0], **new, offset=np.concatenate([[0], ends]).astype(np.int64))


def sorted_by_time(time: Column, *columns: Column) -> tuple[Column, ...]:
    """``time`` and its columns in the order of time; events of one time stay in their order."""
    if not (time[1:] < time[:-1]).any():
        return (time, *columns)
    order = np.argsort(time, kind="stable")
    return tuple(c[order] for c in (time, *columns))


def _joined(parts: list[Column], dtype: Any) -> Column:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _whole(owner: Any) -> None:
    """Every column but seconds and names is one-dimensional and of integers."""
    for field in fields(owner):
        a = getattr(owner, field.name)
        if field.name in ("sensor", "classes", "name", "channels", "time_s") or a is None:
            continue
        if not isinstance(a, np.ndarray) or a.ndim != 1 or not np.issubdtype(a.dtype, np.integer):
            raise ValueError(f"{owner.name}.{field.name}: must be one-dimensional integers")
