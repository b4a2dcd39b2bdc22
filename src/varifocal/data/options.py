"""What a user says of a data set that it does not say itself: where its images are, and what unlabeled images mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.paths import is_folder
from varifocal.utils.errors import ConfigError, DataError

Unlabeled = Literal["", "skip", "background"]


@dataclass(frozen=True)
class ReadOptions:
    """Options of every reader.

    ``images`` is the folder of the images, if it is not the one in which the format keeps them. ``unlabeled`` says what
    happens to an image without labels: it is left out ("skip"), it is an image without objects ("background"), or the
    format decides ("").
    """

    images: AnyPath | None = None
    unlabeled: Unlabeled = ""

    def refuse_images(self, source: AnyPath) -> None:
        """Raise ``ConfigError`` if a folder of images is named although the source contains its images."""
        if self.images is not None:
            raise ConfigError(f"{source}: contains its images itself; leave --images out.", code="images-in-source")


def open_images(images: str, data: AnyPath) -> AnyPath | None:
    """Return the folder of the images: absolute, relative to the data set, or relative to the working directory.

    None if ``images`` is empty.

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
    folder = next((path for path in (*paths, Path(images)) if is_folder(path)), None)
    if folder is None:
        raise DataError(
            f"{images}: there is no such folder of images, neither in {base} nor in the working directory; "
            "correct --images",
            code="no-image-folder",
        )
    return folder


def images_word(images: str, data: Path) -> str:
    """Return the folder of the images as a recipe states it: relative to the data set if it is in it, else absolute.

    So a run can be resumed from any working directory, and on another machine if the data set contains the images.
    """
    base = os.path.abspath(data if data.is_dir() else data.parent)
    folder = os.path.abspath(images)
    if not os.path.isdir(folder):
        return images  # in the data set or in its archive, where it is found when it is read
    inside = os.path.relpath(folder, base) if os.path.commonpath([base, folder]) == base else folder
    return inside if data.is_dir() or data.suffix.lower() not in (".zip", ".tar") else folder
