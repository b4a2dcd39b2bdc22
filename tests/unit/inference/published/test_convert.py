"""Class names of published files: where each version of mmdetection writes them."""

import json
from pathlib import Path

import pytest
import timm
import torch
from error_codes import raises_code

from varifocal import cli
from varifocal.inference.model import build
from varifocal.inference.published.convert import (
    coco_categories,
    is_backbone,
    read_backbone,
    read_published,
    read_state,
)
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.types import Category
from varifocal.utils.errors import CheckpointError, ConfigError

KEYS = Path(__file__).parents[3] / "reference/data/keys/vfnet_r50.json"


@pytest.fixture(scope="module")
def publish(tmp_path_factory):
    """A published file of that many classes and with that meta entry; its weights are zeros of no extent in memory."""

    def publish(classes, *meta):
        state = {name: torch.zeros(()).expand(shape) for name, shape in json.loads(KEYS.read_text()).items()}
        for part in ("weight", "bias"):
            name = f"bbox_head.vfnet_cls.{part}"
            state[name] = torch.zeros(classes, *state[name].shape[1:])
        path = tmp_path_factory.mktemp("published") / "vfnet.pth"
        torch.save({"state_dict": state, **({"meta": meta[0]} if meta else {})}, path)
        return path

    return publish


NAMES = ("cat", "dog")
NAMED = tuple(Category(i, name) for i, name in enumerate(NAMES, start=1))
NUMBERED = (Category(1, "class 0"), Category(2, "class 1"))


@pytest.mark.parametrize(
    ("meta", "wanted"),
    [
        ([{"CLASSES": NAMES}], NAMED),
        ([{"CLASSES": list(NAMES), "dataset_meta": {"classes": ("a", "b")}}], NAMED),
        ([{"dataset_meta": {"classes": NAMES, "palette": [(1, 2, 3)]}}], NAMED),
        ([{"dataset_meta": {"CLASSES": NAMES}}], NAMED),
        ([{"dataset_meta": {"palette": []}}], NUMBERED),
        ([{"dataset_meta": None, "CLASSES": None}], NUMBERED),
        ([{"epoch": 12}], NUMBERED),
        ([None], NUMBERED),
        ([], NUMBERED),
    ],
)
def test_class_names(publish, meta, wanted):
    info = read_published(publish(2, *meta)).info
    assert info.categories == wanted
    assert info.config.num_classes == 2


@pytest.mark.parametrize("meta", [{"CLASSES": "tree"}, {"dataset_meta": {"classes": "tree"}}])
def test_a_single_class_written_as_text_is_one_name(publish, meta):
    assert read_published(publish(1, meta)).info.categories == (Category(1, "tree"),)


@pytest.mark.parametrize("key", ["classes", "CLASSES"])
def test_coco_by_name_has_cocos_ids(publish, key):
    names = tuple(category.name for category in coco_categories())
    assert read_published(publish(80, {"dataset_meta": {key: names}})).info.categories == coco_categories()


def test_another_number_of_names_is_refused(publish):
    with raises_code("published-class-count"):
        read_published(publish(3, {"dataset_meta": {"classes": NAMES}}))


def empty_state(name="vfnet_r50"):
    stored = json.loads((KEYS.parent / f"{name}.json").read_text())
    return {key: torch.zeros(()).expand(shape) for key, shape in stored.items()}


