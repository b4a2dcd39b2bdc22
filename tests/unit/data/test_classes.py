"""A class without a box stops nothing and is no output of the network."""

import json

import numpy as np
import pytest
from folders import fill, found
from messy import image

from varifocal.data.classes import used_classes, with_classes
from varifocal.data.digest import dataset_digest
from varifocal.data.load import load_dataset
from varifocal.recipes.build import build_job, read_splits
from varifocal.recipes.recipe import DataConfig, Recipe, read_recipe_of_run, write_recipe
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.overrides import override

TINY = override(
    Recipe(),
    [
        "model.backbone={name: test_resnet, pretrained: none}",
        "model.channels=32",
        "model.num_levels=3",
        "model.num_convs=1",
    ],
)
NAMES = ["kitchen", "cup", "jar", "box"]  # ids 0, 1, ...


def content(used, names=NAMES, *, crowd=()) -> str:
    """Two images; on each a box of every class in ``used``, each at a place of its own."""
    boxes = [(image, label) for image in (1, 2) for label in used]
    annotations = [
        {
            "id": i,
            "image_id": image,
            "category_id": names.index(label),
            "bbox": [10 * names.index(label), image, 8, 8],
            "iscrowd": int(label in crowd),
        }
        for i, (image, label) in enumerate(boxes)
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (1, 2)]
    categories = [{"id": i, "name": name, "supercategory": "kitchen"} for i, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def write(root, **splits):
    """Splits of two images each, by what they hold."""
    files = {f"{split}/_annotations.coco.json": text for split, text in splits.items()}
    return fill(root, {**files, **{f"{split}/{i}.png": (64, 48) for split in splits for i in (1, 2)}})


def names(data) -> list[str]:
    return [one.name for one in data.categories]


def test_a_root_class_is_no_output_of_the_model(tmp_path):
    root = write(tmp_path, train=content(["cup", "box"]), valid=content(["cup", "box"]))
    training, validation = read_splits(root, DataConfig())
    assert [(one.id, one.name) for one in training.categories] == [(1, "cup"), (3, "box")]
    assert training.categories == validation.categories
    assert found(training) == found(load_dataset(root, "train"))
    assert found(validation) == found(load_dataset(root, "val"))
    assert training.notes == (
        "_annotations.coco.json: the classes kitchen, jar have no box and are no outputs of the model; "
        "data.keep_unused_classes=true keeps all.",
    )
    job = build_job(TINY, root, tmp_path / "run")
    assert job.model.categories == training.categories
    assert job.model.info.config.num_classes == 2
    assert sorted({label for sample in job.training.samples for label in sample.labels.tolist()}) == [0, 1]


def test_one_split_alone_and_a_part_held_out(tmp_path):
    root = write(tmp_path, train=content(["cup"]))
    assert names(read_splits(root / "train", DataConfig())[0]) == ["cup"]
    held = fill(tmp_path / "b", {"all.json": content(["jar"])})
    for i in (1, 2):
        image(i, (64, 48)).save(held / f"{i}.png")
    parts = read_splits(held, DataConfig(val_fraction=0.5))
    assert [names(part) for part in parts] == [["jar"], ["jar"]]
    assert [len(part.samples) for part in parts] == [1, 1]


@pytest.mark.parametrize("words", [["data.keep_unused_classes=true"], ["model.num_classes=4"]])
def test_all_classes_are_kept_where_the_recipe_says_so(tmp_path, words):
    root = write(tmp_path, train=content(["cup", "box"]), valid=content(["cup", "box"]))
    job = build_job(override(TINY, words), root, tmp_path / "run")
    assert names(job.model) == names(job.training) == names(job.validation) == NAMES
    assert job.training.notes == ()


def test_another_number_of_classes_is_refused(tmp_path):
    root = write(tmp_path, train=content(["cup", "box"]))
    assert build_job(override(TINY, ["model.num_classes=2"]), root, tmp_path / "run").model.info.config.num_classes == 2
    with pytest.raises(ConfigError, match=r"model\.num_classes=3 but the data has 2 classes \(cup, box\)"):
        build_job(override(TINY, ["model.num_classes=3"]), root, tmp_path / "run")


def test_a_class_that_only_the_validation_shows_stays_and_is_told(tmp_path):
    root = write(tmp_path, train=content(["cup", "box"]), valid=content(["cup", "jar"]))
    training, validation = read_splits(root, DataConfig())
    assert names(training) == names(validation) == ["cup", "jar", "box"]
    assert training.notes[1] == (
        "_annotations.coco.json: the class jar has boxes to validate on and none to learn from."
    )


def test_unused_classes_of_the_validation_alone_stop_nothing(tmp_path):
    longer = [*NAMES, "lid"]
    root = write(tmp_path, train=content(["cup"]), valid=content(["cup"], longer))
    for keep in (False, True):
        config = override(TINY, [f"data.keep_unused_classes={keep}".lower()])
        job = build_job(config, root, tmp_path / "run")
        assert "lid" not in names(job.validation)
    root = write(tmp_path / "b", train=content(["cup"]), valid=content(["cup", "lid"], longer))
    with pytest.raises(DataError, match="classes lid are not in"):
        build_job(TINY, root, tmp_path / "run")


def test_a_class_of_regions_alone_stays(tmp_path):
    root = write(tmp_path, train=content(["cup", "box"], crowd=["box"]))
    assert names(read_splits(root, DataConfig())[0]) == ["cup", "box"]


def test_regions_of_all_classes_make_no_outputs(tmp_path):
    """VisDrone lists ten classes; two ignored regions are boxes of none, and regions of those that have boxes."""
    lines = "10,20,30,5,1,4,0,0\n0,0,9,9,0,0,0,0\n50,0,9,9,0,11,0,0\n70,0,9,9,1,1,0,0\n"
    for split in ("train", "val"):
        fill(tmp_path, {f"{split}/images/a.png": (100, 50), f"{split}/annotations/a.txt": lines})
    training, validation = read_splits(tmp_path, DataConfig())
    assert names(training) == names(validation) == ["pedestrian", "car"]
    assert any("people, bicycle, van, truck" in note and "no outputs of the model" in note for note in training.notes)
    for (sample,) in (training.samples, validation.samples):
        rows = zip(sample.labels.tolist(), sample.boxes.tolist(), sample.crowd.tolist(), strict=True)
        assert sorted(rows) == [
            (0, [0, 0, 9, 9], True),
            (0, [50, 0, 59, 9], True),
            (0, [70, 0, 79, 9], False),
            (1, [0, 0, 9, 9], True),
            (1, [10, 20, 40, 25], False),
            (1, [50, 0, 59, 9], True),
        ]
    assert names(read_splits(tmp_path, DataConfig(keep_unused_classes=True))[0])[1] == "people"


def test_without_any_box_all_classes_stay(tmp_path):
    training, _ = read_splits(write(tmp_path, train=content([])), DataConfig())
    assert names(training) == NAMES


def test_lists_of_names_of_other_formats(tmp_path):
    files = {"data.yaml": "train: images/train\nval: images/val\nnames: [a, b, c]\n"}
    for split in ("train", "val"):
        files |= {f"images/{split}/1.png": (64, 48), f"labels/{split}/1.txt": "2 0.5 0.5 0.5 0.5\n"}
    training, validation = read_splits(fill(tmp_path, files), DataConfig())
    assert [(one.id, one.name) for one in training.categories] == [(2, "c")]
    assert training.categories == validation.categories


def test_the_same_data_has_the_same_fingerprint_and_a_run_from_before_keeps_its_classes(tmp_path):
    root = write(tmp_path, train=content(["cup", "box"]))
    less, more = (dataset_digest(read_splits(root, DataConfig(keep_unused_classes=keep))[0]) for keep in (False, True))
    assert less == dataset_digest(read_splits(root, DataConfig())[0])
    assert less != more
    assert more == dataset_digest(load_dataset(root, "train"))
    write_recipe(TINY, tmp_path / "recipe.yaml")
    assert read_recipe_of_run(tmp_path / "recipe.yaml") == TINY
    text = (tmp_path / "recipe.yaml").read_text().replace("  keep_unused_classes: false\n", "")
    (tmp_path / "recipe.yaml").write_text(text)
    assert read_recipe_of_run(tmp_path / "recipe.yaml").data.keep_unused_classes


def test_classes_by_themselves(tmp_path):
    data = load_dataset(write(tmp_path, train=content(["jar"])), "train")
    used = used_classes(data)
    assert used.tolist() == [False, False, True, False]
    less = with_classes(data, used)
    assert less.samples[0].labels.tolist() == [0]
    assert len(less.samples) == len(less.samples[:2]) == 2
    assert less.samples[1:][0].labels.tolist() == [0]
    assert with_classes(data, np.ones(4, bool)) is data
