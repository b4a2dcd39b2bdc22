"""docs/own-data.md: every command runs, in order, in one folder, with a small network and one epoch."""

import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_data import make_data
from typechecker import unchecked

from varifocal.cli import main

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", DOC, re.MULTILINE)
SMALLER = {
    "--budget 30m": "--epochs 1 --model nano model.channels=16 train.batch_size=2 data.preprocess.short_side=64 "
    "data.preprocess.max_long_side=96",
    "preview my_data": "preview my_data data.preprocess.short_side=64",
}


def test_the_commands_of_the_page():
    verbs = [shlex.split(line)[1] for line in COMMANDS]
    assert verbs == ["install", "check", "preview", "train", "train", "eval", "diagnose", "predict", "export"]


@pytest.mark.slow
def test_every_command_runs(tmp_path, monkeypatch, capfd):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path / "my_data", images=8)
    (tmp_path / "photos").symlink_to(tmp_path / "my_data" / "val")
    for line in COMMANDS[1:]:
        for long, short in SMALLER.items():
            line = line.replace(long, short)
        words = shlex.split(line)[1:]
        with unchecked() if words[0] == "export" else nullcontext():
            assert main(words) == 0, f"{line}\n{capfd.readouterr().err}"
    for file in ("preview.png", "runs/first/recipe.yaml", "runs/first/best.safetensors", "found/detections.json"):
        assert (tmp_path / file).is_file(), file
    assert list(tmp_path.glob("runs/first/*.onnx"))
