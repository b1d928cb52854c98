"""The one training loop.

A method brings modules, optimisers over the parameters it wants trained, and a step function that turns a
batch into a loss; device, precision, seeds, threads, progress, early stop, resuming and the checks are here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from offnominal.core.errors import OffnominalError
from offnominal.core.progress import track
from offnominal.core.seeds import generator
from offnominal.nets.arrays import load_arrays, to_arrays
from offnominal.nets.batches import Batches
from offnominal.nets.devices import fabric, torch_threads
from offnominal.nets.schedules import Schedule, constant
from offnominal.nets.seeding import seeded
from offnominal.nets.training_state import Arrays, TrainingFolder, pack_optimiser, unpack_optimiser

Step = Callable[[Any], torch.Tensor]

CHECK_STEPS = 20
SAVE_SECONDS = 20.0


class TrainingFailed(OffnominalError, RuntimeError):
    """A training that cannot come to anything: a loss that is not finite, weights that do not move."""


@dataclasses.dataclass
class History:
    """What happened in a training.

    Attributes
    ----------
    steps : int
        Batches taken.
    losses : list of dict
        Mean loss of each epoch, by the name of its step.
    validation : list of float
        The criterion each time it was taken.
    best_epoch : int or None
        Epoch (from 0) whose weights were kept, where there is a criterion.
    """

    steps: int = 0
    losses: list[dict[str, float]] = dataclasses.field(default_factory=list)
    validation: list[float] = dataclasses.field(default_factory=list)
    best_epoch: int | None = None


def train(
    models: nn.Module | Mapping[str, nn.Module],
    step: Step | Mapping[str, Step],
    batches: Batches,
    optimiser: Optimizer | Mapping[str, Optimizer],
    *,
    epochs: int | None = None,
    steps: int | None = None,
    schedule: Schedule = constant,
    every: Mapping[str, int] | None = None,
    clip: float | None = None,
    validate: Step | None = None,
    held_out: Iterable[Any] = (),
    patience: int | None = None,
    validate_every: int = 1,
    frozen: Sequence[nn.Module] = (),
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    label: str = "Training",
) -> History:
    """Train modules in place.

    Parameters
    ----------
    models : module, or dict of modules by name
        What is trained. Their mode (``train()``, ``eval()``) is left as it comes, part by part, so a part put
        in evaluation mode keeps its batch statistics. After training all are on the CPU, in evaluation mode.
    step : callable, or dict of callables by name
        ``step(batch)`` returns the loss, a tensor with one number. Several steps are for adversaries: they
        take turns on each batch, in the dict's order, and each moves the parameters of the optimiser of its
        name and no others.
    batches : Batches
        What `batches.minibatches` makes. Arrays in a batch become tensors on the device.
    optimiser : Optimizer, or dict of them by the names of the steps
        Made over the parameters to train; parameters in none stay as they are.
    epochs, steps : int
        How long: exactly one of the two. ``steps`` counts batches.
    schedule : callable, default constant
        Factor on the learning rates by the share of steps done; see `schedules`.
    every : dict of int, optional
        Steps that take only each so-many-th batch: ``{"generator": 5}`` for five critic steps to one.
    clip : float, optional
        Norm that the gradients of an optimiser, taken together, are shortened to.
    validate : callable, optional
        ``validate(batch)`` returns a number, lower is better; run in evaluation mode without gradients. Its
        mean over ``held_out`` is the criterion, and the weights of the best epoch are kept.
    held_out : iterable of batches
        *Normal items held out of training, and nothing else*: no label takes part in choosing an epoch. Gone
        through anew for each validation.
    patience : int, optional
        Stop when the criterion has not improved this many times in a row. Needs ``validate``.
    validate_every : int, default 1
        Epochs from one validation to the next; the last epoch always has one.
    frozen : sequence of modules
        Modules that steps use and that do not learn: put on the device, in evaluation mode, their parameters
        without gradients; not saved.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"fp32", "bf16"}
        See `devices.fabric`.
    seed : int, default 0
        The order of batches and every random draw in a step depend on it. On a CPU with the same number of
        threads, weights come out equal to the bit.
    checkpoint : path, optional
        Folder of this training on these data. Progress is kept there, at most every 20 seconds, at the end of
        an epoch: after a kill the same call goes on there, to the same weights as without. A finished
        training is not repeated: its weights are read.
    label : str
        What progress calls it, a verb first.

    Returns
    -------
    History

    Raises
    ------
    TrainingFailed
        A loss is not finite; a parameter of an optimiser got no gradient in the first epoch; no weight moved.
    ValueError
        Arguments that do not fit together.

    Notes
    -----
    Under ``torchrun`` each process takes every n-th batch and gradients are averaged, so a step counts for n
    batches; ``validate`` is computed by the first process.
    """
    named = dict(models) if isinstance(models, Mapping) else {"model": models}
    stepping = dict(step) if isinstance(step, Mapping) else {"loss": step}
    moving = dict(optimiser) if isinstance(optimiser, Mapping) else {"loss": optimiser}
    turns = dict.fromkeys(stepping, 1) | dict(every or {})
    _check(stepping, moving, turns, epochs, steps, patience, validate, held_out)
    with torch_threads():
        engine = fabric(device, precision)
        per_epoch = math.ceil(batches.per_epoch / engine.world_size)
        total = steps if steps is not None else per_epoch * cast(int, epochs)
        loop = _Loop(engine, named, stepping, moving, turns, schedule, clip, total, frozen)
        loop.validate, loop.held_out = validate, held_out
        facts = {
            "state": [[name, list(value.shape)] for name, value in _state(named)],
            "optimisers": [[name, type(each).__name__, _settings(each)] for name, each in moving.items()],
            "run": [seed, total, per_epoch, turns, clip, precision, patience, validate_every],
        }
        folder = TrainingFolder(checkpoint, facts) if checkpoint is not None else None
        try:
            loop.enter()
            loop.run(batches, per_epoch, seed, folder, patience, validate_every, label)
        finally:
            loop.leave()
    return loop.history


def _check(
    stepping: dict[str, Step],
    moving: dict[str, Optimizer],
    turns: dict[str, int],
    epochs: int | None,
    steps: int | None,
    patience: int | None,
    validate: Step | None,
    held_out: Iterable[Any],
) -> None:
    if set(stepping) != set(moving) or set(turns) != set(stepping):
        raise ValueError(
            f"steps {sorted(stepping)}, optimisers {sorted(moving)} and turns {sorted(turns)} must go by the "
            "same names"
        )
    if (epochs is None) == (steps is None) or (epochs or steps or 0) < 1:
        raise ValueError(f"give epochs or steps, at least 1: got epochs={epochs}, steps={steps}")
    if isinstance(held_out, Iterator):
        raise ValueError(
            "held_out is gone through once for each validation: give a sequence, not an iterator"
        )
    if patience is not None and validate is None:
        raise ValueError("patience needs validate, a criterion on normal items held out of training")


def _state(named: Mapping[str, nn.Module]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, module in named.items():
        for key, value in module.state_dict().items():
            yield f"{name}/{key}", value


def _settings(optimiser: Optimizer) -> list[dict[str, str]]:
    return [{k: str(v) for k, v in group.items() if k != "params"} for group in optimiser.param_groups]


@dataclasses.dataclass
class _Loop:
    """One training: its parts, and where it stands."""

    engine: Fabric
    models: dict[str, nn.Module]
    steps: dict[str, Step]
    optimisers: dict[str, Optimizer]
    turns: dict[str, int]
    schedule: Schedule
    clip: float | None
    total: int
    frozen: Sequence[nn.Module]
    validate: Step | None = None
    held_out: Iterable[Any] = ()
    history: History = dataclasses.field(default_factory=History)
    epoch: int = 0
    best: float = math.inf
    waited: int = 0
    finished: bool = False
    kept: Arrays = dataclasses.field(default_factory=dict)

    def enter(self) -> None:
        """Move everything to the device, and remember rates and first weights."""
        for module in (*self.models.values(), *self.frozen):
            module.to(self.engine.device)
        for module in self.frozen:
            module.eval().requires_grad_(False)
        self.rates = {
            name: [group["lr"] for group in optimiser.param_groups]
            for name, optimiser in self.optimisers.items()
        }
        self.names = {
            id(parameter): f"{name}.{key}"
            for name, module in self.models.items()
            for key, parameter in module.named_parameters()
        }
        self.first = {name: [p.detach().clone() for p in self._moved(name)] for name in self.optimisers}
        self.reached: set[int] = set()
        self.tried: set[str] = set()
        if any(id(p) not in self.names for name in self.optimisers for p in self._moved(name)):
            raise ValueError("an optimiser has a parameter that is in none of the models")

    def leave(self) -> None:
        """Back to the CPU, ready to infer; rates as they were."""
        for name, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate
        for module in self.models.values():
            module.zero_grad()
            module.cpu().eval()
        for module in self.frozen:
            module.cpu()

    def run(
        self,
        batches: Batches,
        per_epoch: int,
        seed: int,
        folder: TrainingFolder | None,
        patience: int | None,
        validate_every: int,
        label: str,
    ) -> None:
        if folder is not None and (found := folder.load()) is not None:
            self._unpack(*found)
        ticks = cast("Generator[int]", track(range(self.history.steps, self.total), label=label))
        with contextlib.closing(ticks):
            saved = time.monotonic()
            while not self.finished:
                drawn = batches.draw(self.epoch, generator(seed, "batches", str(self.epoch)))
                with seeded(seed, "epoch", str(self.epoch), str(self.engine.global_rank)):
                    left = min(per_epoch, self.total - self.history.steps)
                    self._go_through(islice(self._mine(drawn), left), left, ticks)
                self._check_moved()
                self.epoch += 1
                self.finished = self.history.steps >= self.total
                if self.validate is not None and (self.finished or self.epoch % validate_every == 0):
                    self._judge(seed)
                    self.finished |= patience is not None and self.waited >= patience
                due = self.finished or time.monotonic() - saved >= SAVE_SECONDS
                if folder is not None and due and self.engine.is_global_zero:
                    folder.store(*self._pack())
                    saved = time.monotonic()
        if self.kept:
            self._put(self.kept)

    # ---------------------------------------------------------------- an epoch

    def _mine(self, drawn: Iterable[Any]) -> Iterator[Any]:
        """Batches of this process; one that comes up short at the end of an epoch takes the last again."""
        size, rank = self.engine.world_size, self.engine.global_rank
        if size == 1:
            yield from drawn
            return
        group: list[Any] = []
        for batch in drawn:
            group.append(batch)
            if len(group) == size:
                yield group[rank]
                group = []
        if group:
            yield group[min(rank, len(group) - 1)]

    def _go_through(self, drawn: Iterable[Any], expected: int, ticks: Iterator[int]) -> None:
        sums: dict[str, torch.Tensor] = {}
        counts = dict.fromkeys(self.steps, 0)
        taken = 0
        for batch in drawn:
            next(ticks, None)
            ready = self.engine.to_device(_tensors(batch))
            for name in self.steps:
                if self.history.steps % self.turns[name] == 0:
                    loss = self._step(name, ready)
                    sums[name] = sums[name] + loss if name in sums else loss
                    counts[name] += 1
            taken += 1
            self.history.steps += 1
            if self.history.steps % CHECK_STEPS == 0:
                self._check_finite(sums)
        if taken != expected:
            raise TrainingFailed(f"epoch {self.epoch} had {taken} batches, {expected} were announced")
        self._check_finite(sums)
        if self.engine.world_size > 1:
            self._share_buffers()
        self.history.losses.append({name: float(value) / counts[name] for name, value in sums.items()})

    def _step(self, name: str, batch: Any) -> torch.Tensor:
        factor = self.schedule(self.history.steps / self.total)
        optimiser = self.optimisers[name]
        for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
            group["lr"] = rate * factor
        for module in self.models.values():  # all: an adversary's loss reaches the other's parameters too
            module.zero_grad()
        with self.engine.autocast():
            loss = self.steps[name](batch)
        if loss.numel() != 1 or not loss.requires_grad:
            raise TrainingFailed(
                f"the step {name!r} returned a loss of shape {tuple(loss.shape)}"
                + (", one number is needed" if loss.numel() != 1 else " that no parameter has a part in")
            )
        if self.engine.device.type == "cpu":  # elsewhere a look at each loss would stall the device
            self._check_finite({name: loss.detach()})
        self.engine.backward(loss.reshape(()))
        moved = self._moved(name)
        if factor > 0:
            self.tried.add(name)
        if name in self.first:
            self.reached.update(id(parameter) for parameter in moved if parameter.grad is not None)
        if self.engine.world_size > 1:
            for parameter in moved:
                if parameter.grad is not None:
                    parameter.grad = cast(torch.Tensor, self.engine.all_reduce(parameter.grad))
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(moved, self.clip)
        optimiser.step()
        return loss.detach().reshape(()).float()

    def _moved(self, name: str) -> list[nn.Parameter]:
        return [parameter for group in self.optimisers[name].param_groups for parameter in group["params"]]

    def _check_finite(self, sums: Mapping[str, torch.Tensor]) -> None:
        for name, value in sums.items():
            if not math.isfinite(float(value)):
                raise TrainingFailed(
                    f"the loss {name!r} is not finite by step {self.history.steps + 1}; lower the learning "
                    "rate, or look for extreme values in the data"
                )

    def _check_moved(self) -> None:
        """Check each optimiser once, after the first epoch in which its step was taken at a rate above 0."""
        for name in [name for name in self.first if name in self.tried]:
            before, after = self.first.pop(name), self._moved(name)
            if missed := [self.names[id(p)] for p in after if id(p) not in self.reached]:
                raise TrainingFailed(
                    f"the loss {name!r} gives no gradient to {', '.join(missed[:4])}; leave what is not "
                    "trained out of the optimiser"
                )
            if all(torch.equal(old, new) for old, new in zip(before, after, strict=True)):
                raise TrainingFailed(f"no weight of the optimiser {name!r} moved in the first epoch")

    def _share_buffers(self) -> None:
        """Average what layers recorded (batch statistics) over the processes."""
        for module in self.models.values():
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(cast(torch.Tensor, self.engine.all_reduce(buffer)))

    # ---------------------------------------------------------------- between epochs

    def _judge(self, seed: int) -> None:
        """Take the criterion, and keep the weights where it is the best so far."""
        assert self.validate is not None
        parts = {part: part.training for module in self.models.values() for part in module.modules()}
        for module in self.models.values():
            module.eval()
        values: list[float] = []
        with seeded(seed, "validation"), torch.no_grad(), self.engine.autocast():
            for batch in self.held_out if self.engine.is_global_zero else ():
                values.append(float(self.validate(self.engine.to_device(_tensors(batch)))))
        value = float(np.mean(values)) if values else 0.0
        if not values and self.engine.is_global_zero:
            raise ValueError("held_out has no batch to validate on")
        for part, mode in parts.items():
            part.training = mode
        if self.engine.world_size > 1:
            value = float(self.engine.broadcast(value))
        if not math.isfinite(value):
            raise TrainingFailed(f"the validation criterion is not finite after epoch {self.epoch - 1}")
        self.history.validation.append(value)
        self.waited += 1
        if value < self.best:
            self.best, self.waited = value, 0
            self.history.best_epoch = self.epoch - 1
            self.kept = self._get()

    def _get(self) -> Arrays:
        return {f"{n}/{key}": array for n, m in self.models.items() for key, array in to_arrays(m).items()}

    def _put(self, arrays: Mapping[str, Any]) -> None:
        for name, module in self.models.items():
            prefix = f"{name}/"
            own = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
            load_arrays(module, own)

    def _pack(self) -> tuple[dict[str, Any], Arrays]:
        arrays = {f"now/{key}": array for key, array in self._get().items()}
        arrays |= {f"best/{key}": array for key, array in self.kept.items()}
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "best": self.best if math.isfinite(self.best) else None,
            "waited": self.waited,
            "finished": self.finished,
            "history": dataclasses.asdict(self.history),
            "optimisers": {
                name: pack_optimiser(optimiser, f"optimiser/{name}/", arrays)
                for name, optimiser in self.optimisers.items()
            },
        }
        return state, arrays

    def _unpack(self, state: dict[str, Any], arrays: Arrays) -> None:
        self.first = {}
        self._put(_under("now/", arrays))
        self.kept = _under("best/", arrays)
        for name, optimiser in self.optimisers.items():
            unpack_optimiser(optimiser, f"optimiser/{name}/", arrays, state["optimisers"][name])
        self.epoch, self.waited, self.finished = state["epoch"], state["waited"], state["finished"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.history = History(**state["history"])


def _under(prefix: str, arrays: Mapping[str, Any]) -> Arrays:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _tensors(batch: Any) -> Any:
    """A batch with its arrays made tensors."""
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(batch if batch.flags.writeable else batch.copy())
    if isinstance(batch, Mapping):
        return {key: _tensors(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_tensors(value) for value in batch)
    return batch
