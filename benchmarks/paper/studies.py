"""Code shared by the studies of finished runs: their command, and which runs they measure."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from run import CHECKPOINT, keep, read_results, rows

from varifocal.recipes.run import METRICS

Study = Callable[[Path, Path, str], dict[str, Any]]  # checkpoint, data, label of the progress bar -> results


@dataclass(frozen=True)
class Finished:
    """A trained row with one seed whose checkpoint exists."""

    row: str
    seed: int
    checkpoint: Path

    @property
    def words(self) -> str:
        """Its label in the progress bar."""
        return f"{self.row}, seed {self.seed}"


def main(description: str, key: str, study: Study, names: Sequence[str] | None = None) -> None:
    """Run a study on every finished run of these rows, or of all, that has no entry under ``key`` in the results."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="only rows whose names start with this")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), help="folder of data and checkpoints")
    parser.add_argument("--results", type=Path, help="results file to use instead of results.json next to this script")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seeds = [int(word) for word in options.seeds.split(",")]
    wanted = names or [row.name for group in rows() for row in group]
    wanted = [name for name in wanted if name.startswith(options.only)]
    for one in finished(options.runs, wanted, seeds, options.results):
        if not _known(read_results(options.results), key, one):
            found = study(one.checkpoint, options.runs / "frames", one.words)
            keep(options.runs, key, {"row": one.row, "seed": one.seed, **found}, options.results)


def finished(runs: Path, names: Sequence[str], seeds: Sequence[int], results: Path | None = None) -> Iterator[Finished]:
    """Yield the runs in the folder that match the results, seed by seed.

    A checkpoint from another training than the one in the results is skipped with a message, because its numbers would
    appear next to an AP that is not its own.
    """
    known = {(run["row"], run["seed"]): run["metrics"]["AP"] for run in read_results(results)["runs"]}
    for seed in seeds:
        for name in names:
            folder = runs / f"{name}-seed{seed}"
            checkpoint, metrics = folder / CHECKPOINT, folder / METRICS
            if not (checkpoint.is_file() and metrics.is_file()):
                continue
            own = json.loads(metrics.read_text(encoding="utf-8"))["AP"]
            if known.get((name, seed)) != own:
                said = "has no such run" if (name, seed) not in known else f"has one of AP {known[name, seed]:.4f}"
                print(
                    f"{folder}: left out; its AP is {own:.4f} and {results or 'results.json'} {said}", file=sys.stderr
                )
                continue
            yield Finished(name, seed, checkpoint)


def _known(content: dict[str, Any], key: str, one: Finished) -> bool:
    return any((entry["row"], entry["seed"]) == (one.row, one.seed) for entry in content.get(key, []))
