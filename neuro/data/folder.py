"""Where data sets lie that no package brings: the folder of the variable ``SPIKEPORT_DATA``, or the user's own."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder(name: str) -> Path:
    """``$SPIKEPORT_DATA/<name>``, by default ``$XDG_DATA_HOME/spikeport/<name>`` (``~/.local/share/spikeport``)."""
    given = os.environ.get("SPIKEPORT_DATA")
    if given:
        return Path(given) / name
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "spikeport" / name
