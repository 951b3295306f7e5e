"""Price tables and bills: the worked example, nothing charged twice, no total without a price."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.energy import Bill, Span, digits, price, without_input
from hardware.prices import PriceTableError, load_prices
from hardware.tables import GRADES, PROFILES, list_tables, load_table

PRICES = sorted(p.stem.removeprefix("price_") for p in PROFILES.glob("price_*.toml"))

# 20-12-4 neurons, 30 steps, three cores on two tiles: SANA-FE 2.2.9 was run on this network
WORKED = {
    "spikes": {"in": 160, "hidden": 178, "out": 76},
    "fired": {"hidden": 178, "out": 76},
    "synaptic_events": {"hidden": 160 * 12, "out": 178 * 4},
    "neuron_updates": {"hidden": 360, "out": 120},
    "messages": {"in": 160, "hidden": 178},
    "hops_ns": {"hidden": 178},
    "hops_ew": {"hidden": 0},
}

TABLE = """
title = "prices: test"
version = 3
scope = "per-term"

[[row]]
event = "synaptic_events"
value = 2e-12
low = 1e-12
high = 4e-12
unit = "J"
grade = "measured"
source = "paper"

[[exempt]]
event = "messages"
within = "synaptic_events"
reason = "part of it"

[[separate]]
name = "idle"
value = 0.5
unit = "W"
grade = "estimate"
source = "paper"

[sources.paper]
authors = "A. Author"
title = "A title"
venue = "A venue"
year = 2020
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "price_test.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("table", "total_nJ"),
    [
        ("loihi1_sanafe", 184.2478),
        ("loihi1_davies2018", 102.2818),
        ("keras_spiking_legacy", 110.2072),
        ("cmos45_ac_only", 2.3688),
        ("truenorth", 2632 * 0.026),
    ],
)
def test_worked_example(table: str, total_nJ: float) -> None:
    bill = price(WORKED, table)
    assert bill.total_J is not None
    assert bill.total_J.typical * 1e9 == pytest.approx(total_nJ, rel=1e-12)
    assert not bill.unpriced
    assert not bill.uncounted


def test_sanafe_terms_are_those_of_the_simulator() -> None:
    energy = {t.event: t.energy_J.typical * 1e9 for t in price(WORKED, "loihi1_sanafe").terms}
    assert energy["synaptic_events"] == pytest.approx(93.436, rel=1e-9)
    assert energy["neuron_updates"] + energy["fired"] == pytest.approx(52.5462, rel=1e-9)
    assert energy["messages"] + energy["hops_ns"] + energy["hops_ew"] == pytest.approx(38.2656, rel=1e-9)


def test_active_and_inactive_replace_the_sum() -> None:
    split = WORKED | {
        "neuron_updates_active": {"hidden": 300},
        "neuron_updates_inactive": {"hidden": 60, "out": 120},
    }
    bill = price(split, "loihi1_davies2018")
    neurons = sum(t.energy_J.typical for t in bill.terms if t.event.startswith("neuron"))
    assert neurons * 1e9 == pytest.approx(300 * 0.081 + 180 * 0.052)
    assert bill.exempt["neuron_updates"] == "charged as neuron_updates_active and neuron_updates_inactive"
    legacy = price(split, "keras_spiking_legacy")
    assert legacy.total_J == price(WORKED, "keras_spiking_legacy").total_J


