"""Programs of torch.export against the network: with torch alone, and without anything to unpickle or run."""

import io
import json
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises_code
from export_cases import FIXED, FREE, NORMED, SHAPES, noise, same_outputs, torch_says
from typechecker import unchecked

import varifocal as vf
from varifocal.cli import main
from varifocal.export.config import ExportSettings
from varifocal.export.torch_export import ProgramRunner, build_program, deserialize, export_torch, serialize
from varifocal.inference.exported.formats import read_info
from varifocal.inference.model import save
from varifocal.models import DETECTORS
from varifocal.utils.errors import ConfigError

DEFORMABLE = {"deformable_stages": (5,), **NORMED}
PLAIN = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("varifocal", "torchvision", "timm"):
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
import numpy, torch
module = torch.export.load(sys.argv[1]).module()
torch.set_grad_enabled(False)  # with torch 2.9 the weights of a file that was read need gradients
for given, found in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
    numpy.savez(found, *module(torch.from_numpy(numpy.load(given))))
"""


class Built:
    """A network, its program as stored in a file, and the description."""

    def __init__(self, model, settings):
        self.model = model
        program, self.info = build_program(model, settings)
        self.content = serialize(program, self.info)


@pytest.fixture(scope="module")
def build(tiny):
    """Return a function that makes a network and its program from name, size and options, each once."""

    @cache
    def make(name, size, **options):
        with unchecked():
            return Built(tiny(name, **options), ExportSettings(size))

    return make


@pytest.fixture(scope="module")
def free(build):
    return build("vfnet", FREE, **DEFORMABLE)


@pytest.mark.slow
@pytest.mark.parametrize("size", [FIXED, FREE])
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector(build, name, size):
    built = build(name, size, **(DEFORMABLE if name == "vfnet" else {}))
    program = deserialize(built.content)
    names = ["boxes", "scores", "quality"]
    number = len(program.module()(torch.zeros(1, 3, *FIXED)))
    same_outputs(built, ProgramRunner(program, names[:number], "tiny.pt2"), SHAPES[size])


def test_plain_torch_runs_the_file(free, tmp_path):
    """In a process that cannot import this package or its dependencies except torch, for other sizes and batches."""
    (tmp_path / "tiny.pt2").write_bytes(free.content)
    places = []
    for number, shape in enumerate(SHAPES[FREE]):
        places += [tmp_path / f"pixels-{number}.npy", tmp_path / f"found-{number}.npz"]
        np.save(places[-2], noise(*shape))
    command = [sys.executable, "-c", PLAIN, *map(str, [tmp_path / "tiny.pt2", *places])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for number, shape in enumerate(SHAPES[FREE]):
        expected = torch_says(free.model, noise(*shape))
        with np.load(tmp_path / f"found-{number}.npz") as found:
            assert np.abs(found["arr_0"] - expected.boxes.numpy()).max() < 1e-3
            assert np.abs(found["arr_1"] - expected.scores.numpy()).max() < 3e-5


def test_a_file_holds_raw_numbers_and_json(free):
    """Nothing to unpickle, no paths of the machine, and the description."""
    with zipfile.ZipFile(io.BytesIO(free.content)) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert parts["data/sample_inputs/model.pt"] == b""
    payloads = [json.loads(parts[f"data/{kind}/model_{kind}_config.json"]) for kind in ("weights", "constants")]
    assert all(not one["use_pickle"] for payload in payloads for one in payload["config"].values())
    assert len(payloads[0]["config"]) > 20
    assert str(Path(__file__).parents[3]).encode() not in free.content
    assert b"site-packages" not in free.content
    described = json.loads(parts["extra/varifocal.json"])
    assert (described["detector"], described["graph"]["deform"]) == ("vfnet", "gridsample")


def test_what_plain_torch_does_not_have(tiny, tmp_path):
    for settings, code in (
        (ExportSettings(nms="graph"), "nms-in-program"),
        (ExportSettings(deform="deformconv"), "deform-op-in-program"),
        (ExportSettings(precision="fp16"), "precision-of-program"),
    ):
        with raises_code(code, ConfigError):
            export_torch(tiny("vfnet"), tmp_path / "tiny.pt2", settings, [])
    assert list(tmp_path.iterdir()) == []


def test_the_verb(tiny, tmp_path, capsys):
    save(tiny("vfnet"), tmp_path / "best.safetensors")
    with unchecked():
        assert main(["export", str(tmp_path / "best.safetensors"), "--format", "torch-export", "--size", "96x128"]) == 0
    file = tmp_path / "best.pt2"
    assert f'In Python: torch.export.load("{file}").module()(pixels)' in capsys.readouterr().out
    info = read_info(file)
    assert info.parity["matched"] == info.parity["detections"] > 5
    assert json.loads((tmp_path / "best.pt2.json").read_text())["parity"] == info.parity
    assert main(["info", str(file)]) == 0
    assert "vfnet, exported" in capsys.readouterr().out
    assert main(["predict", str(file), str(tmp_path)]) == 2
    with raises_code("torch-export-not-run"):
        vf.load(file)
