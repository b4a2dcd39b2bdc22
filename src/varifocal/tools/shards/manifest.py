"""What the shards of one prediction have in common: the model, the source, the number of shards and the settings."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from varifocal.utils.errors import ConfigError, DataError

MANIFEST = "run.json"
SUFFIXES = (".jsonl", ".parquet")  # of shards
_SECONDS = 0.5  # in which another process has written a manifest
_FOLDER = "choose another --output, or remove this one to start over"


@dataclass(frozen=True)
class Manifest:
    """The model and the source by their digests, the options that change detections, and how they are written.

    ``names`` are the words that name the source, ``images`` counts its images and videos, ``suffix`` is that of each
    shard's file.
    """

    version: str
    model: str
    model_sha256: str
    names: tuple[str, ...]
    images: int
    source_sha256: str
    shards: int
    suffix: str
    settings: dict[str, Any]

    def digest(self) -> str:
        """Return the SHA-256 of all that changes the records, whatever the paths of model and source are here."""
        values = {key: value for key, value in asdict(self).items() if key not in ("model", "names")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def store(self, file: Path) -> None:
        """Write the manifest, unless there is one already, which must be equal.

        Of several processes that do this at the same time one writes the file.

        Raises:
            ConfigError: the one that is there differs, or the file cannot be written.
            DataError: it is no manifest.
        """
        trial = file.with_name(f".{file.name}.{secrets.token_hex(6)}.part")
        try:
            if not file.exists():
                trial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
                _place(trial, file)
        except OSError as error:
            raise ConfigError(
                f"{file}: cannot be written ({error.strerror}); make room or choose another --output.",
                code="manifest-not-written",
            ) from error
        finally:
            trial.unlink(missing_ok=True)
        self.compare(read_manifest(file), file)

    def compare(self, other: Manifest, file: Path) -> None:
        """Raise ConfigError if ``other``, read from ``file``, is of another prediction; it names the difference."""
        if self == other:
            return
        differences = {
            "shards": f"the source was split into {other.shards} shards and not {self.shards}",
            "model_sha256": f"another checkpoint was used ({_named(other.model, other.model_sha256)}, and not "
            f"{_named(self.model, self.model_sha256)})",
            "source_sha256": f"the source was another one ({other.images} images and videos as {_short(other)}, and "
            f"not {self.images} as {_short(self)}): files were added, removed or replaced",
            "suffix": f"the shards are {other.suffix} files and not {self.suffix}",
            "settings": f"the options were {_options(other.settings, self.settings)}",
            "version": f"varifocal {other.version} was used and not {self.version}",
        }
        reason = next((text for key, text in differences.items() if getattr(self, key) != getattr(other, key)), None)
        if reason is not None:  # otherwise it is the same under another path
            raise ConfigError(f"{file}: belongs to another prediction: {reason}; {_FOLDER}.", code="other-prediction")


def _named(model: str, digest: str) -> str:
    return f"{model} with SHA-256 {digest[:12]}..."


def _short(manifest: Manifest) -> str:
    return " ".join(manifest.names)


def _options(before: dict[str, Any], now: dict[str, Any]) -> str:
    return ", ".join(
        f"{key}={before.get(key)} (now {now.get(key)})" for key in before if before.get(key) != now.get(key)
    )


def _place(trial: Path, file: Path) -> None:
    """Give a file its name if nothing has it."""
    try:
        os.link(trial, file)
    except FileExistsError:
        return
    except OSError:  # the file system has no links
        try:
            with open(file, "xb") as stream:
                stream.write(trial.read_bytes())
        except FileExistsError:
            time.sleep(_SECONDS)  # another process is writing it


def read_manifest(file: Path) -> Manifest:
    """Return the manifest in a file.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        found = Manifest(**{**values, "names": tuple(values["names"])})
        numbers = isinstance(found.shards, int) and isinstance(found.images, int)
        if not numbers or found.shards < 1 or found.images < 0 or found.suffix not in SUFFIXES:
            raise ValueError("its numbers or suffix are wrong")
        return found
    except FileNotFoundError:
        raise DataError(
            f"{file}: there is no such file; name a folder that varifocal predict --shard K/N --output wrote.",
            code="manifest-missing",
        ) from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{file}: is not what varifocal predict --output writes ({' '.join(str(error).split())[:100]}).",
            code="manifest-unreadable",
        ) from None


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, of an OpenVINO model with its weights.

    Raises:
        DataError: it cannot be read.
    """
    found = hashlib.sha256()
    parts = (file, file.with_suffix(".bin")) if file.suffix.lower() == ".xml" else (file,)
    for part in parts:
        try:
            with open(part, "rb") as stream:
                while block := stream.read(1 << 20):
                    found.update(block)
        except OSError as error:
            raise DataError(f"{part}: cannot be read ({error.strerror}).", code="model-not-read") from error
    return found.hexdigest()
