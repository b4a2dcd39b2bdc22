"""docs/tutorial.md: every command runs, in order, in one folder, and says what is shown there."""

import re
import runpy
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from typechecker import unchecked

from varifocal.cli import main

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SMALLER = "model: {backbone: {name: test_resnet, pretrained: none}, channels: 64, num_convs: 1}\n"
BLOCKS = re.findall(r"^(?:<!-- the tests (.*?) -->\n)?```(console|yaml)\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)


def commands(block):
    """Each command of a block with what is shown of its output."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield line, shown


def pattern(shown):
    """An expression for an output: "..." is anything, and lines may be broken anywhere."""
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in shown.split("...")]
    return r"\s*.*?\s*".join(pieces)


def run(line, capfd):
    """Return what a command prints to both streams; it must not fail unless it is a check that finds something."""
    words = shlex.split(line)
    if words[0] == "varifocal":
        with unchecked() if words[1] == "export" else nullcontext():
            code = main(words[1:])
    elif words[0] == "python":
        code = runpy.run_path(words[1], run_name="__main__") and 0
    else:
        code = subprocess.run(line, shell=True, check=False).returncode
    streams = capfd.readouterr()
    assert code == (1 if "training would stop or lose data" in streams.out else 0), streams.err
    return streams.err + streams.out


def test_what_is_shown_is_looked_for():
    assert re.fullmatch(pattern("a  b\n...\nc\n"), "a b\nx y\nc")
    assert not re.search(pattern("65  boxes\n"), "64  boxes")
    assert len([line for *_, block in BLOCKS for line, _ in commands(block)]) == DOC.count("\n$ ") > 10


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch, capfd):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", sys.argv[:1])  # of the script
    Path("varifocal").symlink_to(ROOT)
    for rule, kind, block in BLOCKS:
        if kind == "yaml":
            new, old = re.fullmatch(r'write "(.*)" instead of "(.*)", and below it a smaller network', rule).groups()
            assert block.count(f"{old}\n") == 1
            name = re.match(r"# (\S+)\n", block).group(1)
            Path(name).write_text(block.replace(old, new) + SMALLER)
            continue
        for line, shown in commands(block):
            said = run(line, capfd)
            assert re.search(pattern(shown), said, re.DOTALL), f"$ {line}\n{shown}\n--- but it said\n{said}"
