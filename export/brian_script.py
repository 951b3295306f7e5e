"""A Brian 2 model as a script that needs numpy and brian2 alone: one statement per group and projection.

Names of nodes come from files of others, so they enter the text as ASCII literals only; numbers as ``repr`` of
floats; equations from :mod:`export.brian_model`, which takes nothing else from the network.
"""

from __future__ import annotations

import inspect

from export import brian_synapses
from export.brian_links import Projection, window
from export.brian_model import Group, Model
from export.network import AvgPool2d, Conv1d, Delay, DelayedLinear, Linear, Network, SumPool2d

HEAD = '''"""A spiking network as Brian 2 equations, written by spikeport. Run it, read it, change it.

    python <this file> input.npz out.npz

input.npz: x (samples, T, {shape}). out.npz: y (samples, T, {out}), and spikes "<node>.s" of every spiking node.
Weights lie in the .brian.npz beside this script. Needs numpy and brian2 {{version}} or newer.

A step of the network is one dt. All of it happens in Brian's slot "groups"; order puts one group after the other:
10 k and 10 k + 1 charge, 10 k + 2 threshold, 10 k + 3 reset, 10 k + 4 synapses that start at group k. So a spike
reaches the groups behind it in its own step; a projection back to an earlier group, which had its turn, is read one
step later, so its delay here is one dt less than in the network.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from brian2 import Network, NeuronGroup, SpikeMonitor, StateMonitor, Synapses, TimedArray, prefs, second

prefs.codegen.target = "numpy"  # a compiler with -ffast-math would change last bits
prefs.codegen.loop_invariant_optimisations = False  # keeps the order of operations, and with it the last bits

Array = np.ndarray
Listed = tuple[Array, Array, Array]
DT = {dt!r} * second
BATCH = ({synapses}, {values})  # synapses and input values that samples side by side may take
SYNAPSES = {count}  # of one sample
INPUT_SHAPE = {input_shape!r}
OUTPUT_SHAPE = {output_shape!r}
'''

BODY = '''

def group(name, size, order, constants, equations, update, events, reset=None, method=None):
    """A NeuronGroup that takes its turn at this order."""
    events = dict(events)
    made = NeuronGroup(
        size,
        equations,
        method=method,
        threshold=events.pop("spike", None),
        reset=reset,
        events=events,
        namespace=constants,
        dt=DT,
        name=name,
    )
    made.state_updater.when, made.state_updater.order = "groups", order
    made.run_regularly(update, when="groups", order=order + 1)
    for event in made.events:
        made.set_event_schedule(event, "groups", order + 2)
    for resetter in made.resetter.values():
        resetter.when, resetter.order = "groups", order + 3
    return made


def project(src, dst, synapses, on_pre, event, delay, order):
    """Synapses with these weights that deliver at this order."""
    pre, post, weight = synapses
    made = Synapses(src, dst, "w : 1", on_pre=on_pre, on_event=event, dt=DT)
    made.pre.when, made.pre.order = "groups", order + 4
    made.connect(i=pre, j=post)
    made.w = weight
    made.pre.delay = delay * DT
    return made


def simulate(x, weights):
    """x (samples, T, ...), samples side by side: y and the spikes of each node."""
    copies, steps = x.shape[:2]
    stimulus = TimedArray(x.swapaxes(0, 1).reshape(steps, -1), dt=DT)
    groups, synapses = {}, []
'''

TAIL = '''
    spikes = {name: SpikeMonitor(groups[name]) for name in SPIKING}
    trace = [] if OUTPUT in SPIKING else [StateMonitor(groups[OUTPUT], "value", record=True, when="end", dt=DT)]
    Network(*groups.values(), *synapses, *spikes.values(), *trace).run(steps * DT, namespace={})

    found = {}
    for name, monitor in spikes.items():
        fired = np.zeros((steps, groups[name].N), np.int8)
        fired[np.rint(monitor.t / DT).astype(int), monitor.i] = 1
        found[name + ".s"] = fired.reshape(steps, copies, *SPIKING[name]).swapaxes(0, 1)
    y = np.asarray(trace[0].value).T.reshape(steps, copies, -1).swapaxes(0, 1) if trace else found[OUTPUT + ".s"]
    return {"y": y.reshape(copies, steps, *OUTPUT_SHAPE)} | found


def main(source, target):
    """Run x of the file source; write the file target."""
    with np.load(source, allow_pickle=False) as file:
        x = file["x"].astype(np.float64)
    if x.shape[2:] != INPUT_SHAPE or 0 in x.shape:
        raise SystemExit(f"{source}: x must be (samples, T, *{INPUT_SHAPE}), got {x.shape}")
    with np.load(Path(__file__).with_suffix(".brian.npz"), allow_pickle=False) as file:
        weights = {name: file[name] for name in file.files if not name.endswith(".json")}
    at_once = max(1, min(BATCH[0] // max(1, SYNAPSES), BATCH[1] // x[0].size))
    parts = [simulate(x[k : k + at_once], weights) for k in range(0, len(x), at_once)]
    np.savez_compressed(target, **{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python " + Path(__file__).name + " input.npz out.npz")
    main(sys.argv[1], sys.argv[2])
'''
VERSION = "2.9"


