"""Imports point one way: a package knows those below it and no other. The order is the table LAYERS."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "varifocal"

# Lowest first. A package is a file or a folder directly in varifocal; those of one row do not know each other.
# __init__ and __main__ are those of varifocal itself.
LAYERS = [
    ("utils",),
    ("types",),
    ("structures",),
    ("ops",),
    ("losses",),
    ("assign", "data"),
    ("models",),
    ("inference",),
    ("evaluation",),
    ("analysis",),
    ("export", "training"),
    ("recipes",),
    ("tools",),
    ("cli", "ray"),
    ("__init__", "__main__"),
]

# Packages that may know less than their row allows: only these and themselves.
ONLY = {"data": {"utils", "types", "structures", "ops"}}

# In tools/ every folder is a tool of its own, which knows no other tool; the files beside them serve them all.
SHARED_TOOLS = {"datasets", "output_paths"}

# In models/ every file but these is a detector, and a detector never imports another.
MODEL_PARTS = {
    "__init__",
    "backbone",
    "backbone_options",
    "checkpoint",
    "dense",
    "flops",
    "layers",
    "optimize",
    "pafpn",
    "pretrained",
}

# The only files or folders that may import these third parties.
DOORS = {
    "av": {"inference/video.py"},
    "pillow_heif": {"data/image_errors.py"},
    "pi_heif": {"data/image_errors.py"},
    "timm": {"models/backbone.py", "models/backbone_options.py", "export/fix_backbone.py"},
    "hotcoco": {"evaluation/coco_ap.py"},
    "lightning": {"training/"},
    "lightning_fabric": {"training/"},
    "supervision": {"types.py"},
    "onnx": {"export/"},
    "onnxruntime": {"export/", "inference/exported/"},
    "openvino": {"export/", "inference/exported/"},
    "jinja2": {"analysis/pages/"},
    "markupsafe": {"analysis/pages/"},  # so that no other module can call a text safe
    "contextvars": {"data/paths.py"},  # a listing is remembered there; none decides what a network computes
    "mlflow": {"training/callbacks.py"},
    "wandb": {"training/callbacks.py"},
    "triton": {f"ops/kernels/star_{name}.py" for name in ("cuda", "triton", "triton_backward")},
    "pyarrow": {"data/readers/parquet.py", "tools/shards/records.py"},
    "pycocotools": set(),
    "mmcv": set(),
    "mmdet": set(),
}


class Import(NamedTuple):
    """``module``, in ``file`` (relative to the package), imports ``target`` in this line."""

    file: PurePosixPath
    module: str
    target: str
    line: int


def read_imports(source: Path) -> tuple[set[str], list[Import]]:
    """All modules of the package under ``source``, and all imports in them, wherever they stand."""
    files = {path: path.relative_to(source) for path in sorted((source / PACKAGE).rglob("*.py"))}
    modules = {module_name(relative) for relative in files.values()}
    imports = []
    for path, relative in files.items():
        inner = PurePosixPath(relative.relative_to(PACKAGE).as_posix())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in targets(node, relative, modules):
                imports.append(Import(inner, module_name(relative), target, node.lineno))
    return modules, imports


def module_name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def targets(node: ast.AST, relative: Path, modules: set[str]) -> Iterator[str]:
    """The modules that a node imports; ``from package import name`` is the module where the name is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            folder = relative.parts[: len(relative.parts) - node.level]
            base = ".".join([*folder, *([node.module] if node.module else [])])
        for name in dict.fromkeys(alias.name for alias in node.names):
            yield f"{base}.{name}" if f"{base}.{name}" in modules else base


def package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_detector(module: str) -> bool:
    parts = module.split(".")
    return parts[:2] == [PACKAGE, "models"] and len(parts) == 3 and parts[2] not in MODEL_PARTS


def tool(module: str) -> str:
    """The tool that a module of tools/ belongs to; what serves all of them is none."""
    parts = module.split(".")
    return "" if len(parts) < 3 or parts[2] in SHARED_TOOLS else parts[2]


def sibling(one: Import) -> str | None:
    """What is wrong with an import within one package, or None."""
    if is_detector(one.module) and is_detector(one.target) and one.module != one.target:
        return "a detector imports its sibling"
    if package(one.module) == "tools" and tool(one.target) and tool(one.module) != tool(one.target):
        return "a tool imports another"
    return None


def complaint(one: Import) -> str | None:
    """What is wrong with an import, or None."""
    top = one.target.split(".")[0]
    if top != PACKAGE:
        doors = DOORS.get(top)
        if doors is None or any(str(one.file) == d or (d[-1] == "/" and str(one.file).startswith(d)) for d in doors):
            return None
        return f"{top} may be imported only in {sorted(doors) or 'no file'}"
    own, other = package(one.module), package(one.target)
    if own == other:
        return sibling(one)
    level = {name: i for i, row in enumerate(LAYERS) for name in row}
    for name in (own, other):
        if name not in level:
            return f"the package {name} is not in LAYERS"
    if level[other] >= level[own]:
        return f"{own} may not know {other}: it is {'beside' if level[other] == level[own] else 'above'} it"
    if own in ONLY and other not in ONLY[own]:
        return f"{own} may know only {sorted(ONLY[own])}"
    return None


def complaints(source: Path) -> list[str]:
    _, imports = read_imports(source)
    return [
        f"{one.file}:{one.line} imports {one.target}: {text}" for one in imports if (text := complaint(one)) is not None
    ]


