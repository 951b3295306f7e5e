"""Reports: complete JSON, pages that load nothing and trust no name, no figure with more digits than its grade."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from export.network import Conv2d, Flatten, Input, Linear, Network, Output, Spiking
from export.package import PackageError
from hardware.energy import Span, price
from neuro.neuron import Law, Tau
from sim.report import MachineResult, Report, build_report, network_layers, page, report_runs, show
from sim.report.layers import layer_rows
from sim.report.svg import axis, raster, waveform
from sim.report.traces import MAX_ROWS, rasters, thin, waveforms
from sim.report.units import clean, fraction, given, share, si, span, whole
from sim.run import Run

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RNG = np.random.default_rng(0)


def network() -> Network:
    weight = RNG.normal(0, 1, (3, 1, 3, 3)).astype(np.float32)
    weight[0] = 0
    return Network.sequential(
        {
            "in": Input((1, 6, 6)),
            "conv": Conv2d(weight),
            "lif1": Spiking(Law(Tau(2.0))),
            "flat": Flatten(),
            "fc": Linear(np.ones((4, 48), np.float32)),
            "lif2": Spiking(Law(Tau(2.0))),
            "out": Output(),
        },
        name="small",
    )


def run(machine: str = "loihi", **changes: Any) -> Run:
    """Ten samples of eight steps; sample 0 is silent."""
    s1 = (RNG.random((10, 8, 3, 4, 4)) < 0.2).astype(np.int8)
    y = np.zeros((10, 8, 4), np.int8)
    y[1:, ::2, 1] = 1
    counts = {
        "spikes": {"in": 400, "lif1": int(s1.sum()), "lif2": int(y.sum())},
        "fired": {"lif1": int(s1.sum()), "lif2": int(y.sum())},
        "synaptic_events": {"lif1": 5000, "lif2": 4 * int(s1.sum())},
        "neuron_updates": {"lif1": 10 * 8 * 48, "lif2": 10 * 8 * 4},
        "messages": {"in": 400, "lif1": int(s1.sum())},
    }
    values: dict[str, Any] = {
        "machine": machine,
        "y": y,
        "counts": counts,
        "samples": 10,
        "steps": 8,
        "dt_s": 1e-3,
        "probes": {"lif1.s": s1, "labels": np.ones(10, np.int64)},
        "program": {
            "machine": "loihi",
            "hash": "c0ffee",
            "usage": {"cores": [2, 128]},
            "losses": [["conv", "weights rounded, largest error", 0.25]],
            "name": "small",
            "layers": network_layers(network()),
        },
        "machine_s": 1e-4,
        "wall_s": 0.5,
        "seed": 7,
        "notes": ("a note",),
    }
    return Run(**(values | changes))


class Page(HTMLParser):
    """Tags, attributes and text as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, k, v or "") for k, v in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(report: Report, width: int = 100) -> str:
    out = io.StringIO()
    show(report, Console(file=out, width=width))
    return out.getvalue()


def test_report_of_runs_has_every_part() -> None:
    reference, other = run("torch"), run("loihi")
    other.y = reference.y.copy()
    other.y[3, 1, 2] ^= 1
    other.probes["lif1.s"] = reference.probes["lif1.s"]
    report = report_runs([reference, other], title="Two", meta={"who": "me"})
    assert report.first_line.startswith("small; spikeport ")
    assert "energy: counts x loihi1_davies2018 [simulated] (loihi); not a measurement of this chip" in report.first_line
    torch, loihi = report.machines
    assert torch["bill"] is None
    assert loihi["agreement"]["spikes equal"] == [10 * 8 * 52 - 1, 10 * 8 * 52]
    assert loihi["agreement"]["decisions equal"] == [10, 10]
    assert loihi["agreement"]["accuracy"] == 0.9  # the silent sample decides for class 0
    assert loihi["agreement"]["first departure"] == "y"
    assert loihi["program"]["losses"] == [["conv", "weights rounded, largest error", 0.25]]
    assert loihi["counts"] == other.counts
    assert (loihi["seed"], loihi["samples"], loihi["steps"]) == (7, 10, 8)
    text = Page(page(report)).text
    for part in ("Two", report.first_line, "c0ffee", "weights rounded", "cores", "10.1109/MM.2018.112130359", "a note"):
        assert part in text, part
    assert "loihi1_davies2018" in shown(report)
    for told in (text, shown(report, 200)):
        assert re.search(r"power [\d.]+\s[nµm]?W over the modelled time", told)
        assert re.search(r"energy-delay product [\d.]+\s[yzafpn]?J s per inference", told)


