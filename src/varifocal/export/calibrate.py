"""What the tensors of a graph hold on real images: their ranges and means, from which eight bits are laid out."""

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

MOST = 128  # images, or windows of large ones
FRACTION = 0.9  # of the images have all their numbers inside a tensor's range


class View(NamedTuple):
    """An image of a data set, or one window of it."""

    sample: Sample
    window: Tile | None


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """Of tensors by name: the ``ranges``, and of convolutions' inputs the ``means`` [C]; on how many ``images``."""

    ranges: dict[str, ValueRange]
    means: dict[str, np.ndarray]
    images: int


def choose_views(data: Dataset, tiling: Tiling, most: int = MOST, seed: int = 0) -> list[View]:
    """At most so many images, chosen by the seed; for a model that reads windows, windows of these.

    Raises:
        DataError: the data set is empty.
    """
    if not data.samples:
        raise DataError(
            f"{data.source}: holds no images to calibrate on; name another data set with --calibration-data."
        )
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(data.samples))[:most])
    samples = [data.samples[int(location)] for location in chosen]
    if not tiling.size:
        return [View(sample, None) for sample in samples]
    views = [
        View(sample, position) for sample in samples for position in make_tiles(sample.height, sample.width, tiling)
    ]
    return [views[index] for index in np.sort(rng.permutation(len(views))[:most])]


def read_views(views: Sequence[View], info: Settings) -> Iterator[Image.Image]:
    """The images or windows, a file decoded once for those that follow each other; what cannot be read is left out.

    Raises:
        DataError: none can be read; the message is that of the first.
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
            yield image if view.window is None else image.crop(view.window)
    if not read:
        raise DataError(f"none of the {len(views)} images to calibrate on can be read; the first: {first}")


def measure(
    content: bytes, info: ExportInfo, views: Sequence[View], progress: Callable[[int], None] = lambda done: None
) -> TensorStatistics:
    """Run the float graph on every view as the model will see it, and note what the tensors hold.

    A range is what nine tenths of the images stay within, and always has zero.

    Raises:
        DataError: no image can be read.
        ExportError: the network gives something that is not a finite number.
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
        found = session.run(batch)
        extremes.append([[float(found[name]) for name in _extremes(i)] for i in range(len(tensors))])
        sums = [total + found[_mean(i)] if len(total) else found[_mean(i)] for i, total in enumerate(sums)]
        progress(done)
    bounds = np.array(extremes)  # images, tensors, (least, most)
    if not np.isfinite(bounds).all():
        raise ExportError("the network gives numbers that are not finite on these images; nothing is kept.")
    low = np.minimum(np.quantile(bounds[..., 0], 1 - FRACTION, axis=0), 0)
    high = np.maximum(np.quantile(bounds[..., 1], FRACTION, axis=0), 0)
    ranges = {name: ValueRange(float(low[i]), float(high[i])) for i, name in enumerate(tensors)}
    return TensorStatistics(ranges, {name: total / done for name, total in zip(inputs, sums, strict=True)}, done)


def _observe(proto: Any, tensors: list[str], inputs: list[str]) -> None:
    """Add outputs: the least and the most of the tensors, the means over images and cells of the inputs."""
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
    return f"observed.{i}.least", f"observed.{i}.most"


def _mean(i: int) -> str:
    return f"observed.{i}.mean"
