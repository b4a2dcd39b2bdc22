"""Names that commands and options had before version 0.1.0: the error for an old one states the new name."""

from __future__ import annotations

import argparse

OLD_COMMANDS = {
    "assign-view": "show-assignment",
    "average": "average-checkpoints",
    "convert": "convert-weights",
    "convert-data": "convert-dataset",
    "zoo": "models",
}
OLD_OPTIONS = {
    "--assign": "--assigner",
    "--calibrate": "--calibration-data",
    "--chart": "--plot",
    "--count": "--num-images",
    "--deform": "--deform-op",
    "--drop-invalid": "--drop-invalid-boxes",
    "--every": "--frame-stride",
    "--force": "--overwrite",
    "--iou": "--iou-threshold",
    "--json": "--output-json",
    "--keep": "--fp32-modules",
    "--limit": "--max-images",
    "--max-drop": "--max-ap-drop",
    "--no-decode": "--annotations-only",
    "--pictures": "--image-files",
    "--plots": "--plot-dir",
    "--results": "--predictions",
    "--score": "--score-threshold",
    "--strict": "--fail-on-unreadable",
    "--val": "--val-fraction",
    "--val-seed": "--split-seed",
    "--wanted-precision": "--target-precision",
    "--worst": "--num-worst",
}
# old names that meant something else in some commands
OLD_OPTIONS_OF_COMMANDS = {
    "--fast": {"check": "--annotations-only", "report": "--no-inference"},
    "--val": {"export": "--validation-data"},
}


def new_command(word: str) -> str | None:
    """Return the error for the old name of a command, or None if ``word`` is not one."""
    new = OLD_COMMANDS.get(word)
    return None if new is None else f"{word} is called {new} now; see varifocal {new} --help"


def new_option(command: str, word: str) -> str | None:
    """Return the error for an option of ``command`` under its old name, with or without ``=value``, or None."""
    old = word.partition("=")[0]
    new = OLD_OPTIONS_OF_COMMANDS.get(old, {}).get(command) or OLD_OPTIONS.get(old)
    return None if new is None else f"{old} is called {new} now; see varifocal {command} --help"


def nms_value(word: str) -> str:
    """Return a value of ``export --nms`` unchanged.

    Raises:
        argparse.ArgumentTypeError: it is an old name; the message states the new one.
    """
    new = {"in": "graph", "out": "host"}.get(word)
    if new is not None:
        raise argparse.ArgumentTypeError(f"{word} is called {new} now")
    return word