def find_cycle(source: Path) -> list[str]:
    """Modules that import each other in a ring, the first repeated at the end; empty if there is none."""
    modules, imports = read_imports(source)
    edges: dict[str, list[str]] = {module: [] for module in sorted(modules)}
    for one in imports:
        if one.target in modules and one.target != one.module:
            edges[one.module].append(one.target)
    done: set[str] = set()
    return next((ring for module in edges if (ring := _ring(module, edges, done, []))), [])


def _ring(module: str, edges: dict[str, list[str]], done: set[str], path: list[str]) -> list[str]:
    if module in path:
        return [*path[path.index(module) :], module]
    if module in done:
        return []
    for target in edges[module]:
        if ring := _ring(target, edges, done, [*path, module]):
            return ring
    done.add(module)
    return []


def test_imports_point_one_way():
    assert complaints(SOURCE) == []


def test_no_import_cycles():
    assert find_cycle(SOURCE) == []


def test_the_tables_are_about_this_package():
    modules, _ = read_imports(SOURCE)
    assert len(modules) > 5
    packages = [name for row in LAYERS for name in row]
    assert len(packages) == len(set(packages))


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ops/boxes.py", "import varifocal.models", "ops may not know models: it is above it"),
        ("ops/boxes.py", "def f():\n    from varifocal import models", "boxes.py:2 imports varifocal.models"),
        ("ops/boxes.py", "def f():\n    if 1:\n        from .. import models", "ops may not know models"),
        ("ops/boxes.py", "from ..models.vfnet import VFNet", "imports varifocal.models.vfnet: ops may not know"),
        ("assign/atss.py", "import varifocal.data.cache", "assign may not know data: it is beside it"),
        ("ops/nms.py", "from ..assign import atss", "ops may not know assign"),
        ("losses.py", "from varifocal import Detector", "losses may not know __init__: it is above it"),
        (
            "data/readers/coco.py",
            "import varifocal.losses",
            "data may know only ['ops', 'structures', 'types', 'utils']",
        ),
        ("training/loop.py", "import varifocal.recipes.recipe", "training may not know recipes: it is above it"),
        ("models/atss.py", "from varifocal.models.vfnet import VFNet", "a detector imports its sibling"),
        ("models/atss.py", "from . import vfnet", "a detector imports its sibling"),
        ("tools/check/page.py", "import varifocal.tools.report.page", "a tool imports another"),
        ("tools/datasets.py", "from varifocal.tools.check import page", "a tool imports another"),
        ("types.py", "import varifocal.ops", "types may not know ops"),
        ("gizmo.py", "import varifocal.ops.boxes", "the package gizmo is not in LAYERS"),
        ("models/fpn.py", "import timm.layers", "timm may be imported only in ['export/fix_backbone.py', 'models/"),
        ("evaluation/evaluate.py", "def f():\n    from hotcoco import COCO", "hotcoco may be imported only in"),
        (
            "models/checkpoint.py",
            "import lightning_fabric as lf",
            "lightning_fabric may be imported only in ['training/']",
        ),
        ("evaluation/evaluate.py", "import pycocotools.coco", "pycocotools may be imported only in no file"),
    ],
)
def test_a_bad_import_is_seen(tmp_path, file, text, message):
    stubs = ["__init__", "models/__init__", "models/vfnet", "ops/__init__", "assign/__init__", "assign/atss"]
    write(tmp_path, {f"{stub}.py": "" for stub in stubs})
    found = complaints(write(tmp_path, {file: text}))
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("models/atss.py", "from varifocal.models.layers import FPN\nimport varifocal.data.preprocess, torch"),
        ("models/__init__.py", "from varifocal.models.vfnet import VFNet\nfrom . import atss"),
        ("models/backbone.py", "import timm"),
        ("training/deep/loop.py", "import lightning_fabric\nfrom ... import types"),
        ("cli/train.py", "def f():\n    from varifocal.tools.serve import app\n    from varifocal.tools import demo"),
        ("data/readers/coco.py", "from . import voc\nfrom varifocal.utils.errors import DataError"),
        ("tools/check/page.py", "from varifocal.tools import datasets\nimport varifocal.tools.check.charts"),
        ("inference/model.py", "def f():\n    from varifocal.inference.draw import draw_detections"),
    ],
)
def test_a_good_import_is_let_through(tmp_path, file, text):
    stubs = [
        "__init__",
        "inference/draw",
        "models/__init__",
        "models/layers",
        "models/vfnet",
        "models/atss",
        "data/readers/voc",
        "types",
    ]
    write(
        tmp_path,
        {
            f"{stub}.py": ""
            for stub in [*stubs, "tools/datasets", "tools/demo", "tools/serve/__init__", "tools/check/charts"]
        },
    )
    assert complaints(write(tmp_path, {file: text})) == []


def test_a_cycle_is_seen(tmp_path):
    files = {
        "__init__.py": "",
        "models/__init__.py": "from varifocal.models.vfnet import VFNet",
        "models/vfnet.py": "from .checkpoint import load",
        "models/checkpoint.py": "def f():\n    from varifocal.models import DETECTORS",
    }
    ring = ["varifocal.models", "varifocal.models.vfnet", "varifocal.models.checkpoint", "varifocal.models"]
    assert find_cycle(write(tmp_path, files)) == ring
    assert find_cycle(write(tmp_path, {"models/checkpoint.py": ""})) == []
