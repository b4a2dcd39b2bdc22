"""The example that runs a file without this package gives the results of the package."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varifocal.export.config import ExportSettings
from varifocal.inference.exported.model import load_exported

EXAMPLE = Path(__file__).parents[3] / "examples" / "detect_onnx.py"


@pytest.fixture(scope="module", params=[(96, 128), None], ids=["fixed", "free"])
def exported(request, build_tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("example") / "tiny.onnx"
    path.write_bytes(build_tiny("vfnet", ExportSettings(request.param, nms="graph")).content)
    return path


@pytest.fixture
def photo(tmp_path):
    """A rotated photograph that is larger than the input."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 45, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((300, 200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg"


def test_the_example_says_what_the_package_says(exported, photo):
    spec = importlib.util.spec_from_file_location("detect_onnx", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found, expected = example.detect(str(exported), str(photo)), load_exported(exported).predict(photo)
    assert len(found) == len(expected) > 5
    assert [one["name"] for one in found] == expected.class_names
    assert np.allclose([one["score"] for one in found], expected.scores, atol=1e-5)
    assert np.allclose([one["box"] for one in found], expected.boxes, atol=1e-3)


def test_the_example_says_what_it_cannot_run(build_tiny, tmp_path, photo):
    (tmp_path / "out.onnx").write_bytes(build_tiny("vfnet", ExportSettings(None)).content)
    command = [sys.executable, EXAMPLE, tmp_path / "out.onnx", photo]
    message = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (message.returncode, message.stdout) == (1, "")
    assert message.stderr.splitlines()[-1].endswith(
        "out.onnx: leaves suppression to its caller; export it with --nms graph"
    )
    assert "Traceback" not in message.stderr


def test_the_example_is_a_program(exported, photo):
    message = subprocess.run([sys.executable, EXAMPLE, exported, photo], capture_output=True, text=True, check=True)
    first = message.stdout.splitlines()[0]
    assert re.fullmatch(r"0\.\d{3} (cat|dog|cow)( -?\d+\.\d){4}", first)
    assert "varifocal" not in re.sub(r'"varifocal"|varifocal export', "", EXAMPLE.read_text())
