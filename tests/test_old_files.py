"""Files that commit 6568271 wrote, before keys of recipes were renamed: they load, predict the same, and go on.

tests/support/old_files.py made the archive.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import varifocal as vf
from varifocal.cli import main
from varifocal.data.augment import Augmentation
from varifocal.models import DETECTORS
from varifocal.models.backbone import BackboneConfig
from varifocal.recipes.recipe import DataConfig, Recipe, load_recipe, read_recipe_of_run
from varifocal.training.optim import TrainConfig
from varifocal.types import PostProcess, Preprocess
from varifocal.utils.errors import ConfigError

ARCHIVE = Path(__file__).parent / "support" / "written_by_6568271.zip"
HOMES = {
    "": Recipe,
    "train.": TrainConfig,
    "data.": DataConfig,
    "data.preprocess.": Preprocess,
    "data.augment.": Augmentation,
    "postprocess.": PostProcess,
    "model.backbone.": BackboneConfig,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(target)
    return target


@pytest.mark.parametrize(("file", "stored"), [("run/last.safetensors", "best.json"), ("in.onnx", "in.json")])
def test_models_find_what_they_found(folder, file, stored):
    wanted = json.loads((folder / stored).read_text())
    found = vf.load(folder / file).predict(folder / "data" / "val" / "0.png", score_threshold=0.0)
    assert len(found) == len(wanted["scores"]) > 5
    np.testing.assert_allclose(found.boxes, wanted["boxes"], atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted["scores"], atol=1e-5)
    assert found.labels.tolist() == wanted["labels"]


def test_settings_have_the_names_of_today(folder):
    info = vf.load(folder / "run" / "last.safetensors").info
    assert (info.config.channels, info.config.num_levels, info.config.num_convs) == (16, 2, 1)
    assert info.config.center_sampling
    assert (info.postprocess.nms_iou, info.preprocess.size_divisor) == (0.55, 32)
    recipe = read_recipe_of_run(folder / "run" / "recipe.yaml")
    assert (recipe.train.batch_size, recipe.train.num_workers, recipe.train.max_unreadable) == (4, 0, 0.2)
    assert recipe.data.difficult == "train"
    assert recipe.data.augment.color_jitter == 0.1
    assert recipe.data.augment.crop_on_box_prob == 0.5
    assert recipe.model == info.config.__class__(**{**info.config.__dict__, "num_classes": 0})
    assert recipe.postprocess == info.postprocess


def test_a_run_goes_on(folder, capsys):
    run = folder / "run"
    before = (run / "log.jsonl").read_text()
    assert main(["train", str(folder / "data"), "--resume", str(run), "train.epochs=2"]) == 0
    after = (run / "log.jsonl").read_text()
    assert after.startswith(before)
    assert after.count('"AP"') == 2 * before.count('"AP"') == 2
    assert "  batch_size: 4\n" in (run / "recipe.yaml").read_text()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new"),
    [(prefix + old, new) for prefix, kind in HOMES.items() for old, new in kind.RENAMED.items()],
)
def test_an_old_key_is_refused_by_its_new_name(old, new):
    value = "{scales: [1.0]}" if old == "views" else "{score_threshold: 0.1}" if old == "test" else "1"
    with pytest.raises(ConfigError) as refused:
        load_recipe("vfnet_r50_1x", [f"{old}={value}"])
    assert str(refused.value).endswith(f"{old.split('.')[-1]!r} is called {new!r} now.")


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_old_key_of_a_detector_is_refused(detector):
    kind = DETECTORS[detector][1]
    assert set(kind.RENAMED.values()) <= {field for field in kind.__dataclass_fields__}
    for old, new in kind.RENAMED.items():
        with pytest.raises(ConfigError, match=f"{old!r} is called {new!r} now"):
            load_recipe("vfnet_r50_1x", [f"detector={detector}", f"model.{old}=1"])
