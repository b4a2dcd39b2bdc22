"""Names that commands and options had before version 0.1.0: the error for an old one states the new name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

COMMANDS = {
    "assign-view": "show-assignment",
    "average": "average-checkpoints",
    "convert": "convert-weights",
    "convert-data": "convert-dataset",
    "zoo": "models",
}
OPTIONS = {
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
    "--val-seed": "--split-seed",
    "--wanted-precision": "--target-precision",
    "--worst": "--num-worst",
}
# where one name meant different things
OF_COMMAND = {
    "--fast": {"check": "--annotations-only", "report": "--no-inference"},
    "--val": {"export": "--validation-data"},
}
_OTHERWISE = {"--val": "--val-fraction"}


def new_command(arguments: Sequence[str]) -> str | None:
    """Return the sentence for arguments that begin with the old name of a command, or None."""
    new = COMMANDS.get(arguments[0]) if arguments else None
    return None if new is None else f"{arguments[0]} is called {new} now; see varifocal {new} --help"


def new_option(command: str, word: str) -> str | None:
    """Return the sentence for an option of ``command`` under its old name, with or without ``=value``, or None."""
    old = word.partition("=")[0]
    new = OF_COMMAND.get(old, {}).get(command) or OPTIONS.get(old) or _OTHERWISE.get(old)
    return None if new is None else f"{old} is called {new} now; see varifocal {command} --help"


def nms_value(word: str) -> str:
    """Return a value of ``export --nms`` as it is.

    Raises:
        argparse.ArgumentTypeError: it is an old name; the message has the new one.
    """
    new = {"in": "graph", "out": "host"}.get(word)
    if new is not None:
        raise argparse.ArgumentTypeError(f"{word} is called {new} now")
    return word
