"""docs/tutorial.md: every command runs, in order, in one folder, and says what is shown there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SMALLER = "model: {channels: 64, num_convs: 1}\n"  # a third of the operators to train and to export
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


def run(line):
    """What a command says on both streams; it must not fail, but for a check that finds something."""
    words = shlex.split(line)
    program = {"varifocal": [sys.executable, "-m", "varifocal"], "python": [sys.executable]}
    if words[0] in program:
        done = subprocess.run([*program[words[0]], *words[1:]], check=False, capture_output=True, text=True)
    else:
        done = subprocess.run(line, shell=True, check=False, capture_output=True, text=True)
    assert done.returncode == (1 if "training would stop or lose data" in done.stdout else 0), done.stderr
    return done.stderr + done.stdout


def test_what_is_shown_is_looked_for():
    assert re.fullmatch(pattern("a  b\n...\nc\n"), "a b\nx y\nc")
    assert not re.search(pattern("65  boxes\n"), "64  boxes")
    assert len([line for *_, block in BLOCKS for line, _ in commands(block)]) == DOC.count("\n$ ") > 10


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of a package that is not installed
    Path("varifocal").symlink_to(ROOT)
    for rule, kind, block in BLOCKS:
        if kind == "yaml":
            new, old = re.fullmatch(r'write "(.*)" instead of "(.*)", and below it a smaller network', rule).groups()
            assert block.count(f"{old}\n") == 1
            name = re.match(r"# (\S+)\n", block).group(1)
            Path(name).write_text(block.replace(old, new) + SMALLER)
            continue
        for line, shown in commands(block):
            said = run(line)
            assert re.search(pattern(shown), said, re.DOTALL), f"$ {line}\n{shown}\n--- but it said\n{said}"
