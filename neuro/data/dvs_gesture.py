"""DVS128 Gesture: 11 hand gestures of 29 people under three lights, 128 x 128 pixels, about 6 s each.

Read from the data set's own files: recordings ``user01_fluorescent.aedat`` (AEDAT 3.1), beside each a table
``user01_fluorescent_labels.csv`` with one gesture a line, ``class, startTime_usec, endTime_usec``, and the lists
``trials_to_train.txt`` and ``trials_to_test.txt``. The set is large: it comes file by file, for
:func:`neuro.frames.framed`. A gesture's events are those of ``start <= t < end``; labels are the class less 1.

Source: Amir et al., A Low Power, Fully Event-Based Gesture Recognition System, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuro.data.aedat import polarity_events
from neuro.data.events import Events, sorted_by_time
from neuro.data.files import read_bytes, reading
from neuro.data.folder import data_folder

SENSOR = (128, 128)
CLASSES = 11
LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
_MOST_LINES = 100_000


def dvs_gesture(split: str, folder: str | Path | None = None) -> Iterator[Events]:
    """The gestures of ``split``, "train" or "test", one file's at a time; by default of ``$SPIKEPORT_DATA/DvsGesture``.

    Errors: ``ValueError`` naming what is not there and where to get it, or what is wrong with a file.
    """
    if split not in LISTS:
        raise ValueError(f"dvs_gesture.split: must be one of {', '.join(LISTS)}, got {split!r}")
    root = data_folder("DvsGesture") if folder is None else Path(folder)
    listed = root / LISTS[split]
    with reading(listed, "list of DVS128 Gesture", "unpack DvsGesture.tar.gz there, or point SPIKEPORT_DATA elsewhere"):
        names = [n.strip() for n in read_bytes(listed, 2**20).decode("ascii").splitlines() if n.strip()]
        strange = [n for n in names if Path(n).name != n or not n.endswith(".aedat")]
        if strange or not names:
            raise ValueError(f"{strange[0]!r} is no name of an .aedat file" if strange else "it is empty")
    return (read_trials(root / n) for n in names)


def read_trials(path: str | Path, labels: str | Path | None = None, *, sort: bool = False) -> Events:
    """The gestures of one ``.aedat`` file, by default those of ``<name>_labels.csv`` beside it.

    ``sort``: put events that run backwards in time in order, instead of refusing them.
    Errors: ``ValueError`` naming the file.
    """
    path = Path(path)
    table = path.with_name(f"{path.stem}_labels.csv") if labels is None else Path(labels)
    trials = read_labels(table)
    with reading(path, "recording of DVS128 Gesture"):
        x, y, p, t = polarity_events(read_bytes(path))
        if sort:
            t, x, y, p = sorted_by_time(t, x, y, p)
        whole = Events(x, y, p, t, np.array([0, len(x)]), np.array([0]), SENSOR, name="DVS128 Gesture")
    with reading(table, f"table of the gestures in {path.name}", "take the table that belongs to the recording"):
        edges = np.searchsorted(whole.t_us, trials[:, 1:])
        if (edges[:, 0] == edges[:, 1]).any():
            k = int((edges[:, 0] == edges[:, 1]).argmax())
            raise ValueError(f"no event lies in gesture {k + 1}, {trials[k, 1]} to {trials[k, 2]} us")
    pick = np.concatenate([np.arange(a, b) for a, b in edges])
    offset = np.concatenate([[0], np.cumsum(edges[:, 1] - edges[:, 0])]).astype(np.int64)
    columns = (whole.x[pick].astype(np.uint8), whole.y[pick].astype(np.uint8), whole.p[pick], whole.t_us[pick])
    return Events(*columns, offset, trials[:, 0] - 1, SENSOR, CLASSES, "DVS128 Gesture")


def read_labels(path: str | Path) -> npt.NDArray[np.int64]:
    """A label table: ``(gestures, 3)``, class 1 to 11, start and end in us. Errors: ``ValueError`` naming the file."""
    with reading(path, "label table of DVS128 Gesture"):
        lines = [n.strip() for n in read_bytes(path, 2**20).decode("ascii").splitlines() if n.strip()]
        if len(lines) < 2 or len(lines) > _MOST_LINES:
            raise ValueError(f"it has {len(lines)} lines; there is a head and a line a gesture")
        rows = [[int(v) for v in line.split(",")] for line in lines[1:]]
        if any(len(r) != 3 for r in rows):
            raise ValueError("a line has other than the three numbers class, start and end")
        table = np.array(rows, np.int64)
        if (table[:, 0] < 1).any() or (table[:, 0] > CLASSES).any():
            raise ValueError(f"classes must be 1 to {CLASSES}, got {table[:, 0].min()} to {table[:, 0].max()}")
        if (table[:, 1] < 0).any() or (table[:, 1] >= table[:, 2]).any():
            raise ValueError("a gesture must start at 0 us or later, and before it ends")
        return table
