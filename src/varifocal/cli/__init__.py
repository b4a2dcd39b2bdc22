"""The command line: its commands, and ``main``, which runs one of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from varifocal.cli.options import in_environment
from varifocal.utils.errors import Interrupted, VarifocalError

# The file beside this one that defines each command, in the order of the help; the command ``show-assignment`` is the
# constant SHOW_ASSIGNMENT there. Only the file of the command that runs is imported.
COMMANDS = {
    "train": "train",
    "preview": "data",
    "check": "data",
    "show-assignment": "study",
    "eval": "detect",
    "diagnose": "study",
    "oracle": "study",
    "report": "study",
    "predict": "detect",
    "merge": "shards",
    "convert-weights": "models",
    "convert-dataset": "data",
    "average-checkpoints": "models",
    "info": "models",
    "demo": "experiments",
    "models": "models",
    "sweep": "experiments",
    "bench": "speed",
    "export": "models",
}

# Packages that an installation which only runs exported files may lack, and what to install for each.
PACKAGES = {"yaml": "pyyaml", "hotcoco": "hotcoco"} | dict.fromkeys(
    ("torch", "torchvision", "timm", "safetensors", "pydantic", "lightning_fabric"), "varifocal"
)


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    ``run(options, words)`` runs it and returns the exit code, None for 0; ``words`` are the ``key=value`` words that
    change the recipe, always empty unless ``takes_words``. Slow imports belong inside ``run``, so that the help appears
    at once. ``example`` is printed below the options, ``usage`` replaces argparse's own usage line.
    """

    name: str
    summary: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, list[str]], int | None]
    usage: str | None = None
    takes_words: bool = False


class CommandParser(argparse.ArgumentParser):
    """Parses options between positional arguments, too, where some of those are optional or repeated.

    Before Python 3.12.7, argparse assigns all positional arguments that precede the first option at once, so that in
    ``diagnose CHECKPOINT --split val DATA`` CHECKPOINT would become the data and DATA would be left over.
    """

    _intermixed = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as argparse does; if words are left over, parse again, options first."""
        options, rest = super().parse_known_args(args, namespace)
        # words after -- are positional, which the second pass would forget
        if self._intermixed or not rest or "--" in (args or ()):
            return options, rest
        self._intermixed = True  # the second pass calls this method, too
        try:
            return self.parse_known_intermixed_args(args)
        finally:
            self._intermixed = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 means success, 2 an error that the user can fix (one sentence on stderr), 130 an interruption.
    """
    options, words = parse(arguments)
    try:
        with in_environment(options):
            return load_command(options.command).run(options, words) or 0
    except VarifocalError as error:
        print(f"varifocal {options.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        install = f"pip install {PACKAGES[error.name]}"
        print(f"varifocal {options.command}: needs the package {error.name}: {install}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        text = str(error) if isinstance(error, Interrupted) else "interrupted; repeat the command to start over."
        print(f"\nvarifocal {options.command}: {text}", file=sys.stderr)
        return 130


def load_command(name: str) -> Command:
    """Import the file of a command and return the command."""
    command: Command = getattr(import_module(f"varifocal.cli.{COMMANDS[name]}"), name.upper().replace("-", "_"))
    return command


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options and, for commands that take them, the ``key=value`` words, wherever they appear."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    known = bool(words) and words[0] in COMMANDS
    parser = make_parser(words[:1] if known else COMMANDS)
    if words and not known:
        _refuse_renamed(parser, words[0])
    options, rest = parser.parse_known_args(words)
    takes_words = load_command(options.command).takes_words
    wrong = next((word for word in rest if not takes_words or "=" not in word or word.startswith("-")), None)
    if wrong is not None:
        _refuse_renamed(parser, wrong, options.command)
        parser.error(f"{options.command}: unknown argument {wrong!r}; see varifocal {options.command} --help")
    return options, rest


def _refuse_renamed(parser: argparse.ArgumentParser, word: str, command: str | None = None) -> None:
    """Exit with an error if ``word`` is the old name of a command, or of an option of ``command``."""
    from varifocal.cli.renamed import new_command, new_option

    if message := new_command(word) if command is None else new_option(command, word):
        parser.error(message if command is None else f"{command}: {message}")


def make_parser(names: Iterable[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Return the parser of the named commands with all their options; it imports the file of each."""
    parser = argparse.ArgumentParser(
        prog="varifocal", description="Train, evaluate and run VarifocalNet object detectors."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in map(load_command, names):
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog=f"example:\n  {command.example}",
            usage=command.usage,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_options(subparser)
    return parser
