"""The processes of a run: the device of each, what they exchange, and Ctrl-C in any of them."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from varifocal.training.optim import TrainConfig
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
MESSAGE = b"\ninterrupted: finishing and saving the current step first; press Ctrl-C again to stop at once\n"
_DIFFERENCES = 3  # that a message names
PATIENCE = 2.0  # seconds in which a second signal counts as the same one: torchrun forwards what the terminal has sent


def start_fabric(config: TrainConfig) -> Fabric:
    """Return a Fabric of one process, or of as many as ``torchrun`` started, on the device of the config.

    Raises:
        ConfigError: there is no such device, it lacks the precision, or the processes cannot split a batch evenly.
    """
    from lightning_fabric import Fabric  # here, because reading a recipe does not need it

    accelerator = find_device(config.device)
    if accelerator == "cpu" and config.precision == "fp16":
        raise ConfigError("train.precision=fp16 needs a CUDA device; use bf16 or fp32 on a CPU.", code="fp16-on-cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if config.images_per_batch % world:
        raise ConfigError(
            f"train.batch_size={config.batch_size} is not divisible by the {world} processes; use a multiple.",
            code="batch-size-of-processes",
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(world // local, 1),
        strategy="ddp" if world > 1 else "auto",
        precision=PRECISION[config.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def find_device(device: str) -> str:
    """Return the kind of the device that ``train.device`` names: cpu, cuda or mps.

    Raises:
        ConfigError: there is no such device.
    """
    cuda = torch.cuda.is_available()
    kind = ("cuda" if cuda else "cpu") if device == "auto" else device
    if kind == "cuda" and not cuda:
        raise ConfigError(
            "train.device=cuda: torch finds no CUDA device; use train.device=cpu or auto.", code="no-cuda-device"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "train.device=mps: torch finds no Apple GPU; use train.device=cpu or auto.", code="no-mps-device"
        )
    return kind


def shutdown_process_group(fabric: Fabric) -> None:
    """Leave the process group at the same time as the other processes.

    gloo aborts at exit in about one of four runs when models or optimizers outlive their group; those of a run are
    locals of a function that has returned, and the garbage collector removes reference cycles.
    """
    if in_group():
        gc.collect()
        fabric.barrier()
        dist.destroy_process_group()


def in_group() -> bool:
    """Return whether this process exchanges values with others."""
    return bool(dist.is_available() and dist.is_initialized())


def sum_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the sum of each value over all processes; they all have to call this."""
    if not in_group():
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    sums: list[float] = total.tolist()
    return sums


def gather_from_processes(value: Any) -> list[Any]:
    """Return the value of each process, by rank; they all have to call this."""
    if not in_group():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def ensure_equal(facts: Mapping[str, object]) -> None:
    """Check that all processes have the same values under these names; they all have to call this.

    Raises:
        ConfigError: in every process, if a value differs; it names the first ones with their hosts.
    """
    hosts = gather_from_processes((socket.gethostname(), dict(facts)))
    first_host, first = hosts[0]
    for rank, (host, other) in enumerate(hosts):
        different = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        if different:
            listed = "; ".join(
                f"{name} is {other.get(name)} there and {first.get(name)} here" for name in different[:_DIFFERENCES]
            )
            raise ConfigError(
                f"process {rank} on {host} would train something else than process 0 on {first_host}: {listed}; give "
                "all processes the same data, recipe and run folder.",
                code="processes-differ",
            )


class Interruption:
    """Ctrl-C during training: the current step is finished and saved, so that the run can be resumed exactly.

    As a context manager it replaces Python's own handler of SIGINT, but no other. The second Ctrl-C raises
    KeyboardInterrupt at once. A process that is not ``quiet`` says so on stderr.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.first: float | None = None  # when the signal came
        self._installed = False

    def __enter__(self) -> Interruption:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now
            if not self.quiet:
                os.write(2, MESSAGE)  # not through sys.stderr, which may be in the middle of a line
        elif now - self.first > PATIENCE:
            raise KeyboardInterrupt

    def in_any_process(self, device: torch.device) -> bool:
        """Return whether any process was interrupted; all of them call this at the same step and get one answer."""
        return sum_over_processes([float(self.first is not None)], device)[0] > 0

    def check(self, done: int) -> None:
        """Raise KeyboardInterrupt if there was a Ctrl-C and no other processes wait for this one."""
        if self.first is not None and not in_group():
            raise KeyboardInterrupt
