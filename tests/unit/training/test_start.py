"""Training that starts from the weights of another model: what is copied, class by class."""

import pytest
import torch
from error_codes import raises_code
from tiny_data import make_data

from varifocal.inference.model import save
from varifocal.models import DETECTORS
from varifocal.recipes.build import build_job, build_model
from varifocal.recipes.recipe import load_recipe
from varifocal.training.start import load_compatible_weights
from varifocal.types import Category
from varifocal.utils.errors import CheckpointError
from varifocal.utils.overrides import override

KNOWN = ("cup", "box", "spoon")


def small(detector, *words):
    tiny = [
        "model.backbone={name: test_resnet, pretrained: none}",
        "model.channels=32",
        "model.num_levels=3",
        "model.num_convs=1",
    ]
    return load_recipe("vfnet_r50_1x", [f"detector={detector}", *tiny, *words])


def model(detector, names, seed, *words):
    torch.manual_seed(seed)
    made = build_model(small(detector, *words), [Category(i, name) for i, name in enumerate(names, start=1)])
    with torch.no_grad():  # a predictor whose classes and anchors all differ
        made.detector.head.cls.weight.normal_(std=0.3)
        made.detector.head.cls.bias.normal_()
    return made.eval()


@torch.no_grad()
def logits(one, pixels):
    return one.detector(pixels).tensors["logits"]


@pytest.mark.parametrize("detector", DETECTORS)
def test_each_class_is_predicted_as_before_wherever_it_stands(detector):
    """The logits of a class that both models have are the same at every point and anchor; others are initialized."""
    names = ["box", "pen", "cup"]
    source, fresh, started = model(detector, KNOWN, 0), model(detector, names, 1), model(detector, names, 1)
    message = load_compatible_weights(started, source, "first.safetensors")
    assert message == (
        "first.safetensors: weights were copied, those of the class predictor by class name "
        "(copied: box, cup; initialized: pen; not in the data: spoon)."
    )
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    before, after = logits(source, pixels), logits(started, pixels)
    for name in ("box", "cup"):
        # not exactly: a convolution may add in another order for a row at another index
        torch.testing.assert_close(after[..., names.index(name)], before[..., KNOWN.index(name)])
    assert len(after[..., 1].unique()) > 10
    # the rest of the network is copied, so only the rows of the new class keep their initial weights
    own, other = (one.detector.head.cls for one in (started, fresh))
    for mine, new in ((own.weight, other.weight), (own.bias, other.bias)):
        mine, new = (part.unflatten(0, (-1, 3)) for part in (mine, new))
        assert torch.equal(mine[:, 1], new[:, 1])
        assert not torch.equal(mine[:, 0], new[:, 0])
    for mine, old in zip(own.parameters(), source.detector.head.cls.parameters(), strict=True):
        mine, old = mine.unflatten(0, (-1, 3)), old.unflatten(0, (-1, 3))
        assert torch.equal(mine[:, [0, 2]], old[:, [1, 0]])  # box and cup


def test_what_is_told_of_other_sets_of_classes():
    source = model("fcos", KNOWN, 0)
    for names, message in (
        (KNOWN, "w: all weights were copied."),
        (("spoon", "cup", "box"), "by class name (copied: spoon, cup, box)."),
        (
            ("a", "b", "c", "d", "e", "f", "g"),
            "(initialized: a, b, c, d, e and 2 more; not in the data: cup, box, spoon).",
        ),
    ):
        assert load_compatible_weights(model("fcos", names, 1), source, "w").endswith(message)


def test_predictors_of_another_form_do_not_fit():
    """Predictors with another number of anchors, even if the number of rows is the same."""
    source = model("retinanet", ("a", "b", "c", "d", "e", "f"), 0, "model.octave_steps=1")
    with raises_code("incompatible-weights", CheckpointError):
        load_compatible_weights(model("retinanet", ("a", "b"), 0), source, "w")


def test_a_run_tells_what_became_of_the_classes(tmp_path, capsys):
    from varifocal.recipes.run import run_recipe

    data = make_data(tmp_path / "data", images=2)  # berry and apple
    source = tmp_path / "first.safetensors"
    save(model("vfnet", ("apple", "pear"), 0), source)
    words = (
        f"train.weights={source}",
        "train.epochs=1",
        "train.batch_size=2",
        "train.num_workers=0",
        "data.val_split=",
    )
    recipe = override(small("vfnet"), [*words, "data.preprocess={scale: 1.0}", "train.lr=1e-9", "train.device=cpu"])
    assert build_job(recipe, data, tmp_path / "run").notes == build_job(recipe, data, tmp_path / "run").notes != ()
    run_recipe(recipe, data, tmp_path / "run")
    message = capsys.readouterr().err
    assert f"{source}: weights were copied, those of the class predictor" in message
    assert "(copied: apple; initialized: berry; not in the data: pear)." in message


def test_what_differs_is_named_where_weights_do_not_fit():
    wide = model("vfnet", KNOWN, 0)
    with pytest.raises(CheckpointError, match=r"; it was trained with channels=32, not 64\.$"):
        load_compatible_weights(model("vfnet", KNOWN, 0, "model.channels=64"), wide, "first.safetensors")
    with pytest.raises(CheckpointError, match=r"; it holds detector=vfnet, but the recipe has atss\.$"):
        load_compatible_weights(model("atss", KNOWN, 0, "model.num_convs=2"), wide, "first.safetensors")


def test_settings_with_which_the_same_weights_compute_something_else_are_named():
    """FCOS and ATSS have the same weights under the same names."""
    source = model("atss", KNOWN, 0)
    started = model("fcos", ("pen",), 1, "data.preprocess={mean: [1.0, 2.0, 3.0], std: [127.5, 127.5, 127.5]}")
    assert load_compatible_weights(started, source, "w") == (
        "w: weights were copied, but the class predictor starts anew, because no class has the same name (initialized: "
        "pen; not in the data: cup, box, spoon); they were trained with detector=atss, but the recipe has fcos; they "
        f"were trained with data.preprocess.mean={source.info.preprocess.mean}, but the recipe has (1.0, 2.0, 3.0)."
    )


def test_the_recipe_of_published_weights_is_named_where_they_do_not_fit():
    source = model("vfnet", KNOWN, 0)
    with pytest.raises(CheckpointError, match=r"; use --recipe vfnet_r50_ms_2x\.$"):
        load_compatible_weights(model("vfnet", KNOWN, 0, "model.channels=64"), source, "vfnet_r50_ms_2x")
