"""Decks with random slips: each is read or refused with a DeckError, soon, and what is read has a sound circuit."""

from __future__ import annotations

import random
import re
import time
import warnings
from pathlib import Path

import pytest
from sfq_decks import EVERYTHING

from sim.sfq import Circuit, DeckError, loads
from sim.sfq.deck_text import flat
from sim.sfq.sanity import findings

GOLDEN = Path(__file__).parent / "golden" / "sfq"
LONGEST_S = 2.0
SCRAPS = re.split(
    r"\s+",
    """0 1 2 -1 1e9 1e-30 1e400 gnd GND2 {a+1} {( (2) ) ' = == a= =b ic=1,2 ic= area=-1 temp=4 neb=0 spread=9 + - * /
    ^ , ; $ pwl( ) pwl(0 pulse(0 1 0 0 0 0 0) sin() exp(1) cus(w.dat noise(1 dc ac .subckt .ends .param .model .tran
    .print .file .include .temp .spread .iv .margin .mc .measure .control .endc .end .option jj( jj) CPR={ {} x1 X1 |
    B1|X1 . .. # \x00 é""",
)


def slip(text: str, rng: random.Random) -> str:
    """The text with one thing done to it that fingers do."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    words = lines[at].split(" ")
    word = rng.randrange(len(words))
    kind = rng.randrange(9)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif kind == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        del words[word]
        lines[at] = " ".join(words)
    elif kind in (4, 5):
        words[word] = rng.choice(SCRAPS)
        lines[at] = " ".join(words)
    elif kind == 6:
        words.insert(word, rng.choice(SCRAPS))
        lines[at] = " ".join(words)
    elif kind == 7 and lines[at]:
        letter = rng.randrange(len(lines[at]))
        lines[at] = lines[at][:letter] + rng.choice("(){}=+-.,*|XB01 \t") + lines[at][letter + rng.randrange(2) :]
    else:
        lines[at] = "+" + lines[at]
    return "\n".join(lines)


def read(text: str, folder: Path | None) -> Circuit | DeckError:
    """The circuit, or why there is none; anything but a DeckError comes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return loads(text, base_dir=folder).flatten()
        except DeckError as error:
            return error


def outcome(text: str, folder: Path) -> str:
    """``read`` or ``refused``; what is read must survive a look and its own text."""
    started = time.monotonic()
    made = read(text, folder)
    if isinstance(made, DeckError):
        assert made.rule
        assert made.fix
        assert f"{made.file}:{made.line}: " in str(made)
        return "refused"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(findings(loads(text, base_dir=folder), made), list)
    again = read(flat(made), folder)
    assert not isinstance(again, DeckError), str(again)
    assert sorted(again.nodes) == sorted(made.nodes)
    assert time.monotonic() - started < LONGEST_S, text
    return "read"


@pytest.mark.parametrize("seed", range(8))
def test_slips_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    (tmp_path / "w.dat").write_text("1 2 3\n")
    cells = (GOLDEN / "cells.inc").read_text()
    texts = [EVERYTHING, cells + (GOLDEN / "tb_inv.cir").read_text().replace(".include cells.inc", "")]
    rng = random.Random(seed)
    seen = {"read": 0, "refused": 0}
    for count in range(300):
        text = texts[count % 2]
        for _ in range(rng.randint(1, 4)):
            text = slip(text, rng)
        seen[outcome(text, tmp_path)] += 1
    assert min(seen.values()) > 30


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f".subckt s{k} a" for k in range(5000)) + "\nR1 a 0 {p}",
        ".param " + " ".join(f"p{k}=p{k + 1}+1" for k in range(20000)) + " p20000=1\nR1 1 0 p0",
        "\n".join(f".param p{k}=p{k + 1}" for k in range(20000)) + "\nR1 1 0 1",
        "I1 0 1 pwl(0 0" + "\n+ 1p 0" * 50000 + ")\nR1 1 0 1",
        "R1 1 0 " + "(" * 100000,
        "R1 1 0 {" + "1+" * 100000 + "1}",
        ".model m jj(" + "cpr={" * 20000,
        "R1 1 0 1\n" + "K1 L1 L1 0\n" * 2000,
        "X1 " + "a " * 200000,
        ".subckt a b\nX1 a b\nX2 a b\n.ends\nX1 a b",
        "R1 1 0 1" + " =" * 50000,
    ],
)
def test_nothing_hangs(text: str) -> None:
    started = time.monotonic()
    made = read(text, None)
    assert made.fix if isinstance(made, DeckError) else made.where
    assert time.monotonic() - started < 5.0
