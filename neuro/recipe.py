"""Recipes: a whole training as a TOML file, checked before anything is loaded. No code in it, no key that is unknown.

    about, source, twin, seed      what it is, whose settings these are, the small one of its kind that runs anywhere
    [data] [model] [neuron] [method] [loss] [optimizer] [schedule] [train]        a ``kind`` and its options
    [[stage]]                      name, and what differs from the above in this stage: [stage.data], [stage.train] ...

A kind is a function of :mod:`neuro.recipe_parts`, or another module that :data:`KINDS` names; its keywords are the
options, their annotations and defaults the rules. Stages run one after the other on the same weights.
"""

from __future__ import annotations

import importlib
import inspect
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_PARTS = "neuro.recipe_parts"
KINDS: dict[str, dict[str, str]] = {
    "data": {
        **{k: f"neuro.recipe_data:{k}" for k in ("digits", "mnist_10k", "cifar10", "cifar100", "imagenet")},
        **{
            k: f"neuro.recipe_spikes:{k}" for k in ("nmnist", "dvs_cifar10", "dvs_gesture", "shd", "ssc", "gsc", "fsdd")
        },
    },
    "model": {
        kind: f"{_PARTS}:{kind}"
        for kind in ("vgg11_bn", "preact_resnet18", "nf_resnet", "mnist_conv", "vgg", "delay_net")
    },
    "neuron": {"law": f"{_PARTS}:law"},
    "method": {kind: f"{_PARTS}:{kind}" for kind in ("sltt", "bptt", "iir", "dcls")},
    "loss": {kind: f"{_PARTS}:{kind}" for kind in ("ce_mse", "spike_ce", "spike_mse", "cross_entropy")},
    "optimizer": {kind: f"{_PARTS}:{kind}" for kind in ("sgd", "adam", "adamw", "sgd_sai")},
    "schedule": {kind: f"{_PARTS}:{kind}" for kind in ("cosine", "constant", "milestones", "one_cycle")},
    "train": {"loop": f"{_PARTS}:loop"},
}
"""Section, kind, and ``module:function`` that makes it."""

DEFAULTS = {"neuron": "law", "train": "loop", "schedule": "cosine"}
"""Kinds of sections that need not say theirs."""

NEEDED = ("data", "model", "method", "train")
ALWAYS = ("schedule",)
"""Sections that are there with their defaults when a file leaves them out."""
TEXTS = ("about", "source", "twin")


@dataclass(frozen=True)
class Part:
    """One section as checked: ``make(**extra)`` calls its function with the options."""

    section: str
    kind: str
    options: Mapping[str, Any]

    def make(self, **extra: Any) -> Any:
        """What the function of this kind gives; ``extra`` goes beside the options."""
        return function(self.section, self.kind)(**self.options, **extra)


@dataclass(frozen=True)
class Stage:
    """One training: a name and all sections of it."""

    name: str
    parts: Mapping[str, Part]

    def __getitem__(self, section: str) -> Part:
        return self.parts[section]

    def get(self, section: str) -> Part | None:
        """The section, or None where the recipe has none."""
        return self.parts.get(section)


@dataclass(frozen=True)
class Recipe:
    """A training read from ``path``; ``stages`` has one entry at least."""

    name: str
    path: str
    about: str
    source: str
    twin: str
    seed: int
    stages: tuple[Stage, ...]

    @property
    def first(self) -> Stage:
        """The stage that names data and model of the whole."""
        return self.stages[0]

    def with_epochs(self, epochs: int) -> Recipe:
        """The same with so many epochs in each stage, and in what a method counts in epochs of its own."""

        def changed(part: Part) -> Part:
            counted = {k: epochs for k in part.options if k.endswith("epochs")}
            return replace(part, options={**part.options, **counted})

        stages = (Stage(s.name, {k: changed(p) for k, p in s.parts.items()}) for s in self.stages)
        return replace(self, stages=tuple(stages))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with every option that a default filled in."""
        stages = [
            {"name": s.name} | {k: {"kind": p.kind, **p.options} for k, p in s.parts.items()} for s in self.stages
        ]
        texts = {k: getattr(self, k) for k in ("name", *TEXTS)}
        return texts | {"seed": self.seed, "stages": stages}


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(f.name[:-5] for f in resources.files("neuro.recipes").iterdir() if f.name.endswith(".toml"))


def load(name: str | Path) -> Recipe:
    """A recipe of the package by name, or a file of one's own by its path, which ends in ``.toml``.

    Errors: ``ValueError`` naming the file, the key and what it may be.
    """
    text = str(name)
    if not text.endswith(".toml"):
        if text not in names():
            raise ValueError(f"no recipe '{text}'; there are {', '.join(names())}, or give the path of a .toml file")
        where = f"{text}.toml"
        return read((resources.files("neuro.recipes") / where).read_text(encoding="utf-8"), where)
    try:
        return read(Path(text).read_text(encoding="utf-8"), text)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{text}: cannot be read ({error}); give the path of a recipe in TOML") from None


def read(text: str, path: str) -> Recipe:
    """A recipe from TOML; ``path`` is for its name and for errors."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: is no TOML: {error}") from None
    allowed = (*TEXTS, "seed", "stage", *KINDS)
    _known(path, "", given, allowed)
    for key in TEXTS:
        if not isinstance(given.get(key, ""), str):
            raise ValueError(f"{path}: {key} must be a text, got {given[key]!r}")
    seed = given.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"{path}: seed must be a whole number from 0, got {seed!r}")
    base = {k: v for k, v in given.items() if k in KINDS}
    stages = tuple(_stage(path, base, s, k) for k, s in enumerate(_stage_tables(path, given)))
    if len({s.name for s in stages}) < len(stages):
        raise ValueError(f"{path}: stage names must differ, got {', '.join(s.name for s in stages)}")
    texts = {k: given.get(k, "") for k in TEXTS}
    return Recipe(Path(path).stem, path, **texts, seed=seed, stages=stages)