def script(network: Network, model: Model, names: dict[str, str], sizes: list[int], batch: tuple[int, int]) -> str:
    """The script's text; ``names``: Brian's names, ``sizes``: synapses per projection, ``batch``: limits."""
    shapes = network.shapes()
    spiking = {n: shapes[n] for n, g in model.groups.items() if g.spiking}
    head = HEAD.format(
        shape=", ".join(map(str, shapes[network.input])),
        out=", ".join(map(str, shapes[network.output])),
        dt=float(network.dt_s),
        synapses=batch[0],
        values=batch[1],
        count=sum(sizes),
        input_shape=shapes[network.input],
        output_shape=shapes[network.output],
    ).replace("{version}", VERSION)
    head += f"OUTPUT = {model.output!a}\nSPIKING = {spiking!a}\n"
    functions = (brian_synapses.dense, brian_synapses.convolution, brian_synapses.identity, brian_synapses.copied)
    parts = [head, *(f"\n\n{inspect.getsource(f).rstrip()}\n" for f in functions), BODY]
    for name, group in model.groups.items():
        parts.append(_group(group, names[name], name == network.input))
    parts.append("\n    # synapses, in order of delivery\n")
    for projection, size in zip(model.projections, sizes, strict=True):
        if size:  # Brian has no empty Synapses
            parts.append(_projection(network, model, projection))
    return "".join([*parts, TAIL])


def _group(group: Group, name: str, stimulated: bool) -> str:
    constants = ", ".join(f"{k!r}: {float(v)!r}" for k, v in group.constants.items())
    if stimulated:
        constants = "'stimulus': stimulus"
    key = f"groups[{group.name!a}]"
    reset = f", reset={group.reset!r}" if "spike" in group.events else ""
    lines = [
        f"\n    # {group.name!a}: {group.note}",
        f"{key} = group({name!r}, {group.size} * copies, {group.order}, {{{constants}}},",
        f"    equations={_text(group.equations)},",
        f"    update={_text(group.update)},",
        f"    events={group.events!r}{reset}{', method=' + repr('euler') if group.ode else ''})",
    ]
    if group.start:
        lines.append(f"{key}.v = {group.start!r}")
    if group.bias is not None:
        lines += [f"{key}.bias = np.tile({_bias(group)}, copies)", f"{key}.x = {key}.bias"]
    if group.scale is not None:
        scale = f"weights[{f'{group.name}.scale'!a}]"
        lines.append(f"{key}.scale = np.tile({scale}.astype(np.float64).ravel(), copies)")
    return "\n    ".join(lines) + "\n"


def _text(lines: str) -> str:
    """Equations as a string over several lines."""
    return "\n".join(['"""', *(" " * 12 + line for line in lines.split("\n")), " " * 8 + '"""'])


def _bias(group: Group) -> str:
    terms = [f"np.repeat(weights[{f'{n}.bias'!a}].astype(np.float64), {each})" for n, each in group.biases]
    return " + ".join(terms)


def _projection(network: Network, model: Model, p: Projection) -> str:
    src, dst = model.groups[p.src], model.groups[p.dst]
    made, delay = f"identity(np.arange({src.size}))", repr(p.delay)
    node = None if p.by is None else network.nodes[p.by]
    if isinstance(node, Delay):
        steps = f"weights[{f'{p.by}.steps'!a}].ravel()"
        if p.only is None:
            delay = f"np.tile({steps}{f' {p.delay:+d}' if p.delay else ''}, copies)"
        else:
            made = f"identity(np.flatnonzero({steps} == {p.only}))"
    elif isinstance(node, DelayedLinear):
        weight, late = (f"weights[{f'{p.by}.{k}'!a}]" for k in ("weight", "delays"))
        if p.only is None:
            made, waits = f"dense({weight})", f"{late}.T[{weight}.T != 0].astype(int)"
            delay = f"np.tile({waits}{f' {p.delay:+d}' if p.delay else ''}, copies)"
        else:
            made = f"dense(np.where({late} == {p.only}, {weight}, 0.0))"
    elif node is not None:
        made = _weights(network, p)
    note = f"{ascii(p.by) if p.by else 'one to one'}{f', later by {p.steps}' if p.steps else ''}"
    return "\n    ".join(
        [
            f"    # {note}",
            f"synapses.append(project(groups[{p.src!a}], groups[{p.dst!a}],",
            f"    copied({made}, {src.size}, {dst.size}, copies),",
            f"    {p.effect!r}, event={p.event!r}, delay={delay}, order={src.order}))\n",
        ]
    )


def _weights(network: Network, p: Projection) -> str:
    node = network.nodes[str(p.by)]
    stored = f"weights[{f'{p.by}.weight'!a}]"
    if isinstance(node, Linear):
        return f"dense({stored})"
    weight, *rest = window(network, p)
    of = f"{stored}[:, :, None]" if isinstance(node, Conv1d) else stored
    if isinstance(node, AvgPool2d | SumPool2d):
        of = f"np.ones({weight.shape})"
    return f"convolution({of}, {', '.join(map(repr, rest))})"
