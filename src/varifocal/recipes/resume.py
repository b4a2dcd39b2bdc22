"""Resuming a run: what may change in its recipe, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varifocal.recipes.recipe import Recipe
from varifocal.training.loop import TrainJob, is_exhausted, patience_reason, schedule_of
from varifocal.training.optim import Schedule, TrainConfig, count_steps
from varifocal.training.state import STATE, TrainState, read_state
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

# how long, how carefully and on what hardware to train; none of it affects the steps that are done
CHANGEABLE = (
    "data.cache_bytes",
    "train.max_unreadable",
    "train.clip_grad_norm",
    "train.device",
    "train.epochs",
    "train.log",
    "train.lr",
    "train.max_loss",
    "train.milestones",
    "train.save_every_steps",
    "train.val_every_epochs",
    "train.num_workers",
    "train.patience",
)


def changed_recipe(recipe: Recipe, changes: Sequence[str], run: Path) -> Recipe:
    """Return the recipe of a run with ``key=value`` changes.

    Raises:
        ConfigError: a key is not in :data:`CHANGEABLE`, or as :func:`varifocal.utils.overrides.override`.
    """
    new = override(recipe, changes)
    fixed = [key for key, _, _ in differences(recipe, new) if key not in CHANGEABLE]
    if fixed:
        raise ConfigError(
            f"{run}: {', '.join(fixed)} cannot change in a run that has started, only {', '.join(CHANGEABLE)}; for "
            f"anything else start a new run from its weights: train.weights={run / 'last.safetensors'} --out NEW.",
            code="unchangeable-key",
        )
    return new


def differences(before: Recipe, after: Recipe) -> list[tuple[str, Any, Any]]:
    """Return each key whose value differs between two recipes, with both values."""
    old, new = dict(flat_settings(before)), dict(flat_settings(after))
    return [(key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]


def flat_settings(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Yield each key of a recipe, such as train.lr, with its value."""
    return _flatten(to_dict(recipe), "")


def changes_to(before: Recipe, after: Recipe) -> list[str]:
    """Return the ``key=value`` words that turn one recipe into another; a chosen batch size stands for auto."""
    found = differences(before, after)
    return [f"{key}={json.dumps(new)}" for key, _, new in found if (key, new) != ("train.batch_size", "auto")]


def _flatten(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class Progress:
    """How far a run is in its ``schedule``, and which ``changes`` (key, old and new value) its recipe gets.

    ``saved`` is whether it has a state to resume from.
    """

    run: Path
    saved: bool
    state: TrainState
    schedule: Schedule
    changes: tuple[tuple[str, Any, Any], ...]

    @classmethod
    def of(cls, run: Path, before: Recipe, after: Recipe, job: TrainJob) -> Progress:
        """Return the progress of a run; ``job`` is built from the changed recipe ``after``.

        Raises:
            ConfigError: the run has done more steps than it would have, or is averaging its weights already.
            CheckpointError: its state cannot be read.
        """
        saved = (run / STATE).is_file()
        state = read_state(run) if saved else TrainState()
        progress = cls(run, saved, state, schedule_of(job), tuple(differences(before, after)))
        progress._check(before.train, after.train)
        return progress

    @property
    def finished(self) -> bool:
        """Whether all steps and validations of the schedule are done, or its patience has ended the run."""
        return self.state.validated and (self.state.step >= self.schedule.steps or self._stopped_early)

    @property
    def _stopped_early(self) -> bool:
        return is_exhausted(self.state, self.schedule.config)

    def finished_note(self, command: str) -> str:
        """Return a sentence on a finished run; ``command`` resumes it."""
        if self._stopped_early and self.state.step < self.schedule.steps:
            steps = f"{self.state.step} of {self.schedule.steps} steps"
            reason = patience_reason(self.state)
            return f"{self.run}: stopped early after {steps}, as {reason}; go on with: {command} train.patience=0"
        done = f"{self.run}: is finished after all {self.schedule.steps} steps"
        extend = f"{command} train.epochs={2 * self.schedule.config.epochs}"
        if not self.changes:
            return f"{done}; extend it with: {extend}"
        keys = ", ".join(key for key, _, _ in self.changes)
        verb = "has" if len(self.changes) == 1 else "have"
        return f"{done}, so {keys} {verb} no effect; only train.epochs extends it: {extend}"

    def note(self) -> str:
        """Return a sentence on where the run resumes, and on what changes."""
        if not self.saved:
            return f"{self.run}: has saved no step yet and starts over"
        step, steps = self.state.step, self.schedule.steps
        parts = [f"{self.run}: resumes at step {min(step + 1, steps)} of {steps}"]
        parts += [f"{key}={new} (was {old})" for key, old, new in self.changes]
        if any(key in ("train.epochs", "train.milestones") for key, _, _ in self.changes):
            parts.append(self._learning_rates())
        return "; ".join(parts)

    def _learning_rates(self) -> str:
        config, done = self.schedule.config, self.state.step
        rate = f"{self.schedule.lr(done):.3g}"
        if config.schedule == "cosine":
            return f"the learning rate is that of a run of this length, now {rate}"
        milestones = sorted(round(fraction * self.schedule.plain) for fraction in config.milestones)
        ahead = " and ".join(str(milestone) for milestone in milestones if milestone > done)
        drops = f"drops after step {ahead}" if ahead else "does not drop again"
        return f"the milestones are fractions of this length, so the learning rate is now {rate} and {drops}"

    def _check(self, before: TrainConfig, after: TrainConfig) -> None:
        """Raise ConfigError if the new number of epochs does not fit what is done."""
        done = self.state.step
        if before.epochs == after.epochs:
            return
        if self.schedule.steps <= done:
            raise ConfigError(
                f"{self.run}: has done {done} steps, but train.epochs={after.epochs} allows only "
                f"{self.schedule.steps}; use more epochs.",
                code="too-few-epochs",
            )
        if before.swa_epochs and done > count_steps(before, self.schedule.per_epoch):
            raise ConfigError(
                f"{self.run}: is already averaging its weights (train.swa_epochs), so it cannot be extended; start "
                f"a new run from them: train.weights={self.run / 'last.safetensors'} --out NEW.",
                code="already-averaging",
            )
