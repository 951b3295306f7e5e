"""An integer program from nodes and connections: weights put on their grid, first steps given, placed, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, Edge, InputNode, LoihiProgram, Node, effective
from export.network import Loss
from export.place import layout, place
from hardware.loihi import load_profile


def assemble(
    nodes: Mapping[str, Node],
    edges: Sequence[Edge],
    output: str,
    *,
    dt_s: float = 1e-3,
    profile: str = "loihi1",
    chips: int | None = None,
    placement: Mapping[str, npt.NDArray[np.int32]] | None = None,
    name: str = "network",
    losses: Sequence[Loss] = (),
    source_hash: str = "",
    scale: Mapping[str, float] | None = None,
    law: Literal["lava", "hw"] = "lava",
    late: bool = True,
) -> LoihiProgram:
    """A checked program from nodes and connections written by hand: weights put on their grid, cores given.

    Populations with ``start`` 0 that a spike can reach start as many steps late as they are connections from the
    input; with ``late=False`` they keep it, and start with the first chip step as lava's do. Weights off the grid of
    their sign mode are stored as the chip would and named in ``losses``; those of convolutions only under ``law="hw"``,
    under "lava" they stay as they are. Errors: ``ProgramError``, ``CapacityError``.
    """
    placed = dict(nodes)
    for n, depth in _depth(nodes, edges).items() if late else ():
        node = placed[n]
        if not isinstance(node, InputNode) and node.start == 0:
            placed[n] = replace(node, start=depth)
    kept, lost = [], list(losses)
    for e in edges:
        legal, found = _legal(e, law)
        kept.append(legal)
        lost += found
    program = LoihiProgram(
        placed, kept, output, dt_s, profile, dict(placement or _anywhere(placed)), {}, tuple(lost), name, source_hash,
        dict(scale or {}), law,
    )  # fmt: skip
    program.check()
    chip = load_profile(profile)
    made = place(placed, kept, chip, chips) if placement is None else layout(placed, kept, placement, chip, chips)
    return replace(program, placement=made.placement, usage=made.usage)


def _legal(e: Edge, law: str) -> tuple[Edge, list[Loss]]:
    """The connection with the weights that run, and what that changed."""
    if e.w.size == 0:
        return e, []
    w = effective(e.w, e.sign_mode, e.num_weight_bits)
    size = float(np.abs(w.astype(np.int64) - e.w).max())
    if isinstance(e, ConvEdge) and law == "lava":
        lost = []
        if size:
            what = f"weights of the convolution from {e.src} run as they are, a chip would store others, largest change"
            lost.append(Loss(e.dst, what, size))
        if e.weight_exp:
            what = f"weight_exp of the convolution from {e.src} is ignored, as lava's Conv does; law='hw' applies it"
            lost.append(Loss(e.dst, what, float(e.weight_exp)))
        return e, lost
    if not size:
        return (e if e.w.dtype == np.int16 else replace(e, w=w)), []
    what = f"weights from {e.src} put on the {e.sign_mode} grid, largest change in weight units"
    return replace(e, w=w), [Loss(e.dst, what, size)]


def _anywhere(nodes: Mapping[str, Node]) -> dict[str, npt.NDArray[np.int32]]:
    return {n: np.zeros(int(np.prod(node.shape)), np.int32) for n, node in nodes.items()}


def _depth(nodes: Mapping[str, Node], edges: Sequence[Edge]) -> dict[str, int]:
    """Fewest connections from the input to each population that it reaches."""
    depth = {n: 0 for n, node in nodes.items() if isinstance(node, InputNode)}
    ring, k = list(depth), 0
    while ring:
        k += 1
        ring = list(dict.fromkeys(e.dst for e in edges if e.src in ring and e.dst in nodes and e.dst not in depth))
        depth |= dict.fromkeys(ring, k)
    return depth
