"""Folders to a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from varifocal.tools.report.examples import make_examples
from varifocal.tools.report.folders import Run, each_once, is_run, name_runs, read_run
from varifocal.tools.report.measure import Bar, DatasetCache, RunEvaluation, evaluate_run
from varifocal.tools.report.report import Report, RunSummary
from varifocal.tools.report.seeds import NAME, SeedGroups, group_by_seed
from varifocal.tools.report.sweeps import Sweep, is_sweep, read_sweep, shown_runs
from varifocal.types import Dataset
from varifocal.utils.errors import ConfigError

MOST_RUNS = 6  # as many as there are colors to tell them apart
MOST_EXAMPLES = 100


@contextmanager
def _no_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def make_report(
    folders: Sequence[Path | str],
    *,
    data: Dataset | None = None,
    baseline: str | None = None,
    examples: int = 8,
    look: bool = True,
    device: str = "cpu",
    bar: Bar = _no_bar,
) -> Report:
    """Read runs and sweeps, look at their validation images through their best weights, and compare.

    What a run lacks is left out and said in its notes.

    Args:
        folders: of runs, as training leaves them, and of sweeps, of which each row is shown by the run of its first
            seed. Runs that differ in nothing but the seed are rows of a sweep of their own (``group_by_seed``), each
            shown by its first. The other runs are compared with the first one.
        data: labeled images instead of those that each run was validated on.
        baseline: the row that the others of a sweep are compared with; as of ``read_sweep`` and ``group_by_seed`` when
            left out.
        examples: how many images the page shows, half of them the worst; at most 100.
        look: without it no network runs: there is no diagnosis and there are no examples.
        device: where the networks run.
        bar: shows progress, called with what is done and how often.

    Raises:
        ConfigError: a folder is neither of a run nor of a sweep, there is no such baseline, or it is too many examples.
    """
    if not 0 <= examples <= MOST_EXAMPLES:
        raise ConfigError(f"{examples} examples: a page shows 0 to {MOST_EXAMPLES} images; choose a number of these.")
    runs, sweeps, notes = _read([Path(folder) for folder in folders], baseline)
    shelf = DatasetCache()
    shown: list[RunSummary] = []
    for run in runs:
        seen = evaluate_run(run, shelf, data, device, bar) if look else "the networks were not asked (--no-inference)"
        one = _shown(run, seen, data is not None)
        shown.append(_beside(shown[0], one) if shown else one)
    found = make_examples([one.measured for one in shown], examples)
    name = None if data is None else str(data.source)
    notes += () if data is None else data.notes
    return Report(tuple(shown), tuple(sweeps), found, name, tuple(notes))


def _read(folders: Sequence[Path], baseline: str | None) -> tuple[list[Run], list[Sweep], list[str]]:
    folders = each_once(folders)
    if not folders:
        raise ConfigError("name at least one folder of a run or a sweep.")
    named = [folder for folder in folders if is_sweep(folder)]
    by_seed = _by_seed(folders, named, baseline)
    sweeps = {folder: _sweep(folder, baseline, by_seed) for folder in named}
    if baseline is not None and not sweeps and baseline not in by_seed.rows:
        rows = f"choose from {', '.join(by_seed.rows)}" if by_seed.rows else "and none is named"
        raise ConfigError(f"--baseline {baseline}: is a row of a sweep, {rows}.")
    folders_of_runs, notes = _run_folders(folders, sweeps, by_seed)
    if by_seed.hidden:
        one = len(by_seed.hidden) == 1
        many = "1 run of another seed stands" if one else f"{len(by_seed.hidden)} runs of other seeds stand"
        notes.append(f"{many} in the table of the {NAME} only")
    if len(folders_of_runs) > MOST_RUNS:
        left = ", ".join(path.name for path in folders_of_runs[MOST_RUNS:])
        notes.append(f"a page shows {MOST_RUNS} runs side by side; left out: {left}")
        folders_of_runs = folders_of_runs[:MOST_RUNS]
    runs = [read_run(*pair) for pair in zip(folders_of_runs, name_runs(folders_of_runs), strict=True)]
    return runs, [*sweeps.values(), *by_seed.sweeps], notes


def _run_folders(
    folders: Sequence[Path], sweeps: Mapping[Path, Sweep], by_seed: SeedGroups
) -> tuple[list[Path], list[str]]:
    """The folders of the runs that are shown, in order, and sentences on rows that have none."""
    found: list[Path] = []
    notes: list[str] = []
    for folder in folders if by_seed.first is None else each_once([by_seed.first, *folders]):
        more, words = shown_runs(sweeps[folder]) if folder in sweeps else ([folder], [])
        found += [location for location in more if location not in by_seed.hidden]
        notes += words
    return each_once(found), notes


def _by_seed(folders: Sequence[Path], sweeps: Sequence[Path], baseline: str | None) -> SeedGroups:
    """Of the runs that were named one by one and are of none of the sweeps."""
    within = {folder.resolve() for folder in sweeps}
    alone = [folder for folder in folders if folder not in sweeps and folder.resolve().parent not in within]
    runs = [read_run(*pair) for pair in zip(alone, name_runs(alone), strict=True) if is_run(pair[0])] if alone else []
    return group_by_seed(runs, baseline)


def _sweep(folder: Path, baseline: str | None, by_seed: SeedGroups) -> Sweep:
    if baseline in by_seed.rows and baseline not in [row.name for row in read_sweep(folder).rows]:
        return read_sweep(folder)
    return read_sweep(folder, baseline)


def _shown(run: Run, seen: RunEvaluation | str, other_data: bool) -> RunSummary:
    if isinstance(seen, str):
        return RunSummary(run, None, None if other_data else run.metrics, (*run.notes, seen))
    metrics = seen.metrics if other_data or run.metrics is None else run.metrics
    return RunSummary(run, seen, metrics, (*run.notes, *seen.notes))


def _beside(first: RunSummary, one: RunSummary) -> RunSummary:
    """A run beside the first one, with a note where they were not asked the same."""
    if first.measured is not None and one.measured is not None:
        if one.measured.key == first.measured.key:
            return one
        note = (
            f"was measured on other images or labels than {first.name}, so the two are not compared "
            "and have no examples in common"
        )
        return replace(one, notes=(*one.notes, note), comparable=False)
    if None in (first.run.digest, one.run.digest) or one.run.digest == first.run.digest:
        return one
    note = f"was trained on other images or labels than {first.name}: see that both were validated on the same"
    return replace(one, notes=(*one.notes, note))
