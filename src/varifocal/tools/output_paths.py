"""Where the command line puts what it makes, and what it refuses to overwrite."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image


def exclude_output_dir(files: list[Path], out: Path | None) -> list[Path]:
    """Without what an earlier call left in ``out``."""
    if out is None:
        return files
    kept = [file for file in files if out.resolve() not in file.resolve().parents]
    if not kept:
        raise ConfigError(f"{files[0]}: lies in --out {out}, so it is not taken as input; choose another --out.")
    return kept


def output_image_paths(files: list[Path], out: Path | None, videos: Container[Path] = ()) -> list[Path]:
    """Return where each annotated image goes: under ``out``, by its path below the folder common to all.

    Of ``files``, those in ``videos`` go to an .mp4, with a .jsonl beside it.
    """
    if out is None:
        return []
    resolved = {file.resolve(): None for file in files}  # a set in the order of the files
    shared = Path(os.path.commonpath([file.parent for file in resolved]))
    paths: dict[Path, None] = {}
    for file in files:
        path = out / file.resolve().relative_to(shared)
        kept, other = ((".mp4",), ".mp4") if file in videos else ((".jpg", ".jpeg", ".png"), ".png")
        keeps = path.suffix.lower() in kept
        paths[_numbered(path if keeps else path.with_suffix(other), paths)] = None
    ours = (out / "detections.json").exists()  # then the folder is from an earlier call
    beside = [folder.with_suffix(".jsonl") for folder in paths if folder.suffix.lower() == ".mp4"]
    overwritten = [
        directory
        for directory in (*paths, *beside)
        if directory.resolve() in resolved or (directory.exists() and not ours)
    ]
    if overwritten:
        raise ConfigError(f"{min(overwritten)}: would be overwritten by what is found; choose another --out.")
    return list(paths)


def _numbered(path: Path, taken: Container[Path]) -> Path:
    """a.bmp and a.gif would both become a.png: the second is a-2.png."""
    number, free = 1, path
    while free in taken:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def ensure_writable_file(file: Path) -> None:
    """Before the work, that its result can be put there.

    Raises:
        ConfigError: it is a folder, or its folder cannot be written.
    """
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; name a file.")
    ensure_writable_dir(file.parent)
    trial = file.with_name(f".{file.name}.{secrets.token_hex(6)}.trial")  # another process may try the same path
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}); choose another path.") from error


def ensure_writable_dir(folder: Path) -> None:
    """Make the folder, and see that something can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); choose another folder.") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder}: cannot be written; choose another folder.")


def save_image(image: Image, path: Path) -> None:
    """A JPEG or PNG, by the name."""
    from varifocal.utils.atomic_write import atomic_write

    buffer = io.BytesIO()
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    image.save(buffer, format="JPEG" if jpeg else "PNG", **({"quality": 92} if jpeg else {}))
    atomic_write(path, buffer.getvalue())


@contextmanager
def making_checkpoint(file: Path) -> Iterator[None]:
    """While a checkpoint is made: that it can be written there, overwrites nothing, and that nobody else makes it.

    Raises:
        ConfigError: it is there, its name does not end in .safetensors, its folder cannot be written, or another
            process is writing it.
    """
    from varifocal.utils.locks import claimed_file

    if file.suffix != ".safetensors":
        raise ConfigError(f"{file}: the name of a checkpoint ends in .safetensors.")
    refuse_existing(file)
    ensure_writable_file(file)
    with claimed_file(file):
        refuse_existing(file)  # again: another process may have made it in between
        yield


def refuse_existing(file: Path) -> None:
    """Raises ConfigError: it is there."""
    if file.exists():
        raise ConfigError(f"{file}: is there already; choose another --out or remove it.")


def export_path(checkpoint: Path, out: Path | None, suffixes: Sequence[str], *, force: bool) -> Path:
    """Where an exported file goes: ``out``, in the folder ``out`` under the checkpoint's name, or beside it.

    It has the first of the suffixes, what lies beside it has the others.

    Raises:
        ConfigError: the checkpoint is missing, or exported already; or one of the files, or the description beside
            them, is there and not ``force``, or cannot be written.
    """
    from varifocal.inference.exported.info import sidecar_path
    from varifocal.inference.loading import is_exported  # not for a verb's --help

    if is_exported(checkpoint):
        raise ConfigError(f"{checkpoint}: is an exported file; name the checkpoint that it was made of.")
    if not checkpoint.is_file():
        raise ConfigError(f"{checkpoint}: there is no such file; name a checkpoint.")
    suffix = suffixes[0]
    target = checkpoint.with_suffix(suffix) if out is None else out
    if target.is_dir() or target.suffix == "":
        target = target / checkpoint.with_suffix(suffix).name
    if target.suffix != suffix:
        raise ConfigError(f"{target}: the name of such a file ends in {suffix}.")
    for file in (*(target.with_suffix(suffix) for suffix in suffixes), sidecar_path(target)):
        if file.exists() and not force:
            raise ConfigError(f"{file}: is there already; choose another --out or overwrite it with --overwrite.")
        ensure_writable_file(file)
    return target