def written(tmp_path, content, name="published.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("prefix", ["module.", "model.", "ema_model.module."])
def test_the_prefix_of_a_wrapper_is_taken_off(tmp_path, prefix):
    state = {prefix + key: value for key, value in empty_state().items()}
    assert set(read_published(written(tmp_path, state)).tensors) == set(
        read_published(written(tmp_path, empty_state())).tensors
    )


def test_a_second_set_of_weights_is_left_out_and_said(tmp_path):
    state = empty_state()
    state |= {f"ema_{key.replace('.', '_')}": value for key, value in list(state.items())[:5]}
    found = read_published(written(tmp_path, {"state_dict": state}))
    assert found.notes == (
        "5 buffers of a weight average (ema_backbone_conv1_weight, ...) are left out; such a file carries the tested "
        "weights under the plain names",
    )
    assert not found.unknown


def test_a_file_that_does_not_fit_whole_is_refused_unless_asked(tmp_path):
    state = empty_state()
    state["bbox_head.extra.weight"] = torch.zeros(3)
    state["bbox_head.vfnet_reg.bias"] = torch.zeros(5)
    gone = "neck.lateral_convs.0.conv.bias"
    del state[gone]
    file = written(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"2 of \d+ weights are unknown .*2 are missing .*--partial keeps"):
        read_published(file)
    found = read_published(file, partial=True)
    assert found.unknown == ("bbox_head.extra.weight", "head.reg.bias")
    assert set(found.missing) == {"neck.lateral.0.bias", "head.reg.bias"}
    build(found.info).detector.load_state_dict(found.tensors)


def test_files_from_before_batch_norms_counted(tmp_path):
    state = {key: value for key, value in empty_state().items() if not key.endswith("num_batches_tracked")}
    found = read_published(written(tmp_path, state))
    assert not found.missing
    build(found.info).detector.load_state_dict(found.tensors)


FCOS_CLASSES = {"config": "model = dict(backbone=dict(style='pytorch'), bbox_head=dict(norm_on_bbox=True))"}


@pytest.mark.parametrize(
    ("file", "meta", "caffe", "notes"),
    [
        ("fcos.pth", {}, True, 1),
        ("fcos.pth", FCOS_CLASSES, False, 0),
        ("fcos_r50_caffe_fpn.pth", {}, True, 0),
    ],
)
def test_what_shapes_do_not_tell_of_fcos(tmp_path, file, meta, caffe, notes):
    found = read_published(written(tmp_path, {"state_dict": empty_state("fcos_r50"), "meta": meta}, file))
    assert found.info.name == "fcos"
    assert found.info.config.backbone.style == ("caffe" if caffe else "pytorch")
    assert found.info.preprocess.bgr == caffe
    assert found.info.preprocess.std == ((1, 1, 1) if caffe else (58.395, 57.12, 57.375))
    assert found.info.config.norm_on_bbox == bool(meta)
    assert len(found.notes) == notes


def test_pixels_of_a_caffe_backbone_under_another_head(tmp_path):
    file = written(tmp_path, empty_state("retinanet_r50"), "retinanet_r50_caffe_fpn_1x.pth")
    pixels = read_published(file).info.preprocess
    assert (pixels.mean, pixels.std, pixels.bgr) == ((103.53, 116.28, 123.675), (1, 1, 1), True)


def test_the_improved_fcos_is_known_by_its_biases(tmp_path):
    state = empty_state("fcos_r50")
    state |= {f"bbox_head.{part}_convs.{i}.conv.bias": torch.zeros(256) for part in ("cls", "reg") for i in range(4)}
    config = read_published(written(tmp_path, state)).info.config
    assert (config.conv_bias, config.norm_on_bbox, config.centerness_on_reg, config.box_loss) == (
        True,
        True,
        True,
        "giou",
    )


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "res2net50d"])
@pytest.mark.parametrize("classifier", [True, False])
def test_a_backbone_alone(tmp_path, name, classifier):
    """timm's own weights, which for a ResNet have torchvision's names, come back into the backbone of a detector."""
    made = timm.create_model(name, num_classes=7)
    state = {key: value for key, value in made.state_dict().items() if classifier or not key.startswith("fc.")}
    file = written(tmp_path, state, "backbone.pth")
    assert is_backbone(read_state(file)[0])
    assert cli.main(["convert-weights", str(file), "--out", str(tmp_path / "b.safetensors")]) == 0
    loaded = Backbone(BackboneConfig(name, weights=str(tmp_path / "b.safetensors"))).net.state_dict()
    assert loaded
    for key, value in loaded.items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("name", ["resnet34", "resnet50d", "seresnet50", "resnet26"])