def test_the_same_work_is_charged_once() -> None:
    dense = {
        "macs": {"fc": 1000},
        "acs": {"fc": 200},
        "elementwise_ops": {"lif": 50},
        "weight_bytes": {"fc": 4000},
    }
    dense |= {"activation_bytes": {"fc": 80}, "spikes": {"lif": 9}}
    bill = price(dense, "cmos45_horowitz2014")
    assert bill.total_J is not None
    # a MAC is one fp32 multiply and one add; 20 pJ for 8 bytes out of 32 KB
    assert bill.total_J.typical * 1e12 == pytest.approx(1000 * (3.7 + 0.9) + 50 * (0.9 + 3.7) / 2 + 4080 * 20 / 8)
    assert bill.total_J.low * 1e12 == pytest.approx(4600 + 50 * 0.9 + 4080 * 10 / 8)
    assert bill.total_J.high * 1e12 == pytest.approx(4600 + 50 * 3.7 + 4080 * 100 / 8)
    assert "acs" in bill.exempt
    paper = price(dense | {"effective_macs": {"first": 10}}, "cmos45_ac_only")
    assert paper.total_J is not None
    assert paper.total_J.typical * 1e12 == pytest.approx(200 * 0.9 + 10 * 4.6)
    assert any("memory traffic" in c for c in paper.caveats)
    assert (
        price(dense | {"synaptic_events": {"fc": 200}}, "cmos45_ac_only").total_J
        == price(dense, "cmos45_ac_only").total_J
    )


def test_no_total_without_a_price() -> None:
    bill = price(WORKED, "cmos45_horowitz2014")
    assert bill.total_J is None
    assert bill.per_sample(5) is None
    assert "synaptic_events" in bill.unpriced
    assert bill.no_total().startswith("no total: unpriced")
    nothing = price({"spikes": {"a": 3}}, "truenorth")
    assert nothing.total_J is None
    assert "counted nothing that truenorth prices" in nothing.no_total()


def test_exemption_ends_where_its_cost_is_not_charged() -> None:
    """acs are free inside macs; without macs they are unpriced, not free."""
    assert price({"acs": {"fc": 200}, "elementwise_ops": {"a": 1}}, "cmos45_horowitz2014").unpriced == ("acs",)


def test_what_the_run_does_not_count_is_said() -> None:
    bill = price({"synaptic_events": {"a": 5}, "neuron_updates": {"a": 2}}, "loihi1_sanafe")
    assert bill.uncounted == ("fired", "messages")
    assert any("fired, messages" in c for c in bill.caveats)


def test_sfq_flux_quantum_and_wall_plug() -> None:
    h, e = 6.62607015e-34, 1.602176634e-19  # exact in the SI since 2019
    counts = {
        "slip_ic_nA": {"n": 100_000},
        "bias_charge_nA_ps": {"n": 1_000_000},
        "junction_switchings": {"n": 1},
    }
    rsfq, ersfq = price(counts, "sfq_rsfq"), price(counts, "sfq_ersfq")
    assert rsfq.total_J is not None
    assert ersfq.total_J is not None
    assert ersfq.total_J.typical == pytest.approx(1e5 * 1e-9 * h / (2 * e), rel=1e-9)  # 100 uA: 0.207 aJ
    assert ersfq.total_J.typical == pytest.approx(0.207e-18, rel=2e-3)
    assert ersfq.total_J.high == pytest.approx(2 * ersfq.total_J.typical)
    static = rsfq.total_J.typical - ersfq.total_J.typical
    assert static == pytest.approx(2.5e-3 * 1e6 * 1e-9 * 1e-12)  # V x A x s
    (wall,) = rsfq.separate
    assert wall.energy_J is not None
    assert wall.energy_J == pytest.approx([rsfq.total_J[0] * 300, rsfq.total_J[1] * 400, rsfq.total_J[2] * 1000])
    assert wall.grade == "unverified"


def test_idle_power_needs_a_time_and_stays_out_of_the_total(tmp_path: Path) -> None:
    table = write(tmp_path, TABLE)
    counts = {"synaptic_events": {"a": 10}, "messages": {"a": 2}}
    without, timed = price(counts, table), price(counts, table, seconds=2.0)
    assert without.separate[0].energy_J is None
    assert timed.separate[0].energy_J == (1.0, 1.0, 1.0)
    assert timed.total_J == without.total_J == pytest.approx((1e-11, 2e-11, 4e-11))


