"""The page of the paper's claims is what its script makes of the results, and says what the numbers say."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from varifocal.recipes.recipe import load_recipe

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "paper"


@pytest.fixture(scope="module")
def scripts():
    """Imports a script of the folder, which find one another as when they are run; none is left behind."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module
    own = [path.stem for path in FOLDER.glob("*.py")]
    for name in set(sys.modules) - before:
        if name in own:
            del sys.modules[name]


@pytest.fixture(scope="module")
def script(scripts):
    return scripts("table")


def run(row, seed, ap, paper=None, **machine):
    machine = {"date": "2030-01-02", "cpu": "Abacus", "versions": {"torch": "3.0"}, **machine}
    metrics = {"AP": ap, "AP50": 2 * ap, "AP75": ap / 2}
    return {"row": row, "seed": seed, "paper_AP": paper, "metrics": metrics, "minutes": 5.0, "machine": machine}


def lines_of(script, runs, **more):
    return script.page({"runs": runs, "frames": {"train": 12, "val": 4}, **more}).splitlines()


def test_the_page_is_what_the_script_makes(script):
    results = FOLDER / "results.json"
    if not results.exists():
        assert not script.PAGE.exists()
    else:
        assert script.PAGE.read_text(encoding="utf-8") == script.page(json.loads(results.read_text(encoding="utf-8")))


def test_claims_by_hand(script):
    """Pairs are runs of one seed; changes of 1, 1.1 and 0.9 are 1 within 0.25, those of the star 1, 2 and -3."""
    runs = [run("raw-focal", seed, ap, 39.0) for seed, ap in ((0, 0.1), (1, 0.2), (2, 0.3))]
    runs += [run("raw-varifocal", seed, ap) for seed, ap in ((2, 0.309), (0, 0.11), (1, 0.211))]
    runs += [run("star", seed, ap) for seed, ap in ((0, 0.12), (1, 0.231), (2, 0.279), (3, 0.9))]
    runs += [run("star-norm", seed, ap) for seed, ap in ((0, 0.12), (1, 0.222), (2, 0.318))]
    runs += [run("star-refine", 3, 0.89)]
    lines = lines_of(script, runs)
    claims = [line for line in lines if line.startswith("| Table 3")]
    assert claims == [
        "| Table 3: the star | +0.6 | +0.0 (-6.6 to +6.6; p 1) | open | +1.0 (+0.8 to +1.2; p 0.0033) | holds |",
        "| Table 3: the refinement | +0.9 | -1.0 | one seed | - | not run |",
        "| Table 3: VFNet vs. raw VFNet | +1.5 | - | not run | - | not run |",
        "| Table 3: VFNet vs. FCOS+ATSS | +2.4 | - | not run | - | not run |",
        "| Table 3: varifocal instead of focal, raw VFNet | +1.1 | +1.0 (+0.8 to +1.2; p 0.0033) | holds |",
    ]
    assert "| raw VFNet, focal | 20.0 ± 10.0 | 40.0 ± 20.0 | 10.0 ± 5.0 | 3 | 39.0 |" in lines
    # of seeds 0, 1 and 2 the norm changes 0, -0.9 and 3.9, which is 1 within t(2) = 4.3027 standard errors of 1.473
    assert "| VFNet without refinement | +1.0 (-5.3 to +7.3) | 3 |" in lines
    assert "| + star | 38.2 ± 35.1 | 22.0 ± 9.9 | - | - | 40.7 |" in lines
    assert "| raw VFNet, varifocal | 21.0 ± 10.0 | no star | - | no star | 40.1 |" in lines
    assert any("14 runs of 5 minutes (median, one thread), seeds 0, 1, 2, 3" in line for line in lines)
    assert "(2030-01-02, Abacus, torch 3.0)." in lines


def test_what_the_runs_were_made_with(script):
    """A range of dates for each machine and version."""
    dates = [("2030-01-02", "3.0"), ("2030-01-09", "3.0"), ("2030-02-01", "3.1")]
    runs = [run("star", i, 0.1, date=date, versions={"torch": torch}) for i, (date, torch) in enumerate(dates)]
    text = "\n".join(lines_of(script, runs))
    assert "(2030-01-02 to 2030-01-09, Abacus, torch 3.0;\n2030-02-01, Abacus, torch 3.1)." in text


def test_rows_with_the_norm_or_of_twelve_epochs_are_none_of_the_papers(script):
    names = ("star", "star-norm", "star-long", "star-norm-long")
    lines = lines_of(script, [run(name, 0, 0.1, 40.7) for name in names])
    (start,) = (i for i, line in enumerate(lines) if line == "## Rows")
    rows = [line.split(" | ")[-1] for line in lines[start:] if line.startswith("| VFNet")]
    assert rows == ["40.7 |", "- |", "- |", "- |"]


