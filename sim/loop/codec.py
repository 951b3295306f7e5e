"""How a network meets its environment, as plain JSON beside the program: encoder, decoder, window."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from export.package import PackageError, write_text
from neuro import stream, tuning
from sim.loop import decode

FORMAT, VERSION = "spikeport-codec", 1
MAX_BYTES = 2**24
KINDS: dict[str, type] = {
    k.__name__: k
    for k in (
        tuning.Scaled, tuning.Opposed, tuning.Bells, stream.Rate, stream.Bernoulli, stream.Latency, stream.Coded,
        stream.Crossing, stream.Payload, decode.Count, decode.FirstSpike, decode.Membrane, decode.Argmax,
        decode.Linear, decode.PopulationVector, decode.Decoder,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Codec:
    """``window`` as :mod:`sim.loop.loop` names them."""

    encoder: stream.Encoder
    decoder: decode.Decoder
    window: Any = "blocking"

    def to_dict(self) -> dict[str, Any]:
        """JSON data; parts of your own making are only named."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "encoder": _plain(self.encoder),
            "decoder": _plain(self.decoder),
            "window": self.window,
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON, beside and renamed."""
        return write_text(path, json.dumps(self.to_dict(), indent=1))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "codec") -> Codec:
        """Inverse of :meth:`to_dict`. Errors: ``PackageError`` naming ``where`` and the part."""
        try:
            if data["format"] != FORMAT or data["version"] != VERSION:
                raise ValueError("not a codec of this version")
            encoder, decoder = _made(data["encoder"]), _made(data["decoder"])
            if not isinstance(decoder, decode.Decoder) or not hasattr(encoder, "lines"):
                raise ValueError("holds no encoder and decoder")
            return cls(encoder, decoder, data["window"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"{where}: cannot be read ({error}); save it with Codec.save") from None

    @classmethod
    def load(cls, path: str | Path) -> Codec:
        """Read what :meth:`save` wrote. Errors: ``PackageError``."""
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"is larger than {MAX_BYTES} bytes")
            data = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise PackageError(f"{path}: cannot be read ({error}); save it with Codec.save") from None
        return cls.from_dict(data, str(path))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and type(value).__name__ in KINDS:
        kept = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.init}
        return {"kind": type(value).__name__} | kept
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else {"kind": type(value).__name__}


def _made(data: Any) -> Any:
    if isinstance(data, Mapping):
        kind, rest = data["kind"], {k: _made(v) for k, v in data.items() if k != "kind"}
        if kind not in KINDS:
            raise ValueError(f"'{kind}' is unknown; this version knows {', '.join(KINDS)}")
        return KINDS[kind](**rest)
    return tuple(_made(v) for v in data) if isinstance(data, list) else data
