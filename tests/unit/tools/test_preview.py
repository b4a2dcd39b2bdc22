"""The preview shows what the network gets: the same pixels, the padding, and every box in its place."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import make_data

from varifocal.cli import main
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.inference.draw import class_color, draw_labels
from varifocal.recipes.build import read_splits
from varifocal.recipes.recipe import load_recipe
from varifocal.structures import Batch, Targets
from varifocal.tools.preview import CELL, _denormalized, preview
from varifocal.types import Category, Preprocess

FAST = ["data.preprocess.short_side=64", "data.preprocess.max_long_side=96", "train.batch_size=3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("preview") / "data", images=8, empty=(1,), crowd=(2,))


@pytest.mark.parametrize("bgr", [False, True])
def test_normalization_and_back_gives_the_bytes_and_the_mean_color_around(bgr):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 64), dtype=np.uint8))
    targets = [
        Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), size)
        for size in ((20, 64), (32, 30))
    ]
    preprocess = Preprocess(mean=(10.0, 20.0, 30.0), std=(5.0, 60.0, 1.0), bgr=bgr)
    first, second = _denormalized(Batch(pixels, tuple(targets), ("a", "b")), preprocess)
    gray = [30, 20, 10] if bgr else [10, 20, 30]
    assert (np.array(first)[:20] == pixels[0, :, :20].permute(1, 2, 0).numpy()).all()
    assert (np.array(first)[20:] == gray).all()
    assert (np.array(second)[:, :30] == pixels[1, :, :, :30].permute(1, 2, 0).numpy()).all()
    assert (np.array(second)[:, 30:] == gray).all()


def test_labels_are_outlined_and_ignored_ones_hatched():
    boxes = np.array([[10, 10, 60, 50], [100, 60, 180, 130]], np.float32)
    image = Image.new("RGB", (200, 150), (90, 90, 90))
    drawn = np.array(
        draw_labels(image, boxes, np.array([0, 1]), np.array([False, True]), (Category(1, "a"), Category(2, "b")))
    )
    assert np.array(image).max() == 90
    assert drawn[30, 10].tolist() == list(class_color(0))
    assert drawn[100, 179].tolist() == list(class_color(1))
    plain, hatched = drawn[30:48, 14:56].reshape(-1, 3), drawn[85:125, 105:175].reshape(-1, 3)
    assert (plain == 90).all()
    seen = (hatched == 90).all(axis=1).mean()
    assert 0.6 < seen < 0.9


def test_the_images_are_those_of_the_epoch(data, monkeypatch):
    words = [*FAST, "data.val_split=val", "data.augment.crop=40", "data.augment.mosaic=0.5"]
    recipe = load_recipe("trees", words)
    shown = []
    monkeypatch.setattr("varifocal.tools.preview._draw", lambda cell, _: shown.append(cell) or Image.new("RGB", (9, 9)))
    preview("trees", words, data, count=5, epoch=2)
    training = read_splits(data, recipe.data)[0]
    examples = TrainDataset(training.samples, recipe.data.preprocess, recipe.data.augment, recipe.train.seed)
    batches = BatchSampler(examples, 3)
    keys = [key for step in batches.keys(batches.per_epoch, batches.per_epoch + 2) for key in step]
    for cell, key in zip(shown, keys[:5], strict=True):
        wanted = examples[key]
        height, width = wanted.targets.size
        found = np.array(cell.image)[:height, :width]
        assert (found == wanted.image.permute(1, 2, 0).numpy()).all()
        assert torch.equal(cell.targets.boxes, wanted.targets.boxes)
        assert cell.file == wanted.file
        assert cell.image.size == (64, 64)


def test_the_verb(data, tmp_path, capsys):
    out = tmp_path / "here" / "seen.png"
    assert main(["preview", str(data), "--out", str(out), "--num-images", "4", *FAST]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: 4 images, ")
    with Image.open(out) as page:
        assert page.width == 4 * CELL + 5 * 16
        assert page.height > CELL * 64 // 96


def test_what_is_sampled_and_what_cannot_be_read_is_told(data, tmp_path, capsys):
    folder = make_data(tmp_path / "bad", images=6)
    (folder / "train" / "2.png").write_bytes(b"no image")
    main(["preview", str(folder), "--out", str(tmp_path / "a.png"), *FAST, "data.repeat_factor_threshold=1"])
    said = capsys.readouterr().err
    assert "data.repeat_factor_threshold=1:" in said
    assert said.count("2.png: this is not an image") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "vfnet_r50_1x", "--epoch", "13"], "--epoch 13: the recipe has only 12 epochs"),
        (["--out", "seen.gif"], "--out seen.gif: must end in .png or .jpg"),
        (["data.augment.mosaik=1"], "Did you mean 'mosaic'"),
    ],
)
def test_what_cannot_be_shown(data, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["preview", str(data), *FAST, *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
