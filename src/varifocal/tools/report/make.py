"""A report from the folders of runs and sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from varifocal.tools.report.examples import make_examples
from varifocal.tools.report.folders import Run, is_run, name_runs, read_run, unique_folders
from varifocal.tools.report.measure import DatasetCache, RunEvaluation, evaluate_run
from varifocal.tools.report.report import Report, RunSummary
from varifocal.tools.report.seeds import NAME, SeedGroups, group_by_seed
from varifocal.tools.report.sweeps import Sweep, is_sweep, read_sweep, shown_runs
from varifocal.types import Dataset
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import Bar, no_bar
from varifocal.utils.text import count_of

MOST_RUNS = 6  # the number of distinguishable colors
MOST_EXAMPLES = 100


def make_report(
    folders: Sequence[Path | str],
    *,
    data: Dataset | None = None,
    baseline: str | None = None,
    examples: int = 8,
    inference: bool = True,
    device: str = "cpu",
    bar: Bar = no_bar,
) -> Report:
    """Read runs and sweeps, evaluate their best weights on their validation images, and compare them.

    What a run lacks is left out and mentioned in its notes.

    Args:
        folders: folders of runs, as training leaves them, and of sweeps, each row of which is shown by the run of its
            first seed. Runs that differ only in the seed are rows of a sweep of their own (``group_by_seed``), each
            shown by its first. The other runs are compared with the first one.
        data: labeled images to evaluate on, instead of those that each run was validated on.
        baseline: the row with which the others of a sweep are compared; by default as in ``read_sweep`` and
            ``group_by_seed``.
        examples: how many images the page shows, half of them the worst; at most 100.
        inference: whether networks run; without it there is no diagnosis and there are no examples.
        device: where the networks run.
        bar: shows progress.

    Raises:
        ConfigError: a folder holds neither a run nor a sweep, there is no such baseline, or too many examples.
    """
    if not 0 <= examples <= MOST_EXAMPLES:
        raise ConfigError(
            f"--examples {examples}: a page shows 0 to {MOST_EXAMPLES} images.", code="number-of-examples"
        )
    runs, sweeps, notes = _read([Path(folder) for folder in folders], baseline)
    cache = DatasetCache()
    shown: list[RunSummary] = []
    for run in runs:
        evaluation = evaluate_run(run, cache, data, device, bar) if inference else "inference skipped (--no-inference)"
        summary = _summary(run, evaluation, data is not None)
        shown.append(_compared(shown[0], summary) if shown else summary)
    found = make_examples([summary.measured for summary in shown], examples)
    name = None if data is None else str(data.source)
    notes += () if data is None else data.notes
    return Report(tuple(shown), tuple(sweeps), found, name, tuple(notes))


def _read(folders: Sequence[Path], baseline: str | None) -> tuple[list[Run], list[Sweep], list[str]]:
    """Return the runs that are shown, all sweeps, and sentences on what is not shown."""
    folders = unique_folders(folders)
    if not folders:
        raise ConfigError("name at least one folder of a run or a sweep.", code="no-folder")
    sweep_folders = [folder for folder in folders if is_sweep(folder)]
    by_seed = _by_seed(folders, sweep_folders, baseline)
    sweeps = {folder: _sweep(folder, baseline, by_seed) for folder in sweep_folders}
    if baseline is not None and not sweeps and baseline not in by_seed.rows:
        rows = f"choose from {', '.join(by_seed.rows)}" if by_seed.rows else "but no sweep is named"
        raise ConfigError(f"--baseline {baseline}: must be a row of a sweep; {rows}.", code="unknown-baseline")
    shown, notes = _shown_folders(folders, sweeps, by_seed)
    runs = [read_run(*pair) for pair in zip(shown, name_runs(shown), strict=True)]
    return runs, [*sweeps.values(), *by_seed.sweeps], notes


def _shown_folders(
    folders: Sequence[Path], sweeps: Mapping[Path, Sweep], by_seed: SeedGroups
) -> tuple[list[Path], list[str]]:
    """Return the folders of the runs that are shown, in order, and sentences on those that are not."""
    found: list[Path] = []
    notes: list[str] = []
    for folder in folders if by_seed.first is None else unique_folders([by_seed.first, *folders]):
        paths, sentences = shown_runs(sweeps[folder]) if folder in sweeps else ([folder], [])
        found += [path for path in paths if path not in by_seed.hidden]
        notes += sentences
    found = unique_folders(found)
    if by_seed.hidden:
        is_only = "is only" if len(by_seed.hidden) == 1 else "are only"
        notes.append(f"{count_of(len(by_seed.hidden), 'run')} with another seed {is_only} in the table of the {NAME}")
    if len(found) > MOST_RUNS:
        left = ", ".join(path.name for path in found[MOST_RUNS:])
        notes.append(f"a page shows {MOST_RUNS} runs side by side; left out: {left}")
    return found[:MOST_RUNS], notes


def _by_seed(folders: Sequence[Path], sweeps: Sequence[Path], baseline: str | None) -> SeedGroups:
    """Return the groups of the runs that are named one by one and belong to none of the sweeps."""
    within = {folder.resolve() for folder in sweeps}
    alone = [folder for folder in folders if folder not in sweeps and folder.resolve().parent not in within]
    runs = [read_run(*pair) for pair in zip(alone, name_runs(alone), strict=True) if is_run(pair[0])] if alone else []
    return group_by_seed(runs, baseline)


def _sweep(folder: Path, baseline: str | None, by_seed: SeedGroups) -> Sweep:
    if baseline in by_seed.rows and baseline not in [row.name for row in read_sweep(folder).rows]:
        return read_sweep(folder)
    return read_sweep(folder, baseline)


def _summary(run: Run, evaluation: RunEvaluation | str, other_data: bool) -> RunSummary:
    if isinstance(evaluation, str):
        return RunSummary(run, None, None if other_data else run.metrics, (*run.notes, evaluation))
    metrics = evaluation.metrics if other_data or run.metrics is None else run.metrics
    return RunSummary(run, evaluation, metrics, (*run.notes, *evaluation.notes))


def _compared(first: RunSummary, summary: RunSummary) -> RunSummary:
    """Return the summary of a run, with a note if it was not evaluated on the data of the first one."""
    if first.measured is not None and summary.measured is not None:
        if summary.measured.key == first.measured.key:
            return summary
        note = (
            f"was evaluated on other images or labels than {first.name}, so the two are not compared and have no "
            "examples in common"
        )
        return replace(summary, notes=(*summary.notes, note), comparable=False)
    if None in (first.run.digest, summary.run.digest) or summary.run.digest == first.run.digest:
        return summary
    note = f"was trained on other images or labels than {first.name}: check that both were validated on the same ones"
    return replace(summary, notes=(*summary.notes, note))
