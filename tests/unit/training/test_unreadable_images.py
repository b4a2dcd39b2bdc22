"""How many unreadable images a run tolerates, and how it reports them."""

import json
import re
from dataclasses import replace

import pytest
import torch
from error_codes import raises_code
from tiny_data import TINY, make_data

from varifocal.cli import main
from varifocal.models.checkpoint import read_checkpoint
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe
from varifocal.structures import Batch
from varifocal.training.loop import train
from varifocal.training.state import UnreadableImages
from varifocal.utils.errors import DataError
from varifocal.utils.overrides import override

CPU = torch.device("cpu")
SMALL = ["data.preprocess.short_side=64", "data.preprocess.max_long_side=96"]


def batch(*bad):
    return Batch(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), (), (), bad)


@pytest.mark.parametrize(
    ("fraction", "total", "most"),
    [(0.01, 10000, 100), (0.01, 299, 3), (0.01, 31, 3), (0.01, 25, 2), (0.01, 9, 0), (0.0, 10000, 0), (0.5, 8, 4)],
)
def test_how_many_may_be_bad(fraction, total, most):
    bad = UnreadableImages(fraction, total, None, {})
    assert bad.limit == most
    for index in range(most):
        bad.add([batch((index, "a"))], CPU)
    with pytest.raises(DataError):
        bad.add([batch((most, "a"))], CPU)


def test_each_image_counts_once():
    bad = UnreadableImages(0.1, 20, None, {3: "c.png: gone"})
    for _ in range(5):
        bad.add([batch((7, "x/h.png: damaged"), (3, "c.png: gone")), batch((7, "x/h.png: damaged"))], CPU)
    assert bad.found == {3: "c.png: gone", 7: "x/h.png: damaged"}
    assert bad.summary() == (
        "2 of 20 images so far cannot be used and were replaced by others: c.png, x/h.png (see unreadable_images.txt)"
    )


def test_the_one_too_many(tmp_path):
    bad = UnreadableImages(0.01, 30, tmp_path, {})
    bad.add([batch(*((i, f"{i}.png: damaged") for i in (9, 2, 4)))], CPU)
    with raises_code("too-many-unreadable-images", DataError) as error:
        bad.add([batch((1, "1.png: damaged"))], CPU)
    assert re.match(r"4 of 30 images .* at most 3 may .*9\.png: damaged$", str(error.value))
    assert (tmp_path / "unreadable_images.txt").read_text().split("\n")[:2] == ["1.png: damaged", "2.png: damaged"]


def test_where_none_may_be_the_reason_is_all_that_is_said():
    with pytest.raises(DataError, match=r"^1\.png: damaged; fix it$"):
        UnreadableImages(0.0, 1000, None, {}).add([batch((1, "1.png: damaged; fix it"))], CPU)


@pytest.fixture
def data(tmp_path):
    folder = make_data(tmp_path / "data", images=8)
    (folder / "train" / "3.png").write_bytes(b"no image")
    return folder


def job(data, run, *overrides):
    torch.manual_seed(0)
    return build_job(override(Recipe(), [*TINY, "train.epochs=2", "train.save_every_steps=1", *overrides]), data, run)


def test_a_run_goes_on_without_a_bad_image_and_says_so(data, tmp_path, capsys):
    run = tmp_path / "run"
    train(job(data, run, "train.max_unreadable=0.2", "data.augment.crop=0"))
    message = capsys.readouterr().err
    assert message.count("1 of 8 images so far cannot be used") == 2
    bad = data / "train" / "3.png"
    assert (run / "unreadable_images.txt").read_text().startswith(f"{bad}: this is not an image")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("unreadable_images") == 1] == [1, 3]
    assert read_checkpoint(run / "state.safetensors")[1]["place"]["unreadable_images"][0][0] == 3


@pytest.mark.parametrize("fraction", [0, 0.01])
def test_strict_runs_and_small_sets_stop_at_the_first(data, tmp_path, fraction):
    with pytest.raises(DataError, match=r"3\.png"):
        train(job(data, tmp_path / "run", f"train.max_unreadable={fraction}"))


def test_a_resumed_run_knows_what_was_found(data, tmp_path):
    first = job(data, tmp_path / "run", "train.max_unreadable=0.2", "train.epochs=3", "train.val_every_epochs=0")
    train(replace(first, config=replace(first.config, epochs=1)))
    (data / "train" / "5.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^2 of 8 images .*3\.png"):
        train(job(data, tmp_path / "run", "train.max_unreadable=0.2", "train.epochs=3"), resume=True)


def test_strict_stops_at_the_first_bad_image(tmp_path, capsys):
    folder = make_data(tmp_path / "bad", images=40)
    (folder / "train" / "2.png").write_bytes(b"no image")
    tiny = [
        "model.backbone={name: test_resnet, pretrained: none}",
        "model.channels=32",
        "model.num_levels=3",
        "model.num_convs=1",
        "train.num_workers=0",
    ]
    run = tmp_path / "run"
    words = [str(folder), "--out", str(run), *tiny, *SMALL, "train.batch_size=20", "train.epochs=1", "train.device=cpu"]
    assert main(["train", *words, "--fail-on-unreadable"]) == 2
    assert "2.png: this is not an image" in capsys.readouterr().err
    assert main(["train", *words[:2], str(tmp_path / "other"), *words[3:]]) == 0
    assert f"1 image could not be used: {tmp_path / 'other' / 'unreadable_images.txt'}" in capsys.readouterr().out
    assert json.loads((tmp_path / "other" / "data.json").read_text())
    assert main(["train", str(folder), "--resume", str(tmp_path / "other"), "--fail-on-unreadable"]) == 2
