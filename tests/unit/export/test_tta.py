"""Test-time augmentation of a model is kept by files that can do it, and left out with a note by the others."""

from dataclasses import replace

import pytest
from PIL import Image

from varifocal.cli import main
from varifocal.export.config import ExportSettings, drops_tta
from varifocal.inference.loading import load
from varifocal.inference.model import create_model, save
from varifocal.types import TTA


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = create_model("fcos", backbone="test_resnet", num_classes=2, channels=16, num_levels=3, num_convs=1)
    model.info = replace(model.info, tta=TTA(flip=True))
    path = tmp_path_factory.mktemp("tta") / "m.safetensors"
    save(model, path)
    return path


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        (ExportSettings(), False),
        (ExportSettings(size=(64, 96)), True),
        (ExportSettings(nms="graph"), True),
    ],
    ids=str,
)
def test_which_files_cannot_do_it(checkpoint, settings, dropped):
    model = load(checkpoint)
    assert drops_tta(settings, model.info) == dropped
    assert not drops_tta(settings, replace(model.info, tta=TTA()))


def test_a_file_of_a_fixed_size_predicts_without_it(checkpoint, tmp_path, capsys):
    Image.new("RGB", (90, 60), (200, 90, 30)).save(tmp_path / "a.png")
    target = tmp_path / "m.onnx"
    words = ["--format", "onnx", "--size", "64x96", "--out", str(target)]
    assert main(["export", str(checkpoint), *words]) == 0
    assert "test-time augmentation is left out" in capsys.readouterr().err
    assert load(target).info.tta == TTA()
    assert main(["predict", str(target), str(tmp_path / "a.png"), "--out", str(tmp_path / "found")]) == 0