def test_advice_follows_from_the_numbers(scripts):
    """Gains of 6, 6 and 6 points, of -1, 0 and 2, of -3, -3 and -2.9, of one seed, and of none."""
    aps = {
        "star-refine": (0.4, 0.4, 0.4),
        "star-refine-norm": (0.46, 0.46, 0.46),
        "fcos-atss": (0.47, 0.46, 0.44),
        "raw-varifocal": (0.49, 0.49, 0.489),
        "star-norm": (0.4,),
        "vfnet-norm-focal": (0.36, 0.365, 0.36),
        "vfnet-norm-mal": (0.46, 0.47, 0.45),
        "vfnet-norm-quality-focal": (0.46, 0.45, 0.47),
    }
    text = scripts("advice").advice([run(name, i, ap) for name, found in aps.items() for i, ap in enumerate(found)])
    text = " ".join(" ".join(text).split())
    assert "**For short training, set `model.star_norm=group`.**" in text
    assert "VFNet with the norm is 6.0 AP above VFNet as published (+6.0 to +6.0). It cannot" in text
    assert "It cannot be distinguished from FCOS+ATSS (+0.3 AP, -3.5 to +4.1)." in text
    assert "It is 3.0 AP below raw VFNet (-3.1 to -2.8)." in text
    assert "VFNet with the norm is 6.0 AP above the same detector without refinement, with a single seed." in text
    assert "RepPoints with the norm has no runs to compare with RepPoints without it yet." in text
    assert (
        "On VFNet with the norm, focal is below varifocal (-9.8 AP, -10.6 to -9.1); quality focal and MAL cannot be "
        "distinguished from varifocal; IA-BCE has too few runs. On ATSS, focal, quality focal, MAL and IA-BCE have too"
    ) in text


def test_losses_by_hand(script):
    """AP and AP75 are of the runs, rank correlation and calibration of the diagnoses; differences are of pairs."""
    runs = [run(row, i, ap) for row, ap in (("atss-varifocal", 0.4), ("atss-mal", 0.42)) for i in (0, 1)]

    def ranked(row, seed, spearman, laece):
        return {"row": row, "seed": seed, "metrics": {"spearman": spearman, "laece": laece}}

    ranking = [
        ranked("atss-varifocal", 0, 0.5, 0.1),
        ranked("atss-varifocal", 1, 0.6, 0.12),
        ranked("atss-mal", 0, 0.51, 0.14),
        ranked("atss-mal", 1, 0.62, None),  # no calibration where a score is no probability
    ]
    lines = lines_of(script, runs, ranking=ranking)
    assert "| ATSS, varifocal | 40.0 ± 0.0 | 20.0 ± 0.0 | 0.550 ± 0.071 | 11.0 ± 1.4 | 2 |" in lines
    assert "| ATSS, MAL | 42.0 ± 0.0 | 21.0 ± 0.0 | 0.565 ± 0.078 | 14.0 | 2 |" in lines
    assert "| ATSS, IA-BCE | - | - | - | - | 0 |" in lines
    # t(1) = 12.7062; correlations differ by 0.01 and 0.02
    assert (
        "| ATSS: MAL instead of varifocal | **+2.0 (+2.0 to +2.0)** | **+1.0 (+1.0 to +1.0)** "
        "| +0.015 (-0.049 to +0.079) | +4.0 (one seed) |"
    ) in lines
    assert "| ATSS: focal instead of varifocal | - | - | - | - |" in lines
    assert "## The losses" not in lines_of(script, [run("star", 0, 0.1)])


def test_refinement_by_hand(script):
    """Gains of 2 and 4 points are 3 within 12.7; the parts are of all seeds together."""

    def study(seed, initial, refined, *parts):
        bins = [
            {"from": low, "to": low + 0.5, "count": count, "initial": low, "refined": None if not count else low + move}
            for low, count, move in parts
        ]
        positives = {"count": 10, "initial": initial, "refined": refined, "better": 0.7}
        return {"row": "star-refine-norm", "seed": seed, "positives": positives, "bins": bins}

    studies = [
        study(0, 0.6, 0.62, (0.0, 2, 0.1), (0.5, 8, -0.01)),
        study(1, 0.6, 0.64, (0.0, 4, 0.04), (0.5, 0, 0.0)),
    ]
    lines = lines_of(script, [run("star", 0, 0.1)], refinement=studies)
    name = "VFNet with the norm, varifocal"
    assert f"| {name} | 60.0 ± 0.0 | 63.0 ± 1.4 | +3.0 | -9.7 to +15.7 | 70 ± 0 |" in lines
    assert "|  | 0 to 50 | 50 to 100 |" in lines
    # (2 x 10 + 4 x 4) / 6 points in 6 of 20, 8 x -1 / 8 in 8 of 20
    assert f"| {name} | +6.0 (30 %) | -1.0 (40 %) |" in lines


