"""The data set that comes with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def sample_dataset_dir() -> Path:
    """Return the folder of the embedded data set "trees".

    It contains ``train.json``, ``test.json`` and ``scene.json`` (COCO), the images that they name, and its data card
    ``README.md``.

    Raises:
        FileNotFoundError: the package was installed without its data.
    """
    folder = Path(str(files("varifocal") / "data" / "trees"))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: varifocal was installed without its data")
    return folder
