"""Lists of synapses ``(pre, post, weight)`` in numpy alone: :mod:`export.brian_script` writes these functions out.

Neurons are numbered in C order of the node's shape, which is what Flatten makes. Zero weights get no synapse.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Listed: TypeAlias = tuple[Array, Array, Array]


def dense(weight: Array) -> Listed:
    """The synapses of ``y = weight x``, weight (out, in)."""
    pre, post = np.nonzero(weight.T)
    return pre, post, weight[post, pre].astype(np.float64)


def convolution(
    weight: Array,
    shape: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Listed:
    """Those of a cross-correlation over ``shape`` (c, h, w) with zero padding, weight (out, c / groups, kh, kw)."""
    _, h, w = shape
    rows, columns = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((h, w), weight.shape[2:], stride, padding, dilation, strict=True)
    )
    out, into, ky, kx = np.nonzero(weight)  # one row per tap, one column per place
    y, x = np.indices((rows, columns)).reshape(2, -1)
    top = y * stride[0] - padding[0] + (ky * dilation[0])[:, None]
    left = x * stride[1] - padding[1] + (kx * dilation[1])[:, None]
    inside = (top >= 0) & (top < h) & (left >= 0) & (left < w)
    channel = into + out // (len(weight) // groups) * weight.shape[1]
    pre = (channel[:, None] * h + top) * w + left
    post = out[:, None] * rows * columns + y * columns + x
    value = np.broadcast_to(weight[out, into, ky, kx, None].astype(np.float64), pre.shape)
    return pre[inside], post[inside], value[inside]


def identity(numbers: Array) -> Listed:
    """One synapse of weight 1 from each of these neurons to its own number."""
    return numbers, numbers, np.ones(len(numbers))


def copied(synapses: Listed, pre_size: int, post_size: int, copies: int) -> Listed:
    """The same synapses in each of ``copies`` copies of both groups, copy after copy."""
    pre, post, weight = synapses
    copy = np.arange(copies)[:, None]
    return (pre + pre_size * copy).ravel(), (post + post_size * copy).ravel(), np.tile(weight, copies)
