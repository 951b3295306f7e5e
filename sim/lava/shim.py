"""Makes lava-nc 0.10.0 importable where its metadata does not reach: CPython 3.11 and newer, numpy 2. Worker side.

``hash``      CPython 3.11 refuses an unhashable instance as a dataclass default, and lava has one. While lava is
              imported, such classes of lava's own get the identity hash that 3.10 let them do without.
``reshape``   numpy 2.4 took the keyword ``newshape`` from ``np.reshape``; two methods of lava's reshape port use it.
``geometry``  numpy 2 keeps int8 where int8 meets a Python integer; Conv holds its geometry in int8: int32 instead.

Nothing else of lava is touched, and none of the three changes a number that it computes.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import platform
from typing import Any

import numpy as np

NUMPY_2 = int(np.__version__.split(".")[0]) >= 2


def load() -> list[str]:
    """Import lava; the names of what had to be mended, empty for none."""
    done = []
    if tuple(map(int, platform.python_version_tuple()[:2])) >= (3, 11):
        _import_with_hashes()
        done.append("hash")
    else:
        _import()
    if NUMPY_2:
        _reshape()
        done += ["reshape", "geometry"]
    return done


def conv() -> Any:
    """Lava's Conv. Imported late: the half of scipy that it brings doubles the time of every fork."""
    if NUMPY_2:
        _geometry()
    return importlib.import_module("lava.proc.conv.process").Conv


def _import() -> None:
    for name in ("lava.magma.compiler.compiler", "lava.magma.runtime.runtime", "lava.proc.lif.models"):
        importlib.import_module(name)


def _import_with_hashes() -> None:
    module: Any = dataclasses
    original = module._get_field

    def mended(cls: Any, name: str, *args: Any) -> Any:
        owner: Any = type(getattr(cls, name, None))
        if owner.__module__.split(".")[0] == "lava" and owner.__hash__ is None:
            owner.__hash__ = object.__hash__
        return original(cls, name, *args)

    module._get_field = mended
    try:
        _import()
    finally:
        module._get_field = original


def _reshape() -> None:
    port = importlib.import_module("lava.magma.core.process.ports.ports").ReshapePort
    port.get_transform_func_fwd = lambda self: functools.partial(_to, shape=self.shape)
    port.get_transform_func_bwd = lambda self: functools.partial(_to, shape=self.old_shape)


def _to(a: Any, shape: Any) -> Any:
    return np.reshape(a, shape)


def _geometry() -> None:
    model = importlib.import_module("lava.proc.conv.models").AbstractPyConvModel
    kind = importlib.import_module("lava.magma.core.model.py.type").LavaPyType
    for name in ("kernel_size", "stride", "padding", "dilation", "groups"):
        setattr(model, name, kind(np.ndarray, np.int32, precision=8))
