"""Class names of published files: where each version of mmdetection writes them."""

import json
from pathlib import Path

import pytest
import torch

from varifocal.errors import CheckpointError
from varifocal.models.convert import coco_categories, read_published
from varifocal.types import Category

KEYS = Path(__file__).parents[2] / "reference/data/keys/vfnet_r50.json"


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
    info, _ = read_published(publish(2, *meta))
    assert info.categories == wanted
    assert info.config.num_classes == 2


@pytest.mark.parametrize("meta", [{"CLASSES": "tree"}, {"dataset_meta": {"classes": "tree"}}])
def test_a_single_class_written_as_text_is_one_name(publish, meta):
    assert read_published(publish(1, meta))[0].categories == (Category(1, "tree"),)


@pytest.mark.parametrize("key", ["classes", "CLASSES"])
def test_coco_by_name_has_cocos_ids(publish, key):
    names = tuple(category.name for category in coco_categories())
    assert read_published(publish(80, {"dataset_meta": {key: names}}))[0].categories == coco_categories()


def test_another_number_of_names_is_refused(publish):
    with pytest.raises(CheckpointError, match=r"vfnet\.pth: names 2 classes but its network has 3\."):
        read_published(publish(3, {"dataset_meta": {"classes": NAMES}}))
