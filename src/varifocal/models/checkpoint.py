"""The checkpoint file: safetensors, whose reading runs no code, with a JSON description inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import CheckpointError

FORMAT = 2  # raised when an older version of the package could not read the file
KEY = "varifocal"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write a checkpoint beside ``path`` and rename it, so that there is never half a file at ``path``.

    Raises:
        CheckpointError: the folder cannot be written, or the disk is full; a file that was at ``path`` is kept.
    """
    described = json.dumps({**info, "format": FORMAT})
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, safetensors.torch.save(kept, metadata={KEY: described}))


def read_info(path: Path) -> dict[str, Any]:
    """Read the description inside a checkpoint, without its tensors.

    Raises:
        CheckpointError: the file is missing, a pickle, not safetensors, not of this package, or of a newer format.
    """
    _refuse_other_files(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: damaged or not a safetensors file ({error}).", code="checkpoint-damaged"
        ) from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: safetensors without a varifocal description; it was written by another program.",
            code="checkpoint-not-ours",
        )
    try:
        info = json.loads(metadata[KEY])
        newer = int(info["format"]) > FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: its varifocal description is damaged ({type(error).__name__}).",
            code="checkpoint-description-damaged",
        ) from error
    if newer:
        raise CheckpointError(
            f"{path}: written by a newer version of varifocal (format {info['format']}, this one reads {FORMAT}); "
            "run pip install --upgrade varifocal.",
            code="checkpoint-newer",
        )
    return info


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the description of a checkpoint; errors as in :func:`read_info`."""
    info = read_info(path)
    try:
        return safetensors.torch.load_file(path), info
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({error}).", code="checkpoint-damaged") from error


def _refuse_other_files(path: Path) -> None:
    if path.is_dir():
        best = path / "best.safetensors"
        hint = f"name {best}" if best.is_file() else "name a .safetensors file"
        raise CheckpointError(f"{path}: is a folder, not a checkpoint; {hint}.", code="checkpoint-folder")
    if is_pickle(path):
        raise CheckpointError(
            f"{path}: is a pickle, which could run any code when it is read, and is refused; convert a published file "
            f"to safetensors with: varifocal convert-weights {path} --out {path.with_suffix('.safetensors')}",
            code="checkpoint-pickle",
        )


def is_pickle(path: Path) -> bool:
    """Return whether a file is a pickle of PyTorch, as published weights are; False for a folder.

    Raises:
        CheckpointError: the file cannot be read.
    """
    if path.is_dir():
        return False
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).", code="checkpoint-not-read") from error
    # safetensors begins with the length of its JSON, whose bytes may be anything, and then the JSON
    return start[8:] != b"{" and start.startswith((b"PK\x03\x04", b"\x80"))


def load_state_dict_strict(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load a whole state dict; ``source`` is named in errors.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape; the first of each is named.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    if missing or extra:
        raise CheckpointError(
            f"{source}: does not fit the model: {len(missing)} weights missing (first: {missing[:1]}), "
            f"{len(extra)} unknown (first: {extra[:1]}).",
            code="weights-missing",
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: {name} is {list(tensor.shape)} but the model needs {list(expected[name].shape)}; "
                "the number of classes or the width differs.",
                code="weight-shape",
            )
    module.load_state_dict(dict(tensors))
