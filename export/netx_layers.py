"""What lava-dl's netx loader makes of a file's numbers, so that writer and reader can foresee it.

The loader (``lava.lib.dl.netx.hdf5.Network``) does not pass numbers through. Verified by running it:

- Dense weights are shifted left by ``bits`` and get ``num_weight_bits`` and the exponent ``-bits``; lava-nc then
  finds the sign mode anew, from each matrix as shifted. Mostly that keeps every value, odd ones of mixed sign too; a
  matrix without a positive weight can be clipped (-256 to -255) or shifted by -1, which numpy makes 0. All zeros fail.
- A recurrent layer is scaled by its largest weight, recurrent or not; with delays its exponent is forgotten.
- ``bias`` is a mantissa under the fixed exponent 6: in threshold units.
- A vector of delays is one per target where its length fits, else one per source.
- The decays of a resonator go through a period and back, and are truncated: see :func:`written_decay`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.loihi import DenseEdge, Int, Port, SignMode

BIAS_EXP = STATE_EXP = 6
"""Fixed by the loader."""
DECAY_BITS = 12
SPIKE_EXP = 6
"""The loader's default of its argument ``spike_exp``."""
GRADED_BITS = 16
"""Message bits that the loader gives a sigma-delta layer."""


def shifted(a: Int, exp: int) -> Int:
    """``a`` times ``2**exp``, fractions cut as a shift to the right cuts them."""
    return a << exp if exp > 0 else a >> -exp


class UnloadableError(ValueError):
    """Weights that the loader cannot take or would destroy; says why."""


@dataclass(frozen=True, eq=False)
class Stored:
    """One matrix as lava-nc holds it: ``a = (w x) >> bits``; ``sign_mode`` as found there; ``cut`` low bits dropped."""

    w: Int
    bits: int
    sign_mode: SignMode
    cut: int

    def value(self) -> Int | None:
        """The integer weights that these amount to, or None where the shift of a sum rounds."""
        whole = self.w >> self.bits
        return whole if (whole << self.bits == self.w).all() else None


def stored(parts: Sequence[Int]) -> list[Stored]:
    """The weight matrices of one layer (feed-forward, recurrent) as the loader prepares them together.

    Errors: :class:`UnloadableError`.
    """
    wide = [np.asarray(p, np.int64) for p in parts]
    high, low = max(int(p.max()) for p in wide), min(int(p.min()) for p in wide)
    if (high > 254 and low < 0) or (low < -256 and high > 0):
        wide = [np.clip(p, -256, 254) for p in wide]
        high, low = max(int(p.max()) for p in wide), min(int(p.min()) for p in wide)
    if high == low == 0:
        raise UnloadableError("all weights are 0, with which the loader stops")
    if high > 255 or low < -256:
        raise UnloadableError(f"weights from {low} to {high} are beyond 8 bits, the loader makes them 0")
    mixed = low < 0 <= high
    if mixed:
        scale = min(127 / high if high else math.inf, -128 / low)
    else:
        scale = 255 / high if low >= 0 else -256 / low
    bits = math.floor(math.log2(scale)) + mixed
    whole = math.gcd(256, *(int(np.gcd.reduce(p, axis=None)) for p in wide)).bit_length() - 1
    return [_stored(p << bits, bits, bits + whole - mixed) for p in wide]


def _stored(w: Int, bits: int, cut: int) -> Stored:
    """lava-nc's own part: sign mode from the matrix, clip to 8 bits, drop low bits."""
    if w.min() >= 0:
        return Stored(_drop(np.minimum(w, 255), cut), bits, "excitatory", cut)
    if w.max() <= 0:
        return Stored(-_drop(np.minimum(-w, 255), cut), bits, "inhibitory", cut)
    return Stored(_drop(np.clip(w, -256, 255), cut + 1), bits, "mixed", cut + 1)


def _drop(w: Int, cut: int) -> Int:
    return np.zeros_like(w) if cut < 0 else w >> cut << cut  # numpy: x >> -1 is 0 for x >= 0


def loaded(parts: Sequence[Int]) -> list[Int]:
    """The integer weights that the loader runs for each of ``parts``. Errors: :class:`UnloadableError`."""
    out = []
    for part in stored(parts):
        value = part.value()
        if value is None:
            raise UnloadableError("its least weight is a power of two, which the loader clips by one")
        out.append(value)
    return out


def edges_of(
    src: str, dst: str, part: Stored, bits: int, delays: Int | None = None, port: Port = "real", exponent: bool = True
) -> list[DenseEdge]:
    """The connection that the loader builds of one matrix: usually one; two where odd weights of mixed sign survive."""
    value = part.value() if exponent else part.w
    w, exp = (part.w, -part.bits) if value is None else (value, 0)
    narrow = w.astype(np.int16)

    def edge(w: Int, sign: SignMode) -> DenseEdge:
        return DenseEdge(src, dst, w, sign, exp, num_message_bits=bits, delays=delays, port=port)

    if part.sign_mode == "mixed" and (narrow & 1).any():  # the chip's mixed grid has only even weights
        return [edge(np.maximum(narrow, 0), "excitatory"), edge(np.minimum(narrow, 0), "inhibitory")]
    return [edge(narrow, part.sign_mode)]


def spread_delays(delay: Int, n_out: int, n_in: int) -> Int:
    """A file's ``delay`` as (out, in): a number, one per target (asked first), one per source, or per synapse.

    Errors: ``ValueError`` for another shape.
    """
    if delay.ndim == 0:
        return np.full((n_out, n_in), delay)
    if delay.shape == (n_out,):
        return np.repeat(delay[:, None], n_in, axis=1)
    if delay.shape == (n_in,):
        return np.repeat(delay[None], n_out, axis=0)
    if delay.shape == (n_out, n_in):
        return delay
    raise ValueError(f"delays {delay.shape} fit neither ({n_out},), ({n_in},) nor ({n_out}, {n_in})")


def written_decay(decay: int) -> float:
    """What to write so that every loader arrives at the integer ``decay``.

    The loader turns the two decays into a period and back and truncates; an integer comes out as itself or one less,
    by the rounding of the machine's sine. From the middle between two integers it always comes back.
    """
    return math.copysign(abs(decay) + 0.5, decay)