def test_oracles_by_hand(script):
    """Two seeds: means and standard deviations; gains of 2 and 4 are 3 within t(1) = 12.7062 standard errors of 1."""

    def study(row, seed, **aps):
        rows = []
        for name, ap in aps.items():
            oracle, _, way = name.partition("__")
            centerness = {"with": True, "without": False, "": None}[way]
            rows.append({"oracle": oracle, "centerness": centerness, "metrics": {"AP": ap}})
        return {"row": row, "seed": seed, "rows": rows}

    studies = [
        study("fcos-atss", 0, nothing__without=0.3, nothing__with=0.32, gt_bbox__without=0.5, gt_cls_iou__without=0.52),
        study("fcos-atss", 1, nothing__without=0.3, nothing__with=0.34, gt_bbox__without=0.5, gt_cls_iou__without=0.54),
        study("star-refine", 0, nothing=0.4, gt_refine=0.6),
    ]
    lines = lines_of(script, [run("raw-focal", 0, 0.1)], oracles=studies)
    assert "| `nothing` | 30.0 ± 0.0 | 33.0 ± 1.4 | 38.5 | 39.2 |" in lines
    assert "| `gt_ctr` | - | - | - | 41.1 |" in lines
    # t = 3, so that p = 1 - 2 atan(3) / pi
    assert "| IoU as the score, vs. ground-truth boxes | +18.6 | +3.0 (-9.7 to +15.7; p 0.2) | open |" in lines
    assert "| ground-truth centerness | +1.9 | - | not run |" in lines
    assert "| `gt_refine` | 60.0 |" in lines


def test_every_row_of_a_claim_is_trained(scripts):
    claims, rows = scripts("claims"), scripts("run")
    trained = {row.name for group in rows.rows() for row in group}
    assert set(claims.NAMES) == trained
    told = [*claims.STAR_CLAIMS, *claims.NORM_CLAIMS, *claims.OTHER_CLAIMS]
    named = {name for one in told for name in (*one[1:3], *(one.normed or ()))}
    named |= {name for _, *both, _ in claims.PARTS for name in both if name is not None}
    named |= {f"{name}-long" for name in ("fcos-atss", "raw-varifocal")}
    named |= {name for names in claims.LOSS_ROWS.values() for name in names.values()}
    assert named == trained
    assert claims.LOSSES == rows.LOSSES


def test_rows_are_compared_with_their_own_kind(scripts):
    """The refinement with the norm against the star with it, twelve epochs against twelve; and no AP of the paper."""
    rows = {row.name: row for group in scripts("run").rows() for row in group}
    assert rows["star-refine-norm"].against == "star-norm"
    assert (rows["star-refine-long"].against, rows["star-long"].against) == ("star-long", "raw-varifocal-long")
    assert rows["star-refine-norm-long"].against == "star-norm-long"
    assert rows["raw-varifocal-long"].against is None  # its row of the table was not trained so long
    assert {row.paper for row in rows.values() if row.name.endswith(("-norm", "-long"))} == {None}


def test_rows_with_the_norm_differ_in_it_alone(scripts):
    """Read as the runs read them."""
    module = scripts("run")
    recipes = {row.name: load_recipe(str(module.RECIPE), row.overrides) for group in module.rows() for row in group}
    pairs = [(one.first, one.second) for one in scripts("claims").NORM_CLAIMS]
    assert len(pairs) == 7
    for plain, normed in pairs:
        assert recipes[plain].model.star_norm == "none"
        assert recipes[normed] == replace(recipes[plain], model=replace(recipes[plain].model, star_norm="group"))
    epochs = {name: recipe.train.epochs for name, recipe in recipes.items()}
    assert {epoch for name, epoch in epochs.items() if name.endswith("-long")} == {12}
    assert {epoch for name, epoch in epochs.items() if not name.endswith("-long")} == {3}
    for rows in scripts("claims").LOSS_ROWS.values():
        assert {loss: recipes[row].model.loss for loss, row in rows.items()} == {loss: loss for loss in rows}
        kinds = {repr(replace(recipes[row], model=replace(recipes[row].model, loss="focal"))) for row in rows.values()}
        assert len(kinds) == 1