def test_a_backbone_that_only_looks_like_one_is_refused(tmp_path, name):
    with raises_code("published-backbone-unknown"):
        read_backbone(written(tmp_path, timm.create_model(name, num_classes=0).state_dict()))


def test_an_old_backbone_without_counters(tmp_path):
    state = timm.create_model("resnet50", num_classes=0).state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    name, tensors = read_backbone(written(tmp_path, old))
    assert name == "resnet50"
    assert set(tensors) == set(state)


def test_another_neck_is_refused_in_one_sentence(tmp_path):
    state = {key.replace("neck.", "neck.0."): value for key, value in empty_state("atss_r50").items()}
    with raises_code("published-neck-unknown"):
        read_published(written(tmp_path, state))


def test_weights_of_another_backbone_are_refused(tmp_path):
    file = written(tmp_path, timm.create_model("resnet50", num_classes=0).state_dict())
    assert cli.main(["convert-weights", str(file), "--out", str(tmp_path / "b.safetensors")]) == 0
    with pytest.raises(ConfigError, match=r"resnet18: .* resnet50.* resnet18"):
        Backbone(BackboneConfig("resnet18", weights=str(tmp_path / "b.safetensors")))


def test_a_backbone_of_another_family_is_refused(tmp_path):
    state = {"layer1.0.conv1.weight": torch.zeros(1, 1, 1, 1)}
    with raises_code("published-backbone-unknown"):
        read_backbone(written(tmp_path, state))


def test_something_else_is_told_what_is_known(tmp_path):
    with pytest.raises(CheckpointError, match=r"atss, fcos, .*vfnet"):
        read_published(written(tmp_path, {"encoder.weight": torch.zeros(2)}))


@pytest.mark.parametrize(
    ("meta", "select"), [({"mmengine_version": "0.10.3"}, "pairs"), ({"mmdet_version": "2.25"}, "points")]
)
def test_each_generation_of_mmdetection_counts_its_way(tmp_path, meta, select):
    found = read_published(written(tmp_path, {"state_dict": empty_state(), "meta": meta}))
    assert (found.info.postprocess.topk_mode, found.info.postprocess.nms_iou) == (select, 0.6)


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04"])
def test_broken_files_are_one_sentence(tmp_path, content):
    (tmp_path / "broken.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.pth: .*(another copy of it|is refused)\.$"):
        read_published(tmp_path / "broken.pth")


def test_info_and_predict_know_a_backbone_file(tmp_path, capsys):
    file = written(tmp_path, timm.create_model("resnet50", num_classes=0).state_dict())
    out = tmp_path / "b.safetensors"
    assert cli.main(["convert-weights", str(file), "--out", str(out)]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(out)]) == 0
    assert "the backbone resnet50; train with model.backbone.weights=" in capsys.readouterr().out
    assert cli.main(["predict", str(out), str(file), "--out", str(tmp_path / "found")]) == 2


RELATIVES = {  # suppression of each, and a switch that only the keys tell
    "atss_r50": ("atss", 0.6, {"centerness": True}),
    "atss_raw": ("atss", 0.6, {"centerness": False}),
    "gfl_r50": ("gfl", 0.6, {"bins": 17}),
    "retinanet_r50": ("retinanet", 0.5, {}),
    "fovea_r50": ("foveabox", 0.5, {}),
    "reppoints_r50": ("reppoints", 0.5, {"num_convs": 3}),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_every_relative_is_recognized_and_fits_whole(tmp_path, name):
    detector, iou, switches = RELATIVES[name]
    found = read_published(written(tmp_path, {"state_dict": empty_state(name)}))
    assert (found.info.name, found.info.config.num_classes, found.info.postprocess.nms_iou) == (detector, 80, iou)
    assert {key: getattr(found.info.config, key) for key in switches} == switches
    assert (found.unknown, found.missing, found.notes) == ((), (), ())
    assert found.info.categories == coco_categories()
    build(found.info).detector.load_state_dict(found.tensors)
