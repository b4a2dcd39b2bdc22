"""What a sweep says, by hand."""

import json
import re

import pytest
from error_codes import raises_code
from page_reader import Page

from varifocal.cli import main
from varifocal.recipes.recipe import Recipe, write_recipe
from varifocal.recipes.sweep import SWEEPS
from varifocal.tools.report.forest_plot import forest_plot
from varifocal.tools.report.make import make_report
from varifocal.tools.report.page import make_page
from varifocal.tools.report.seeds import row_names
from varifocal.tools.report.sweeps import read_sweep, shown_runs
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

# AP of the seeds 0, 1, 2; Student's t of two degrees of freedom has 95 % within 4.302653
T = 4.302653


def write(folder, rows, paper=None, against=None):
    """Rows of AP by seed; AP50 is twice that, of AP75 there is nothing to find."""
    folder.mkdir(exist_ok=True)
    runs = [
        {"row": name, "seed": seed, "paper_AP": paper, "metrics": {"AP": ap, "AP50": 2 * ap, "AP75": -1}}
        for name, values in rows.items()
        for seed, ap in values.items()
    ]
    for run in runs:
        run["against"] = (against or {}).get(run["row"])
    (folder / "results.json").write_text(json.dumps({"sweep": "table3", "runs": runs}))
    return folder


ROWS = {
    "base": {0: 0.30, 1: 0.32, 2: 0.31},
    "open": {0: 0.31, 1: 0.34, 2: 0.34},  # +1, +2, +3 points
    "good": {0: 0.320, 1: 0.341, 2: 0.332},  # +2.0, +2.1, +2.2
    "bad": {0: 0.280, 1: 0.299, 2: 0.288},  # -2.0, -2.1, -2.2
    "single": {1: 0.33},
    "strange": {7: 0.5},
}


def test_statements_by_hand(tmp_path):
    sweep = read_sweep(write(tmp_path, ROWS))
    said = {one.row: one.words for one in sweep.of("AP")}
    half, small = T / 3**0.5, 0.1 * T / 3**0.5
    loose = f"95 % interval {2 - half:+.2f} to {2 + half:+.2f}"
    above = f"95 % interval {2.1 - small:+.2f} to {2.1 + small:+.2f}"
    below = f"95 % interval {-2.1 - small:+.2f} to {-2.1 + small:+.2f}"
    assert said == {
        # t = 2 / (1 / sqrt 3), p = 1 - t / sqrt(t^2 + 2)
        "open": f"open against base is open: +2.00 AP ({loose}, p 0.074, 3 seeds)",
        # t = 2.1 / (0.1 / sqrt 3) = 36.37
        "good": f"good is better than base: +2.10 AP ({above}, p < 0.001, 3 seeds)",
        "bad": f"bad is worse than base: -2.10 AP ({below}, p < 0.001, 3 seeds)",
        "single": "single against base is open: +1.00 AP with 1 seed, too few for an interval",
        "strange": "strange against base is open: they have no AP of the same seed",
    }
    assert [one.verdict for one in sweep.of("AP50")] == ["open", "better", "worse", "open", "open"]
    assert all(one.difference is None for one in sweep.of("AP75"))
    assert sweep.of("AP75")[1].words == "good against base is open: they have no AP75 of the same seed"
    base = sweep.rows[0]
    assert (base.mean("AP"), base.spread("AP")) == (pytest.approx(0.31), pytest.approx(0.01))
    assert base.mean("AP75") is None
    assert sweep.rows[4].spread("AP") is None


