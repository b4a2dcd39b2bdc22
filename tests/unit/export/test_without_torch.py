"""A program that cannot import torch or its dependencies runs, measures and describes exported files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from varifocal.export.config import ExportSettings
from varifocal.export.onnx import described
from varifocal.export.openvino import save_openvino, to_openvino

SOURCE = Path(__file__).parents[3] / "src"
BLOCKED = """
import sys
FORBIDDEN = ("torch", "torchvision", "timm", "safetensors", "lightning", "lightning_fabric", "onnx", "pydantic")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
"""
LOAD = """
import varifocal as vf
model = vf.load(sys.argv[2])
print(len(model.predict(sys.argv[3])), *(category.name for category in model.categories))
"""
VERB = """
from varifocal.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run(program, *words):
    """Return the output of such a program, which must succeed."""
    command = [sys.executable, "-c", BLOCKED + program, str(SOURCE), *map(str, words)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def folder(build_tiny, tmp_path_factory):
    """A folder with tiny.onnx, tiny.xml and photo.png, and a data set of that image."""
    path = tmp_path_factory.mktemp("deployed")
    built = build_tiny("vfnet", ExportSettings(None))
    (path / "tiny.onnx").write_bytes(described(built.content, built.info))
    save_openvino(to_openvino(built.content), path / "tiny.xml", built.info)
    Image.effect_noise((120, 80), 80).convert("RGB").save(path / "photo.png")
    content = {
        "images": [{"id": 1, "file_name": "photo.png", "width": 120, "height": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 10, 50, 50], "area": 2500}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "cow"), start=1)],
    }
    (path / "data.json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.xml"])
def test_loading_and_every_verb_that_runs_a_model(folder, tmp_path, name):
    file, photo = folder / name, folder / "photo.png"
    number, *classes = run(LOAD, file, photo).split()
    assert classes == ["cat", "dog", "cow"]
    out = run(VERB, "predict", file, photo, "--out", tmp_path)
    assert f"{number} detections in 1 image" in out
    assert len(json.loads((tmp_path / "detections.json").read_text())) == int(number) > 5
    assert (tmp_path / "photo.png").is_file()
    run(VERB, "eval", file, folder / "data.json", "--output-json", tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text())["AP"] >= 0
    run(VERB, "bench", file, "--size", "64x96", "--repeats", "1", "--output-json", tmp_path / "speed.json")
    assert json.loads((tmp_path / "speed.json").read_text())["batches"][0]["milliseconds"]["median"] > 0
    described = run(VERB, "info", file)
    assert "vfnet, exported" in described
    assert "cat, dog, cow" in described
    assert "any size" in described


def test_a_checkpoint_is_told_to_need_more():
    program = LOAD.replace("import varifocal as vf\n", "import varifocal as vf\nsys.modules['torch'] = None\n")
    with pytest.raises(AssertionError, match=r"best\.safetensors: a checkpoint needs the package torch"):
        run(program, "best.safetensors", "photo.png")
    with pytest.raises(AssertionError, match=r"^varifocal predict: needs the package torch: pip install varifocal"):
        run(
            "sys.modules['torch'] = None\n" + VERB,
            "predict",
            "best.safetensors",
            SOURCE / "varifocal/data/trees/images",
        )


def test_the_block_blocks():
    with pytest.raises(AssertionError, match="torch is not to be imported"):
        run("import torch")