def test_loihi2_is_loihi1_times_an_interval() -> None:
    one, two = price(WORKED, "loihi1_davies2018"), price(WORKED, "loihi2_scaled_uncertain")
    assert one.total_J is not None
    assert two.total_J is not None
    assert two.total_J.low == pytest.approx(0.1 * one.total_J.low)
    assert two.total_J.high == pytest.approx(one.total_J.high)
    assert two.grade == "estimate"
    assert two.caveats[0].startswith("Warning: Loihi 2 has no public price")


def test_host_input_can_be_left_out() -> None:
    inside = without_input(WORKED, "in")
    bill = price(inside, "loihi1_sanafe")
    assert bill.total_J is not None
    assert bill.total_J.typical * 1e9 == pytest.approx(184.2478 - 160 * 0.111)
    assert inside["spikes"] == WORKED["spikes"]


@pytest.mark.parametrize(
    ("active", "soma_nJ"),
    [
        ("all", 480 * 0.081),
        ("fired", 254 * 0.081 + 226 * 0.052),
        ("input", 300 * 0.081 + 180 * 0.052),
        ("state", 400 * 0.081 + 80 * 0.052),
    ],
)
def test_which_updates_are_active_is_a_choice_that_the_bill_tells(active: str, soma_nJ: float) -> None:
    counts = WORKED | {
        "neuron_updates_active": {"hidden": 340, "out": 60},
        "neuron_updates_inactive": {"hidden": 20, "out": 60},
        "neuron_updates_input": {"hidden": 260, "out": 40},
    }
    bill = price(counts, "loihi1_davies2018", active=active)
    assert bill.total_J is not None
    rest = 2632 * 0.0236 + 338 * 0.0017 + 178 * 0.004
    assert bill.total_J.typical * 1e9 == pytest.approx(rest + soma_nJ, rel=1e-12)
    assert any(c.startswith(f"Active updates ('{active}')") for c in bill.caveats)
    assert price(counts, "loihi1_sanafe", active=active).total_J == price(WORKED, "loihi1_sanafe").total_J
    assert counts["neuron_updates_active"] == {"hidden": 340, "out": 60}  # left as they were


def test_every_neuron_active_is_the_worked_example() -> None:
    total = price(WORKED, "loihi1_davies2018", active="all").total_J
    assert total is not None
    assert total.typical * 1e9 == pytest.approx(102.2818, rel=1e-12)
    with pytest.raises(ValueError, match=r"active='input': the run does not count neuron_updates_input; .*with_input"):
        price(WORKED, "loihi1_davies2018", active="input")
    with pytest.raises(ValueError, match="active must be one of state, all, input, fired, got 'some'"):
        price(WORKED, "loihi1_davies2018", active="some")


def test_kinds_of_connections_are_priced_apart_where_a_table_does() -> None:
    kinds = {"synaptic_events_dense": {"out": 700, "hidden": 1000}, "synaptic_events_sparse": {"out": 12}}
    counts = WORKED | kinds | {"synaptic_events_conv": {"hidden": 920}}
    bill = price(counts, "loihi1_sanafe")
    assert bill.total_J is not None
    synapse = 1700 * 35.5 + 12 * 33.6 + 920 * 24.0
    assert bill.total_J.typical * 1e12 == pytest.approx(184247.8 - 2632 * 35.5 + synapse, rel=1e-12)
    assert bill.exempt["synaptic_events"].startswith("charged as synaptic_events_dense and")
    for table in ("loihi1_davies2018", "truenorth", "cmos45_ac_only", "keras_spiking_legacy"):
        assert price(counts, table).total_J == price(WORKED, table).total_J
    assert price(counts, "loihi1_davies2018").exempt["synaptic_events_conv"] == "part of synaptic_events"


def test_what_is_part_of_a_priced_event_needs_no_exemption(tmp_path: Path) -> None:
    counts = {"synaptic_events": {"a": 10}, "synaptic_events_dense": {"a": 10}, "messages": {"a": 2}}
    counts |= {"chip_messages": {"a": 1}, "payload_bytes": {"a": 4}}
    bill = price(counts, write(tmp_path, TABLE))
    assert bill.total_J == pytest.approx((1e-11, 2e-11, 4e-11))
    assert not bill.unpriced
    alone = price({"payload_bytes": {"a": 4}, "synaptic_events": {"a": 1}}, write(tmp_path, TABLE))
    assert alone.unpriced == ("payload_bytes",)