def test_another_baseline(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    sweep = read_sweep(write(folder, ROWS), "good")
    assert sweep.baseline == "good"
    assert [one.row for one in sweep.of("AP")] == ["base", "open", "bad", "single", "strange"]
    assert sweep.of("AP")[0].verdict == "worse"
    with pytest.raises(ConfigError, match=r"choose from base, open"):
        read_sweep(folder, "none")
    with raises_code("unknown-baseline", ConfigError):
        make_report([tmp_path], baseline="good")


def test_each_row_against_its_own(tmp_path):
    """As the losses of several detectors; what is not there and the row itself are nothing to compare with."""
    against = {"good": "base", "open": "good", "bad": "nobody", "single": "single"}
    sweep = read_sweep(write(tmp_path, ROWS, against=against))
    assert sweep.baseline is None
    assert [(one.row, one.baseline) for one in sweep.of("AP")] == [("open", "good"), ("good", "base")]
    assert [round(100 * one.difference.mean, 6) for one in sweep.of("AP")] == [-0.1, 2.1]  # (-1 - 0.1 + 0.8) / 3
    page = Page(make_page(make_report([tmp_path])))
    assert page.table("Row against row")["good against base, AP"][:2] == ["better", "+2.10"]
    assert "AP row against row" in page.words

    named = read_sweep(tmp_path, "bad")
    assert (named.baseline, {one.baseline for one in named.comparisons}) == ("bad", {"bad"})

    one = read_sweep(write(tmp_path, ROWS, against={"open": "good", "bad": "good"}))
    assert (one.baseline, [s.row for s in one.of("AP")]) == ("good", ["open", "bad"])


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_of_the_tables_differ_from_what_they_are_compared_with_in_one_thing(name):
    rows = {row.name: row for row in SWEEPS[name]}
    pairs = [(row, rows[row.against]) for row in rows.values() if row.against is not None]
    assert pairs
    for row, base in pairs:
        settings, others = (dict(word.split("=", 1) for word in one.overrides) for one in (row, base))
        changed = {key for key in settings.keys() & others.keys() if settings[key] != others[key]}
        assert len(changed) == 1 or changed <= {"model.gamma", "model.alpha"}, (row.name, changed)


def test_the_run_of_the_baseline_comes_first(tmp_path):
    """The others are compared with it, in the numbers too."""
    for name in ("base-seed0", "good-seed0", "bad-seed1", "bad-seed2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").touch()
    folders, notes = shown_runs(read_sweep(write(tmp_path, ROWS), "good"))
    assert [folder.name for folder in folders] == ["good-seed0", "base-seed0", "bad-seed1"]
    assert len(notes) == 3


def test_the_page_of_a_sweep_without_runs(tmp_path):
    """Only results.json: the tables, the statements, and what is missing."""
    rows = {"base": ROWS["base"], "<b>": ROWS["good"], "open": ROWS["open"]}
    report = make_report([write(tmp_path, rows, paper=39.0)])
    page = make_page(report)
    read = Page(page)
    assert report.runs == ()
    assert "the row <b> has no run folder" in read.words
    assert "Below, each row" not in read.words
    means = read.table("Mean over the seeds")
    assert means["base"] == ["31.0 ± 1.0", "62.0 ± 2.0", "-", "0, 1, 2", "39.0"]
    small = 0.1 * T / 3**0.5
    against = read.table("Against base")
    assert against["<b>, AP"] == ["better", "+2.10", f"{2.1 - small:+.2f} to {2.1 + small:+.2f}", "< 0.001", "3"]
    assert against["<b>, AP75"] == ["open", "-", "-", "-", "0"]
    assert "<b>" not in page
    assert len(read.ids) == len(set(read.ids))
    assert json.loads(json.dumps(report.to_json()))["sweeps"][0]["statements"][0]["verdict"] == "better"


def test_intervals_are_drawn_where_they_are(tmp_path):
    sweep = read_sweep(write(tmp_path, ROWS))
    drawn = forest_plot("AP", sweep.of("AP"))
    assert drawn.count('<rect class="f2"') == 1  # better
    assert drawn.count('<rect class="f1"') == 1  # worse
    assert forest_plot("AP75", sweep.of("AP75")) == ""


def intervals(drawn):
    """From which x to which, of the lines that are colored by a verdict, but for the line at zero."""
    found = re.findall(r'<line class="curve s\d" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', drawn)
    return [(float(x1), float(x2)) for x1, y1, x2, y2 in found if y1 == y2]


def test_an_interval_of_two_seeds_does_not_make_the_others_specks(tmp_path):
    """Of +1 and +5 points it is 3 +- 25.4 (Student's t of one degree of freedom: 12.706); its mean stays in."""
    rows = {"base": ROWS["base"], "good": ROWS["good"], "two": {0: 0.31, 1: 0.37}}
    drawn = forest_plot("AP", read_sweep(write(tmp_path, rows)).of("AP"))
    good, two = intervals(drawn)
    # zero to 3 points, 2.5 times as wide about its middle, and 8 % at both ends: -2.85 to 5.85 on x from 170 to 460
    small = 0.1 * T / 3**0.5
    assert good == pytest.approx([170 + (2.1 + sign * small + 2.85) * 290 / 8.7 for sign in (-1, 1)], abs=0.1)
    assert two == (170, 460)
    assert re.findall(r'<path class="f5" d="M(\d+)\.0 [\d.]+l(-?\d)', drawn) == [("170", "8"), ("460", "-8")]
    assert drawn.count("<path") == 2


@pytest.mark.parametrize(
    "rows",
    [
        {"base": ROWS["base"], "two": {0: 0.31, 1: 0.37}},  # no row of three seeds to be seen beside
        {name: ROWS[name] for name in ("base", "open", "good", "bad")},
        {"base": ROWS["base"], "same": ROWS["base"], "two": {0: 0.30, 1: 0.32}},
    ],
)
def test_other_intervals_are_drawn_whole(tmp_path, rows):
    drawn = forest_plot("AP", read_sweep(write(tmp_path, rows)).of("AP"))
    assert "<path" not in drawn
    assert all(170 < first <= last < 460 for first, last in intervals(drawn))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"runs": [{"row": "a"}]}', '{"runs": [3]}', '{"runs": []}']
)
def test_results_that_are_none(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    code = "sweep-without-runs" if text == '{"runs": []}' else "sweep-results-unreadable"
    with raises_code(code, ConfigError):
        read_sweep(tmp_path)


@pytest.mark.parametrize("value", ["null", "NaN", "Infinity", '"0.3"', "1" + "0" * 400])
def test_a_result_that_is_no_number_is_left_out(tmp_path, value):
    """A run whose evaluation failed takes no seed from the others."""
    runs = [f'{{"row": "a", "seed": {seed}, "metrics": {{"AP": {ap}}}}}' for seed, ap in ((0, 0.5), (1, value))]
    (tmp_path / "results.json").write_text(f'{{"runs": [{", ".join(runs)}]}}')
    (row,) = read_sweep(tmp_path).rows
    assert (row.seeds, row.mean("AP"), row.spread("AP")) == ([0], 0.5, None)


def run_of(folder, seed, ap, *words, digest="one"):
    """A run that ``varifocal train`` left, without weights and log."""
    folder.mkdir(parents=True)
    write_recipe(override(Recipe(), [f"train.seed={seed}", *words]), folder / "recipe.yaml")
    (folder / "metrics.json").write_text(json.dumps({"AP": ap, "AP50": 2 * ap, "AP75": -1, "per_class": {}}))
    (folder / "data.json").write_text(json.dumps({"data": "somewhere", "sha256": digest}))
    return folder


def make_rows(root, names=("base", "good", "bad")):
    """The runs of some of ROWS, the rows told apart by a setting."""
    losses = {"base": "focal", "good": "varifocal", "bad": "quality-focal", "single": "quality-focal"}
    return [
        run_of(root / f"{name}-seed{seed}", seed, ap, f"model.loss={losses[name]}")
        for name in names
        for seed, ap in ROWS[name].items()
    ]


def test_runs_that_differ_in_the_seed_are_rows(tmp_path):
    """Three rows of three seeds, of which one run each is shown."""
    report = make_report(make_rows(tmp_path), inference=False)
    (sweep,) = report.sweeps
    assert (sweep.name, sweep.baseline) == ("runs by seed", "base")
    assert [(row.name, row.values["AP"]) for row in sweep.rows] == [
        (name, ROWS[name]) for name in ("base", "good", "bad")
    ]
    small = 0.1 * T / 3**0.5
    above, below = (f"{middle - small:+.2f} to {middle + small:+.2f}" for middle in (2.1, -2.1))
    assert [one.words for one in sweep.of("AP")] == [
        f"good is better than base: +2.10 AP (95 % interval {above}, p < 0.001, 3 seeds)",
        f"bad is worse than base: -2.10 AP (95 % interval {below}, p < 0.001, 3 seeds)",
    ]
    assert [one.name for one in report.runs] == ["base-seed0", "good-seed0", "bad-seed0"]
    assert report.notes == ("6 runs of other seeds stand in the table of the runs by seed only",)
    page = Page(make_page(report))
    assert page.table("Against base")["good, AP"][:2] == ["better", "+2.10"]
    assert page.table("Metrics")["metric"] == ["base-seed0", "good-seed0", "bad-seed0"]
    assert "each row is shown by the first of its runs" in page.words
    assert json.loads(json.dumps(report.to_json()))["sweeps"][0]["baseline"] == "base"


def test_the_baseline_of_runs_by_seed(tmp_path, capsys):
    folders = make_rows(tmp_path, ("base", "good", "single"))
    report = make_report(folders, inference=False, baseline="good")
    (sweep,) = report.sweeps
    assert [(one.row, one.baseline) for one in sweep.of("AP")] == [("base", "good"), ("single", "good")]
    assert sweep.of("AP")[1].words.startswith("single against good is open: -1.10 AP with 1 seed")
    assert [one.name for one in report.runs] == ["good-seed0", "base-seed0", "single-seed1"]
    words = ["report", *map(str, folders), "--out", str(tmp_path / "page.html"), "--no-inference", "--baseline"]
    assert main([*words, "single"]) == 0
    assert main([*words, "none"]) == 2
    assert "choose from base, good, single" in capsys.readouterr().err

    other = write(tmp_path / "sweep", {"x": ROWS["base"], "y": ROWS["good"]})
    report = make_report([other, *folders], inference=False, baseline="good")
    assert [one.baseline for one in report.sweeps] == ["x", "good"]
    assert [one.baseline for one in make_report([other, *folders], inference=False, baseline="y").sweeps] == [
        "y",
        "base",
    ]
    with pytest.raises(ConfigError, match="choose from x, y"):
        make_report([other, *folders], inference=False, baseline="none")


def test_runs_that_make_no_sweep(tmp_path):
    """One seed each; a single row; two rows on different images; runs of which something is missing."""
    one_each = [run_of(tmp_path / name, 0, 0.3, f"model.loss={name}") for name in ("focal", "varifocal")]
    again = run_of(tmp_path / "again", 0, 0.4, "model.loss=focal")
    assert make_report([*one_each, again], inference=False).sweeps == ()
    seeds = [run_of(tmp_path / f"seed{seed}", seed, 0.3, "model.loss=focal") for seed in (1, 2)]
    assert make_report(seeds, inference=False).sweeps == ()
    assert len(make_report([*seeds, *one_each], inference=False).sweeps) == 1
    far = run_of(tmp_path / "far", 0, 0.3, "model.loss=varifocal", digest="two")
    other = run_of(tmp_path / "other", 0, 0.3, "model.loss=varifocal", "data.val_split=test")
    assert make_report([*seeds, far, other], inference=False).sweeps == ()
    for file in ("metrics.json", "recipe.yaml", "data.json"):
        poor = run_of(tmp_path / f"no-{file}", 0, 0.3, "model.loss=varifocal")
        (poor / file).unlink()
        report = make_report([*seeds, poor], inference=False)
        assert (report.sweeps, len(report.runs)) == ((), 3)


def test_runs_of_a_named_sweep_are_no_second_one(tmp_path):
    folders = make_rows(tmp_path, ("base", "good"))
    report = make_report([write(tmp_path, ROWS), *folders], inference=False)
    assert [one.name for one in report.sweeps] == ["table3"]
    assert len(report.runs) == 6


def test_seeds_take_no_place_on_the_page(tmp_path):
    """More runs than are shown side by side, of fewer rows."""
    folders = make_rows(tmp_path)
    plain = [run_of(tmp_path / f"plain{i}", 0, 0.3, f"train.epochs={i}", digest=str(i)) for i in range(2, 6)]
    report = make_report([*folders, *plain], inference=False)
    names = ["base-seed0", "good-seed0", "bad-seed0", "plain2", "plain3", "plain4"]
    assert [one.name for one in report.runs] == names
    assert report.notes[-1] == "a page shows 6 runs side by side; left out: plain5"


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([["a-seed0", "a-seed1"], ["b_seed0", "b_seed1"], ["c-s10"], ["d/seed0"]], ["a", "b", "c", "d"]),
        ([["a-seed0", "b-seed1"], ["c", "d"], ["seeds", "class3"]], ["a-seed0", "c", "seeds"]),
        ([["a-s8"], ["a-s4"]], ["a-s8", "a-s4"]),
        ([["a", "a-seed1"], ["a-seed0"]], ["a", "a-seed0"]),
        ([["a", "b"], ["a-seed0", "a-seed1"]], ["a", "a-seed0"]),
        ([["a-seed0", "b-seed1"], ["a-seed0-seed1"]], ["a-seed0", "a-seed0-seed1"]),
        ([["-seed0", "-seed1"]], ["-seed0"]),
    ],
)
def test_what_a_row_is_called(rows, names):
    assert row_names(rows) == names
