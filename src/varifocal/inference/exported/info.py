"""The description of an exported file, as JSON inside it: everything that is needed to run it and name its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from varifocal.types import TTA, Category, PostProcess, Preprocess, Tiling
from varifocal.utils.errors import CheckpointError, ConfigError
from varifocal.utils.renamed import with_new_names

Int8Target = Literal["portable", "vnni"]

# Raised when an older version of the package could not read the file: 2 has int8_target, 3 the names of today.
FORMAT = 3
KEY = "varifocal"
OUTSIDE = -1.0  # of all channels: beside the image, for a graph that must know where the image ends


@dataclass(frozen=True)
class GraphInfo:
    """The input and the outputs of a graph.

    ``size`` is (height, width) of its input in pixels, or None for any multiples of ``multiple``. ``strides`` are those
    of its levels, finest first; a level has ``per_cell`` boxes for each of ceil(height / stride) x ceil(width / stride)
    cells. ``border`` is how many pixels before the end of an image its boxes end. With ``nms`` "graph" the graph
    suppresses, with "host" its caller does. ``precision`` is that of its convolutions, ``deform`` the form of its
    deformable ones. ``int8_target`` names the processors on which products in int8 are exact: "portable" all, "vnni"
    x86 with VNNI and all but x86; None for other precisions, and in older files, which are of the kind "vnni".
    """

    size: tuple[int, int] | None
    strides: tuple[int, ...]
    per_cell: int = 1
    multiple: int = 32
    border: int = 0
    nms: Literal["graph", "host"] = "host"
    precision: str = "fp32"
    deform: str = "deformconv"
    opset: int = 20
    int8_target: Int8Target | None = None

    RENAMED_VALUES: ClassVar = {"nms": {"in": "graph", "out": "host"}}

    @property
    def wants_vnni(self) -> bool:
        """Whether its products are exact only on some processors."""
        return self.precision == "int8" and self.int8_target != "portable"

    def counts(self, height: int, width: int) -> tuple[int, ...]:
        """Return the number of boxes of each level for an input of that size."""
        return tuple(-(-height // stride) * -(-width // stride) * self.per_cell for stride in self.strides)


@dataclass(frozen=True)
class ExportInfo:
    """An exported model: the detector's name, its classes, how images are prepared, and which boxes are kept.

    ``versions`` are those of the package and of its exporter; ``parity`` is the result of the comparison with torch.
    ``work`` are the operations for one image of (height, width), two per multiply-add: (800, 1216, 4.1e11), or nothing
    in files without them. ``pad`` fills the input beside an image, red, green and blue, where that is not the color
    that becomes zero in the graph.
    """

    detector: str
    categories: tuple[Category, ...]
    graph: GraphInfo
    preprocess: Preprocess = field(default_factory=Preprocess)
    postprocess: PostProcess = field(default_factory=PostProcess)
    tiling: Tiling = field(default_factory=Tiling)
    tta: TTA = field(default_factory=TTA)
    versions: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    work: tuple[int, ...] = ()
    pad: tuple[float, ...] | None = None

    RENAMED: ClassVar = {
        "views": "tta",
    }

    @property
    def pad_color(self) -> tuple[float, ...]:
        """Red, green and blue of the input beside an image."""
        return pad_color(self.preprocess) if self.pad is None else self.pad

    def operations(self, height: int, width: int) -> int:
        """Return the operations for one image of that size, in proportion to its area; 0 if the file lacks them."""
        if len(self.work) != 3:
            return 0
        return round(self.work[2] * (height * width) / (self.work[0] * self.work[1]))


def pad_color(preprocess: Preprocess) -> tuple[float, ...]:
    """Return red, green and blue that become zero in the graph."""
    return tuple(reversed(preprocess.mean)) if preprocess.bgr else preprocess.mean


def sidecar_path(path: Path) -> Path:
    """Return the path of the file with the same description beside the model; each format of a model has its own."""
    return path.with_name(f"{path.name}.json")


def to_json(info: ExportInfo) -> dict[str, Any]:
    """Return the description as plain values for the file."""
    graph = asdict(info.graph)
    if info.graph.int8_target is None:
        del graph["int8_target"]
    return {
        "format": FORMAT,
        "kind": "exported",
        "detector": info.detector,
        "categories": [[category.id, category.name] for category in info.categories],
        "graph": graph,
        "pad": list(info.pad_color),
        "preprocess": asdict(info.preprocess),
        "postprocess": asdict(info.postprocess),
        "tiling": asdict(info.tiling),
        "tta": asdict(info.tta),
        "versions": info.versions,
        "parity": info.parity,
        "work": list(info.work),
    }


def from_json(text: str, source: str) -> ExportInfo:
    """Return the description that :func:`to_json` or an older version of it wrote; ``source`` is named in errors.

    Raises:
        CheckpointError: the description was written by a newer version, or is damaged.
    """
    try:
        values = json.loads(text)
        newer = int(values["format"]) > FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source}: its varifocal description is damaged ({type(error).__name__}).", code="description-damaged"
        ) from error
    if newer:
        raise CheckpointError(
            f"{source}: written by a newer version of varifocal (format {values['format']}, this one reads {FORMAT}); "
            "run pip install --upgrade varifocal.",
            code="description-newer",
        )
    try:
        return ExportInfo(
            values["detector"],
            tuple(Category(int(number), str(name)) for number, name in values["categories"]),
            _build(GraphInfo, values["graph"]),
            _build(Preprocess, values["preprocess"]),
            _build(PostProcess, values["postprocess"]),
            _build(Tiling, values["tiling"]),
            _build(TTA, values["tta"] if "tta" in values else values["views"]),
            values["versions"],
            values["parity"],
            tuple(int(number) for number in values.get("work", ())),
            (OUTSIDE,) * 3 if values.get("pad") == [OUTSIDE] * 3 else None,
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{source}: its varifocal description is damaged ({error}).", code="description-damaged"
        ) from error


def _build(kind: Any, values: Mapping[str, Any]) -> Any:
    today = with_new_names(kind, values)
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in today.items()})
