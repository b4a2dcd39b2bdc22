"""Calibration: the ranges and means of a graph's tensors on real images, which set the int8 scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from varifocal.data.validate import check_size
from varifocal.export.quantize_graph import Graph
from varifocal.export.quantize_insert import ValueRange
from varifocal.export.quantize_plan import convolutions, possible
from varifocal.inference.exported.info import ExportInfo
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.exported.onnx_session import OnnxRuntimeSession
from varifocal.inference.pipeline import Settings, read_for
from varifocal.inference.tiling import Tile, make_tiles
from varifocal.types import Dataset, Sample, Tiling
from varifocal.utils.errors import DataError, ExportError

MAX_VIEWS = 128  # images, or tiles of large ones
COVERED = 0.9  # fraction of the images whose values all lie inside a tensor's range


class View(NamedTuple):
    """An image of a data set, or one tile of it."""

    sample: Sample
    tile: Tile | None


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """The ``ranges`` of tensors and the ``means`` [C] of convolution inputs, by name, measured on ``images`` views."""

    ranges: dict[str, ValueRange]
    means: dict[str, np.ndarray]
    images: int


def choose_views(data: Dataset, tiling: Tiling, limit: int = MAX_VIEWS, seed: int = 0) -> list[View]:
    """Return at most ``limit`` images, chosen by the seed; for a model that uses tiles, tiles of these images.

    Raises:
        DataError: the data set is empty.
    """
    if not data.samples:
        raise DataError(
            f"{data.source}: has no images to calibrate on; name another data set with --calibration-data.",
            code="no-calibration-images",
        )
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(data.samples))[:limit])
    samples = [data.samples[int(index)] for index in chosen]
    if not tiling.size:
        return [View(sample, None) for sample in samples]
    views = [View(sample, tile) for sample in samples for tile in make_tiles(sample.height, sample.width, tiling)]
    return [views[index] for index in np.sort(rng.permutation(len(views))[:limit])]


def read_views(views: Sequence[View], info: Settings) -> Iterator[Image.Image]:
    """Yield the images or tiles; adjacent tiles decode their file once, and unreadable images are skipped.

    Raises:
        DataError: none can be read; the message has the reason for the first.
    """
    read, last, image = 0, None, None
    first: DataError | None = None
    for view in views:
        if view.sample is not last:
            last = view.sample
            try:
                image = read_for(info, last.file)
                check_size(last, image)
            except DataError as error:
                image, first = None, first or error
        if image is not None:
            read += 1
            yield image if view.tile is None else image.crop(view.tile)
    if not read:
        raise DataError(
            f"none of the {len(views)} images to calibrate on can be read; the first: {first}",
            code="no-readable-calibration-image",
        )


def measure(
    content: bytes, info: ExportInfo, views: Sequence[View], progress: Callable[[int], None] = lambda done: None
) -> TensorStatistics:
    """Run the float graph on every view, preprocessed as for the model, and return the statistics of its tensors.

    The values of nine tenths of the images lie inside a range, which always includes zero.

    Raises:
        DataError: no image can be read.
        ExportError: the network computes a number that is not finite.
        ConfigError: ONNX Runtime is missing.
    """
    import onnx

    proto = onnx.load_model_from_string(content)
    graph = Graph(proto)
    tensors = possible(graph)
    inputs = list(dict.fromkeys(node.input[0] for node in convolutions(graph)))
    _observe(proto, tensors, inputs)
    session = OnnxRuntimeSession(proto.SerializeToString(), name="the float network")
    exported = ExportedModel(session, info)
    extremes, sums, done = [], [np.zeros(0)] * len(inputs), 0
    for done, image in enumerate(read_views(views, info), start=1):
        batch = exported.batch([image], [exported.fitted_shape(image, info.preprocess)])
        outputs = session.run(batch)
        extremes.append([[float(outputs[name]) for name in _extremes(i)] for i in range(len(tensors))])
        sums = [total + outputs[_mean(i)] if len(total) else outputs[_mean(i)] for i, total in enumerate(sums)]
        progress(done)
    bounds = np.array(extremes)  # [images, tensors, 2]: minimum, maximum
    if not np.isfinite(bounds).all():
        raise ExportError(
            "the network computes numbers that are not finite on these images; no file is written.",
            code="calibration-not-finite",
        )
    low = np.minimum(np.quantile(bounds[..., 0], 1 - COVERED, axis=0), 0)
    high = np.maximum(np.quantile(bounds[..., 1], COVERED, axis=0), 0)
    ranges = {name: ValueRange(float(low[i]), float(high[i])) for i, name in enumerate(tensors)}
    return TensorStatistics(ranges, {name: total / done for name, total in zip(inputs, sums, strict=True)}, done)


def _observe(proto: Any, tensors: list[str], inputs: list[str]) -> None:
    """Add outputs to the graph: minimum and maximum of the tensors, means of the inputs over images and pixels."""
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "observed.axes"))
    outputs: list[tuple[str, list[None]]] = []
    for i, name in enumerate(tensors):
        for kind, output in zip(("ReduceMin", "ReduceMax"), _extremes(i), strict=True):
            graph.node.append(helper.make_node(kind, [name], [output], keepdims=0))
            outputs.append((output, []))
    for i, name in enumerate(inputs):
        graph.node.append(helper.make_node("ReduceMean", [name, "observed.axes"], [_mean(i)], keepdims=0))
        outputs.append((_mean(i), [None]))
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs)


def _extremes(i: int) -> tuple[str, str]:
    return f"observed.{i}.min", f"observed.{i}.max"


def _mean(i: int) -> str:
    return f"observed.{i}.mean"
