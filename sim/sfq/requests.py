"""What a deck asks to print: ``.print``, ``.plot`` and ``.save`` lines in all of JoSIM's forms.

    DEVV x | DEVI x | DEVP x | PHASE x | NODEV a [b] | NODEP a [b]
    V(x) V(a,b) I(x) C(x) P(x) P(a,b)    @x[v] @x[c] @x[i] @x[p]    x#branch

Names may be written ``B1.X1`` or ``B1|X1``. Source: JoSIM RelevantTrace.cpp; docs/sfq.md 1.9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sim.sfq.errors import NOWHERE, DeckError, Where
from sim.sfq.lines import Line, split_outside

_CALL = re.compile(r"^([VICP])\(\s*([^\s,()]+)\s*(?:[,\s]\s*([^\s,()]+)\s*)?\)$")
_AT = re.compile(r"^@([^\[\]]+)\[([VCIP])\]$")
_WORDS = {"DEVV": "V", "DEVI": "I", "DEVP": "P", "PHASE": "P", "NODEV": "V", "NODEP": "P"}


@dataclass(frozen=True)
class Request:
    """One trace: ``quantity`` is V, I or P; ``second`` is the other node of a difference; ``file`` as in ``.file``."""

    quantity: str
    first: str
    second: str
    where: Where
    file: str = ""

    @property
    def label(self) -> str:
        """JoSIM's column name, ``P(B1|X1)`` or ``V(1,2)``."""
        return f"{self.quantity}({self.first}{',' + self.second if self.second else ''})"


def parse_request(text: str, where: Where, file: str = "") -> Request:
    """One request in the bracket, @ or #branch form. Raises DeckError for any other."""
    text = text.upper().replace(".", "|")
    if m := _CALL.match(text):
        quantity = "I" if m[1] == "C" else m[1]
        if quantity == "I" and m[3]:
            raise DeckError(where, text, "a current between two names", "ask for the current of one element: I(R1)")
        return Request(quantity, m[2], m[3] or "", where, file)
    if m := _AT.match(text):
        return Request("I" if m[2] == "C" else m[2], m[1], "", where, file)
    if text.endswith("#BRANCH"):
        return Request("I", text.removesuffix("#BRANCH"), "", where, file)
    raise DeckError(where, text, "not an output request", "write V(node), V(a,b), P(B1), I(L1) or DEVV/DEVI/PHASE name")


def parse_print(line: Line, file: str = "") -> list[Request]:
    """The requests of a ``.print``/``.plot``/``.save`` line. Raises DeckError."""
    fields = [f for f in split_outside(line.text, " \t")[1:] if f not in ("TRAN", "ALL")]
    if not fields:
        if line.text.lstrip(".").startswith("SAVE"):
            return []
        raise DeckError(line.where, line.text, "asks for nothing", "name a trace: .print P(B1)")
    if fields[0] not in _WORDS:
        return [parse_request(f, line.where, file) for f in fields]
    names = [f.replace(".", "|") for f in fields[1:]]
    nodes = fields[0] in ("NODEV", "NODEP")
    if not 1 <= len(names) <= (2 if nodes else 1):
        raise DeckError(
            line.where, line.text, f"{fields[0]} with {len(names)} names", "one device, or one or two nodes, a line"
        )
    return [Request(_WORDS[fields[0]], names[0], names[1] if len(names) > 1 else "", line.where, file)]


def every_node(nodes: tuple[str, ...]) -> list[Request]:
    """The phases of all nodes but ground: what JoSIM prints of a deck that asks for nothing."""
    return [Request("P", name, "", NOWHERE) for name in nodes[1:]]