def test_json_round_trip(tmp_path: Path) -> None:
    priced = run("loihi")
    report = report_runs([run("torch"), priced], title="Two")
    again = Report.load(report.save(tmp_path / "r"))
    assert again == report
    assert page(again) == page(report) == (tmp_path / "r" / "report.html").read_text()
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["report.html", "report.json"]
    assert again.bill(1) == price(priced.counts, "loihi1_davies2018", 1e-4)
    json.loads((tmp_path / "r" / "report.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "spikeport-report", "version": 1, "machines": [{}]}', "{"]
)
def test_broken_report_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(PackageError, match=r"report\.json.*make (it|the report) again"):
        Report.load(path)


def test_names_from_files_are_text(tmp_path: Path) -> None:
    evil = run(
        counts={"synaptic_events": {EVIL: 5}, EVIL: {"a": 1}, "spikes": {EVIL: 3}},
        notes=(EVIL,),
        versions={EVIL: EVIL},
        program={"name": EVIL, "hash": EVIL, "usage": {EVIL: [1, 2]}, "losses": [[EVIL, EVIL, 1.0]]},
        probes={f"{EVIL}.s": np.ones((2, 3, 4), np.int8), "time_s": np.arange(9.0), f"{EVIL}_V": np.arange(9.0)},
    )
    found = Page(page(report_runs([evil], title=EVIL, meta={EVIL: EVIL})))
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert not [a for a in found.attributes if a[1].startswith("on")]
    assert found.text.count("<script>alert(1)</script>") >= 8, "shown, as text"
    table = (Path(__file__).parent.parent / "hardware" / "profiles" / "price_truenorth.toml").read_text()
    mean = tmp_path / "price_mean.toml"
    mean.write_text(
        table.replace("P. A. Merolla et al.", "<script>x</script>").replace("10.1126/science.1254642", "javascript:x")
    )
    report = report_runs([run()], prices={"loihi": str(mean)})
    found = Page(page(report))
    assert "script" not in found.tags
    assert not [v for _, k, v in found.attributes if k == "href" and not v.startswith(("#", "https://doi.org/10."))]


def test_terminal_prints_what_could_be_control_codes() -> None:
    text = shown(report_runs([run(notes=())], title="\x1b[31mred[/] [bold]x"))
    assert "\x1b" not in text
    assert "[bold]x" in text


def test_page_loads_nothing() -> None:
    text = page(report_runs([run("torch"), run("loihi")]))
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(found.tags)
    assert not [a for a in found.attributes if a[1] in ("src", "srcset", "data", "poster", "xlink:href")]
    assert {t for t, k, _ in found.attributes if k == "href"} <= {"a"}
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_no_total_is_said_everywhere() -> None:
    counts = run().counts | {"moon_phases": {"lif1": 3}}
    report = report_runs([run(counts=counts)])
    assert report.machines[0]["bill"]["total_J"] is None
    for text in (Page(page(report)).text, shown(report)):
        assert "no total: unpriced moon_phases" in text
    assert json.loads(json.dumps(report.to_dict()))["machines"][0]["bill"]["unpriced"] == ["moon_phases"]


def test_parts_may_be_missing() -> None:
    bare = run(probes={}, program={}, machine_s=None, counts={}, notes=(), machine="unheard-of")
    report = report_runs([bare])
    assert report.machines[0]["waveforms"] == []
    assert report.machines[0]["rasters"][0]["node"] == "output"
    assert "energy: not priced" in report.first_line
    assert "–" in shown(report)
    assert "Waveforms" not in page(report)
    analog = run(probes={}, y=np.zeros((10, 8, 4), np.float32))
    assert report_runs([analog]).machines[0]["rasters"] == []


def test_estimates_carry_two_digits() -> None:
    report = report_runs([run()], prices={"loihi": "loihi2_scaled_uncertain"})
    for text in (Page(page(report)).text, shown(report, 200)):
        joules = [n.replace(".", "").lstrip("0") for n in re.findall(r"([\d.]+)\s[yzafpnµm]?J\b", text)]
        assert len(joules) > 10
        assert not [n for n in joules if len(n.rstrip("0")) > 2], joules
        assert "Warning: Loihi 2 has no public price" in text


def test_networks_are_not_compared_with_each_other() -> None:
    """Another output shape, another name, or other labels: another group."""
    small = run("torch")
    wide = run("sfq", y=np.ones((10, 8, 1), np.int8), counts={"slip_ic_nA": {"a": 5}, "bias_charge_nA_ps": {"a": 7}})
    wide.program = wide.program | {"name": "xor"}
    report = report_runs([small, wide, run("loihi")])
    assert [m["group"] for m in report.machines] == ["small", "small", "xor"]
    assert [m["title"] for m in report.machines] == ["torch", "loihi", "sfq"]
    assert "reference" not in report.machines[2]["agreement"]
    text = Page(page(report)).text
    assert "wall plug with refrigerator" in text
    assert "at 400 W/W" in text
    assert report.first_line.startswith("small, xor; ")
    unnamed = [run(m, program={}, y=y) for m, y in (("torch", small.y), ("sfq", wide.y))]
    assert [m["group"] for m in report_runs(unnamed, prices={"sfq": "truenorth"}).machines] == [
        "network 1",
        "network 2",
    ]
    twice = report_runs([run("loihi"), run("loihi")])
    assert [m["title"] for m in twice.machines] == ["loihi 1", "loihi 2"]


def test_prices_name_machines_that_ran() -> None:
    with pytest.raises(ValueError, match="prices for abacus: no such run; runs are on loihi"):
        report_runs([run()], prices={"abacus": "truenorth"})
    with pytest.raises(ValueError, match="no table 'nonsense'"):
        report_runs([run()], prices={"loihi": "nonsense"})
    with pytest.raises(ValueError, match="at least one result"):
        report_runs([])


def test_build_report_takes_a_network_and_labels() -> None:
    net, done = network(), run(program={})
    result = MachineResult(
        "loihi", "Loihi 1", done, bill=price(done.counts, "loihi1_sanafe"), agreement={"spikes equal": (3, 4)}
    )
    report = build_report(net, [result], title="T", labels=np.ones(10, np.int64))
    assert report.network is not None
    assert report.network["hash"] == net.hash()
    m = report.machines[0]
    assert m["agreement"] == {"spikes equal": [3, 4], "accuracy": 0.9}
    rows = {r["name"]: r for r in m["layers"]}
    assert rows["lif1"]["shape"] == [3, 4, 4]
    assert rows["lif1"]["rate"] == pytest.approx(done.counts["spikes"]["lif1"] / (10 * 8 * 48))
    assert rows["in"]["rate"] == pytest.approx(400 / (10 * 8 * 36))
    assert sum(r["energy_J"][1] for r in m["layers"]) == pytest.approx(m["bill"]["total_J"][1], rel=1e-12)
    assert net.hash() in page(report)


def test_layers_count_synapses_and_neurons() -> None:
    rows = {r["name"]: r for r in network_layers(network())}
    assert rows["fc"]["synapses"] == 4 * 48
    assert rows["conv"]["synapses"] == 2 * 9 * 16  # one of three kernels is zero
    assert rows["lif1"]["neurons"] == 48
    assert layer_rows(run(), None)[1]["neurons"] == 48, "from neuron_updates, without a network"


def test_raster_shows_every_kth_neuron_of_one_sample() -> None:
    s = np.zeros((2, 5, 3 * MAX_ROWS), np.int8)
    s[1, 2, 6] = s[1, 4, 7] = 1
    found = rasters(run(probes={"a.s": s}), sample=1)[0]
    assert (found["every"], found["spikes"], found["events"]) == (3, 2, [[2, 2]])
    assert report_runs([run()]).machines[0]["rasters"][0]["sample"] == 1, "sample 0 is silent"
    assert raster([[0, 0], [1, 2]], 3, 2).count("M") == 2


def test_waveform_thinning_keeps_pulses_and_ends() -> None:
    values = np.zeros(100_000)
    values[[31_337, 77_777]] = 1.0, -2.0
    keep = thin(values)
    assert len(keep) <= 602
    assert {0, 31_337, 77_777, 99_999} <= set(keep)
    t = np.linspace(0, 1e-9, 100_000)
    values[5] = np.nan
    probes = {
        "time_s": t,
        "out_V": np.stack([values, values]),
        "phase_rad": values,
        "odd": values[:7],
        "n": np.arange(100_000),
    }
    found = {w["name"]: w for w in waveforms(run(probes=probes))}
    assert {k: w["unit"] for k, w in found.items()} == {"out": "V", "phase": "rad"}
    assert max(v for v in found["out"]["values"] if v is not None) == 1.0
    assert "NaN" not in waveform([0.0, 1.0, 2.0], [1.0, None, 3.0], "V")
    json.dumps(report_runs([run(probes=probes)]).to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (184.2478e-9, 4, "184.2 nJ"),
        (184.2478e-9, 2, "180 nJ"),
        (999.96e-12, 4, "1.000 nJ"),
        (2.067e-18, 3, "2.07 aJ"),
        (2.5e-24, 2, "2.5 yJ"),
        (0.0, 3, "0 J"),
        (1.0, 2, "1.0 J"),
        (12_345.0, 3, "12.3 kJ"),
        (-3e-3, 2, "-3.0 mJ"),
    ],
)
def test_si(value: float, digits: int, text: str) -> None:
    assert si(value, "J", digits) == text


def test_small_texts() -> None:
    assert si(None, "J") == si(float("nan"), "J") == "–"
    assert given(81e-12, "J", 4) == "81 pJ"
    assert given(400, "W/W", 2) == "400 W/W"
    assert given(100e-12, "J", 3) == "100 pJ"
    assert span(Span(1e-9, 1e-9, 1e-9), "J") == ""
    assert span(Span(1e-9, 2e-9, 3e-9), "J", 2) == "1.0 nJ to 3.0 nJ"
    assert (fraction(0.99999), fraction(1.0), fraction(0.5)) == ("<100 %", "100 %", "50 %")
    assert (share(1, 100_000), share(1, 3), share(1, 0), share(0, 5)) == ("<0.1 %", "33 %", "–", "0.0 %")
    assert clean(f"a\x07b{whole(1234)}") == "a\N{REPLACEMENT CHARACTER}b1 234"


def test_axis_is_whole_decades() -> None:
    scale = axis([Span(2e-9, 5e-9, 4e-7)], 0.0, 300.0)
    assert (scale.first, scale.last) == (-9, -6)
    assert scale.at(1e-8) == pytest.approx(100.0)
    assert scale.at(0.0) == 0.0
    assert axis([], 0.0, 1.0).last > axis([], 0.0, 1.0).first
    assert len(axis([Span(1e-21, 1e-9, 1.0)], 0.0, 1.0).ticks()) <= 9
