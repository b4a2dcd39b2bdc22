"""Callbacks of training, and the experiment trackers that are callbacks: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from varifocal.utils.errors import ConfigError, TrainingError

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)
EXPERIMENT = "varifocal"  # or project, of the trackers that sort runs into such
_STORED = "tracker.json"  # in the run folder: under which id the tracker knows the run
_FLUSH_SECONDS, _FLUSH_NUMBERS = 5.0, 900  # MLflow takes at most 1,000 numbers in one request


class Callback:
    """Base class of objects that are called while a model trains; override the methods that you need.

    Any object with some of these methods will do. Under ``torchrun`` only the first process calls them. Steps count
    from 0. A resumed run repeats the steps after the last saved state, and calls the methods for them again. An
    exception in a method stops the run. In ``on_step`` the last saved state is kept, in ``on_validation`` and
    ``on_end`` also what has been trained and measured until then.
    """

    def on_start(self, run: Path, recipe: Mapping[str, Any], first_step: int, total_steps: int) -> None:
        """Called before the first step with the run folder, the recipe as plain values, and the range of steps."""

    def on_note(self, text: str) -> None:
        """Called with a sentence for the user, such as a learning rate that was scaled to the batch."""

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each update of the weights with ``loss``, every loss term, and ``lr``."""

    def on_unreadable_images(self, step: int, count: int, summary: str) -> None:
        """Called at the end of an epoch if images could not be read, with their number so far and a sentence."""

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called after each validation, when its weights are saved, with the COCO metrics (``AP``, ...) in 0..1."""

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Called at the end of the schedule with the metrics of the best weights, and images of their predictions.

        Without validation data both are empty.
        """

    def close(self) -> None:
        """Called last, also after an exception or Ctrl-C."""


def emit(callbacks: Iterable[object], event: str, *values: Any) -> None:
    """Call the method ``event`` of each callback that has it."""
    for callback in callbacks:
        method = getattr(callback, event, None)
        if method is not None:
            method(*values)


@contextmanager
def closing_callbacks(callbacks: Sequence[object], trackers: Iterable[TrackerName]) -> Iterator[tuple[object, ...]]:
    """Give the block the callbacks and the named trackers, and close them all at its end."""
    with ExitStack() as stack:
        members = (*callbacks, *map(make_tracker, dict.fromkeys(trackers)))
        for member in members:
            stack.callback(emit, [member], "close")
        yield members


def check_trackers(names: Iterable[TrackerName]) -> None:
    """Raise ConfigError if the package of a tracker is not installed, without importing it."""
    from importlib.util import find_spec

    for name in names:
        if find_spec(name) is None:
            raise _missing(name)


def make_tracker(name: TrackerName) -> Callback:
    """Return the callback that reports to an experiment tracker.

    Raises:
        ConfigError: its package is not installed; the sentence has the command that installs it.
    """
    makers: dict[str, Callable[[], Callback]] = {
        "tensorboard": TensorBoard,
        "wandb": WeightsAndBiases,
        "mlflow": MLflow,
    }
    try:
        return Guarded(name, makers[name]())
    except ImportError as error:
        raise _missing(name) from error


def _missing(name: str) -> ConfigError:
    return ConfigError(
        f"train.log={name}: the package is not installed: pip install 'varifocal[{name}]'.", code="tracker-package"
    )


