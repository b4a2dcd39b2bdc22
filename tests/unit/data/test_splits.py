"""Which split is trained on and which is evaluated, by their names alone."""

import argparse

import pytest
from error_codes import raises_code
from folders import fill, found

from varifocal.data.load import find_splits, load_split
from varifocal.data.splits import (
    evaluation_split,
    have_common_images,
    holdout_split,
    is_to_train,
    made_of_others,
    normalize_split,
    training_split,
    validation_split,
)
from varifocal.recipes.build import read_splits
from varifocal.recipes.recipe import DataConfig
from varifocal.tools.datasets import eval_data


@pytest.mark.parametrize(
    ("meant", "names"),
    [
        ("train", "train Train TRAIN training train2017 train_2017 train-00 trainset train_set Train-Data 2007_train"),
        ("train", "autosplit_train"),
        ("val", "val Val VAL valid Validation validation_set val2017 dev Dev eval valset VALIDATION_SPLIT"),
        ("test", "test Test testing test_2 TestSet"),
        ("trainval", "trainval TrainVal train_val train+val train-valid trainval35k trainval2014 2012_trainval"),
        ("default", "default Default"),
        ("test-dev", "test-dev2017"),
        ("trains", "trains"),
        ("minival", "minival2014"),
    ],
)
def test_what_names_mean(meant, names):
    for name in names.split():
        assert normalize_split(name) == meant


@pytest.mark.parametrize(
    ("splits", "training", "validation"),
    [
        ("train val", "train", "val"),
        ("Train Validation", "Train", "Validation"),
        ("TRAIN VALID TEST", "TRAIN", "VALID"),
        ("train2017 val2017 test-dev2017", "train2017", "val2017"),
        ("training dev", "training", "dev"),
        ("train test", "train", "test"),
        ("train extra", "train", None),
        ("train val trainval test", "train", "val"),
        ("train trainval", "train", None),
        ("trainval test", "trainval", "test"),
        ("trainval val", "trainval", None),
        ("trainval35k minival2014", "trainval35k", None),
        ("default", "default", None),
        ("result", "result", None),
        ("whatever", "whatever", None),
        ("val", "val", None),
        ("default val", "default", "val"),
        ("default Test", "default", "Test"),
    ],
)
def test_roles(splits, training, validation):
    splits = splits.split()
    assert training_split("d", splits) == training
    assert validation_split("d", splits, training)[0] == validation


def test_a_single_split_is_parted_and_measured_on_under_any_name():
    for name in ("default", "train", "val", "labels", "xyz"):
        assert training_split("d", [name]) == holdout_split("d", [name]) == evaluation_split("d", [name]) == name
    assert holdout_split("d", ["Training", "test"]) == "Training"
    with raises_code("validation-split-exists"):
        holdout_split("d", ["Train", "Valid"])


def test_what_cannot_be_chosen_says_how_to_choose():
    with raises_code("split-unknown") as error:
        training_split("d", ["a", "b"])
    assert "available: a, b; choose with data.train_split=NAME" in str(error.value)
    with raises_code("split-ambiguous") as error:
        training_split("d", ["train2014", "train2017", "val"], option="--split ")
    assert "(train2014, train2017); choose with --split NAME" in str(error.value)
    with raises_code("split-ambiguous"):
        validation_split("d", ["train", "val2014", "val2017"], "train")
    with raises_code("evaluation-split-not-named") as error:
        evaluation_split("d", ["a", "b"])
    assert "a, b; name one with --split NAME" in str(error.value)
    assert evaluation_split("d", ["train", "Validation", "test"]) == "Validation"
    assert evaluation_split("d", ["trainval", "test2007"]) == "test2007"


def test_splits_that_share_their_images():
    assert made_of_others(["train", "val", "trainval", "test"]) == ["trainval"]
    assert made_of_others(["trainval", "test"]) == made_of_others(["train", "trainval"]) == []
    for one, other in (("trainval2014", "val2014"), ("Train", "trainval"), ("minival2014", "val2014")):
        assert have_common_images(one, other)
        assert have_common_images(other, one)
    for one, other in (("train", "val"), ("trainval", "test"), ("fold1", "fold2"), ("train2014", "train2017")):
        assert not have_common_images(one, other)


def test_names_without_a_role_are_trained_on():
    assert [name for name in ("train", "all", "default", "trainval", "val", "x") if is_to_train(name)] == [
        *("train", "all", "default", "trainval")
    ]


def yolo(*splits: str) -> dict:
    """YOLO in folders, an image a split."""
    files: dict = {"classes.txt": "cat\n"}
    for split in splits:
        files |= {f"{split}/images/{split}.png": (20, 10), f"{split}/labels/{split}.txt": "0 0.5 0.5 0.5 0.5\n"}
    return files


def asked(data, **more) -> argparse.Namespace:
    options = {"split": None, "format": None, "images": None, "unlabeled": None, "val_fraction": None, "split_seed": 0}
    return argparse.Namespace(data=data, **(options | more))


def test_training_evaluation_and_calibration_see_the_same_splits(tmp_path):
    """One data set, the splits in capital letters, and every way that leads to a split."""
    fill(tmp_path, yolo("Train", "Validation"))
    splits = find_splits(tmp_path)
    training, validation = read_splits(tmp_path, DataConfig())
    assert list(found(training)) == ["Train.png"]
    assert list(found(validation)) == ["Validation.png"]
    assert training.notes == ()
    assert list(found(eval_data(asked(tmp_path)))) == ["Validation.png"]
    assert list(found(load_split(tmp_path, "train", "--calibration-data"))) == ["Train.png"]
    assert list(found(load_split(tmp_path, "val", "--val-fraction"))) == ["Validation.png"]
    assert list(found(load_split(tmp_path / "Validation", "train", "--calibration-data"))) == ["Validation.png"]
    assert splits == ["train", "val"]
    with raises_code("validation-split-exists"):
        eval_data(asked(tmp_path, val_fraction=0.2))
    with raises_code("validation-split-exists"):
        read_splits(tmp_path, DataConfig(val_fraction=0.2))
