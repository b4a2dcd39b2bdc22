"""Small data sets on disk: files from texts, and images of a given size."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from varifocal.data.load import load_dataset
from varifocal.utils.errors import DataError


def png(width: int, height: int, color: tuple[int, int, int] = (90, 90, 90)) -> bytes:
    """The bytes of an image of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, files: dict[str, str | bytes | tuple[int, int]]) -> Path:
    """Write files: texts, bytes, or images of (width, height)."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            content = png(*content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def pack(path: Path, files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip or a tar of files given as texts or bytes."""
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(name), content, method)
        return path
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def refused(path: Path, *parts: str, code: str | None = None, **options) -> str:
    """Return the message of the DataError that loading raises: one line with all ``parts`` in it.

    With ``code`` the error must have that code.
    """
    with pytest.raises(DataError) as error:
        load_dataset(path, **options)
    message = str(error.value)
    assert "\n" not in message
    assert code in (None, error.value.code)
    for part in parts:
        assert part in message, message
    assert error.value.__cause__ is None
    return message


def found(data, name=lambda file: file.name) -> dict[str, list[tuple[str, list[float]]]]:
    """File name -> class name and rounded box of each object."""
    return {
        name(sample.file): [
            (data.categories[label].name, [round(float(value), 4) for value in box])
            for label, box in zip(sample.labels, sample.boxes, strict=True)
        ]
        for sample in data.samples
    }
