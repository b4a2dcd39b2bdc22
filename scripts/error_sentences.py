#!/usr/bin/env python3
"""Write every error sentence of the package with its code to tests/error_sentences.txt, which a test checks.

Usage: error_sentences.py [--check]   with --check nothing is written; a difference exits with code 1.

A line is ``code: sentence``, where ``{...}`` marks what the program fills in. Sentences are extracted from the source
with ``ast``, so that the list includes errors that are rarely raised.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/varifocal"
SNAPSHOT = ROOT / "tests/error_sentences.txt"
ERRORS = {"DataError", "ConfigError", "CheckpointError", "TrainingError", "ExportError"}
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Sentence:
    """One call that creates an error: its ``code`` ("" without one), its text, and its file and line."""

    code: str
    text: str
    where: str


def sentences(source: Path = SOURCE) -> Iterator[Sentence]:
    """Yield every error that the package's source creates, by file and line."""
    for path in sorted(source.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
            if isinstance(call.func, ast.Name) and call.func.id in ERRORS:
                yield _sentence(call, f"{path.relative_to(source)}:{call.lineno}")


def _sentence(call: ast.Call, where: str) -> Sentence:
    codes = [word.value for word in call.keywords if word.arg == "code"]
    code = codes[0].value if codes and isinstance(codes[0], ast.Constant) else ""
    return Sentence(code if isinstance(code, str) else "", _text(call.args[0]) if call.args else "", where)


def _text(node: ast.expr) -> str:
    """Return the text of an expression, with the parts that are filled in as ``{expression}``."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("\n", "\\n")
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return f"{{{ast.unparse(node)}}}"


def snapshot() -> str:
    """Return the content of the list: one line per error, sorted by code."""
    lines = sorted(f"{one.code}: {one.text}" for one in sentences() if one.code)
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write the list, or compare it with the source."""
    if "--check" not in sys.argv[1:]:
        SNAPSHOT.write_text(snapshot(), encoding="utf-8")
    elif not SNAPSHOT.is_file() or SNAPSHOT.read_text(encoding="utf-8") != snapshot():
        sys.exit(f"{SNAPSHOT}: differs from the source; review the change, then run scripts/error_sentences.py")


if __name__ == "__main__":
    main()
