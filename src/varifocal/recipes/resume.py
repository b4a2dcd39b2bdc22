"""What may change in a run that has begun, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varifocal.recipes.recipe import Recipe
from varifocal.train.loop import TrainJob, schedule_of
from varifocal.train.optim import Schedule, TrainConfig, count_steps
from varifocal.train.state import read_progress
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

# how long and how carefully is trained, and with what; none of it is part of what was already done
CHANGEABLE = (
    "data.cache_bytes",
    "train.max_unreadable",
    "train.clip_grad_norm",
    "train.device",
    "train.epochs",
    "train.lr",
    "train.max_loss",
    "train.milestones",
    "train.save_every_steps",
    "train.tensorboard",
    "train.val_every_epochs",
    "train.num_workers",
)


def changed(recipe: Recipe, changes: Sequence[str], run: Path) -> Recipe:
    """The recipe of a run with ``key=value`` changes.

    Raises:
        ConfigError: a key is not one of :data:`CHANGEABLE`, or as :func:`varifocal.utils.overrides.override` says.
    """
    new = override(recipe, changes)
    fixed = [key for key, _, _ in differences(recipe, new) if key not in CHANGEABLE]
    if fixed:
        raise ConfigError(
            f"{run}: {', '.join(fixed)} cannot change in a run that has begun, only {', '.join(CHANGEABLE)}; for "
            f"anything else start a new run from its weights: train.weights={run / 'last.safetensors'} --out NEW."
        )
    return new


def differences(before: Recipe, after: Recipe) -> list[tuple[str, Any, Any]]:
    """Each key in which two recipes differ, with both values."""
    old, new = (dict(_flat(to_dict(recipe), "")) for recipe in (before, after))
    return [(key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]


def _flat(values: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@dataclass(frozen=True)
class Progress:
    """How far a run has come: ``done`` of the steps of its ``schedule``; ``changes`` say what is new about it."""

    run: Path
    done: int
    measured: bool
    schedule: Schedule
    changes: tuple[tuple[str, Any, Any], ...]

    @classmethod
    def of(cls, run: Path, before: Recipe, after: Recipe, job: TrainJob) -> Progress:
        """Of a run that has a state; ``job`` is made of the recipe ``after``.

        Raises:
            ConfigError: the run has more steps behind it than it would have, or averages its weights already.
            CheckpointError: its state cannot be read.
        """
        progress = read_progress(run)
        found = cls(
            run,
            progress["step"],
            progress.get("measured", True),
            schedule_of(job),
            tuple(differences(before, after)),
        )
        found._check(before.train, after.train)
        return found

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train or to measure while it is trained."""
        return self.measured and self.done >= self.schedule.steps

    def tell_end(self, command: str) -> str:
        """A sentence on a finished run; ``command`` resumes it."""
        more = f"train.epochs={2 * self.schedule.config.epochs}"
        keys = ", ".join(key for key, _, _ in self.changes)
        done = f"{self.run}: is finished, all {self.schedule.steps} steps are done"
        if keys:
            verb = "changes" if len(self.changes) == 1 else "change"
            return f"{done}; {keys} {verb} nothing any more, as only train.epochs extends it: {command} {more}"
        return f"{done}; extend it with: {command} {more}"

    def tell(self) -> str:
        """A sentence on where it goes on, and what of it is new."""
        said = [f"{self.run}: goes on at step {min(self.done + 1, self.schedule.steps)} of {self.schedule.steps}"]
        said += [f"{key}={new} (was {old})" for key, old, new in self.changes]
        if any(key in ("train.epochs", "train.milestones") for key, _, _ in self.changes):
            said.append(self._rates())
        return "; ".join(said)

    def _rates(self) -> str:
        config, plain = self.schedule.config, self.schedule.plain
        if config.schedule == "cosine":
            return f"the learning rate is that of a run of this length, {self.schedule.lr(self.done):.3g} here"
        drops = sorted(round(fraction * plain) for fraction in config.milestones)
        ahead = " and ".join(str(drop) for drop in drops if drop > self.done)
        falls = f"falls after step {ahead}" if ahead else "falls no more"
        rate = f"the learning rate is {self.schedule.lr(self.done):.3g} here and {falls}"
        return f"the milestones lie at their fractions of this length, so that {rate}"

    def _check(self, before: TrainConfig, after: TrainConfig) -> None:
        if before.epochs == after.epochs:
            return
        if self.schedule.steps <= self.done:
            raise ConfigError(
                f"{self.run}: has {self.done} steps behind it, and train.epochs={after.epochs} makes "
                f"{self.schedule.steps}; give it more epochs."
            )
        per_epoch = self.schedule.per_epoch
        if before.swa_epochs and self.done > count_steps(before, per_epoch):
            raise ConfigError(
                f"{self.run}: averages its weights already (train.swa_epochs), which is the end of a schedule; start a "
                f"new run from them: train.weights={self.run / 'last.safetensors'} --out NEW."
            )
