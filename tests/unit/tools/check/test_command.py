"""The verb: exit codes, files, and errors of one sentence."""

import json
from dataclasses import replace

import pytest
import torch
from folders import fill
from messy import make_messy
from PIL import Image

from varifocal.cli import main
from varifocal.data.digest import dataset_digest
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import create_model, save
from varifocal.models.checkpoint import read_info

SMALL = ["data.preprocess.short_side=128", "data.preprocess.max_long_side=256"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_messy(tmp_path_factory.mktemp("messy"))


def run(capsys, *arguments):
    """Exit code, standard output, and the sentence of an error."""
    code = main(["check", *map(str, arguments)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, [line for line in said.err.splitlines() if line.startswith("varifocal check:")]


def test_everything_at_once(folder, tmp_path, capsys):
    options = ["--output-json", tmp_path / "c.json", "--html", tmp_path / "c.html", "--fix", tmp_path / "clean"]
    code, out, errors = run(capsys, folder, *options, *SMALL)
    assert (code, errors) == (1, [])
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["matching"]["recipe"] == " ".join(["varifocal train", *SMALL])
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "clean" / "annotations" / "instances_val.json").is_file()
    for words in ("missing images", "labeled before", "training would stop or lose data", "changes.txt"):
        assert words in out


def test_nothing_to_mend(capsys):
    code, out, errors = run(capsys, sample_dataset_dir(), "--recipe", "trees", "--annotations-only")
    assert (code, errors) == (0, [])
    assert "no data would be lost" in out
    assert "no image was decoded; decoding all 3 would take about" in " ".join(out.split())


def test_one_split(folder, capsys):
    assert run(capsys, folder, "--split", "val", *SMALL)[0] == 0


def test_a_model_of_ones_own(folder, tmp_path, capsys):
    torch.manual_seed(0)
    model = create_model("vfnet", backbone="resnet18", classes=["car", "truck"], channels=32, num_levels=3, num_convs=1)
    save(model, tmp_path / "m.safetensors")
    assert read_info(tmp_path / "m.safetensors")["detector"] == "vfnet"
    arguments = ["--split", "val", "--model", tmp_path / "m.safetensors", "--output-json", tmp_path / "c.json"]
    code, out, _ = run(capsys, folder, *arguments)
    assert code == 0
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["matching"]["recipe"] == "m.safetensors"  # its own size and assignment
    assert content["model"]["images"] == 3
    assert content["model"]["labels"] == 3
    assert "does not know boat;" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "nothing: there is no such file or folder"),
        (["{data}", "--split", "test"], "there is no split 'test'"),
        (["{data}", "--recipe", "none"], "recipe 'none': not found"),
        (["{data}", "data.preprocess.shrt=3"], "there is no 'shrt' here"),
        (["{data}", "--output-json", "{tmp}/a", "--html", "{tmp}/a"], "is named by --output-json and by --html"),
        (["{data}", "--output-json", "{tmp}"], "is a folder; name a file"),
        (["{data}", "--fix", "{tmp}"], "already exists"),
        (["{data}", "--fix", "{data}/clean"], "which must not be changed"),
        (["{data}", "--fix", "{tmp}/new", "--annotations-only"], "leave out --annotations-only"),
        (["{data}", "--model", "{data}/train.json"], "train.json"),
        (["{data}", "--format", "xml"], "the format 'xml' is not known"),
    ],
)
def test_one_sentence_and_exit_code_two(folder, tmp_path, capsys, arguments, words):
    code, _, errors = run(capsys, *(word.format(data=folder, tmp=tmp_path) for word in arguments))
    assert code == 2
    assert len(errors) == 1
    assert words in errors[0]


def test_a_name_that_is_no_text(tmp_path):
    """Linux lets a file be called by bytes that are no UTF-8: the page is written, and a run knows the data again."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    Image.new("RGB", (96, 80)).save(made := tmp_path / "made.png")
    try:
        made.rename(tmp_path / "images/caf\udce9.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    (tmp_path / "labels/caf\udce9.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
    main(["check", str(tmp_path), "--html", str(tmp_path / "check.html")])
    assert "caf?.png" in (tmp_path / "check.html").read_text(encoding="utf-8")
    data = load_dataset(tmp_path, "train")
    other = replace(data, samples=(replace(data.samples[0], file=tmp_path / "caf\udce8.png"),))
    assert dataset_digest(data) == dataset_digest(data) != dataset_digest(other)


def test_a_training_split_without_images_is_a_finding(tmp_path, capsys):
    fill(
        tmp_path,
        {
            "data.yaml": "train: images/train\nval: images/val\nnames: [cat]\n",
            "images/val/v.png": (40, 30),
            "labels/val/v.txt": "0 0.5 0.5 0.5 0.5",
        },
    )
    code, out, errors = run(capsys, tmp_path)
    assert (code, errors) == (1, [])
    assert "train is 'images/train', which is not found" in " ".join(out.split())