@pytest.mark.parametrize(
    ("table", "nJ"),
    [
        ("odin", 2632 * 12.7e-3),
        ("darwin3", 2632 * 5.47e-3),
        ("truenorth", 2632 * 26e-3),
        ("spinnaker", 2632 * 13.3 + 480 * 26),
        ("spinnaker2", 2632 * 0.45 + 480 * 2.19),
        ("cmos45_int8", None),
        ("arm_cortex_a", None),
    ],
)
def test_other_machines_on_the_worked_example(table: str, nJ: float | None) -> None:
    """All-in prices are never added to others; a table without a price for what was counted has no total."""
    bill = price(WORKED, table)
    if nJ is None:
        assert bill.total_J is None
        assert "messages" in bill.unpriced
        return
    assert bill.scope == "all-in"
    assert bill.total_J is not None
    assert bill.total_J.typical * 1e9 == pytest.approx(nJ, rel=1e-12)
    assert {t.event for t in bill.terms} <= {"synaptic_events", "neuron_updates"}


def test_int8_arithmetic_of_horowitz() -> None:
    bill = price({"macs": {"fc": 1000}, "acs": {"fc": 10}, "dram_bytes": {"fc": 8}}, "cmos45_int8")
    assert bill.total_J is not None
    assert bill.total_J.typical * 1e12 == pytest.approx(1000 * (0.2 + 0.03) + (1300 + 2600) / 2)
    assert bill.total_J.low * 1e12 == pytest.approx(230 + 1300)
    assert bill.total_J.high * 1e12 == pytest.approx(1000 * (0.2 + 0.1) + 2600)


def test_power_and_energy_delay_product() -> None:
    bill = price(WORKED, "loihi1_sanafe", seconds=40e-6)
    figures = bill.figures(samples=2, steps=15)
    assert figures["per_sample_J"].typical == pytest.approx(92.1239e-9)
    assert figures["per_step_J"].typical == pytest.approx(92.1239e-9 / 15)
    assert figures["latency_s"] == 20e-6
    assert figures["power_W"].typical == pytest.approx(184.2478e-9 / 40e-6)
    assert figures["edp_Js"].typical == pytest.approx(92.1239e-9 * 20e-6)
    untimed = price(WORKED, "loihi1_sanafe").figures(1, 30)
    assert (untimed["latency_s"], untimed["power_W"], untimed["edp_Js"]) == (None, None, None)
    unpriced = price(WORKED, "cmos45_horowitz2014", seconds=1.0).figures(1, 30)
    assert {unpriced[k] for k in ("per_sample_J", "per_step_J", "power_W", "edp_Js")} == {None}
    low, typical, high = price(WORKED, "loihi2_scaled_uncertain", seconds=2.0).power_W or (0, 0, 0)
    assert 0 < low < typical < high


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 10**12), min_size=1), st.integers(1, 99))
def test_nodes_and_samples_add_up(nodes: dict[str, int], samples: int) -> None:
    bill = price({"synaptic_events": nodes, "neuron_updates": nodes}, "loihi1_davies2018")
    assert bill.total_J is not None
    for k in range(3):
        assert sum(s[k] for s in bill.by_node().values()) == pytest.approx(bill.total_J[k], rel=1e-12)
    each, step = bill.per_sample(samples), bill.per_step(samples, 7)
    assert each is not None
    assert step is not None
    assert each.typical * samples == pytest.approx(bill.total_J.typical, rel=1e-12)
    assert step.typical * 7 == pytest.approx(each.typical, rel=1e-12)
    assert bill.total_J.low <= bill.total_J.typical <= bill.total_J.high


