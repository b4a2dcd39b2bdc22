"""Models by path or by name: checkpoints, published weights, and exported files, which need no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from varifocal.inference.published.names import FILES, family_of
from varifocal.utils.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from varifocal.inference.model import Model

EXPORTED = (".onnx", ".xml", ".pt2")  # suffixes of exported files; every other file is a checkpoint
BEST = "best.safetensors"  # in the folder of a run


def is_exported(path: Path | str) -> bool:
    """Return whether a path is named like an exported model and not like a checkpoint."""
    return Path(path).suffix.lower() in EXPORTED


def load(path: Path | str, device: str = "cpu", precision: Literal["fp32", "bf16", "fp16"] = "fp32") -> Any:
    """Load a model by path or by name, ready to predict.

    A checkpoint becomes a :class:`varifocal.inference.model.Model`, an exported file a
    :class:`varifocal.inference.exported.model.ExportedModel`, which needs no torch. Both have ``predict``,
    ``categories`` and ``info``. ``precision`` is the type in which a checkpoint predicts: "bf16" halves the time on
    processors that support it, at a cost of about one hundredth of each raw output; "fp16" is for GPUs. OpenVINO files
    take "fp32" or "bf16"; the precision of an ONNX file is fixed.

    Args:
        path: an exported file (``.onnx``, ``.xml``), a checkpoint, the folder of a run (its best weights), a published
            ``.pth`` file, or the name of published weights such as ``"vfnet_r50_ms_2x"``, which are fetched once from
            mmdetection's server.
        device: where the model runs.
        precision: as above.

    Raises:
        ConfigError: the precision or the device does not exist, or a package is missing.
        CheckpointError: there is no such file or name, the file cannot be fetched, it was not written by this package
            and is no published file either, it is damaged, or it is of a newer version.
    """
    if is_exported(path):
        from varifocal.inference.exported.model import load_exported

        return load_exported(path, device, precision)
    return load_checkpoint(path, device, precision)


def load_checkpoint(
    name: Path | str, device: str = "cpu", precision: Literal["fp32", "bf16", "fp16"] = "fp32"
) -> Model:
    """Load a model as :func:`load` does, but no exported file. Published weights are converted; no code in them runs.

    Raises:
        ConfigError, CheckpointError: as :func:`load`.
    """
    path = find_checkpoint(name)
    try:
        from varifocal.inference import model
        from varifocal.inference.published.convert import load_published
        from varifocal.models.checkpoint import is_pickle
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path}: a checkpoint needs the package {error.name}: pip install varifocal; an exported file does not.",
            code="checkpoint-package-missing",
        ) from error
    if not is_pickle(path):
        return model.load(path, device, precision)
    model.check_precision(precision, device)
    converted, notes = load_published(path)
    for note in notes:
        print(f"{path}: {note}.", file=sys.stderr)
    converted.precision = precision
    return converted.to(device).eval()


def find_checkpoint(name: Path | str) -> Path:
    """Return the file of a model: the best weights of a run folder, a file, or published weights by their name.

    A path that exists wins over a name. Published weights are fetched if they are not in the cache folder.

    Raises:
        CheckpointError: there is neither a path nor published weights of this name, or these cannot be fetched.
    """
    path = Path(name)
    if (path / BEST).is_file():
        return path / BEST
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path  # whoever reads it reports what is wrong with it
    if str(name) in FILES:
        return _fetch(str(name))
    from difflib import get_close_matches

    near = ", ".join(get_close_matches(str(name), FILES, n=3, cutoff=0.5))
    raise CheckpointError(
        f"{name}: there is no such file or run, and there are no published weights of this name"
        f"{f'; the nearest names are {near}' if near else ''} (varifocal models lists the names).",
        code="checkpoint-unknown-name",
    )


def _fetch(name: str) -> Path:
    """Return the path of published weights in the cache folder, after fetching them with a progress bar if needed."""
    from varifocal.inference.published.download import address_of, cache_folder, fetch, is_intact
    from varifocal.utils.progress import progress_bar

    address, file = address_of(family_of(name), FILES[name]), cache_folder() / FILES[name]
    if is_intact(file):
        return file
    damaged = f"{file} is damaged; " if file.exists() else ""
    print(f"{name}: {damaged}fetching {address} to {file.parent}", file=sys.stderr)
    with progress_bar(f"fetching {name}", None, "MiB/s") as advance:
        return fetch(address, file.parent, lambda done, total: advance(done >> 20, total and total >> 20))
