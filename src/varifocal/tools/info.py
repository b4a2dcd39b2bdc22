"""The command ``info``: descriptions of checkpoints, backbones and exported files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.inference.exported.formats import read_info
from varifocal.inference.exported.processor import has_vnni
from varifocal.inference.loading import find_checkpoint, is_exported, load_checkpoint

if TYPE_CHECKING:
    from rich.console import RenderableType

    from varifocal.inference.exported.info import ExportInfo, GraphInfo
    from varifocal.types import Category

SHOWN = 12  # classes that are listed


def about(path: Path) -> RenderableType:
    """Return the description of a file; an exported file is read without torch and without its runtime.

    Raises:
        CheckpointError: the file is not of this package, damaged, or of a newer version.
    """
    if is_exported(path):
        return _table(path, _exported_rows(path, read_info(path)))
    from varifocal.models.checkpoint import is_pickle
    from varifocal.models.checkpoint import read_info as read_checkpoint_info

    path = find_checkpoint(path)
    metadata = {} if is_pickle(path) else read_checkpoint_info(path)
    if metadata.get("kind") == "backbone":
        return f"{path}: the backbone {metadata['name']}; train with model.backbone.weights={path}"
    return _table(path, _checkpoint_rows(path))


def _table(path: Path, rows: Iterator[tuple[str, str]]) -> RenderableType:
    from rich.table import Table

    table = Table("property", "value", title=str(path), show_lines=False)
    for row in rows:
        table.add_row(*row)
    return table


def _checkpoint_rows(path: Path) -> Iterator[tuple[str, str]]:
    model = load_checkpoint(path)
    info = model.info
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield "detector", f"{info.name} on {info.config.backbone.name}, {parameters / 1e6:.1f} M parameters"
    yield "classes", _classes(info.categories)
    yield "config", _fields(info.config)
    yield from _settings(info)
    metrics = ", ".join(f"{name} {100 * value:.1f}" for name, value in info.metrics.items() if value >= 0)
    yield "metrics", metrics or "none recorded"


def _exported_rows(path: Path, info: ExportInfo) -> Iterator[tuple[str, str]]:
    graph = info.graph
    files = [file for file in (path, path.with_suffix(".bin")) if file == path or path.suffix.lower() == ".xml"]
    size = "any size" if graph.size is None else f"{graph.size[0]}x{graph.size[1]}"
    weight = sum(file.stat().st_size for file in files if file.exists()) / 1e6
    yield "detector", f"{info.detector}, exported, {weight:.1f} MB"
    yield "classes", _classes(info.categories)
    yield "input", f"{size}; multiples of {graph.multiple}" if graph.size is None else size
    yield "graph", _fields(graph, "size", "multiple", "strides", "per_cell", "border", "int8_target")
    if graph.precision == "int8":
        yield "int8", _int8(graph)
    yield from _settings(info)
    yield "made with", ", ".join(f"{name} {version}" for name, version in info.versions.items())
    yield (
        "compared with torch",
        ", ".join(f"{name}={_short(value)}" for name, value in info.parity.items() if name != "bound"),
    )


def _int8(graph: GraphInfo) -> str:
    if not graph.wants_vnni:
        return "portable: same results on every processor"
    here = {
        True: "this processor runs it exactly",
        False: "this processor has no VNNI and cannot run it",
        None: "whether this processor has VNNI is unknown",
    }
    return f"for x86 processors with VNNI, and for other processors than x86; {here[has_vnni()]}"


def _settings(info: Any) -> Iterator[tuple[str, str]]:
    for name in ("preprocess", "postprocess", "tiling", "tta"):
        yield name, _fields(getattr(info, name))


def _classes(categories: tuple[Category, ...]) -> str:
    names = ", ".join(category.name for category in categories[:SHOWN])
    return f"{len(categories)}: {names}{', ...' if len(categories) > SHOWN else ''}"


def _fields(part: Any, *without: str) -> str:
    return ", ".join(f"{key}={value}" for key, value in vars(part).items() if key not in ("backbone", *without))


def _short(value: Any) -> Any:
    return f"{value:.2g}" if isinstance(value, float) else value
