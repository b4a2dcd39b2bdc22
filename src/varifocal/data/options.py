"""What a user says about a data set that does not stand in it: where its images lie, what unlabeled ones are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from varifocal.data.archive import AnyPath
from varifocal.data.names import is_unsafe_path
from varifocal.data.paths import is_folder
from varifocal.utils.errors import ConfigError, DataError

Unlabeled = Literal["", "skip", "background"]


@dataclass(frozen=True)
class ReadOptions:
    """``images`` is the folder of the images, where it is not the one that the format keeps them in.

    ``unlabeled`` is what an image without a file of labels is: left out ("skip"), an image without objects
    ("background"), or ("") what the format means by it.
    """

    images: AnyPath | None = None
    unlabeled: Unlabeled = ""

    def refuse_images(self, source: AnyPath) -> None:
        """That no folder of images is named, as the source holds its images itself.

        Raises:
            ConfigError: one is.
        """
        if self.images is not None:
            raise ConfigError(f"{source}: holds its images itself; leave --images out.")


def open_images(images: str, data: AnyPath) -> AnyPath | None:
    """The folder of the images as it is written: absolute, from the data folder on, or from the working directory on.

    None where ``images`` is empty.

    Raises:
        DataError: there is no such folder.
    """
    if not images:
        return None
    base = data if data.is_dir() else data.parent
    name = images.replace("\\", "/").rstrip("/") or images
    paths: list[AnyPath] = [base / images] if isinstance(base, Path) else []
    if not isinstance(base, Path) and not is_unsafe_path(name):
        paths.append(base / name)
    found = next((path for path in (*paths, Path(images)) if is_folder(path)), None)
    if found is not None:
        return found
    raise DataError(f"{images}: there is no such folder of images, neither in {base} nor here; fix --images")


def images_word(images: str, data: Path) -> str:
    """How a recipe says where the images lie: from the data folder on if they are in it, absolute if not.

    So a run can be resumed from any working directory, and on another machine if the images lie in the data folder.

    Raises:
        DataError: there is no such folder.
    """
    base = os.path.abspath(data if data.is_dir() else data.parent)
    there = os.path.abspath(images)
    if not os.path.isdir(there):
        return images  # in the data folder or in the archive; looked for when it is read
    inside = os.path.relpath(there, base) if os.path.commonpath([base, there]) == base else there
    return inside if data.is_dir() or data.suffix.lower() not in (".zip", ".tar") else there
