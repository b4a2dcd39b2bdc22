"""What keeps the whole suite quick: the longest files first, and a garbage collector with less to look through."""

import gc

import pytest

# By CPU time, longest first. Whole files go to the processes of pytest-xdist, and whoever is done takes the next one:
# a long file at the end would keep one process busy while the others wait. What is not named here follows as it is.
LONGEST = (
    "unit/export/test_onnx.py",
    "unit/export/test_torch_export.py",
    "unit/export/test_openvino.py",
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
