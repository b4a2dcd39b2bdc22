"""What a verb of the command line is: its name and help, its options, and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class VerbParser(argparse.ArgumentParser):
    """Takes options also between positional arguments, some of which may be left out or be several.

    Before Python 3.12.7 argparse itself gives those before an option to all positional arguments, so that in
    ``diagnose CHECKPOINT --split val DATA`` CHECKPOINT would be the data and DATA one word too many.
    """

    _again = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As always, and where words are left over once more, now the options before the positional arguments."""
        found, rest = super().parse_known_args(args, namespace)
        # what stands behind -- is positional, which the second time would forget
        if self._again or not rest or "--" in (args or ()):
            return found, rest
        self._again = True  # the two steps of the second time call this too
        try:
            return self.parse_known_intermixed_args(args)
        finally:
            self._again = False


@dataclass(frozen=True)
class Command:
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
            allow_abbrev=False,
        )
        self.add_options(parser)
