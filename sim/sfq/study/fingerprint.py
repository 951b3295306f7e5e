"""A hash of values: the same circuit, corners and settings give the same text in every process and on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Protocol

import numpy as np

from sim.sfq.circuit import Circuit


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def fingerprint(*values: Any) -> str:
    """SHA-256 (hex) of dataclasses, arrays, numbers, text, sequences, mappings and functions (by their code).

    A circuit's line numbers and print requests do not count. Errors: ``ValueError`` for any other kind of object.
    """
    h = hashlib.sha256()
    for value in values:
        _feed(h, value)
    return h.hexdigest()


def _feed(h: _Hash, value: Any) -> None:
    if isinstance(value, Circuit):
        value = replace(value, where={}, requests=())
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        _tag(h, f"{type(value).__name__}:{value!r}")
    elif isinstance(value, np.ndarray):
        _tag(h, f"array:{value.dtype.str}:{value.shape}")
        h.update(np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        _tag(h, f"{type(value).__module__}.{type(value).__qualname__}")
        _all(h, [(f.name, getattr(value, f.name)) for f in fields(value)])
    elif isinstance(value, Mapping):
        _tag(h, f"mapping:{len(value)}")
        _all(h, sorted(value.items(), key=lambda item: str(item[0])))
    elif isinstance(value, tuple | list | range):
        _tag(h, f"sequence:{len(value)}")
        _all(h, value)
    else:
        _function(h, value)


def _all(h: _Hash, values: Any) -> None:
    for value in values:
        _feed(h, value)


def _tag(h: _Hash, text: str) -> None:
    h.update(text.encode() + b"\0")


def _function(h: _Hash, value: Any) -> None:
    if isinstance(value, partial):
        _all(h, ["partial", value.func, value.args, value.keywords])
    elif isinstance(value, MethodType):
        _all(h, ["method", value.__func__, value.__self__])
    elif isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        _all(h, ["function", value.__module__, value.__qualname__, value.__defaults__, value.__kwdefaults__, cells])
        _code(h, value.__code__)
    elif isinstance(value, np.ufunc | type):
        _tag(h, f"{value!r}")
    else:
        raise ValueError(
            f"checkpoint: cannot name a {type(value).__name__} by its content; use a dataclass or a plain function"
        )


def _code(h: _Hash, code: CodeType) -> None:
    h.update(code.co_code)
    _tag(h, repr(code.co_names))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _code(h, constant)
        elif isinstance(constant, frozenset):
            _tag(h, repr(sorted(map(repr, constant))))  # its own order changes from process to process
        else:
            _tag(h, repr(constant))
