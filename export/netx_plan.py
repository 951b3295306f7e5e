"""An integer program seen as what a netx file can hold: a chain of layers, each refusal with its fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.loihi import (
    ConvEdge,
    Delta,
    DenseEdge,
    Edge,
    InputNode,
    Int,
    Lif,
    LoihiProgram,
    Population,
    ResonateFire,
    Sigma,
    SigmaDelta,
    SparseEdge,
    effective,
)
from export.netx_layers import DECAY_BITS, STATE_EXP, UnloadableError, loaded, shifted
from export.program import MappingError


@dataclass(frozen=True, eq=False)
class Step:
    """One layer: its population, what feeds it from the layer before, and from itself.

    ``conv``: or ``matrices`` (out, in) by port and ``delays`` (out, in) or None; ``recurrent`` (out, out) or None.
    """

    name: str
    node: Population
    conv: ConvEdge | None
    matrices: dict[str, Int]
    delays: Int | None
    recurrent: Int | None

    @property
    def image(self) -> bool:
        """Does the loader hold it as (W, H, C)?"""
        return self.conv is not None or (isinstance(self.node, Delta) and len(self.node.shape) == 3)


def chain(program: LoihiProgram) -> list[Step]:
    """The layers in order. Errors: ``MappingError`` for what is no chain, or a layer that netx cannot hold."""
    steps: list[Step] = []
    before = program.input
    while len(steps) < len(program.populations):
        after = [n for n in program.populations if n != before and any(e.src == before for e in program.into(n))]
        if len(after) != 1:
            where = f"feeds {' and '.join(after)}" if after else "feeds nothing"
            raise MappingError(
                f"{before}: {where}; netx holds one chain of layers from the input to the output: take the other "
                "populations out"
            )
        name = after[0]
        others = {e.src for e in program.into(name)} - {before, name}
        if others:
            raise MappingError(
                f"{name}: takes spikes from {before} and {', '.join(sorted(others))}; netx holds a chain of layers "
                "without residual paths: retrain without the skip connection"
            )
        steps.append(_step(program, name, before, first=not steps))
        before = name
    if before != program.output:
        raise MappingError(f"{program.output}: netx reads the last layer, which is {before}; take out what follows")
    return steps


def _step(program: LoihiProgram, name: str, before: str, first: bool) -> Step:
    node = program.populations[name]
    _law(name, node, first)
    edges = program.into(name)
    forward, loop = [e for e in edges if e.src == before], [e for e in edges if e.src == name]
    source = program.nodes[before]
    if isinstance(source, InputNode) and len({e.num_message_bits > 0 for e in forward}) > 1:
        raise MappingError(f"{name}: reads the input both as messages and as spikes; netx has one way for all")
    convs = [e for e in edges if isinstance(e, ConvEdge)]
    if convs:
        return _conv_step(program, name, node, edges, convs[0])
    matrices: dict[str, Int] = {}
    delays: Int | None = None
    for port in sorted({e.port for e in forward}):
        matrices[port], delays = matrix(program, name, [e for e in forward if e.port == port])
        if isinstance(node, ResonateFire) and delays is not None:
            raise MappingError(f"{name}: the loader drops the delays of a resonate-and-fire layer; take them out")
    recurrent = None
    if loop:
        recurrent = _recurrent(program, name, node, loop, delays, forward)
    step = Step(name, node, None, matrices, delays, recurrent)
    if isinstance(node, Delta):
        _identity(step, source)
    else:
        _loads(step)
    return step


def _law(name: str, node: Population, first: bool) -> None:
    """Refuses populations that no netx layer holds."""
    if isinstance(node, Lif):
        if node.reset != "zero":
            raise MappingError(f"{name}: reset 'subtract' is in no lava process; train with reset 'zero'")
        for what, state in (("u0", node.u0), ("v0", node.v0)):
            if state is not None and state.any():
                raise MappingError(
                    f"{name}: starts with {what} not 0, which netx cannot say; let the bias feed the voltage, or take "
                    "fitted() of export.to_netx, which drops it with a loss"
                )
    elif isinstance(node, SigmaDelta | Delta):
        if node.cum_error or (isinstance(node, SigmaDelta) and node.activation != "relu"):
            raise MappingError(f"{name}: the loader's sigma-delta has ReLU and no cum_error; train it so")
        if node.state_exp != STATE_EXP:
            raise MappingError(f"{name}: state_exp is {node.state_exp}, the loader's is {STATE_EXP}; scale to it")
        if isinstance(node, Delta) and (not first or len(node.shape) not in (1, 3)):
            raise MappingError(
                f"{name}: the loader has a delta encoder only as input layer, of shape (n,) or (c, h, w)"
            )
    elif isinstance(node, ResonateFire):
        if (node.decay_bits, node.state_exp) != (DECAY_BITS, STATE_EXP):
            raise MappingError(
                f"{name}: decay_bits {node.decay_bits} and state_exp {node.state_exp}, the loader has {DECAY_BITS} and "
                f"{STATE_EXP}; build it with these"
            )
    elif not isinstance(node, Sigma):
        raise MappingError(f"{name}: no netx layer is '{node.kind}'; use a LIF, sigma-delta or resonate-and-fire layer")


def _conv_step(program: LoihiProgram, name: str, node: Population, edges: list[Edge], conv: ConvEdge) -> Step:
    if len(edges) > 1:
        raise MappingError(f"{name}: a netx convolution is the only connection of its layer; lower it to dense")
    if isinstance(node, Delta | ResonateFire):
        raise MappingError(f"{name}: the loader has no convolution into '{node.kind}'; lower it to dense")
    if program.law == "hw" and (
        conv.weight_exp or (effective(conv.w, conv.sign_mode, conv.num_weight_bits) != conv.w).any()
    ):
        raise MappingError(f"{name}: law 'hw' shifts or cuts this convolution, the loader runs it raw; use law 'lava'")
    return Step(name, node, conv, {}, None, None)


def matrix(program: LoihiProgram, name: str, edges: Sequence[Edge]) -> tuple[Int, Int | None]:
    """``(weights, delays or None)``, both (out, in), that parallel dense and sparse connections amount to."""
    shape = program.size(name), program.size(edges[0].src)
    total, late, used = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
    for edge in edges:
        w, delays = _dense(edge, shape)
        scaled = shifted(w, edge.weight_exp)
        if edge.weight_exp < 0 and (scaled << -edge.weight_exp != w).any():
            raise MappingError(
                f"{edge.src} -> {name}: weight_exp {edge.weight_exp} leaves fractions of a weight, netx has none; "
                "compile with larger weights"
            )
        on = scaled != 0
        if (used & on & (late != delays)).any():
            raise MappingError(f"{edge.src} -> {name}: two synapses of a pair with unlike delays; netx has one a pair")
        total, late, used = total + scaled, np.where(on, delays, late), used | on
    return total, late if late[used].any() else None


def _dense(edge: Edge, shape: tuple[int, int]) -> tuple[Int, Int]:
    if isinstance(edge, DenseEdge):
        return edge.w.astype(np.int64), np.full(shape, edge.delay) if edge.delays is None else edge.delays
    if not isinstance(edge, SparseEdge):
        raise MappingError(f"{edge.src} -> {edge.dst}: is no dense or sparse connection")
    w, delays = np.zeros(shape, np.int64), np.full(shape, edge.delay)
    of = edge.of()
    w[edge.target, of] = edge.w
    if edge.delays is not None:
        delays[edge.target, of] = edge.delays
    return w, delays


def _recurrent(
    program: LoihiProgram, name: str, node: Population, loop: list[Edge], delays: Int | None, forward: list[Edge]
) -> Int:
    w, late = matrix(program, name, loop)
    if isinstance(node, ResonateFire | Delta):
        raise MappingError(f"{name}: the loader has no recurrent layer of '{node.kind}'; take the loop out")
    if delays is not None or late is not None:
        raise MappingError(
            f"{name}: the loader gives a recurrent layer's delays to both of its matrices and drops their exponent; "
            "keep delays to layers without a loop"
        )
    if node.graded and not forward[0].num_message_bits:
        raise MappingError(f"{name}: reads 0 and 1 but sends itself messages; give the input message bits")
    return w


def _identity(step: Step, source: Any) -> None:
    w = step.matrices["real"]
    if not isinstance(source, InputNode) or w.shape[0] != w.shape[1] or (w != np.eye(len(w), dtype=np.int64)).any():
        raise MappingError(
            f"{step.name}: the loader feeds its delta encoder directly; connect it to the input one to one, weight 1"
        )
    if step.delays is not None:
        raise MappingError(f"{step.name}: the loader feeds its delta encoder without delay; take it out")


def _loads(step: Step) -> None:
    """Refuses matrices that the loader would change."""
    if isinstance(step.node, ResonateFire):
        if set(step.matrices) != {"real", "imag"}:
            raise MappingError(
                f"{step.name}: the loader wants a connection to each of 'real' and 'imag'; add the other"
            )
        groups = [[w] for w in step.matrices.values()]
    else:
        groups = [[w for w in (step.matrices["real"], step.recurrent) if w is not None]]
    for parts in groups:
        try:
            same = all((a == b).all() for a, b in zip(loaded(parts), parts, strict=True))
            why = "the loader would store other ones (see export.netx_layers)"
        except UnloadableError as error:
            same, why = False, str(error)
        if not same:
            low, high = min(int(p.min()) for p in parts), max(int(p.max()) for p in parts)
            raise MappingError(
                f"{step.name}: weights from {low} to {high}: {why}; use even weights of both signs in -256..254, or "
                "where weight_exp made them large take fitted() of export.to_netx"
            )
