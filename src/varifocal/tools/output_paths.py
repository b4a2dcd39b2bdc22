"""The output files of commands: where they go, and what must not be overwritten."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from varifocal.utils.atomic_write import refuse_existing
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

NEW_OUT = "choose another --out or remove it"


def exclude_output_dir(files: list[Path], out: Path | None) -> list[Path]:
    """Return the input files without those that an earlier call wrote to ``out``.

    Raises:
        ConfigError: none is left.
    """
    if out is None:
        return files
    kept = [file for file in files if out.resolve() not in file.resolve().parents]
    if not kept:
        raise ConfigError(
            f"{files[0]}: lies in --out {out}, so it is not taken as input; choose another --out.",
            code="input-in-output-folder",
        )
    return kept


def output_image_paths(files: list[Path], out: Path | None, videos: Container[Path] = ()) -> list[Path]:
    """Return the path of each annotated image: under ``out``, by its path below the folder common to all.

    Files in ``videos`` become an .mp4 with a .jsonl beside it. Without ``out`` the list is empty.

    Raises:
        ConfigError: a file would be overwritten that is an input, or that no earlier call has written.
    """
    if out is None:
        return []
    inputs = [file.resolve() for file in files]
    common = Path(os.path.commonpath([file.parent for file in inputs]))
    paths = unique_paths(
        _annotated(out / source.relative_to(common), video=file in videos)
        for file, source in zip(files, inputs, strict=True)
    )
    beside = [path.with_suffix(".jsonl") for path in paths if path.suffix.lower() == ".mp4"]
    refuse_overwriting([*paths, *beside], inputs, marker=out / "detections.json")
    return paths


def _annotated(path: Path, *, video: bool) -> Path:
    """Return the path with a suffix that can be written."""
    kept, other = ((".mp4",), ".mp4") if video else ((".jpg", ".jpeg", ".png"), ".png")
    return path if path.suffix.lower() in kept else path.with_suffix(other)


def unique_paths(paths: Iterable[Path]) -> list[Path]:
    """Return the paths with a number where one repeats: the second a.png becomes a-2.png."""
    taken: dict[Path, None] = {}
    for path in paths:
        number, free = 1, path
        while free in taken:
            number += 1
            free = path.with_stem(f"{path.stem}-{number}")
        taken[free] = None
    return list(taken)


def refuse_overwriting(paths: Sequence[Path], inputs: Iterable[Path], *, marker: Path) -> None:
    """Raise ConfigError if one of ``paths`` is one of the resolved ``inputs``, or exists in a folder without
    ``marker``, the file that an earlier call left there."""
    sources, ours = set(inputs), marker.exists()
    overwritten = [path for path in paths if path.resolve() in sources or (path.exists() and not ours)]
    if overwritten:
        raise ConfigError(
            f"{min(overwritten)}: would be overwritten; choose another --out.", code="output-would-overwrite"
        )


def ensure_outputs(files: Mapping[str, Path | None]) -> None:
    """Check that the files named by these options can be written; None is an option that was left out.

    Raises:
        ConfigError: two options name one file, or as of :func:`ensure_writable_file`.
    """
    options: dict[Path, str] = {}
    for option, file in files.items():
        if file is None:
            continue
        first = options.setdefault(file.resolve(), option)
        if first != option:
            raise ConfigError(
                f"{file}: is named by {first} and by {option}; give each a file of its own.",
                code="two-outputs-one-file",
            )
        ensure_writable_file(file)


def ensure_writable_file(file: Path) -> None:
    """Check that a file can be written, before the work that makes it; create its folder.

    Raises:
        ConfigError: it is a folder, or its folder cannot be written.
    """
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; name a file.", code="output-is-folder")
    ensure_writable_dir(file.parent)
    trial = file.with_name(f".{file.name}.{secrets.token_hex(6)}.trial")  # another process may try the same path
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written ({error.strerror}); choose another path.", code="output-not-writable"
        ) from error


def ensure_writable_dir(folder: Path) -> None:
    """Create the folder and check that files can be written to it.

    Raises:
        ConfigError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder.", code="output-not-writable"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder}: cannot be written; choose another folder.", code="output-not-writable")


def save_image(image: Image, path: Path) -> None:
    """Write the image as a JPEG or PNG, depending on the suffix of the path."""
    from varifocal.utils.atomic_write import atomic_write

    buffer = io.BytesIO()
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    image.save(buffer, format="JPEG" if jpeg else "PNG", **({"quality": 92} if jpeg else {}))
    atomic_write(path, buffer.getvalue())


@contextmanager
def making_checkpoint(file: Path) -> Iterator[None]:
    """Check that a new checkpoint can be written, and keep other processes from writing it while the block runs.

    Raises:
        ConfigError: it already exists, its name does not end in .safetensors, its folder cannot be written, or another
            process is writing it.
    """
    from varifocal.utils.locks import claimed_file

    if file.suffix != ".safetensors":
        raise ConfigError(f"{file}: the name of a checkpoint must end in .safetensors.", code="output-suffix")
    refuse_existing(file, NEW_OUT)
    ensure_writable_file(file)
    with claimed_file(file):
        refuse_existing(file, NEW_OUT)  # again: another process may have made it in between
        yield


def export_path(checkpoint: Path, out: Path | None, suffixes: Sequence[str], *, force: bool) -> Path:
    """Return the path of an exported file: ``out``, or the checkpoint's name in the folder ``out`` or beside it.

    Published weights, which lie in the cache folder, are exported to the working directory under their name. The file
    has the first of the suffixes, files that are written beside it have the others.

    Raises:
        ConfigError: the checkpoint is missing or already an exported file; or one of the files, or the description
            beside them, cannot be written, or exists without ``force``.
    """
    from varifocal.inference.exported.info import sidecar_path

    file = _checkpoint_to_export(checkpoint)
    suffix = suffixes[0]
    beside = (file if checkpoint.exists() else checkpoint).with_suffix(suffix)
    target = out or beside
    if target.is_dir() or target.suffix == "":
        target = target / beside.name
    if target.suffix != suffix:
        raise ConfigError(f"{target}: the name of such a file must end in {suffix}.", code="output-suffix")
    for file in (*(target.with_suffix(suffix) for suffix in suffixes), sidecar_path(target)):
        if not force:
            refuse_existing(file, "choose another --out or overwrite it with --overwrite")
        ensure_writable_file(file)
    return target


def _checkpoint_to_export(checkpoint: Path) -> Path:
    """Return the file of a checkpoint, or raise ConfigError if there is none or it is an exported file."""
    from varifocal.inference.loading import find_checkpoint, is_exported  # not for a verb's --help

    if is_exported(checkpoint):
        raise ConfigError(
            f"{checkpoint}: is already an exported file; name the checkpoint that it was made from.",
            code="checkpoint-is-exported",
        )
    file = find_checkpoint(checkpoint)
    if not file.is_file():
        raise ConfigError(f"{checkpoint}: there is no such file; name a checkpoint.", code="checkpoint-missing")
    return file
