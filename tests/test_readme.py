"""What the README shows works as it stands there."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import varifocal as vf

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.splitlines()) <= 120


def test_the_python_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    vf.save(vf.create_model("vfnet", backbone="resnet18", num_classes=3), Path("runs/first/best.safetensors"))
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save("street.jpg")
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    scope = {"logits": torch.zeros(4, 3), "iou_targets": torch.zeros(4, 3)}
    exec(code, scope)
    assert scope["found"].boxes.shape[1] == 4
    assert scope["loss"].shape == (4, 3)


def test_every_command_it_names_is_there():
    from varifocal.cli import make_parser

    parser = make_parser()
    verbs = set(parser._subparsers._group_actions[0].choices)
    named = set(re.findall(r"^varifocal ([\w-]+)", README, re.MULTILINE))
    assert named
    assert named <= verbs
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
