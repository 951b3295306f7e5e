"""One training, batch by batch: what :func:`neuro.train.train` runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuro.batches import Augment, Batch, Source, batch_rng, fetched, torch_seed
from neuro.checkpoint import Within, copied, described, load, plain, random_state, save, set_random_state, sweep
from neuro.distributed import Processes
from neuro.evaluate import scored
from neuro.interrupts import Asked
from neuro.losses import Loss, Readout, gradients_scaled, total
from neuro.metrics import Metrics, Score, Training, right
from neuro.scale import Compiled, EarlyStop, Scale, in_float, precision
from neuro.schedules import Schedules

Method: TypeAlias = Callable[[nn.Module, Loss, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(model, loss, x (N, T, ...), y) -> (mean loss, what decides)``; see :mod:`neuro.methods`."""


@dataclass
class Run:
    """One call of :func:`neuro.train.train`."""

    model: nn.Module
    optim: torch.optim.Optimizer
    source: Source
    method: Method
    loss: Loss
    batch: int
    epochs: int
    seed: int
    schedule: Schedules
    augment: Augment | None
    device: torch.device
    scale: Scale
    among: Processes
    done: Training = field(default_factory=Training)
    within: Within = field(default_factory=Within)
    best: dict[str, Any] | None = None
    held: dict[str, Source] = field(default_factory=dict)
    stop: EarlyStop = field(default_factory=EarlyStop)
    target: float | None = None
    file: Path | None = None
    asked: Asked = field(default_factory=Asked)

    def __post_init__(self) -> None:
        self.parameters = [p for group in self.optim.param_groups for p in group["params"]]
        self.base = [float(group["lr"]) for group in self.optim.param_groups]
        self.readout: Readout = getattr(self.method, "readout", None) or total
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scale.amp is torch.float16)
        self.runs = Compiled(self.model) if self.scale.compile else self.model
        self.saved_s = time.monotonic()

    def about(self) -> dict[str, Any]:
        """What must be the same to go on to the same bits."""
        samples, _ = self.source.size(self.batch)
        schedule = self.schedule
        names = {k: described(v) for k, v in schedule.items()} if isinstance(schedule, Mapping) else described(schedule)
        scale = self.scale
        same = {"amp": str(scale.amp), "accumulate": scale.accumulate, "clip": scale.clip, "rates": self.base}
        return {
            **{"seed": self.seed, "epochs": self.epochs, "batch": self.batch, "samples": samples},
            **{"method": described(self.method), "schedule": str(names), "per_batch": scale.rate_per_batch, **same},
        }

    def begin(self, resume: bool) -> None:
        """Take up the checkpoint, and let all processes begin with the same weights."""
        if self.file is not None:
            if self.among.first:
                sweep(self.file)
            there = resume and self.file.exists()
            if sum(self.among.summed((there,), self.device)) not in (0, self.among.count):
                raise ValueError(f"checkpoint {self.file}: not every process sees it; put it where all do")
            if there:
                load(self.file, self.about(), self._take, self.device)
        self.among.share([*self.model.parameters(), *self.model.buffers()])

    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        done = self.done
        if self.within.batches:
            return False
        reached = self.target is not None and bool(done.test_accuracy) and done.test_accuracy[-1] >= self.target
        return done.epochs >= self.epochs or reached or ("valid" in self.held and self.stop.stops(done.valid))

    def epoch(self, metrics: Sequence[Metrics]) -> None:
        """Train one, or what is left of it; evaluate, write, save."""
        start, number = time.perf_counter(), self.done.epochs
        self._rate(number, self.epochs)
        self._batches(number)
        _tell(self.model, "after_epoch", number + 1, self.epochs)
        self.among.share(self.model.buffers())
        done, within = self.done, self.within
        done.loss.append(within.loss / within.seen)
        done.accuracy.append(within.right / within.seen)
        done.test_accuracy.append(self._score("test", right))
        done.valid.append(self._score("valid", self.stop.score))
        done.rate.append(float(self.optim.param_groups[0]["lr"]))
        done.seconds.append(time.perf_counter() - start)
        self.within = Within()
        if done.best_epoch == done.epochs:
            self.best = copied(self.model)
        if self.among.first:
            for place in metrics:
                place.epoch(done)
        self._save()
        if any(self.among.summed((self.asked.signal,), self.device)):
            self.asked.leave()

    def _score(self, name: str, score: Score) -> float:
        if name not in self.held:
            return math.nan
        return scored(self.model, self.held[name], score, readout=self.readout, among=self.among)

    def _batches(self, number: int) -> None:
        """The batches of an epoch from where it stands."""
        self.model.train()
        torch.manual_seed(torch_seed(self.seed, number, self.among.rank))
        _, count = self.source.size(self.batch)
        numbered = enumerate(self.source.epoch(self.seed, number, self.batch))
        for _ in islice(numbered, self.within.batches):
            pass
        if self.within.random:
            set_random_state(self.within.random[self.among.rank], self.device)
        rank, of, ahead = self.among.rank, self.among.count, self.scale.fetch_ahead
        for x, y in fetched(numbered, rank, of, lambda k, given: self._changed(number, k, given), ahead):
            if self.scale.rate_per_batch and count:
                self._rate(number * count + self.within.batches, self.epochs * count)
            self._batch(number, x.to(self.device), y.to(self.device))
            self._pause()
        if not self.within.seen:
            raise ValueError("data: gave no samples in this epoch; an iterable must run anew for each one")

    def _changed(self, number: int, k: int, given: Batch) -> Batch:
        """A batch as training gets it."""
        x, y = given
        if self.augment is not None and len(x):
            x, y = self.augment(x, y, batch_rng(self.seed, number, k, use=2 + self.among.rank))
        if not x.is_floating_point():
            raise ValueError(f"data: x must be floats, got {x.dtype}; encode it first (neuro.encode), or in augment")
        return x, y

    def _batch(self, number: int, x: Tensor, y: Tensor) -> None:
        """Gradients of all parts and processes, then one step."""
        self.optim.zero_grad()
        value, hits = self._gradients(x, y)
        seen, value, hits = self.among.summed((len(x), value, hits), self.device)
        if not math.isfinite(value):
            kept = f"{self.file} holds the last one kept" if self.file and (number or self.within.batches) else ""
            raise ValueError(
                f"train: loss is {value / seen} in epoch {number + 1}, batch {self.within.batches + 1}; lower the "
                f"learning rate or look for NaN in the data; {kept or 'no epoch is kept'}"
            )
        if self.among.count > 1:
            _scale_gradients(self.parameters, len(x) / seen)
            self.among.add_gradients(self.parameters)
        if self._learned():
            if self.scale.clip is not None:
                self.scaler.unscale_(self.optim)
                nn.utils.clip_grad_norm_(self.parameters, self.scale.clip)
            self.scaler.step(self.optim)
            self.scaler.update()
        _tell(self.model, "after_step")
        within = self.within
        within.batches, within.seen = within.batches + 1, within.seen + seen
        within.loss, within.right = within.loss + value, within.right + hits

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Of the mean loss over the rows here; returns summed loss and how many were right."""
        value, hits = 0.0, 0.0
        loss = self.loss if self.scale.amp is None else in_float(self.loss)
        parts = min(self.scale.accumulate, len(x))
        before = 1.0
        for xs, ys in zip(torch.tensor_split(x, parts or 1), torch.tensor_split(y, parts or 1), strict=True):
            if not len(xs):
                continue
            # a method adds the gradient of a part's mean: those before are weighed so that one factor ends it
            share = len(xs) / len(x)
            _scale_gradients(self.parameters, before / share)
            before = share
            with precision(self.scale.amp, self.device), gradients_scaled(self.scaler.scale) as scaling:
                mean, decided = self.method(self.runs, loss, xs, ys)
            if self.scaler.is_enabled() and not scaling.calls and self._learned():
                raise ValueError(
                    f"{type(self.method).__name__}: ran backward by itself, so float16 cannot scale its gradients; let "
                    "it call neuro.losses.backward, or use Scale(amp=torch.bfloat16)"
                )
            value += float(mean) * len(xs)
            hits += int((decided.argmax(1) == ys).sum())
        _scale_gradients(self.parameters, before)
        return value, hits

    def _learned(self) -> bool:
        """Whether there is any gradient."""
        return any(p.grad is not None for p in self.parameters)

    def _rate(self, done: int, whole: int) -> None:
        for group, lr in zip(self.optim.param_groups, self.base, strict=True):
            schedule = self.schedule
            if isinstance(schedule, Mapping):
                if group.get("name") not in schedule:
                    known = f"schedule has {', '.join(schedule)}"
                    raise ValueError(f"train: no schedule for the parameter group {group.get('name')!r}; {known}")
                schedule = schedule[group["name"]]
            group["lr"] = lr * schedule(done, whole)

    def _pause(self) -> None:
        """After a batch: write a checkpoint where it is time, stop where it is asked for."""
        if self.file is None:
            return
        every, every_s = self.scale.checkpoint_batches, self.scale.checkpoint_s
        due = every is not None and self.within.batches % every == 0
        late = every_s is not None and time.monotonic() - self.saved_s >= every_s
        stops, saves = self.among.summed((self.asked.signal, due or (late and self.among.first)), self.device)
        if stops or saves:
            self._save()
        if stops:
            self.asked.leave()

    def _save(self) -> None:
        if self.file is None:
            return
        within = plain(self.within)
        if self.within.batches:
            self.among.share(self.model.buffers())
            within["random"] = self.among.gathered(random_state(self.device), self.device)
        if self.among.first:
            content: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optim.state_dict()}
            content |= {"scaler": self.scaler.state_dict(), "best": self.best, "history": plain(self.done)}
            save(self.file, {**content, "within": within, "about": self.about()})
        self.among.wait()
        self.saved_s = time.monotonic()

    def _take(self, saved: dict[str, Any]) -> None:
        """Go on from what :func:`neuro.checkpoint.load` read."""
        within = Within(**saved["within"])
        if within.batches and len(within.random) != self.among.count:
            were = len(within.random)
            raise ValueError(f"it stands within an epoch of {were} process(es); go on with as many")
        self.model.load_state_dict(saved["model"])
        self.optim.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.done, self.within, self.best = Training(**saved["history"]), within, saved["best"]


def _scale_gradients(parameters: Sequence[nn.Parameter], factor: float) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    if factor != 1.0 and gradients:
        torch._foreach_mul_(gradients, factor)


def _tell(model: nn.Module, what: str, *args: int) -> None:
    """Call ``module.<what>(*args)`` of every module that has it: limits of parameters, schedules of its own."""
    for module in model.modules():
        if hasattr(module, what):
            getattr(module, what)(*args)