def test_bill_survives_json() -> None:
    for table in PRICES:
        bill = price(WORKED, table, seconds=1e-3)
        assert Bill.from_dict(json.loads(json.dumps(bill.to_dict()))) == bill
    with pytest.raises(ValueError, match="price the run again"):
        Bill.from_dict({"table": "x"})


@pytest.mark.parametrize("count", [1.5, -1, True, "3"])
def test_counts_must_be_integers(count: object) -> None:
    with pytest.raises(ValueError, match=r"counts\['synaptic_events'\]\['a'\]: must be an integer >= 0"):
        price({"synaptic_events": {"a": count}}, "truenorth")  # type: ignore[dict-item]  # no integer


def test_every_shipped_table_loads_and_cites() -> None:
    assert len(PRICES) >= 15
    for name in PRICES:
        table = load_prices(name)
        assert table.prices
        assert table.caveats
        for row in (*table.prices.values(), *table.separate):
            assert row.grade in GRADES
            assert len(table.sources[row.source].cite()) > 40
    assert dict(list_tables())["sfq_rsfq"].startswith("prices: RSFQ")
    assert load_table("loihi1_davies2018").value("messages") == 1.7e-12


def test_assumptions_are_graded_vague() -> None:
    """What the literature does not say plainly may carry two digits at most."""
    for name in ("loihi2_scaled_uncertain", "sfq_rsfq", "sfq_ersfq", "keras_spiking_legacy"):
        assert all(digits(row.grade) == 2 for row in load_prices(name).prices.values())
    assert digits("measured") == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'source = "paper"\n\n[[exempt]]',
            'source = "lost"\n\n[[exempt]]',
            r"row 'synaptic_events': source 'lost'.*add \[sources.lost\]",
        ),
        ('grade = "measured"\n', "", "row 'synaptic_events': has no grade; add grade"),
        (
            'source = "paper"\n\n[[exempt]]',
            "\n[[exempt]]",
            "row 'synaptic_events': has no source; add source",
        ),
        ('"measured"', '"certain"', "grade 'certain' is unknown; use one of measured"),
        ("low = 1e-12", "low = 3e-12", "needs low <= value <= high"),
        ('unit = "J"', 'unit = "pJ"', 'unit must be "J", got "pJ"; convert'),
        ("value = 2e-12", 'value = "2"', "value must be a finite number"),
        ("value = 2e-12", "value = nan", "value must be a finite number"),
        ("low = 1e-12", "low = -1e-12", "price must be >= 0"),
        ('"per-term"', '"some"', "scope must be one of"),
        ('"per-term"', '"all-in"', "needs scope_reason"),
        ("version = 3", "", "integer version"),
        ('event = "messages"', 'event = "synaptic_events"', "is priced as well"),
        ('within = "synaptic_events"', 'within = "macs"', "within 'macs', which has no price"),
        ('reason = "part of it"', "", "needs event and reason"),
        ("year = 2020", "", "source 'paper' needs authors, title, venue and year"),
        ("[[row]]", "[[row", "must be a TOML file"),
        ('unit = "W"', 'unit = "V"', 'separate line is >= 0 in "W"'),
    ],
)
def test_bad_tables_say_where_and_what_to_do(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    path = write(tmp_path, TABLE.replace(old, new, 1))
    with pytest.raises(PriceTableError, match=message) as error:
        load_prices(path)
    assert "price_test.toml" in str(error.value)


def test_unknown_table_names_the_known() -> None:
    for name in ("loihi3", "../tables", "nowhere.toml"):
        with pytest.raises(PriceTableError, match=r"there are .*truenorth|no such file"):
            load_prices(name)


def test_numbers_stand_in_tables_with_a_source() -> None:
    """The files themselves, past our reader: every table of prices cites each of its rows."""
    for path in PROFILES.glob("price_*.toml"):
        data = tomllib.loads(path.read_text())
        for row in data.get("row", [data.get("scaled")]):
            assert row["source"] in data["sources"], path


def test_span_orders() -> None:
    assert Span(1, 2, 3).scaled(Span(2, 3, 4)) == (2, 6, 12)
