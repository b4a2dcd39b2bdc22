"""Recipes: reading, overriding, writing, and errors that list the valid keys."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from error_codes import raises_code
from PIL import Image
from tiny_data import make_data

import varifocal.recipes.build as build_module
from varifocal.data.augment import Augmentation
from varifocal.data.sampler import Sampling
from varifocal.inference.model import save
from varifocal.recipes.build import build_job, build_model, read_splits
from varifocal.recipes.recipe import DataConfig, Recipe, load_recipe, recipe_names, write_recipe
from varifocal.types import Category
from varifocal.utils.config import to_dict
from varifocal.utils.errors import CheckpointError, ConfigError, DataError
from varifocal.utils.overrides import override

CATEGORIES = (Category(4, "a"), Category(9, "b"))
TINY = override(
    Recipe(), ["model.backbone.name=test_resnet", "model.channels=32", "model.num_levels=3", "model.num_convs=1"]
)


def test_names():
    assert "trees" in recipe_names()
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize("name", [name for name in recipe_names()])
def test_every_recipe_of_the_package_parses_and_comes_back(name, tmp_path):
    recipe = load_recipe(name)
    write_recipe(recipe, tmp_path / "r.yaml")
    assert load_recipe(str(tmp_path / "r.yaml")) == recipe


def test_a_written_recipe_needs_no_base(tmp_path):
    write_recipe(load_recipe("vfnet_r50_ms_2x"), tmp_path / "r.yaml")
    assert "base" not in (tmp_path / "r.yaml").read_text().split("backbone")[0]
    assert load_recipe(str(tmp_path / "r.yaml")).data.augment.short_range == (480, 960)


def test_write_spells_out_every_default(tmp_path):
    write_recipe(Recipe(), tmp_path / "r.yaml")
    text = (tmp_path / "r.yaml").read_text()
    assert all(key in text for key in ("milestones", "min_visible", "gradient_mul", "max_detections"))


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text("# nothing\n")
    assert load_recipe(str(tmp_path / "r.yaml")) == Recipe()


def test_a_file_changes_only_what_it_names(tmp_path):
    (tmp_path / "r.yml").write_text("train: {lr: 0.5}\nmodel:\n  backbone: {name: resnet18}\n")
    recipe = load_recipe(
        str(tmp_path / "r.yml"), ["train.milestones=[0, 0.5]", "postprocess.topk_mode=points", "train.weights=x"]
    )
    assert recipe.train == replace(Recipe().train, lr=0.5, milestones=(0, 0.5), weights="x")
    assert recipe.model.backbone == replace(Recipe().model.backbone, name="resnet18")
    assert recipe.postprocess.topk_mode == "points"
    assert recipe.data == Recipe().data


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "train.learning=1",
            r"no 'learning' here.*Valid keys: accumulate_grad_batches, backbone_lr_mult, .*, batch_size, .*weights",
        ),
        ("train.epoch=1", r"Did you mean 'epochs'\?"),
        ("trian.lr=1", r"no 'trian' here\. Did you mean 'train'\?"),
        ("train.lr.x=1", r"^override 'train\.lr\.x=1': train\.lr: .*number \(got \{'x': 1\}\)\.$"),
        ("train.lr=fast", r"train\.lr: .*number.*got 'fast'"),
        ("train.batch_size=1.5", r"train\.batch_size: .*got 1\.5"),
        ("train.epochs=-1.5", r"train\.epochs: .*greater than 0.*got -1\.5"),
        (
            "model.loss=hinge",
            r"model: loss: .*'varifocal', 'focal', 'quality-focal', 'mal' or 'ia-bce' \(got 'hinge'\)",
        ),
        ("model.star_norm=batch", r"model: star_norm: .*'none' or 'group' \(got 'batch'\)"),
        ("train.lr", r"write it as key=value"),
        ("train.batch_size=0", r"train\.batch_size: .*greater than 0, or: .*'auto' \(got 0\)"),
        ("train.precision=32", r"train\.precision: .*'fp32', 'bf16' or 'fp16'"),
        ("train.milestones=[8, 11]", r"train\.milestones\.0: .*less than or equal to 1 \(got 8\)"),
        ("data.augment.scale_jitter=[0, 1]", r"data\.augment\.scale_jitter\.0: .*greater than 0 \(got 0\)"),
        ("data.invalid_boxes=skip", r"data\.invalid_boxes: .*'error' or 'drop'"),
    ],
)
def test_wrong_overrides(assignment, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("trees", [assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lr: [}", r"r\.yaml: not YAML \("),
        ("- a\n- b\n", r"must be a mapping of keys, not a list"),
        ("just text", r"must be a mapping of keys, not a str"),
        ("train: {speed: 1}", r"r\.yaml: train: there is no 'speed' here\. .*Valid keys"),
        ("train: {lr: []}", r"r\.yaml: train\.lr"),
        ("model: {star_norm: layer}", r"r\.yaml: model: star_norm: .*'none' or 'group' \(got 'layer'\)"),
        ("\x00", r"not YAML"),
        ("train: {lr: 2020-13-45}", r"r\.yaml: not YAML \(month"),
        ("1: 2", r"r\.yaml: there is no 1 here\. Valid keys: "),
    ],
)
def test_wrong_files(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_recipe(str(tmp_path / "r.yaml"))
    assert "\n" not in str(error.value)


def write_files(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_base_gives_what_the_file_does_not_say(tmp_path):
    """Mappings are merged key by key, lists are replaced, and the file itself overrides its bases."""
    write_files(
        tmp_path,
        root="train: {lr: 0.1, epochs: 7, milestones: [0.1, 0.2]}\nmodel: {channels: 64, backbone: {name: resnet18}}\n",
        middle="base: root.yaml\ntrain: {lr: 0.2, batch_size: 3}\nmodel: {backbone: {frozen_stages: 2}}\n",
        leaf="base: middle.yaml\ntrain: {milestones: [0.5]}\npostprocess: {nms_iou: 0.4}\n",
    )
    recipe = load_recipe(str(tmp_path / "leaf.yaml"), ["train.batch_size=4"])
    expected = replace(Recipe().train, lr=0.2, epochs=7, batch_size=4, milestones=(0.5,))
    assert recipe.train == expected
    assert recipe.model.channels == 64
    assert recipe.model.backbone == replace(Recipe().model.backbone, name="resnet18", frozen_stages=2)
    assert recipe.postprocess.nms_iou == 0.4
    assert recipe.data == Recipe().data


def test_a_base_is_one_of_the_package_or_a_file_beside(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    write_files(tmp_path, mine="base: vfnet_r50_1x\ntrain: {lr: 0.3}\n")
    write_files(tmp_path / "deep", other="base: ../mine.yaml\ntrain: {epochs: 3}\n")
    monkeypatch.chdir("/")
    recipe = load_recipe(str(tmp_path / "deep" / "other.yaml"))
    base = load_recipe("vfnet_r50_1x")
    assert recipe == replace(base, train=replace(base.train, lr=0.3, epochs=3))


def test_what_only_the_former_detector_has_goes_with_it(tmp_path):
    """``trees`` has a norm in the star of its VFNet; ATSS has no star. A key that no detector has is still refused."""
    assert load_recipe("trees").model.star_norm == "group"
    write_files(tmp_path, mine="base: trees\ndetector: atss\n", own="base: mine.yaml\nmodel: {star_norm: group}\n")
    for recipe in (load_recipe("trees", ["detector=atss"]), load_recipe(str(tmp_path / "mine.yaml"))):
        assert recipe.detector == "atss"
        assert (recipe.model.channels, recipe.model.num_levels) == (96, 4)
    assert load_recipe("trees", ["detector=reppoints"]).model.star_norm == "group"
    with pytest.raises(ConfigError, match=r"there is no 'star_norm' here"):
        load_recipe(str(tmp_path / "own.yaml"))
    write_files(tmp_path, typo="base: trees\nmodel: {star_nrom: group}\n")
    with pytest.raises(ConfigError, match=r"there is no 'star_nrom' here"):
        load_recipe(str(tmp_path / "typo.yaml"), ["detector=atss"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "base: a.yaml"}, r"a\.yaml: .*\(a\.yaml -> a\.yaml\)"),
        ({"a": "base: b.yaml", "b": "base: a.yaml"}, r"\(a\.yaml -> b\.yaml -> a\.yaml\)"),
        ({"a": "base: b.yaml", "b": "base: ./b.yaml"}, r"b\.yaml: .*\(b\.yaml -> b\.yaml\)"),
        ({"a": "base: gone.yaml"}, r"recipe 'gone\.yaml': .*trees"),
        ({"a": "base: gone"}, r"recipe 'gone': .*trees"),
        ({"a": "base: [trees]"}, r"a\.yaml: base: .*\(got \['trees'\]\)"),
        ({"a": "base: b.yaml", "b": "- 1"}, r"b\.yaml: must be a mapping of keys, not a list"),
        ({"a": "base: trees\ntrain: {speed: 1}"}, r"a\.yaml: train: there is no 'speed' here"),
    ],
)
def test_wrong_bases(tmp_path, files, message):
    write_files(tmp_path, **files)
    with pytest.raises(ConfigError, match=message) as error:
        load_recipe(str(tmp_path / "a.yaml"))
    assert "\n" not in str(error.value)


def test_a_ring_of_bases_is_seen_through_folders(tmp_path):
    (tmp_path / "deep").mkdir()
    write_files(tmp_path / "deep", a="base: ../deep/a.yaml")
    with raises_code("base-cycle", ConfigError):
        load_recipe(str(tmp_path / "deep" / "a.yaml"))


def test_a_recipe_that_is_not_there_lists_those_that_are():
    with pytest.raises(ConfigError, match=r"recipe 'nothing': .*trees"):
        load_recipe("nothing")


def test_the_number_of_classes_comes_from_the_data_or_must_agree_with_it():
    model = build_model(TINY, CATEGORIES)
    assert model.info.config.num_classes == 2
    assert model.info.recipe["model"]["num_classes"] == 0
    with pytest.raises(ConfigError, match=r"model\.num_classes=3 .* 2 classes \(a, b\)"):
        build_model(override(TINY, ["model.num_classes=3"]), CATEGORIES)


def test_starting_from_weights(tmp_path):
    torch.manual_seed(0)
    source, path = build_model(TINY, CATEGORIES), tmp_path / "w.safetensors"
    save(source, path)
    start = override(TINY, [f"train.weights={path}"])
    same = build_model(start, CATEGORIES).detector.state_dict()
    for name, tensor in source.detector.state_dict().items():
        assert torch.equal(tensor, same[name]), name
    other = build_model(start, (Category(1, "c"), Category(2, "b"))).detector.state_dict()
    expected = source.detector.state_dict()
    assert torch.equal(other["neck.lateral.0.weight"], expected["neck.lateral.0.weight"])
    assert not torch.equal(other["head.cls.weight"], expected["head.cls.weight"])
    build_model(start, (*CATEGORIES, Category(1, "c")))  # another number of classes does no harm
    with raises_code("incompatible-weights", CheckpointError):
        build_model(override(start, ["model.channels=64"]), CATEGORIES)


@pytest.mark.parametrize(("trained", "expected"), [("none", "group"), ("group", "none")])
def test_starting_from_weights_with_another_star_is_refused(tmp_path, trained, expected):
    """Otherwise a norm that only the file has would be dropped, and the star would compute something else."""
    path = tmp_path / "w.safetensors"
    save(build_model(override(TINY, [f"model.star_norm={trained}"]), CATEGORIES), path)
    start = override(TINY, [f"train.weights={path}", f"model.star_norm={expected}"])
    with raises_code("star-norm", CheckpointError) as error:
        build_model(start, CATEGORIES)
    assert f"trained with model.star_norm={trained}, but this recipe has {expected}" in str(error.value)
    build_model(override(start, [f"model.star_norm={trained}"]), CATEGORIES)


def test_a_norm_is_no_matter_where_there_is_no_star(tmp_path):
    """The networks with and without the norm are the same then."""
    path = tmp_path / "w.safetensors"
    raw = override(TINY, ["model.star=false", "model.refine=false"])
    save(build_model(raw, CATEGORIES), path)
    made = build_model(override(raw, [f"train.weights={path}", "model.star_norm=group"]), CATEGORIES)
    assert not any("star" in name for name in made.detector.state_dict())


@pytest.mark.parametrize("detector", ["vfnet", "reppoints"])
def test_the_papers_network_has_no_norm_in_its_star(detector):
    tiny = [f"detector={detector}", "model.backbone={name: test_resnet, pretrained: none}", "model.compat=paper"]
    with pytest.raises(ConfigError, match=r"star_norm=group: with compat=paper there is no norm in the star; set"):
        build_model(load_recipe("trees", tiny), CATEGORIES)
    build_model(load_recipe("trees", [*tiny, "model.star_norm=none"]), CATEGORIES)


def write_split(folder, split, name="a", boxes=()):
    (folder / split).mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / split / "x.png")
    content = {
        "images": [{"id": 1, "file_name": "x.png", "width": 9, "height": 9}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": name}],
    }
    (folder / split / "annotations.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("there", "expected", "found", "message"),
    [
        (("train", "val"), "val", "val", None),
        (("train", "valid"), "val", "valid", None),
        (("train", "val", "test"), "val", "val", None),
        (("train", "val", "test"), "test", "test", None),
        (("train", "test"), "val", "test", "no split 'val', so validation is on 'test'."),
        (
            ("train",),
            "val",
            None,
            "there is one split, so there is no validation; hold images out for it with --val-fraction 0.2.",
        ),
        (("Train", "Validation"), "val", "Validation", None),
        (("train", "dev", "test"), "val", "dev", None),
        (("trainval", "Test"), "val", "Test", "no split 'val', so validation is on 'Test'."),
        (
            ("default",),
            "val",
            None,
            "there is one split, so there is no validation; hold images out for it with --val-fraction 0.2.",
        ),
        (
            ("trainval", "val"),
            "val",
            None,
            "the split 'val' has images of 'trainval', so there is no validation.",
        ),
        (
            ("train", "extra"),
            "val",
            None,
            "no split 'val' (there are extra, train), so there is no validation; data.val_split=extra takes another.",
        ),
        (("train", "val"), "", None, None),
    ],
)
def test_the_validation_split(tmp_path, there, expected, found, message):
    for split in there:
        write_split(tmp_path, split)
    training, validation = read_splits(tmp_path, DataConfig(val_split=expected))
    assert training.source == tmp_path / there[0] / "annotations.json"
    assert (None if validation is None else validation.source.parent.name) == found
    assert [note.removeprefix(f"{tmp_path}: ") for note in training.notes] == [message] * (message is not None)


@pytest.mark.parametrize("name", ["default", "Result", "val", "batch 7"])
def test_a_single_split_of_any_name_is_parted(tmp_path, name):
    write_split(tmp_path, name)
    content = json.loads((tmp_path / name / "annotations.json").read_text())
    content["images"] = [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in range(10)]
    (tmp_path / name / "annotations.json").write_text(json.dumps(content))
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 255, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    training, validation = read_splits(tmp_path, DataConfig(val_fraction=0.3))
    assert (len(training.samples), len(validation.samples)) == (7, 3)
    training, validation = read_splits(tmp_path, DataConfig())
    assert (len(training.samples), validation) == (10, None)


def test_one_json_is_trained_on_without_validation(tmp_path):
    write_split(tmp_path, "train", boxes=[[1, 1, 3, 3], [5, 5, 9, 2], [0, 0, 0, 0]])
    write_split(tmp_path, "val")
    file = tmp_path / "train" / "annotations.json"
    training, validation = read_splits(file, DataConfig(invalid_boxes="drop"))
    assert validation is None
    assert len(training.samples[0].boxes) == 2
    first, second, third = training.notes  # notes of the reader are kept
    assert "left out" in first
    assert "clipped" in second
    assert (
        third
        == f"{file}: there is one split, so there is no validation; hold images out for it with --val-fraction 0.2."
    )
    assert build_job(override(TINY, ["data.invalid_boxes=drop"]), file, tmp_path / "run").validation is None


def test_a_missing_training_split_is_refused(tmp_path):
    write_split(tmp_path, "val")
    write_split(tmp_path, "extra")
    with pytest.raises(DataError, match=r"no split 'train'.*available: extra, val"):
        read_splits(tmp_path, DataConfig())


def test_a_bad_box_of_either_split_stops_or_is_dropped(tmp_path):
    write_split(tmp_path, "train")
    write_split(tmp_path, "val", boxes=[[0, 0, 0, 0]])
    with pytest.raises(DataError, match=r"val.*data\.invalid_boxes=drop"):
        read_splits(tmp_path, DataConfig())
    _, validation = read_splits(tmp_path, DataConfig(invalid_boxes="drop"))
    assert "left out" in validation.notes[0]


def test_a_resumed_job_looks_for_no_weights(tmp_path, monkeypatch):
    """Neither the download nor the initial checkpoint is needed any more; the recipe stays unchanged."""
    calls = []
    monkeypatch.setattr(build_module, "load_compatible_weights", lambda *_: calls.append("weights"))
    monkeypatch.setattr(build_module, "load_checkpoint", calls.append)
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: calls.append(k["pretrained"]) or create(*a, **k))
    write_split(tmp_path, "train")
    start = override(TINY, ["model.backbone.pretrained=timm"])
    given = override(start, ["train.weights=gone.safetensors"])
    for recipe in (start, given):
        job = build_job(recipe, tmp_path, tmp_path / "run", resumed=True)
        assert calls == [False]
        assert job.model.info.config.backbone.pretrained == "timm"
        assert job.model.info.recipe == to_dict(recipe)
        calls.clear()
    build_model(given, CATEGORIES)
    assert calls == [
        False,
        "gone.safetensors",
        "weights",
    ]  # weights of a whole model: none are loaded for its backbone alone
    calls.clear()
    build_model(given, CATEGORIES, weights=False)
    assert calls == [False]


def test_images_too_large_to_validate_on_are_said_before_training(tmp_path, monkeypatch):
    """Crops are for training; validation reads images whole or in tiles."""
    write_split(tmp_path, "train", boxes=[[1, 1, 3, 3]])
    write_split(tmp_path, "val", boxes=[[1, 1, 3, 3]])
    monkeypatch.setattr("varifocal.data.images.MAX_PIXELS", 10)
    crops = override(TINY, ["data.augment.crop=8"])
    message = (
        r"/val/.* validation would read this image whole, .*, above the limit of 10; set tiling\.size=N .*--max-pixels"
    )
    with pytest.raises(DataError, match=message):
        build_job(crops, tmp_path, tmp_path / "run")
    assert build_job(override(crops, ["tiling.size=8"]), tmp_path, tmp_path / "run").validation is not None
    monkeypatch.setenv("VARIFOCAL_MAX_PIXELS", "1000000")
    assert build_job(crops, tmp_path, tmp_path / "run").validation is not None


def test_a_job_needs_the_same_classes_in_both_splits(tmp_path):
    for split, name in (("train", "a"), ("val", "b")):
        write_split(tmp_path, split, name, boxes=[[1, 1, 3, 3]])
    with raises_code("validation-classes", DataError):
        build_job(TINY, tmp_path, tmp_path / "run")
    alone = build_job(override(TINY, ["data.val_split=''"]), tmp_path, tmp_path / "run")
    assert alone.validation is None
    assert not (tmp_path / "run").exists()


def test_pixels_are_those_of_the_backbone_unless_the_recipe_says_otherwise():
    categories = [Category(1, "a")]
    named = load_recipe("vfnet_r50_1x", ["model.backbone.name=vit_tiny_patch16_224", "model.backbone.pretrained=none"])
    made = build_model(named, categories, weights=False).info.preprocess
    assert made.mean == made.std == (127.5, 127.5, 127.5)
    message = override(named, ["data.preprocess.mean=[1.0, 2.0, 3.0]"])
    assert build_model(message, categories, weights=False).info.preprocess.mean == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("text", ["detector: [vfnet]", "detector: {name: vfnet}", "detector: 3"])
def test_a_detector_that_is_no_name(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match="choose from atss, fcos"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_sizes_that_depend_on_each_other_are_given_together():
    assert load_recipe("trees", ["tiling={size: 100, overlap: 50}"]).tiling.size == 100
    assert load_recipe("trees", ["tiling.size=0"]).tiling.size == 0
    with pytest.raises(ConfigError, match="size=100, overlap=160; the overlap must be less than the size"):
        load_recipe("trees", ["tiling.size=100"])


def test_what_the_documentation_shows_is_understood(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "training-data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my.yaml").write_text(block)
    recipe = load_recipe(str(tmp_path / "my.yaml"))
    assert recipe.data.cache_bytes == 4 * 2**30
    assert recipe.data.sampling == Sampling(0.1, 0.2)
    words = re.findall(r"((?:data|train)\.[a-z_.]+=\S+?)[`\s]", text)
    assert len(words) > 5
    for word in words:
        load_recipe("vfnet_r50_1x", [word])
    rows = re.findall(r"^\| (`.*?) \|", text[text.index("Fields of") :], re.MULTILINE)
    fields = [word for row in rows for word in re.findall(r"`([a-z_]+(?:: [^`]*)?)`", row)]
    assert len(fields) > 15
    for word in fields:
        if ": " in word:
            override(Augmentation(), [word.replace(": ", "=", 1)])
        else:
            assert hasattr(Augmentation(), word)


def test_the_cache_is_said_in_bytes_or_with_a_unit():
    for text, size in (("2GiB", 2**31), ("512MiB", 2**29), ("1000", 1000), ("0", 0), ("1.5KiB", 1536)):
        assert load_recipe("vfnet_r50_1x", [f"data.cache_bytes={text}"]).data.cache_bytes == size
    for text in ("-1", "2 apples", "much"):
        with pytest.raises(ConfigError, match=r"data\.cache_bytes: "):
            load_recipe("vfnet_r50_1x", [f"data.cache_bytes={text}"])


@pytest.mark.parametrize(("word", "ignored"), [("ignore", [True, False]), ("train", [False, False])])
def test_difficult_boxes_are_trained_on_when_asked_for_and_never_evaluated(tmp_path, word, ignored):
    folder = make_data(tmp_path, images=1)
    for split in ("train", "val"):
        file = folder / split / "annotations.json"
        content = json.loads(file.read_text())
        content["annotations"] = [{**one, "difficult": int(i == 0)} for i, one in enumerate(content["annotations"][:2])]
        file.write_text(json.dumps(content))
    config = override(Recipe(), [f"data.difficult={word}"]).data
    training, validation = read_splits(folder, config)
    assert training.samples[0].crowd.tolist() == ignored
    assert validation.samples[0].crowd.tolist() == [True, False]
