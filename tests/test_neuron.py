"""The neuron law: literal voltage series, and the same bits as SpikingJelly's nodes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate

from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, Tau
from neuro.surrogate import ATan, Rectangular, Sigmoid, Surrogate, Triangle

X = [0.5, 0.5, 1.5, 0.25]
"""Input of every series; all values below are exact in binary, so equality is equality."""

# (charge, reset, fires, threshold, v_reset) -> (spikes, potentials after reset); worked out by hand.
SERIES: dict[str, tuple[Law, list[int], list[float]]] = {
    # h = .5, 1 (fires at equality), 1.5 fires, .25
    "if >= zero": (Law(NoLeak()), [0, 1, 1, 0], [0.5, 0.0, 0.0, 0.25]),
    # h = .5, 1 (no), 2.5 fires, .25
    "if > zero": (Law(NoLeak(), fires=">"), [0, 0, 1, 0], [0.5, 1.0, 0.0, 0.25]),
    # h = .5, 1 fires -> 0, 1.5 fires -> .5, .75
    "if >= subtract": (Law(NoLeak(), reset="subtract"), [0, 1, 1, 0], [0.5, 0.0, 0.5, 0.75]),
    # h = .5, 1 (no), 2.5 fires -> 1.5, 1.75 fires -> .75
    "if > subtract": (Law(NoLeak(), reset="subtract", fires=">"), [0, 0, 1, 1], [0.5, 1.0, 1.5, 0.75]),
    # v0 = -1: h = -.5, 0, 1.5 fires -> -1, -.75
    "if reset to -1": (Law(NoLeak(), v_reset=-1.0), [0, 0, 1, 0], [-0.5, 0.0, -1.0, -0.75]),
    # tau 2, h = v + (x - v)/2: .25, .375, .9375, .59375; threshold .9375
    "lif decay >= zero": (Law(Tau(2.0), threshold=0.9375), [0, 0, 1, 0], [0.25, 0.375, 0.0, 0.125]),
    "lif decay > zero": (
        Law(Tau(2.0), threshold=0.9375, fires=">"),
        [0, 0, 0, 0],
        [0.25, 0.375, 0.9375, 0.59375],
    ),
    "lif decay >= subtract": (
        Law(Tau(2.0), threshold=0.5, reset="subtract"),
        [0, 0, 1, 0],
        [0.25, 0.375, 0.4375, 0.34375],
    ),
    # tau 2, h = v/2 + x: .5, .75, 1.875 fires, .25
    "lif >= zero": (Law(Tau(2.0, False)), [0, 0, 1, 0], [0.5, 0.75, 0.0, 0.25]),
    # threshold .75: fires at equality at the second step
    "lif >= zero at .75": (Law(Tau(2.0, False), threshold=0.75), [0, 1, 1, 0], [0.5, 0.0, 0.0, 0.25]),
    "lif > subtract at .75": (
        Law(Tau(2.0, False), threshold=0.75, reset="subtract", fires=">"),
        [0, 0, 1, 1],
        [0.5, 0.75, 1.125, 0.0625],
    ),
    # rest = v_reset = -1, v0 = -1: h = v - (v + 1)/2 + x: -.5, -.25, .875 fires at equality -> -1, -.75
    "lif to rest -1": (
        Law(Tau(2.0, False, -1.0), threshold=0.875, v_reset=-1.0),
        [0, 0, 1, 0],
        [-0.5, -0.25, -1.0, -0.75],
    ),
    # rate 1/4, h = v + (x - v)/4: .125, .21875, .5390625 fires, .0625
    "plif decay >= zero": (Law(Rate(0.25), threshold=0.5), [0, 0, 1, 0], [0.125, 0.21875, 0.0, 0.0625]),
    # rate 1/4, h = 3v/4 + x: .5, .875, 2.15625 fires -> 1.15625, 1.1171875 fires -> .1171875
    "plif > subtract": (
        Law(Rate(0.25, False), reset="subtract", fires=">"),
        [0, 0, 1, 1],
        [0.5, 0.875, 1.15625, 0.1171875],
    ),
    # h = 3v/4 + x: .5, .875, 2.15625 fires, .25
    "leaky >= zero": (Law(Leaky(0.75)), [0, 0, 1, 0], [0.5, 0.875, 0.0, 0.25]),
    # .5, .875 fires at equality (no), 2.15625 -> 1.28125, 1.2109375 fires -> .3359375
    "leaky > subtract": (
        Law(Leaky(0.75), threshold=0.875, reset="subtract", fires=">"),
        [0, 0, 1, 1],
        [0.5, 0.875, 1.28125, 0.3359375],
    ),
    # keeps nothing: h = x
    "leaky forgets": (Law(Leaky(0.0), threshold=0.5), [1, 1, 1, 0], [0.0, 0.0, 0.0, 0.25]),
    # keeps all: an integrator
    "leaky keeps": (Law(Leaky(1.0), reset="subtract"), [0, 1, 1, 0], [0.5, 0.0, 0.5, 0.75]),
    # i = i/2 + x: .5, .75, 1.875, 1.1875; h = 3v/4 + i: .5, 1.125 fires, 1.875 fires, 1.1875 fires
    "cuba >= zero": (Law(Decay(0.5, 0.75)), [0, 1, 1, 1], [0.5, 0.0, 0.0, 0.0]),
    # h = .5, 1.125 -> .125, 1.96875 -> .96875, 1.9140625 -> .9140625
    "cuba > subtract": (
        Law(Decay(0.5, 0.75), reset="subtract", fires=">"),
        [0, 1, 1, 1],
        [0.5, 0.125, 0.96875, 0.9140625],
    ),
}


def play(law: Law, x: Any) -> tuple[list[Any], list[Any]]:
    """Spikes and potentials of each step, ``x (T, ...)``."""
    state, spikes, potentials = law.initial(x[0]), [], []
    for now in x:
        s, state = law.step(state, now)
        spikes.append(s)
        potentials.append(state[0])
    return spikes, potentials


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("kind", ["numpy32", "numpy64", "torch32", "torch64"])
def test_literal_series(name: str, kind: str) -> None:
    law, spikes, potentials = SERIES[name]
    x: Any = np.array(X, np.float32 if kind.endswith("32") else np.float64).reshape(-1, 1)
    s, v = play(law, torch.from_numpy(x) if kind.startswith("torch") else x)
    assert [a.item() for a in s] == spikes
    assert [a.item() for a in v] == potentials
    assert s[0].dtype == v[0].dtype == (torch.from_numpy(x).dtype if kind.startswith("torch") else x.dtype)


def nodes() -> list[Any]:
    """Every supported node of SpikingJelly, all taus and resets."""
    made: list[Any] = []
    for v_reset in (0.0, -0.25, None):
        made.append((f"IF {v_reset}", neuron.IFNode(v_threshold=0.7, v_reset=v_reset)))
        made.append((f"CUBA {v_reset}", neuron.CUBALIFNode(0.3, 0.8, 0.9, v_reset)))
        for tau, decay in itertools.product((1.5, 2.0, 3.0, 10.0), (True, False)):
            made.append((f"LIF {tau} {decay} {v_reset}", neuron.LIFNode(tau, decay, 0.6, v_reset)))
            made.append((f"PLIF {tau} {decay} {v_reset}", neuron.ParametricLIFNode(tau, decay, 0.6, v_reset)))
    return [pytest.param(node, id=name) for name, node in made]


@pytest.mark.parametrize("node", nodes())
def test_same_bits_as_spikingjelly(node: Any) -> None:
    from export.from_torch import from_torch

    (name,) = [n for n, k in from_torch(node, (40,)).nodes.items() if k.kind == "spiking"]
    law = from_torch(node, (40,)).nodes[name].law  # type: ignore[union-attr]
    x = torch.randn(60, 8, 40, generator=torch.Generator().manual_seed(1)) * 2.0 + 0.8
    node.reset()
    with torch.no_grad():
        spikes, potentials = [], []
        for now in x:
            spikes.append(node(now))
            potentials.append(node.v)
        for given in (x, x.numpy()):
            s, v = play(law, given)
            rate = float(np.mean(np.asarray(torch.stack(spikes))))
            assert 0.005 < rate < 0.9
            np.testing.assert_array_equal(np.stack([np.asarray(a) for a in s]), torch.stack(spikes).numpy())
            np.testing.assert_array_equal(np.stack([np.asarray(a) for a in v]), torch.stack(potentials).numpy())


def test_leak_by_a_factor_decays_as_its_closed_form() -> None:
    """An impulse of 1, no spike: v = beta^t."""
    state = (np.zeros(1),)
    for t in range(60):
        state = Leaky(0.93).charge(state, np.array([float(t == 0)]))
        assert state[0].item() == pytest.approx(0.93**t, rel=1e-14)


def test_leak_by_a_factor_has_the_bits_of_snntorch() -> None:
    snn = pytest.importorskip("snntorch", reason="snnTorch is not installed: its Leaky is not compared")
    theirs = snn.Leaky(0.93, threshold=1.2, init_hidden=True, output=True, reset_mechanism="zero", reset_delay=False)
    law = Law(Leaky(0.93), 1.2, fires=">")
    x = torch.randn(60, 8, 40, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    state = law.initial(x[0])
    fired = 0.0
    for now in x:
        s, state = law.step(state, now)
        with torch.no_grad():
            their_s, their_v = theirs(now)
        assert torch.equal(s, their_s)
        assert torch.equal(state[0], their_v)
        fired += float(s.mean()) / len(x)
    assert 0.02 < fired < 0.9


@pytest.mark.parametrize("charge", [NoLeak(), Tau(3.0), Tau(3.0, False), Rate(0.3), Rate(0.3, False), Leaky(0.3)])
def test_canonical_form_is_the_law(charge: Any) -> None:
    a, b, k, rest = charge.canonical()
    x, v = np.random.default_rng(0).normal(size=(2, 100))
    np.testing.assert_allclose(charge.charge((v,), x)[0], b * v + k * x + (1 - b) * rest, atol=1e-12)
    assert a == 0.0


def test_canonical_form_of_two_stages() -> None:
    charge = Decay(0.5, 0.75)
    v, i, x = np.random.default_rng(0).normal(size=(3, 100))
    h, u = charge.charge((v, i), x)
    np.testing.assert_allclose(u, 0.5 * i + x)
    np.testing.assert_allclose(h, 0.75 * v + 0.5 * i + x)


@pytest.mark.parametrize("law", [law for law, *_ in SERIES.values()])
def test_dict_round_trip(law: Law) -> None:
    assert Law.from_dict(law.to_dict()) == law


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Tau(0.5), "Tau.tau: must be in"),
        (lambda: Tau(float("nan")), "Tau.tau: must be a finite number"),
        (lambda: Rate(1.5), "Rate.rate"),
        (lambda: Leaky(1.5), "Leaky.beta: must be in"),
        (lambda: Decay(1.5, 0.5), "Decay.current"),
        (lambda: Law(threshold=0.0), "Law.threshold: must be > 0"),
        (lambda: Law(threshold=True), "Law.threshold: must be a finite number"),
        (lambda: Law(reset="soft"), "Law.reset: must be 'zero' or 'subtract'"),  # type: ignore[arg-type]
        (lambda: Law(reset="subtract", v_reset=0.5), "Law.v_reset"),
        (lambda: Law(fires="="), "Law.fires"),  # type: ignore[arg-type]
        (lambda: Law(charge=2.0), "Law.charge"),  # type: ignore[arg-type]
        (lambda: Law.from_dict({"charge": {"kind": "izhikevich"}}), "'izhikevich' is unknown"),
        (lambda: Law.from_dict({"charge": {"kind": "tau", "speed": 1}}), "newer version"),
        (lambda: ATan(0.0), "ATan.alpha: must be positive"),
    ],
)
def test_bad_law_is_refused(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("mine", [ATan(), Sigmoid(), Triangle(), Rectangular()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("fires", [">=", ">"])
def test_surrogate_forward_is_the_comparison(mine: Surrogate, fires: Any) -> None:
    law = Law(fires=fires)
    over = torch.tensor([-1.0, -1e-45, -0.0, 0.0, 1e-45, 2.0])
    assert torch.equal(mine.of(law)(over), law.compare(over))
    assert law.compare(over).tolist() == ([0, 0, 1, 1, 1, 1] if fires == ">=" else [0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ATan(2.0), surrogate.ATan(2.0)),
        (Sigmoid(4.0), surrogate.Sigmoid(4.0)),
        (Rectangular(1.0), surrogate.Rect(1.0)),
        (Triangle(1.0), lambda x: surrogate.PiecewiseQuadratic(1.0)(x)),
    ],
    ids=["atan", "sigmoid", "rectangular", "triangle"],
)
def test_surrogate_slope_is_spikingjellys(mine: Surrogate, theirs: Any) -> None:
    x = torch.linspace(-1.9, 1.9, 1000, dtype=torch.float64)
    grads = []
    for f in (mine.of(Law()), theirs):
        over = x.clone().requires_grad_()
        f(over).sum().backward()
        grads.append(over.grad)
    torch.testing.assert_close(grads[0], grads[1], atol=1e-12, rtol=0)
    assert float(grads[0].max()) > 0.5
