"""The command line as users see it: what it prints, which files it writes, and its errors for bad input."""

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import varifocal.inference.model as predict_module
from varifocal.cli import COMMANDS, load_command, main, parse
from varifocal.inference.model import create_model, save
from varifocal.inference.published.convert import coco_categories
from varifocal.models.checkpoint import KEY
from varifocal.types import Preprocess

TINY = [
    "--recipe",
    "vfnet_r50_1x",
    "model.backbone.name=resnet18",
    "model.backbone.pretrained=none",
    "model.backbone.frozen_stages=0",
    "model.channels=32",
    "model.num_levels=3",
    "model.num_convs=1",
    "data.preprocess.short_side=64",
    "data.preprocess.max_long_side=96",
    "train.epochs=1",
    "train.batch_size=2",
    "train.num_workers=0",
    "train.warmup_steps=0",
]


def coco(images, boxes, categories=((7, "cat"), (42, "dog"))):
    """Return a COCO dictionary of images (name, width, height) and boxes (image id, category id, xywh)."""
    return {
        "images": [
            {"id": i, "file_name": name, "width": w, "height": h} for i, (name, w, h) in enumerate(images, start=1)
        ],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": 0}
            for i, (image, category, box) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": i, "name": name} for i, name in categories],
    }


@pytest.fixture
def data(tmp_path):
    """Three small images, one of them without a box, as train and as val."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = [(f"{i}.png", 96, 64) for i in range(3)]
    for name, width, height in images:
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    content = coco(images, [(1, 7, (10, 10, 30, 20)), (2, 42, (5, 5, 40, 40)), (2, 7, (50, 20, 30, 30))])
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    torch.manual_seed(0)
    model = create_model("vfnet", backbone="resnet18", classes=["cat", "dog"], channels=32, num_levels=3, num_convs=1)
    save(model, path)
    return path


def refused(capsys, *arguments):
    """Return the only sentence on stderr of a command that must fail without a traceback."""
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("varifocal ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def change(folder, split, edit):
    path = folder / f"{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_train_eval_predict_info_resume(data, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(data), "--out", str(run), *TINY]) == 0
    assert "Run folder" in capsys.readouterr().out
    left = {path.name for path in run.iterdir()}
    assert {
        "best.safetensors",
        "last.safetensors",
        "state.safetensors",
        "metrics.json",
        "log.jsonl",
        "recipe.yaml",
    } <= left
    assert {path.name for path in (run / "images").iterdir()} == {"1-0.png", "2-1.png", "3-2.png"}
    assert json.loads((run / "metrics.json").read_text())["per_class"].keys() == {"cat", "dog"}

    out = tmp_path / "metrics.json"
    assert main(["eval", str(run / "best.safetensors"), str(data), "--output-json", str(out)]) == 0
    assert json.loads(out.read_text()) == json.loads((run / "metrics.json").read_text())

    found = tmp_path / "found"
    options = ["--out", str(found), "--score-threshold", "0", "--max-detections", "5"]
    assert main(["predict", str(run / "best.safetensors"), str(data / "images"), *options]) == 0
    entries = json.loads((found / "detections.json").read_text())
    assert {entry["image_id"] for entry in entries} == {1, 2, 3}
    assert {tuple(sorted(entry)) for entry in entries} == {
        ("bbox", "category_id", "category_name", "file_name", "image_id", "score")
    }
    assert {(e["category_id"], e["category_name"]) for e in entries} <= {(7, "cat"), (42, "dog")}
    assert len(list(found.glob("*.png"))) == 3
    assert all(sum(e["image_id"] == i for e in entries) <= 5 for i in (1, 2, 3))

    assert main(["info", str(run / "best.safetensors")]) == 0
    assert "resnet18" in capsys.readouterr().out

    before = (run / "last.safetensors").read_bytes()
    assert "--resume" in refused(capsys, "train", data, "--out", run, *TINY)
    assert main(["train", str(data), "--resume", str(run)]) == 0
    assert main(["train", "--resume", str(run)]) == 0  # the data that the run was started with
    assert "is finished" in capsys.readouterr().err
    assert "no data set given" in refused(capsys, "train")
    assert (run / "last.safetensors").read_bytes() == before
    change(data, "train", lambda c: c["annotations"][0].update(bbox=[1, 1, 9, 9]))
    assert "not the data" in refused(capsys, "train", data, "--resume", run)


def test_one_json_is_trained_on(data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copy(data / "train.json", data / "images" / "all.json")  # beside its images
    assert main(["train", str(data / "images" / "all.json"), "--out", str(run), *TINY]) == 0
    said = capsys.readouterr()
    assert "all.json: there is one split, so there is no validation" in said.err
    assert "Traceback" not in said.err
    left = {path.name for path in run.iterdir()}
    assert {"best.safetensors", "last.safetensors", "state.safetensors", "log.jsonl"} <= left
    assert not {"metrics.json", "images"} & left
    assert main(["train", str(data / "images" / "all.json"), "--resume", str(run)]) == 0


@pytest.mark.parametrize(
    ("splits", "word", "note"),
    [
        (["train"], [], "there is one split, so there is no validation"),
        (["train", "test"], [], "no split 'val', so validation is on 'test'"),
        (["train", "val"], ["data.val_split="], None),
    ],
    ids=["none", "test", "switched-off"],
)
def test_training_without_the_validation_split(data, tmp_path, capsys, splits, word, note):
    content = (data / "train.json").read_text()
    for split in ("train", "val"):
        (data / f"{split}.json").unlink()
    for split in splits:
        (data / f"{split}.json").write_text(content)
    run = tmp_path / "run"
    assert main(["train", str(data), "--out", str(run), *TINY, *word]) == 0
    err = capsys.readouterr().err
    assert note in err if note else "split" not in err
    assert (run / "best.safetensors").is_file()
    assert (run / "metrics.json").is_file() == ("test" in splits)


def test_a_bad_validation_image_costs_no_training(data, tmp_path, capsys):
    """It is reported in one sentence, and the run can be resumed once it is fixed."""
    run, bad = tmp_path / "run", data / "images" / "other.png"
    change(data, "val", lambda c: c["images"][0].update(file_name="other.png"))
    whole = (data / "images" / "0.png").read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    message = refused(capsys, "train", data, "--out", run, *TINY, "train.save_every_steps=1")
    assert "other.png: the image is damaged or cut short" in message
    assert {"state.safetensors", "recipe.yaml", "log.jsonl"} <= {path.name for path in run.iterdir()}
    bad.write_bytes(whole)
    assert main(["train", str(data), "--resume", str(run)]) == 0
    assert json.loads((run / "metrics.json").read_text())["per_class"].keys() == {"cat", "dog"}
    assert {path.name for path in (run / "images").iterdir()} == {"1-other.png", "2-1.png", "3-2.png"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train.batch_size=0"],
            "train.batch_size: Input should be greater than 0, or: Input should be 'auto' (got 0)",
        ),
        (["train.accumulate_grad_batches=0"], "train.accumulate_grad_batches: Input should be greater than 0 (got 0)"),
        (["train.epochs=0"], "train.epochs: Input should be greater than 0 (got 0)"),
        (["train.lr=0"], "train.lr: Input should be greater than 0 (got 0)"),
        (["model.star_norm=batch"], "model: star_norm: Input should be 'none' or 'group' (got 'batch')"),
        (["data.augment.scale_jitter=[0,1]"], "data.augment.scale_jitter.0: Input should be greater than 0 (got 0)"),
        (["train.milestones=[8, 11]"], "train.milestones.0: Input should be less than or equal to 1 (got 8)"),
        (["train.precision=fp64"], "train.precision: Input should be 'fp32', 'bf16' or 'fp16'"),
        (["train={lr: 0.1"], "the value is not YAML"),
        (["train.momentum=-1"], "train.momentum: "),
        (["data.augment.color_jitter=-1"], "data.augment.color_jitter: "),
        (["train.weights=gone.safetensors"], "gone.safetensors: cannot be read"),
        (["model.backbone.name=resnet50.nonsense"], "resnet50.nonsense"),
        (["train.accumulate_grad_batches=1000"], "is not a single step"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_values_that_cannot_be(data, tmp_path, capsys, words, said):
    assert said in refused(capsys, "train", data, "--out", tmp_path / "run", *TINY, *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_training_on_a_device_that_is_not_there(data, tmp_path, capsys):
    message = refused(capsys, "train", data, "--out", tmp_path / "run", *TINY, "train.device=cuda")
    assert "train.device=cuda: torch finds no CUDA device; use train.device=cpu or auto." in message


def test_several_processes_need_a_named_folder(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "--out" in refused(capsys, "train", data, *TINY)
    assert not (tmp_path / "runs").exists()


def test_help_is_quick_and_shows_examples():
    begun = time.monotonic()
    result = subprocess.run([sys.executable, "-m", "varifocal", "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - begun < 5  # torch alone takes longer on a loaded machine; its absence is tested below
    for verb in COMMANDS:
        assert verb in result.stdout
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_tells_every_option(verb, capsys):
    """Each option has a help text; the usage line, if written by hand, lists it or contains [...]."""
    parser = argparse.ArgumentParser(add_help=False)
    load_command(verb).add_options(parser)
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    said = capsys.readouterr().out
    usage, _, rest = said.partition("\n\n")
    for action in parser._actions:
        for option in action.option_strings[-1:]:
            assert action.help
            assert option in usage or "[...]" in usage
            assert option in rest
    if verb in ("train", "eval", "preview"):
        assert "[--val-fraction FRACTION]" in " ".join(usage.split())


def test_help_loads_nothing_heavy():
    code = "import sys, contextlib\nfrom varifocal.cli import main\n"
    code += "with contextlib.suppress(SystemExit):\n    main(['train', '--help'])\n"
    code += "print([m for m in ('torch', 'timm', 'rich', 'numpy', 'PIL') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "example:" in result.stdout
    assert "key=value" in result.stdout


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c["annotations"][0].update(bbox=[200, 10, 30, 20]), ["annotation 1", "outside"]),
        (lambda c: c["annotations"][0].update(bbox=[10, 10, 0, 20]), ["annotation 1"]),
        (lambda c: c["annotations"][0].update(bbox=[10, float("nan"), 3, 20]), ["annotation 1"]),
        (lambda c: c["annotations"][0].update(category_id=99), ["annotation 1", "99"]),
        (lambda c: c["annotations"][0].update(image_id=99), ["annotation 1", "99"]),
        (lambda c: c["images"][1].update(id=1), ["1"]),
        (lambda c: c["images"].clear(), ["train.json"]),
        (lambda c: c.pop("categories"), ["categories"]),
    ],
    ids=["outside", "no area", "nan", "category", "image of another set", "image-id", "empty", "not-coco"],
)
def test_bad_labels_stop_training_before_it_starts(data, tmp_path, capsys, edit, words):
    change(data, "train", edit)
    message = refused(capsys, "train", data, "--out", tmp_path / "run", *TINY)
    assert "train.json" in message
    for word in words:
        assert word in message
    assert not (tmp_path / "run").exists()


def test_not_json(data, tmp_path, capsys):
    (data / "train.json").write_text('{"images": [')
    message = refused(capsys, "train", data, "--out", tmp_path / "run", *TINY)
    assert "train.json" in message
    assert "line" in message


@pytest.mark.parametrize("damage", ["missing", "zero", "text", "truncated"])
def test_a_bad_image_is_named_in_training(data, tmp_path, capsys, damage):
    path = data / "images" / "1.png"
    content = path.read_bytes()
    path.write_bytes({"zero": b"", "text": b"hello" * 100, "truncated": content[: len(content) // 2]}.get(damage, b""))
    if damage == "missing":
        path.unlink()
    message = refused(capsys, "train", data, "--out", tmp_path / "run", *TINY)
    assert "1.png" in message


def test_images_of_every_kind_are_predicted(checkpoint, tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "gray.png")
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.full((40, 60), 40000, dtype=np.uint16)).save(folder / "deep.png")
    rgb.resize((1, 1)).save(folder / "pixel.png")
    rgb.resize((20000, 3)).save(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by a quarter turn: upright it is 40 wide and 60 high
    rgb.save(folder / "turned.jpg", exif=exif)
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), str(folder), "--out", str(out), "--score-threshold", "0"]) == 0
    assert {path.stem for path in out.glob("*.*g")} == {path.stem for path in folder.iterdir()}
    with Image.open(out / "turned.jpg") as image:
        assert image.size == (40, 60)
    entries = json.loads((out / "detections.json").read_text())
    turned = [entry["bbox"] for entry in entries if entry["file_name"].endswith("turned.jpg")]
    assert turned
    assert all(x + w <= 40.01 and y + h <= 60.01 for x, y, w, h in turned)


def test_predict_does_the_rest_and_fails(checkpoint, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    Image.new("RGB", (32, 32)).save(tmp_path / "good.png")
    out = tmp_path / "out"
    message = refused(capsys, "predict", checkpoint, tmp_path / "bad.jpg", tmp_path / "good.png", "--out", out)
    assert "bad.jpg" in message
    assert (out / "good.png").exists()


def test_predict_never_overwrites_its_input(checkpoint, tmp_path, capsys):
    image = tmp_path / "a.png"
    Image.new("RGB", (32, 32), (9, 9, 9)).save(image)
    before = image.read_bytes()
    assert "a.png" in refused(capsys, "predict", checkpoint, image, "--out", tmp_path)
    assert image.read_bytes() == before


def gray(path, level=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (level,) * 3).save(path)


def test_names_that_meet_are_numbered(checkpoint, tmp_path):
    """Every image has its own output file, even if a numbered name equals another name."""
    folder, out = tmp_path / "in", tmp_path / "out"
    levels = {"a.bmp": 40, "a.gif": 80, "a-2.png": 120, "a.png": 160, "b/a.bmp": 200, "c.jpg": 240}
    for name, level in levels.items():
        gray(folder / name, level)
    named = [str(folder / name) for name in ("a.bmp", "a.gif", "a-2.png", "a.png", "b/a.bmp", "c.jpg")]
    assert main(["predict", str(checkpoint), *named, "--out", str(out), "--score-threshold", "1"]) == 0
    found = {}
    for path in out.rglob("*.*g"):
        with Image.open(path) as image:
            found[path.relative_to(out).as_posix()] = image.convert("RGB").getpixel((16, 16))[0]
    expected = {"a.png": 40, "a-2.png": 80, "a-2-2.png": 120, "a-3.png": 160, "b/a.png": 200, "c.jpg": 240}
    assert found == pytest.approx(expected, abs=2)
    assert json.loads((out / "detections.json").read_text()) == []


@pytest.mark.parametrize("name", ["a.png", "a-2.png"])
def test_predict_overwrites_no_foreign_files(checkpoint, tmp_path, capsys, name):
    out = tmp_path / "out"
    for file in ("a.bmp", "a.gif"):
        gray(tmp_path / "in" / file)
    gray(out / name, 7)
    before = (out / name).read_bytes()
    arguments = ["predict", checkpoint, tmp_path / "in", "--out", out]
    assert f"{out / name}: would be overwritten" in refused(capsys, *arguments)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_bytes() == before


def test_predict_again_into_its_own_folder(checkpoint, tmp_path):
    """The files of the first call are neither an obstacle nor an input of the second."""
    gray(tmp_path / "a.png")
    gray(tmp_path / "sub" / "b.png")
    arguments = ["predict", str(checkpoint), str(tmp_path), "--out", str(tmp_path / "out"), "--score-threshold", "0"]
    for _ in range(2):
        assert main(arguments) == 0
        left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
        assert left == {"a.png", "sub/b.png", "detections.json"}
        entries = json.loads((tmp_path / "out" / "detections.json").read_text())
        assert {entry["file_name"] for entry in entries} == {str(tmp_path / "a.png"), str(tmp_path / "sub" / "b.png")}
    before = (tmp_path / "out" / "detections.json").read_bytes()
    assert main([*arguments[:2], str(tmp_path / "out"), *arguments[3:]]) == 2  # nothing is left to detect in
    assert (tmp_path / "out" / "detections.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["--out", "file"],
        ["--out", "file/sub"],
        ["--output-json", "file/d.json"],
        ["--output-json", "folder"],
        ["--output-json", "d.json", "--out", "file"],
    ],
    ids=" ".join,
)
def test_an_unwritable_target_is_refused_before_the_work(checkpoint, tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    Path("folder").mkdir()
    gray(Path("a.png"))
    monkeypatch.setattr(predict_module, "load", lambda *_: pytest.fail("the work was begun"))
    message = refused(capsys, "predict", checkpoint, "a.png", *words)
    assert words[-1].split("/")[0] in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file", "folder"]
    if "--out" not in words:
        assert "folder" in refused(capsys, "eval", checkpoint, "nowhere", "--output-json", "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_the_work(checkpoint, tmp_path, capsys):
    gray(tmp_path / "a.png")
    (tmp_path / "out").mkdir(mode=0o500)
    message = refused(capsys, "predict", checkpoint, tmp_path / "a.png", "--out", tmp_path / "out")
    assert "out: cannot be written" in message


def test_checkpoints_that_are_none(checkpoint, tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    cases = {}
    cases["pickle.pth"] = "not a detector"
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pth")
    cases["legacy.pth"] = "could run code and is refused"
    (tmp_path / "legacy.pth").write_bytes(pickle.dumps({"a": 1}))
    cases["cut.safetensors"] = "damaged"
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:1000])
    cases["foreign.safetensors"] = "another program"
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    cases["future.safetensors"] = "newer"
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "future.safetensors", {KEY: '{"format": 99}'})
    cases["hurt.safetensors"] = "damaged"
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "hurt.safetensors", {KEY: '{"format": '})
    cases["less.safetensors"] = "cannot be read"
    described = json.dumps({"format": 1, "kind": "model", "detector": "vfnet"})
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "less.safetensors", {KEY: described})
    cases["none.safetensors"] = "cannot be read"
    for name, word in cases.items():
        message = refused(capsys, "predict", tmp_path / name, tmp_path / "a.png", "--out", tmp_path / "out")
        assert name in message
        assert word in message


def test_classes_that_do_not_fit(data, checkpoint, tmp_path, capsys):
    assert "num_classes" in refused(capsys, "train", data, "--out", tmp_path / "a", *TINY, "model.num_classes=5")
    change(data, "val", lambda c: c["categories"][0].update(name="horse"))
    assert "horse" in refused(capsys, "eval", checkpoint, data, "--split", "val")
    assert "horse" in refused(capsys, "train", data, "--out", tmp_path / "b", *TINY)


def test_an_unknown_override_lists_the_valid_ones(data, tmp_path, capsys):
    recipe = ["--recipe", "vfnet_r50_1x"]
    message = refused(capsys, "train", data, *recipe, "--out", tmp_path / "run", "train.learning_rate=1")
    assert "lr" in message
    assert "epochs" in message
    assert "'lr'" not in refused(capsys, "train", data, *recipe, "--out", tmp_path / "run", "train.lr=fast")
    assert "vfnet_r50_1x" in refused(capsys, "train", data, "--recipe", "nothing")


def test_a_word_that_is_no_override(data, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", str(data), "--rounds", "3"])
    assert stop.value.code == 2
    assert "--rounds" in capsys.readouterr().err


def test_unwritable_output(data, checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert "file" in refused(capsys, "train", data, "--out", tmp_path / "file" / "run", *TINY)
    assert "file" in refused(capsys, "predict", checkpoint, tmp_path / "a.png", "--out", tmp_path / "file")
    assert "file" in refused(capsys, "eval", checkpoint, data, "--output-json", tmp_path / "file" / "m.json")


def test_a_missing_device(checkpoint, tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert "nonsense" in refused(capsys, "predict", checkpoint, tmp_path / "a.png", "--device", "nonsense")


def test_converted_files_carry_coco_names_and_ids(tmp_path, capsys):
    from varifocal.models.vfnet import VFNet, VFNetConfig

    ids = [category.id for category in coco_categories()]
    assert len(ids) == 80
    assert (ids[0], ids[-1]) == (1, 90)
    assert {category.id: category.name for category in coco_categories()}[18] == "dog"
    keys = json.loads((Path(__file__).parent / "reference/data/keys/vfnet_r50.json").read_text())
    state = {name: torch.zeros(shape) for name, shape in keys.items()}
    torch.save({"state_dict": state, "meta": {"epoch": 12}}, tmp_path / "vfnet.pth")
    out = tmp_path / "vfnet.safetensors"
    assert main(["convert-weights", str(tmp_path / "vfnet.pth"), "--out", str(out)]) == 0
    assert "all loaded" in capsys.readouterr().out
    assert "already exists" in refused(capsys, "convert-weights", tmp_path / "vfnet.pth", "--out", out)
    assert len(safetensors.torch.load_file(out)) == len(VFNet(VFNetConfig()).state_dict())
    del state["bbox_head.vfnet_reg.bias"]
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    message = refused(capsys, "convert-weights", tmp_path / "part.pth", "--out", tmp_path / "part.safetensors")
    assert "reg.bias" in message
    assert not (tmp_path / "part.safetensors").exists()


class Trap:
    """The content of a malicious pickle."""

    def __reduce__(self):
        return os.system, ("touch trapped",)


def test_convert_runs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Trap()}, "trap.pth")
    assert "run code" in refused(capsys, "convert-weights", "trap.pth", "--out", "trap.safetensors")
    assert not Path("trapped").exists()


def test_a_folder_in_use_is_not_touched(data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(data, run)
    before = sorted(path.name for path in run.iterdir())
    refused(capsys, "train", data, "--out", run, *TINY)
    assert sorted(path.name for path in run.iterdir()) == before


def test_average(checkpoint, tmp_path, capsys):
    """The mean of a checkpoint and itself is itself; nothing is overwritten."""
    out = tmp_path / "new" / "mean.safetensors"
    assert main(["average-checkpoints", str(checkpoint), str(checkpoint), "--out", str(out)]) == 0
    assert "the mean of 2 checkpoints" in capsys.readouterr().out
    mean, own = (safetensors.torch.load_file(path) for path in (out, checkpoint))
    assert all(torch.equal(mean[name], own[name]) for name in own)
    before = out.read_bytes()
    assert "already exists" in refused(capsys, "average-checkpoints", checkpoint, "--out", out)
    assert out.read_bytes() == before
    assert "end in .safetensors" in refused(capsys, "average-checkpoints", checkpoint, "--out", tmp_path / "mean.pth")
    other = tmp_path / "other.safetensors"
    save(
        create_model("vfnet", backbone="resnet18", classes=["cat", "cow"], channels=32, num_levels=3, num_convs=1),
        other,
    )
    message = refused(capsys, "average-checkpoints", checkpoint, other, "--out", tmp_path / "x.safetensors")
    assert "other.safetensors: not the same classes as" in message
    assert not (tmp_path / "x.safetensors").exists()


def test_looking_eight_times(checkpoint, data, tmp_path, monkeypatch):
    """With --tta, eval and predict process each image at four sizes, mirrored and not."""
    shapes, forward = [], predict_module.Model.forward_optimized

    def record(self, images):
        shapes.append(tuple(images.shape[2:]))
        return forward(self, images)

    monkeypatch.setattr(predict_module.Model, "forward_optimized", record)
    small = tmp_path / "small.safetensors"
    model = predict_module.load(checkpoint)
    model.info = replace(model.info, preprocess=Preprocess(short_side=64, max_long_side=96))
    save(model, small)
    eight = [(64, 96)] * 2 + [(96, 128)] * 2 + [(96, 128)] * 2 + [(96, 160)] * 2
    assert main(["eval", str(small), str(data), "--tta"]) == 0
    assert shapes == eight * 3
    shapes.clear()
    assert (
        main(
            ["predict", str(small), str(data / "images" / "0.png"), "--output-json", str(tmp_path / "d.json"), "--tta"]
        )
        == 0
    )
    assert shapes == eight
    shapes.clear()
    assert main(["predict", str(small), str(data / "images" / "0.png"), "--output-json", str(tmp_path / "d.json")]) == 0
    assert shapes == eight[:1]


@pytest.mark.parametrize(
    "words",
    [
        ["diagnose", "best", "data", "--split", "val"],
        ["diagnose", "data", "--predictions", "found.json"],
        ["report", "first", "second", "third", "--out", "page.html"],
        ["predict", "best", "a.jpg", "b.jpg", "--tta"],
        ["average-checkpoints", "a", "b", "--out", "mean.safetensors"],
        ["models", "vfnet_r50_1x", "vfnet_r101_2x", "--output-json", "zoo.json"],
        ["train", "data", "train.lr=0.1", "--recipe", "mine.yaml"],
    ],
)
def test_options_stand_anywhere(words):
    """The order of options makes no difference; that of positional arguments does."""
    options = next(index for index, word in enumerate(words) if word.startswith("--"))
    verb, *named = words[:options]
    expected = parse(words)
    for index in range(len(named) + 1):
        assert parse([verb, *named[:index], *words[options:], *named[index:]]) == expected


def test_words_behind_two_dashes_are_no_options():
    options, _ = parse(["predict", "--tta", "best", "--", "-odd.jpg", "--tta"])
    assert (options.images, options.tta) == (["-odd.jpg", "--tta"], True)


def test_an_interrupted_verb_says_how_to_go_on(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("varifocal.cli.models.MODELS", replace(load_command("models"), run=stopped))
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "\nvarifocal models: interrupted; repeat the command to start over.\n"


def test_class_names_are_shown_as_written(tmp_path, capsys):
    """Neither as rich's markup nor as its codes of emoji."""
    names = ("cup [red]", "[/b]", "box:tm:")
    path = tmp_path / "[v1].safetensors"
    save(create_model("vfnet", backbone="resnet18", classes=names, channels=32), path)
    assert main(["info", str(path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name in names:
        assert name in printed
