"""The mean of checkpoints against its closed form."""

from dataclasses import replace

import pytest
import torch
from error_codes import raises_code

from varifocal.inference.model import create_model, load, save
from varifocal.models.checkpoint import read_checkpoint
from varifocal.training.average_checkpoints import average_checkpoints
from varifocal.utils.errors import CheckpointError


def make(classes=("a", "b"), **options):
    return create_model(
        "vfnet", backbone="test_resnet", classes=classes, channels=32, num_levels=3, num_convs=1, **options
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Return a model and checkpoints whose k-th weight is w + 2^k, with batch-norm counters 10, 20 and 30."""
    folder = tmp_path_factory.mktemp("average")
    model, paths = make(star_norm="group"), []
    start = {name: tensor.clone() for name, tensor in model.detector.state_dict().items()}
    for k in range(3):
        for name, tensor in model.detector.state_dict().items():
            tensor.copy_(start[name] + 2**k if tensor.is_floating_point() else torch.tensor(10 * (k + 1)))
        model.info = replace(model.info, recipe={"k": k}, metrics={"AP": 0.1 * k})
        paths.append(folder / f"{k}.safetensors")
        save(model, paths[-1])
    return start, paths


def test_closed_form(three):
    start, paths = three
    model = average_checkpoints(paths)
    counters = 0
    for name, tensor in model.detector.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, start[name] + 7 / 3, rtol=1e-6, atol=1e-6)
        else:
            assert tensor == 30
            counters += 1
    assert counters
    assert model.info.metrics == {}
    assert model.info.recipe == {"k": 2}
    assert [category.name for category in model.categories] == ["a", "b"]


def test_sums_are_exact_where_float32_would_lose_them(tmp_path):
    """1e8, 1 and -1e8 have the mean 1/3, but summed in float32 the mean 0."""
    model, paths = make(), []
    for value in (1e8, 1.0, -1e8):
        with torch.no_grad():
            model.detector.head.cls.bias.fill_(value)
        paths.append(tmp_path / f"{len(paths)}.safetensors")
        save(model, paths[-1])
    bias = average_checkpoints(paths).detector.head.cls.bias
    assert bias.tolist() == pytest.approx([1 / 3, 1 / 3], rel=1e-6)


def test_one_checkpoint_is_its_own_mean(three, tmp_path):
    _, paths = three
    save(average_checkpoints(paths[:1]), tmp_path / "mean.safetensors")
    (mean, info), (own, _) = read_checkpoint(tmp_path / "mean.safetensors"), read_checkpoint(paths[0])
    assert mean.keys() == own.keys()
    assert all(torch.equal(mean[name], own[name]) for name in own)
    assert info["metrics"] == {}
    assert load(tmp_path / "mean.safetensors").info.name == "vfnet"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"star_norm": "group", "refine": False}, "other-model"),
        ({"star_norm": "none"}, "other-model"),
        ({"star_norm": "group", "classes": ("a", "c")}, "other-classes"),
        ({"star_norm": "group", "classes": ("b", "a")}, "other-classes"),
    ],
)
def test_another_model_is_refused(three, tmp_path, options, code):
    _, paths = three
    save(make(**options), tmp_path / "other.safetensors")
    with raises_code(code, CheckpointError) as error:
        average_checkpoints([*paths, tmp_path / "other.safetensors"])
    assert str(error.value).startswith(f"{tmp_path / 'other.safetensors'}: ")
    assert str(paths[0]) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_came_from_elsewhere_are_no_other_model(three, tmp_path):
    _, paths = three
    other = make(star_norm="group")
    backbone = replace(other.info.config.backbone, pretrained="timm")
    other.info = replace(other.info, config=replace(other.info.config, backbone=backbone))
    save(other, tmp_path / "other.safetensors")
    average_checkpoints([paths[0], tmp_path / "other.safetensors"])


def test_a_file_that_is_not_there_is_a_sentence(three, tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        average_checkpoints([three[1][0], tmp_path / "gone.safetensors"])
