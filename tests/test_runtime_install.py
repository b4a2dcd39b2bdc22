"""An exported file runs in an environment that has this package and what its extra ``runtime`` names, without torch."""

import json
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import torch
from PIL import Image
from typechecker import unchecked

from varifocal.cli import main
from varifocal.inference.model import create_model, save

ROOT = Path(__file__).parents[1]
SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
UNREACHED = re.compile(r"ConnectionError|Connection (?:refused|broken)|Temporary failure|NewConnectionError|timed out")


def run(*words):
    """The process, in an environment in which nothing leads back to this one."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, env=outside)


def extra(name):
    """What pyproject.toml lists, which Python 3.10 cannot parse by itself."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return json.loads(re.search(rf"^{name} = (\[.*\])$", text, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of such an environment."""
    place = tmp_path_factory.mktemp("deployed")
    venv.create(place / "env", with_pip=True)
    python = place / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    got = run(python, "-m", "pip", "install", "-q", *extra("runtime"))
    if got.returncode and UNREACHED.search(got.stderr):
        pytest.skip(f"the package index cannot be reached: {got.stderr.splitlines()[-1]}")
    assert got.returncode == 0, got.stderr
    copy = place / "source"  # building leaves folders behind
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    got = run(python, "-m", "pip", "install", "-q", "--no-deps", copy)
    assert got.returncode == 0, got.stderr
    return python


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The file of a tiny network of one size."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    options = {"backbone": "test_resnet", "classes": ["cat"], "channels": 64, "num_levels": 3, "num_convs": 1}
    save(create_model("vfnet", **options), folder / "tiny.safetensors")
    with unchecked():
        assert main(["export", str(folder / "tiny.safetensors"), "--size", "96x128"]) == 0
    return folder / "tiny.onnx"


def test_the_documentation_installs_what_the_extras_name():
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    wanted = [*extra("runtime"), *(one for one in extra("openvino") if one.startswith("openvino"))]
    assert [one for one in wanted if f'"{one}"' not in text] == []


@pytest.mark.slow
def test_an_installation_has_all_files(python):
    """Templates and styles of the pages, recipes and sample images too."""
    got = run(python, "-c", "import varifocal; print(varifocal.__path__[0])")
    assert got.returncode == 0, got.stderr
    installed, source = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        for folder in (Path(got.stdout.strip()), ROOT / "src" / "varifocal")
    )
    assert source - installed == set()
    assert {"analysis/pages/base.html", "tools/check/page.html", "tools/report/page.html"} <= installed


@pytest.mark.slow
def test_an_installation_without_without_torch_predicts(python, exported, tmp_path):
    assert "No module named 'torch'" in run(python, "-c", "import torch").stderr
    photo = tmp_path / "photo.png"
    Image.effect_noise((120, 80), 80).convert("RGB").save(photo)
    verb = (python, "-m", "varifocal")
    got = run(*verb, "predict", exported, photo, "--out", tmp_path / "found", "--score-threshold", "0")
    assert got.returncode == 0, got.stderr
    assert isinstance(json.loads((tmp_path / "found" / "detections.json").read_text()), list)
    assert (tmp_path / "found" / "photo.png").is_file()
    got = run(*verb, "info", exported)
    assert "vfnet, exported" in got.stdout, got.stderr
    got = run(*verb, "predict", exported.with_name("tiny.safetensors"), photo)
    assert got.stderr.splitlines() == ["varifocal predict: needs the package torch: pip install varifocal"]
    got = run(*verb, "eval", exported, tmp_path)
    assert re.fullmatch(
        r"varifocal eval: needs the package (yaml|hotcoco): pip install (pyyaml|hotcoco)\s*", got.stderr
    )
