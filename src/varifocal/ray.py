"""Prediction with Ray Data: a class for ``map_batches`` (extra ``ray``)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Literal

import numpy as np

from varifocal.inference.image_inputs import as_file, as_image
from varifocal.inference.loading import is_exported, load
from varifocal.inference.stream import StreamOptions, predict_files
from varifocal.tools.shards.records import Record, error_record, image_record, record_schema, require_pyarrow
from varifocal.types import FileLike, Levels
from varifocal.utils.errors import DataError

CONTENT = ("bytes", "image")  # columns with the images, in the order of preference
NAME = ("path", "file_name", "item")  # columns with their paths or names


class Detector:
    """Detects in batches of images: a callable class for ``ray.data.Dataset.map_batches``.

    ``dataset.map_batches(Detector, fn_constructor_args=["best.safetensors"], batch_format="pyarrow",
    compute=ray.data.ActorPoolStrategy(size=2))`` loads the model once an actor and returns a dataset with the columns
    of ``varifocal predict --output``: file_name, width, height, detections (category_id, category_name, bbox as x, y,
    width, height in pixels, score) and error, the reason why an image cannot be read. Other columns of the input are
    kept, but not the images.

    The images are in the column ``bytes`` as files (``ray.data.read_binary_files(..., include_paths=True)``) or in
    ``image`` as files or arrays (``ray.data.read_images``), or they are read from the paths in ``path``, ``file_name``
    or ``item``. Detections are those of ``varifocal predict``: only images that the network sees at one size share a
    batch.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        score_threshold: float | None = None,
        max_detections: int | None = None,
        batch_size: int = 0,
    ) -> None:
        """Load the model.

        Args:
            model: a checkpoint, an exported file or the name of published weights, as for :func:`varifocal.load`.
            device: where it runs; "auto" is the actor's GPU if it has one, otherwise the CPU.
            precision, score_threshold, max_detections: as for ``varifocal predict``.
            batch_size: images of the same size that the network gets together, at most 8 (1 on a CPU, 8 on a GPU).

        Raises:
            CheckpointError, ConfigError: as :func:`varifocal.load`.
        """
        self.model = load(model, _resolved(device, exported=is_exported(model)), precision)
        self.options = StreamOptions(batch_size, 0, score_threshold, max_detections)

    def __call__(self, batch: Any) -> Any:
        """Return the table of detections of a batch, a ``pyarrow.Table`` or a dictionary of columns.

        Raises:
            DataError: there is no column with images or paths.
        """
        columns = _columns_of(batch)
        content, name = _image_columns(columns)
        values = columns[content or name]
        names = [str(one) for one in columns[name]] if name else [f"image {i}" for i in range(len(values))]
        table = _table(self._records(values, names))
        for key, column in columns.items():
            if key not in (content, name, *table.column_names):
                table = table.append_column(key, require_pyarrow().array(list(column)))
        return table

    def _records(self, values: Iterable[Any], names: list[str]) -> list[Record]:
        files: dict[int, FileLike] = {}
        records: dict[int, Record] = {}
        for i, value in enumerate(values):
            try:
                files[i] = _as_file(value, self.model.info.preprocess.range)
            except DataError as error:
                records[i] = error_record(i, names[i], error)
        with closing(predict_files(self.model, list(files.values()), self.options)) as results:
            for i, found in zip(files, results, strict=True):
                if found.image is not None and found.detections is not None:
                    records[i] = image_record(i, names[i], found.image.size, found.detections)
                elif found.error is not None:
                    records[i] = error_record(i, names[i], found.error)
        return [records[i] for i in range(len(names))]


def _resolved(device: str, *, exported: bool) -> str:
    if device != "auto" or exported:
        return "cpu" if device == "auto" else device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _columns_of(batch: Any) -> Mapping[str, Any]:
    """Return the columns of a table or a dictionary as sequences of Python values."""
    if isinstance(batch, Mapping):
        return batch
    return {name: batch.column(name).to_pylist() for name in batch.column_names}


def _image_columns(columns: Mapping[str, Any]) -> tuple[str, str]:
    """Return the column with the images, or "", and that with their paths, or ""; one of them is there.

    Raises:
        DataError: none is.
    """
    content = next((name for name in CONTENT if name in columns), "")
    name = next((name for name in NAME if name in columns), "")
    if not content and not name:
        raise DataError(
            f"no column holds images (found: {', '.join(columns)}); name it bytes, image or path.",
            code="ray-no-images",
        )
    return content, name


def _table(records: list[Record]) -> Any:
    """Return the columns of the records, without the ids, which count only in one batch."""
    arrow, schema = require_pyarrow(), record_schema()
    fields = [schema.field(name) for name in ("file_name", "width", "height", "detections", "error")]
    rows = [{field.name: record.get(field.name) for field in fields} for record in records]
    return arrow.Table.from_pylist(rows, arrow.schema(fields))


def _as_file(value: Any, levels: Levels | None) -> FileLike:
    """Return a path or the content of a file as it is; an array of pixels becomes a file without loss.

    Raises:
        DataError: it is neither, or an array that is no image.
    """
    if isinstance(value, Mapping):  # Hugging Face's images
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (np.ndarray, list)):
        stream = io.BytesIO()
        as_image(_pixels(value), levels).save(stream, "BMP")
        value = stream.getvalue()
    return as_file(value)


def _pixels(value: Any) -> np.ndarray:
    """Return an array of pixels; Arrow hands integers over as lists, whose values are those of bytes."""
    pixels = np.asarray(value)
    fits = pixels.dtype.kind in "iu" and pixels.size and pixels.min() >= 0 and pixels.max() <= 255
    return pixels.astype(np.uint8) if fits and isinstance(value, list) else pixels
