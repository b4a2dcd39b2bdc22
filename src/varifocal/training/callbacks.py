"""Callbacks of training, and the experiment trackers that are callbacks: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
TRACKERS: tuple[TrackerName, ...] = ("tensorboard", "wandb", "mlflow")
_STORED = "tracker.json"  # in the run folder: under which id the tracker knows the run


class Callback:
    """Base class of what is called while a model trains; override the methods that you need.

    Under ``torchrun`` only the first process calls them. An exception that a callback raises stops the run after the
    step has been computed and before its state is written; the last saved state is kept. Steps count from 0. A resumed
    run repeats the steps after the last saved state, and calls the callbacks for them again.
    """

    def on_start(self, run: Path, first_step: int, recipe: Mapping[str, Any]) -> None:
        """Called once before the first step of this process, with the run folder and the recipe as plain values."""

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each optimizer step with ``loss``, every loss term, and ``lr``."""

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called after each validation with the COCO metrics (``AP``, ``AP50``, ..., as fractions)."""

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Called when the schedule is complete, with the best metrics and images of predictions beside the labels."""

    def close(self) -> None:
        """Called last, also after an exception or Ctrl-C."""


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
        return makers[name]()
    except ImportError as error:
        raise ConfigError(
            f"--log {name}: the package is not installed: pip install 'varifocal[{name}]'.", code="tracker-package"
        ) from error


class TensorBoard(Callback):
    """Writes losses, metrics and images to ``tensorboard/`` in the run folder."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer, self._step = SummaryWriter, 0
        self._open: Any = None

    def on_start(self, run: Path, first_step: int, recipe: Mapping[str, Any]) -> None:
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

    def on_start(self, run: Path, first_step: int, recipe: Mapping[str, Any]) -> None:
        """Open the run, or the same one again where this run was begun before."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "varifocal"),
            id=stored_id(run, "wandb", lambda: secrets.token_hex(4)),
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
        """Log the images of predictions, and the best metrics as the summary."""
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

    def on_start(self, run: Path, first_step: int, recipe: Mapping[str, Any]) -> None:
        """Open the run, or the same one again where this run was begun before."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run.parent / 'mlflow.db').resolve()}"
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._id = stored_id(run, "mlflow", lambda: self._create(run, recipe))
        self._client.update_run(self._id, status="RUNNING")

    def _create(self, run: Path, recipe: Mapping[str, Any]) -> str:
        name = "varifocal"
        known = self._client.get_experiment_by_name(name)
        experiment = (
            known.experiment_id
            if known
            else self._client.create_experiment(
                name, artifact_location=(run.parent / "mlflow-artifacts").resolve().as_uri()
            )
        )
        made = self._client.create_run(experiment, run_name=run.name)
        from mlflow.entities import Param

        params = [Param(key, str(value)[:500]) for key, value in flatten(recipe).items()]
        for start in range(0, len(params), 100):  # the most that one request may have
            self._client.log_batch(made.info.run_id, params=params[start : start + 100])
        return str(made.info.run_id)

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log ``train/NAME``."""
        self._log("train", step, values)

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log ``validation/NAME``."""
        self._log("validation", step, metrics)

    def _log(self, prefix: str, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{prefix}/{name}", value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def on_end(self, metrics: Mapping[str, float], images: Sequence[Path]) -> None:
        """Store the images of predictions, and end the run as finished."""
        for path in images:
            self._client.log_artifact(self._id, str(path), "predictions")
        self._client.set_terminated(self._id, "FINISHED")
        self._id = ""

    def close(self) -> None:
        """End a run that was cut off as killed; the same run goes on when it is resumed."""
        if self._id:
            self._client.set_terminated(self._id, "KILLED")


def stored_id(run: Path, tracker: str, make: Callable[[], str]) -> str:
    """Return the id under which a tracker knows a run folder, made once and kept there in ``tracker.json``."""
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
