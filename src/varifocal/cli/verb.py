"""What a verb of the command line is: its name and help, its options, and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verb:
    """One verb.

    ``run(options, words)`` does it and gives the exit code, None for 0; ``words`` are the key=value words that change
    the recipe, empty unless ``takes_words``. Heavy imports stand inside ``run``, so that help answers at once.
    ``example`` is shown below the options, ``usage`` above them where argparse's own would mislead.
    """

    name: str
    summary: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, list[str]], int | None]
    usage: str | None = None
    takes_words: bool = False

    def add_to(self, verbs: Any) -> None:
        """To the ``verbs`` of a parser, which argparse has no public type for."""
        parser: argparse.ArgumentParser = verbs.add_parser(
            self.name,
            help=self.summary,
            description=self.summary[0].upper() + self.summary[1:] + ".",
            epilog=f"example:\n  {self.example}",
            usage=self.usage,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_options(parser)
