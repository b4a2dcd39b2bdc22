"""No file, function or folder of the package grows over what a reader takes in, and no private word comes back.

Complexity is McCabe's, and counts conditional expressions, comprehensions and boolean operators as well, which ruff's
C901 does not. ``OVER`` names what is over a budget today, with its size as a ceiling: it may shrink and never grow.
"""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/varifocal"
FILE_LINES, FUNCTION_LINES, COMPLEXITY, ROOT_ENTRIES = 400, 50, 10, 20
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.Assert, ast.comprehension)
PRIVATE = r"pictures?|film|told|mend|colour|normalise|quantise|recognise"
OVER: dict[str, int] = {}


def complexity(function):
    """McCabe's complexity with expressions that branch."""
    total = 1
    for node in ast.walk(function):
        total += isinstance(node, (*BRANCHES, ast.match_case))
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return total


def over_budget(source):
    """What is over a budget: {"file" or "file name what": its size}."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(source).as_posix()
        if text.count("\n") > FILE_LINES:
            found[name] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines, paths = node.end_lineno - node.lineno + 1, complexity(node)
                if lines > FUNCTION_LINES:
                    found[f"{name} {node.name} lines"] = max(lines, found.get(f"{name} {node.name} lines", 0))
                if paths > COMPLEXITY:
                    found[f"{name} {node.name} complexity"] = max(paths, found.get(f"{name} {node.name} complexity", 0))
    return found


def test_nothing_new_is_over_budget():
    found = over_budget(SOURCE)
    assert {name: size for name, size in found.items() if size > OVER.get(name, 0)} == {}
    assert {name: size for name, size in OVER.items() if found.get(name, 0) < size} == {}, "lower the ceiling in OVER"


def test_the_root_has_few_entries():
    assert len([entry for entry in SOURCE.iterdir() if entry.name != "__pycache__"]) <= ROOT_ENTRIES


def test_private_words_stay_out():
    words = re.compile(rf"(?<![a-z])({PRIVATE})(?![a-z])", re.IGNORECASE)
    found = {path.name: words.findall(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}
    # keys of files that older versions wrote, and a column's name in files of others
    stored = {
        "augment.py": ["colour"],
        "csv_columns.py": ["picture"],
        "state.py": ["pictures"],
        "optim.py": ["pictures"],
    }
    assert {name: words for name, words in found.items() if words} == stored


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(): pass", 1),
        ("def f(a, b):\n    if a and b:\n        pass\n    for x in a:\n        pass", 4),
        ("def f(a):\n    return [x for x in a if x] if a else 0", 3),
        ("def f(a):\n    try:\n        assert a\n    except KeyError:\n        pass", 3),
        ("def f(a):\n    match a:\n        case 1: pass\n        case 2: pass", 3),
    ],
)
def test_complexity_counts_every_branch(code, expected):
    assert complexity(ast.parse(code).body[0]) == expected


def test_sizes_over_the_budget_are_found(tmp_path):
    long = "def f(a):\n" + "    a += 1\n" * FUNCTION_LINES
    branches = "def g(a):\n    return " + " or ".join(["a"] * (COMPLEXITY + 1)) + "\n"
    (tmp_path / "module.py").write_text(long + branches + "\n" * FILE_LINES, encoding="utf-8")
    assert over_budget(tmp_path) == {
        "module.py": FUNCTION_LINES + 3 + FILE_LINES,
        "module.py f lines": FUNCTION_LINES + 1,
        "module.py g complexity": COMPLEXITY + 1,
    }