def function(section: str, kind: str) -> Callable[..., Any]:
    """What makes that kind."""
    module, name = KINDS[section][kind].split(":")
    made: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return made


def _stage_tables(path: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = given.get("stage", [{}])
    if not isinstance(tables, list) or not tables or not all(isinstance(s, dict) for s in tables):
        raise ValueError(f"{path}: stage must be tables, each headed [[stage]]")
    return tables


def _stage(path: str, base: Mapping[str, Any], own: Mapping[str, Any], k: int) -> Stage:
    at = f"stage {k + 1}." if own else ""
    _known(path, at, own, ("name", *(s for s in KINDS if s != "model")))
    name = own.get("name", f"stage{k + 1}")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{path}: {at}name must be a word of letters, digits and _, got {name!r}")
    parts = {}
    for section in KINDS:
        tables = [t for t in (base.get(section), own.get(section)) if t is not None]
        if not all(isinstance(t, dict) for t in tables):
            raise ValueError(f"{path}: {at}{section} must be a table, headed [{section}]")
        if tables:
            parts[section] = _part(path, f"{at}{section}", section, {k: v for t in tables for k, v in t.items()})
        elif section in ALWAYS:
            parts[section] = _part(path, section, section, {})
        elif section in NEEDED:
            raise ValueError(f"{path}: has no [{section}]; give it a kind of {', '.join(KINDS[section])}")
    return Stage(name, parts)


def _part(path: str, at: str, section: str, table: Mapping[str, Any]) -> Part:
    kind = table.get("kind", DEFAULTS.get(section))
    if kind not in KINDS[section]:
        raise ValueError(f"{path}: {at}.kind is {kind!r}; it may be {', '.join(KINDS[section])}")
    make = function(section, kind)
    rules = {
        n: p
        for n, p in inspect.signature(make).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and not n.startswith("_")
    }
    hints = get_type_hints(make)
    given = {k: v for k, v in table.items() if k != "kind"}
    _known(path, f"{at}.", given, tuple(rules))
    options = {}
    for name, rule in rules.items():
        if name in given:
            options[name] = _value(f"{path}: {at}.{name}", given[name], hints[name])
        elif rule.default is inspect.Parameter.empty:
            raise ValueError(f"{path}: {at}.{name} is missing; it is {_told(hints[name])}")
        else:
            options[name] = rule.default
    return Part(section, kind, options)


def _known(path: str, at: str, table: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in table:
        if key not in allowed:
            raise ValueError(f"{path}: {at}{key} is unknown; it may have {', '.join(allowed) or 'nothing'}")


def _value(what: str, value: Any, hint: Any) -> Any:
    """``value`` as ``hint`` has it. Errors: ``ValueError``."""
    if _fits(value, hint):
        return float(value) if hint is float else tuple(value) if isinstance(value, list) else value
    raise ValueError(f"{what} is {value!r}; it must be {_told(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint) and type(value) in {type(a) for a in get_args(hint)}
    if origin in (Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if origin is tuple:
        return isinstance(value, list) and all(_fits(v, get_args(hint)[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def _told(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(_told(h) for h in get_args(hint) if h is not type(None))
    if origin is tuple:
        return f"a list of {_told(get_args(hint)[0])}"
    said = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return said.get(hint, str(hint))
