"""Training runs that are killed, run in pairs or run out of order: python run_tiny.py PLAN.json RESULTS.json.

The plan is a list of cases. Each attempt of a case is a forked process (or two that form a gloo group), so that torch
is imported once. A case::

    {"data": folder, "run": folder, "overrides": [...], "world": 1 or 2, "in_order": bool, "double": bool,
     "attempts": [{"at": event, "n": count} or {"seconds": s} or {"nan_rank": r} or {}, ...]}

``at`` names the event at whose ``n``-th time the process kills itself with SIGKILL: "half" of a checkpoint is written,
"flushed" but not moved, "moved", "step" (weights updated, nothing logged), "logged". ``seconds``: the parent kills it
that long after training has started. An attempt resumes when the run folder has a state. ``double`` trains in float64,
from the same initial weights. The results are, for each case, each attempt's exit statuses by rank (negative: the
signal; "timeout") and its seconds.

``python run_tiny.py --one CASE.json`` runs one case as it is, for torchrun.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins.precision import DoublePrecision

import varifocal.training.log as log_module
import varifocal.training.processes as processes_module
import varifocal.utils.atomic_write as files_module
from varifocal.data.sampler import EpochSampler
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe
from varifocal.recipes.run import claimed_run
from varifocal.training.loop import train
from varifocal.utils.errors import VarifocalError
from varifocal.utils.overrides import override

LIMIT = 90.0  # seconds that an attempt may take


class Kill:
    """Ends this process without a chance to clean up at the ``n``-th call of ``due``."""

    def __init__(self, n: int) -> None:
        self.left = n

    def due(self) -> bool:
        self.left -= 1
        return self.left == 0

    def now(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class HalfWritten(io.FileIO):
    """A file whose last write is cut off half way."""

    kill: Kill

    def write(self, content: Any) -> int:
        if self.kill.due():
            super().write(content[: len(content) // 2])
            self.kill.now()
        return super().write(content)


def kill_at(event: str, n: int) -> None:
    """Kill the process at the ``n``-th ``event``."""
    kill = Kill(n)
    if event == "half":
        HalfWritten.kill = kill
        files_module.open = half_written_open
    elif event in ("flushed", "moved"):
        os.replace = killing(os.replace, kill, after=event == "moved")
    else:
        log_module.RunLogger.on_step = killing(log_module.RunLogger.on_step, kill, after=event == "logged")


def half_written_open(path: Any, mode: str) -> Any:
    return HalfWritten(path, "w") if mode == "wb" else open(path, mode)


def killing(function: Any, kill: Kill, after: bool) -> Any:
    """Return the function wrapped so that the process ends before or after one of its calls."""

    def call(*values: Any) -> None:
        due = kill.due()
        if not due or after:
            function(*values)
        if due:
            kill.now()

    return call


def nan_on(job: Any, at_step: int) -> None:
    """Make the detector's loss NaN at that step, after the processes have exchanged their sums."""
    original, calls = job.model.detector.loss, [0]

    def loss(*values: Any) -> dict[str, Any]:
        calls[0] += 1
        terms = original(*values)
        return {**terms, "cls": terms["cls"] * float("nan")} if calls[0] == at_step else terms

    job.model.detector.loss = loss


def in_float64(detector: torch.nn.Module) -> None:
    """Make the detector train and predict in float64; random numbers stay the same."""
    processes_module.PRECISION = {"fp32": "64-true"}
    DoublePrecision.convert_output = lambda _, data: data  # else to torch's default type, which is float32
    detector.register_forward_pre_hook(lambda _, given: (given[0].double(),))


def run_case(case: dict[str, Any], attempt: dict[str, Any], ready: int | None = None) -> int:
    if case.get("in_order"):
        EpochSampler.__call__ = lambda self, _: np.arange(self.length)
    run = Path(case["run"])
    torch.manual_seed(0)
    job = build_job(override(Recipe(), case["overrides"]), case["data"], run)
    if attempt.get("nan_rank") == int(os.environ.get("RANK", "0")):
        nan_on(job, 3)
    if case.get("double"):
        in_float64(job.model.detector)
    if "at" in attempt:
        kill_at(attempt["at"], attempt["n"])
    if ready is not None:
        os.write(ready, b"1")
    try:
        with claimed_run(run):
            train(job, resume=(run / "state.safetensors").exists())
    except VarifocalError as error:
        print(f"rank {os.environ.get('RANK', '0')}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


def fork(case: dict[str, Any], attempt: dict[str, Any], rank: int, port: int) -> tuple[int, int]:
    """Return a child's process id, and a pipe that can be read once it trains."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    if case.get("world", 1) > 1:
        world = str(case["world"])
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=world, LOCAL_WORLD_SIZE=world)
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="none")
        os.environ.update(GROUP_RANK="0", GROUP_WORLD_SIZE="1", ROLE_RANK=str(rank), ROLE_WORLD_SIZE=world)
    sys.exit(run_case(case, attempt, write))  # a complete exit with everything that an interpreter tears down


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait(pid: int, until: float) -> int | str:
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def run_attempt(case: dict[str, Any], attempt: dict[str, Any]) -> dict[str, Any]:
    begun, port = time.monotonic(), free_port()
    children = [fork(case, attempt, rank, port) for rank in range(case.get("world", 1))]
    if "seconds" in attempt:
        select.select([children[0][1]], [], [], LIMIT)
        time.sleep(attempt["seconds"])
        os.kill(children[0][0], signal.SIGKILL)
    codes = [wait(pid, begun + LIMIT) for pid, _ in children]
    for _, read in children:
        os.close(read)
    return {"codes": codes, "seconds": time.monotonic() - begun}


def main(plan: Path, results: Path) -> None:
    cases = json.loads(plan.read_text())
    for name in ("hotcoco", "torch._dynamo", "torch.nn.parallel", "torch.utils.data", "torchvision.transforms.v2"):
        importlib.import_module(name)  # once and not in every child
    build_job(override(Recipe(), cases[0]["overrides"]), cases[0]["data"], Path(cases[0]["run"]))
    done = [[run_attempt(case, attempt) for attempt in case["attempts"]] for case in cases]
    results.write_text(json.dumps(done))


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        one = json.loads(Path(sys.argv[2]).read_text())
        sys.exit(run_case(one, one["attempts"][0]))
    main(Path(sys.argv[1]), Path(sys.argv[2]))