class Guarded(Callback):
    """A tracker whose failure does not cost the run: if it fails after the start, the run goes on without it."""

    def __init__(self, name: str, tracker: Callback) -> None:
        self.name = name
        self.members = [tracker]

    def on_start(self, run: Path, recipe: Mapping[str, Any], first_step: int, total_steps: int) -> None:
        """Start the tracker; raise TrainingError if that fails, because nothing is lost yet."""
        try:
            emit(self.members, "on_start", run, recipe, first_step, total_steps)
        except Exception as error:
            self.members.clear()
            raise TrainingError(
                f"train.log={self.name}: cannot be started ({_one_line(error)}); correct its settings, or leave it "
                "out.",
                code="tracker-start",
            ) from error

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Report the step."""
        self._emit("on_step", step, values)

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics."""
        self._emit("on_validation", step, metrics)

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Report the best metrics and the images."""
        self._emit("on_end", metrics, images)

    def close(self) -> None:
        """Close the tracker."""
        self._emit("close")

    def _emit(self, event: str, *values: Any) -> None:
        try:
            emit(self.members, event, *values)
        except Exception as error:
            self.members.clear()
            print(f"train.log={self.name} failed ({_one_line(error)}); the run goes on without it", file=sys.stderr)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class TensorBoard(Callback):
    """Writes losses, metrics and images to ``tensorboard/`` in the run folder."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer, self._step = SummaryWriter, 0
        self._open: Any = None

    def on_start(self, run: Path, recipe: Mapping[str, Any], first_step: int, total_steps: int) -> None:
        """Open the event file; events of steps that are repeated are dropped."""
        self._open = self._writer(str(run / "tensorboard"), purge_step=first_step)

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Write the scalars as ``train/NAME``."""
        self._step = step
        for name, value in values.items():
            self._open.add_scalar(f"train/{name}", value, step)

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the scalars as ``validation/NAME``."""
        for name, value in metrics.items():
            self._open.add_scalar(f"validation/{name}", value, step)

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Write the images of predictions."""
        import numpy as np
        from PIL import Image

        for path in images:
            with Image.open(path) as image:
                self._open.add_image(
                    f"predictions/{path.stem}", np.asarray(image.convert("RGB")), self._step, None, "HWC"
                )

    def close(self) -> None:
        """Flush and close the event file."""
        if self._open is not None:
            self._open.close()


class WeightsAndBiases(Callback):
    """Reports to Weights & Biases; ``WANDB_PROJECT``, ``WANDB_ENTITY`` and ``WANDB_MODE=offline`` work as usual."""

    def __init__(self) -> None:
        import wandb

        self._wandb = wandb
        self._run: Any = None

    def on_start(self, run: Path, recipe: Mapping[str, Any], first_step: int, total_steps: int) -> None:
        """Open the run, or the same one again where this run was begun before."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", EXPERIMENT),
            id=stored_id(run, "wandb", lambda: os.urandom(4).hex()),
            name=run.name,
            dir=str(run),
            config=dict(recipe),
            resume="allow",
            save_code=False,
        )

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log ``train/NAME``."""
        self._run.log({f"train/{name}": value for name, value in values.items()}, step=step)

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log ``validation/NAME``."""
        self._run.log({f"validation/{name}": value for name, value in metrics.items()}, step=step)

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Log the images of predictions, and put the best metrics into the summary."""
        if images:
            self._run.log({"predictions": [self._wandb.Image(str(path), caption=path.stem) for path in images]})
        self._run.summary.update({f"best/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


class MLflow(Callback):
    """Reports to MLflow at ``MLFLOW_TRACKING_URI``, or without it to ``mlflow.db`` beside the run folder."""

    def __init__(self) -> None:
        import mlflow

        self._mlflow = mlflow
        self._client: Any = None
        self._id = ""
        self._waiting: list[Any] = []  # numbers that are not sent yet
        self._sent = time.monotonic()

    def on_start(self, run: Path, recipe: Mapping[str, Any], first_step: int, total_steps: int) -> None:
        """Open the run, or the same one again where this run was begun before."""
        own = os.environ.get("MLFLOW_TRACKING_URI")
        uri = own or f"sqlite:///{(run.parent / 'mlflow.db').resolve()}"
        artifacts = None if own else (run.parent / "mlflow-artifacts").resolve().as_uri()
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._id = stored_id(run, "mlflow", lambda: self._create(run, recipe, artifacts))
        self._client.update_run(self._id, status="RUNNING")

    def _create(self, run: Path, recipe: Mapping[str, Any], artifacts: str | None) -> str:
        """Make a run with the recipe as its parameters, in a new experiment if needed; return its id."""
        from mlflow.entities import Param

        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT, artifacts)
        made = self._client.create_run(experiment, run_name=run.name)
        params = [Param(key, str(value)[:500]) for key, value in flatten(recipe).items()]
        for start in range(0, len(params), 100):  # the most that one request may have
            self._client.log_batch(made.info.run_id, params=params[start : start + 100])
        return str(made.info.run_id)

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log ``train/NAME``, several steps in one request."""
        self._add("train", step, values)
        if time.monotonic() - self._sent > _FLUSH_SECONDS or len(self._waiting) > _FLUSH_NUMBERS:
            self._send()

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log ``validation/NAME``."""
        self._add("validation", step, metrics)
        self._send()

    def _add(self, prefix: str, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(f"{prefix}/{name}", value, now, step) for name, value in values.items()]

    def _send(self) -> None:
        sent, self._waiting, self._sent = self._waiting, [], time.monotonic()
        self._client.log_batch(self._id, metrics=sent)

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Store the images of predictions, and end the run as finished."""
        self._send()
        for path in images:
            self._client.log_artifact(self._id, str(path), "predictions")
        self._client.set_terminated(self._id, "FINISHED")
        self._id = ""

    def close(self) -> None:
        """End a run that was cut off as killed; the same run goes on when it is resumed."""
        if self._id:
            self._send()
            self._client.set_terminated(self._id, "KILLED")


def stored_id(run: Path, tracker: str, make: Callable[[], str]) -> str:
    """Return the id under which a tracker knows a run folder, made once and kept there in ``tracker.json``."""
    from varifocal.utils.atomic_write import atomic_write  # not for the --help of train

    file = run / _STORED
    known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if tracker not in known:
        known[tracker] = make()
        atomic_write(file, json.dumps(known).encode())
    return known[tracker]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with keys joined by dots: ``{"a": {"b": 1}}`` is ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value})
    return flat
