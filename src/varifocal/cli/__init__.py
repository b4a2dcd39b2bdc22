"""The command line. Every verb is a ``Verb`` of a file beside this one, in the order of VERBS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from varifocal.cli.command import VerbParser
from varifocal.cli.common import in_environment
from varifocal.cli.data import CHECK, CONVERT_DATA, PREVIEW
from varifocal.cli.detect import EVAL, PREDICT
from varifocal.cli.models import AVERAGE, CONVERT, EXPORT, INFO, ZOO
from varifocal.cli.renamed import new_command, new_option
from varifocal.cli.speed import BENCH
from varifocal.cli.study import ASSIGN_VIEW, DIAGNOSE, ORACLE, REPORT
from varifocal.cli.train import DEMO, SWEEP, TRAIN
from varifocal.utils.errors import Interrupted, VarifocalError

_ALL = (
    TRAIN,
    PREVIEW,
    CHECK,
    ASSIGN_VIEW,
    EVAL,
    DIAGNOSE,
    ORACLE,
    REPORT,
    PREDICT,
    CONVERT,
    CONVERT_DATA,
    AVERAGE,
    INFO,
    DEMO,
    ZOO,
    SWEEP,
    BENCH,
    EXPORT,
)
VERBS = {verb.name: verb for verb in _ALL}

# what an installation that only runs exported files may be without, and what brings it
PACKAGES = {"yaml": "pyyaml", "hotcoco": "hotcoco"} | dict.fromkeys(
    ("torch", "torchvision", "timm", "safetensors", "pydantic", "lightning_fabric"), "varifocal"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 2 an error that the user can fix (one sentence on stderr), 130
    interrupted."""
    options, words = parse(arguments)
    try:
        with in_environment(options):
            code: int = VERBS[options.verb].run(options, words) or 0
    except VarifocalError as error:
        print(f"varifocal {options.verb}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        install = f"pip install {PACKAGES[error.name]}"
        print(f"varifocal {options.verb}: needs the package {error.name}: {install}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        text = str(error) if isinstance(error, Interrupted) else "interrupted; repeat the command to begin again."
        print(f"\nvarifocal {options.verb}: {text}", file=sys.stderr)
        return 130
    return code


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options and, for verbs that take them, the key=value words, wherever they stand."""
    parser = make_parser()
    if renamed := new_command(sys.argv[1:] if arguments is None else arguments):
        parser.error(renamed)
    options, rest = parser.parse_known_args(arguments)
    takes_words = VERBS[options.verb].takes_words
    wrong = [word for word in rest if not takes_words or "=" not in word or word.startswith("-")]
    if wrong:
        if renamed := new_option(options.verb, wrong[0]):
            parser.error(f"{options.verb}: {renamed}")
        parser.error(f"{options.verb}: {wrong[0]!r} is not understood; see varifocal {options.verb} --help")
    return options, rest


def make_parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    parser = argparse.ArgumentParser(
        prog="varifocal", description="Train, evaluate and run VarifocalNet object detectors."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", parser_class=VerbParser)
    for verb in VERBS.values():
        verb.add_to(verbs)
    return parser
