"""What keeps the whole suite quick: the longest files first, and a garbage collector with less to look through.

And tests under a limit on the processor's instructions (``make test ISA=avx2``).
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import typechecker

LIMIT = "ONEDNN_MAX_CPU_ISA"

if LIMIT in os.environ:
    import torch

    # torch's oneDNN reads the limit once, now. OpenVINO's must not see it: OpenVINO itself asks the processor, and
    # crashes where its oneDNN then refuses what it counts on.
    torch.ops.mkldnn._is_mkldnn_bf16_supported()
    os.environ[f"TORCH_{LIMIT}"] = os.environ.pop(LIMIT)

jaxtyping.jaxtyped = typechecker.jaxtyped  # for the functions that --jaxtyping-packages decorates

LARGE = 3 << 29  # bytes; a process that has imported everything takes less

# By time, longest first. "make test" gives whole files to the processes of pytest-xdist, and whoever is done takes the
# next one: a long file at the end would keep one process busy while the others wait. What is not named here follows as
# it is.
LONGEST = (
    "unit/export/test_onnx.py",
    "unit/export/test_torch_export.py",
    "test_detectors.py",
    "test_tutorial.py",
    "training/test_parallel.py",
    "unit/export/test_quantize.py",
    "test_runtime_install.py",
    "unit/export/test_one_cell.py",
    "unit/ops/test_star_conv.py",
    "unit/export/test_openvino.py",
    "reference/test_parity_vfnet.py",
    "unit/data/test_fuzz.py",
    "training/test_resume.py",
    "training/test_hard_data.py",
    "test_cli.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files of ``LONGEST`` first, in that order."""
    folder = config.rootpath / "tests"
    places = {folder / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What is there by now stays: collections, of which tracing a network starts thousands, need not visit it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """What a file of large networks leaves is freed, and returned to the system: all processes share its memory."""
    yield
    if sys.platform == "linux" and _resident() > LARGE:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)


def _resident() -> int:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
