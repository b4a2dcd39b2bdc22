"""The page stands by itself, says what the JSON says, and whatever a run or a class is called stays text."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from page_reader import Page, colors, contrast
from run_folders import EVIL

from varifocal.analysis.charts.svg import STYLE
from varifocal.analysis.pages.render import inline_chart
from varifocal.tools.report.page import make_page
from varifocal.tools.report.sweeps import make_rows, make_sweep


@pytest.fixture(scope="module")
def read(page):
    return Page(page)


def test_it_stands_by_itself(page, read):
    assert len(read.ids) == len(set(read.ids))
    for link in read.links:
        assert link.startswith("data:image/jpeg;base64,") or link[1:] in read.ids, link[:80]
    code = re.sub(r"http://www\.w3\.org/2000/svg", "", read.scripts[""])
    for text in (code, *read.styles.values(), page.replace(read.scripts[""], "")):
        assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|WebSocket|import\(|src=", text)
    assert 'name="viewport"' in page
    assert 'lang="en"' in page
    assert len(page) < 5_000_000


def test_it_can_be_used_without_a_mouse_and_read_aloud(page, read):
    assert all(one["id"] in read.labels for one in read.inputs)
    assert {one["type"] for one in read.inputs} == {"range", "checkbox"}
    skip = next(values for tag, values in read.elements if tag == "a")
    assert skip == {"class": "skip", "href": "#main"}
    assert all(one.get("type") == "button" for one in read.of("button"))
    assert all("scope" in one for one in read.of("th"))
    for one in read.of("svg"):
        named = one.get("aria-label") or one.get("aria-labelledby")
        assert one.get("aria-hidden") == "true" or (one["role"] == "img" and named)
    assert not any("tabindex" in one and int(one["tabindex"]) > 0 for _, one in read.elements)
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert "outline: none" not in re.sub(r"(main:focus|\.found:focus) \{ outline: none; \}", "", page)
    assert "Without JavaScript the score sliders and the stars are missing" in read.words


def test_colors_can_be_told_from_the_paper(read):
    for css, selector in ((read.styles[""], ":root"), (read.styles["dark"], ":root")):
        known = colors(css, selector)
        for name in ("ink", "soft", "lost", "good", "loss", "warning", "suspect", "note", "bar"):
            for ground in ("paper", "card"):
                assert contrast(known[name], known[ground]) >= 4.5, (selector, name, ground)
    for css in (read.styles[""], read.styles["dark"]):
        known = colors(css, ".vf")
        assert all(contrast(known[name], known["paper"]) >= 4.5 for name in ("ink", "soft"))
        assert all(contrast(known[f"t{tone}"], known["paper"]) >= 3 for tone in range(6))
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_figures_are_those_of_the_json(report, read):
    told = json.loads(json.dumps(report.to_json()))
    first, second = told["runs"]
    rows = read.table("Metrics")
    assert rows["metric"] == [first["name"], second["name"]]
    # 12.3 and 13.3 by the files
    assert rows["AP"] == ["12.3", "13.3 (+1.0)"]
    assert "AP, small" not in rows  # nothing to find
    for words, key in (("AP at IoU 0.5", "AP50"), ("AR, 10 per image", "AR10"), ("AP, large", "APl")):
        assert rows[words] == [f"{100 * first['metrics'][key]:.1f}", f"{100 * second['metrics'][key]:.1f} (+1.0)"]
    assert read.table("AP by class") == {"class": [first["name"], "second"], EVIL: ["10.0", "11.0 (+1.0)"],
                                         "berry": ["20.0", "21.0 (+1.0)"]}  # fmt: skip
    why = read.table("Reasons")
    for words, path, factor, digits in (
        ("AP lost to ranking", ("ranking", "worth", "ranking"), 100, 1),
        ("AP lost to missing or imprecise boxes", ("ranking", "worth", "boxes"), 100, 1),
        ("Rank correlation of score and IoU (Spearman)", ("ranking", "near", "spearman"), 1, 3),
        ("Calibration error of the scores (LaECE)", ("calibration", "laece_all"), 100, 1),
        ("Best F1", ("thresholds", "f1", "f1"), 1, 3),
        ("Score of the best F1", ("thresholds", "f1", "score"), 1, 3),
    ):
        values = []
        for run in (first, second):
            value = run["diagnosis"]
            for key in path:
                value = value[key]
            values.append(f"{factor * value:.{digits}f}")
        assert [cell.split(" (")[0] for cell in why[words]] == values
    assert read.table("Differences of the recipes")["model.loss"] == ["varifocal", "focal"]
    gain = first["refinement"]
    assert f"{gain['count']:,} true positives from {gain['initial']:.3f} to {gain['refined']:.3f}" in read.words


def test_all_parts_are_there(report, page, read):
    for title in ("Loss, all terms", "Loss of the refined box", "Learning rate", "Validation AP50"):
        assert title in read.words
    for title in ("What each kind of error costs", "Precision and recall", "Score and IoU of", "Reliability of"):
        assert read.words.count(title) >= 2
    assert page.count('class="scene"') == 4
    assert page.count("data:image/jpeg") == 2
    ends = re.findall(r"Loss of the first box, against steps: (.*?)\.</desc>", page)
    assert ends == ["first&lt;b&gt;&amp;amp;&#x27; ends at 0.5; second ends at 0.51"]
    shown = [float(one["value"]) for one in read.inputs if one["type"] == "range"]
    for value, run in zip(shown, report.to_json()["runs"] * 2, strict=True):
        assert 0 <= run["diagnosis"]["thresholds"]["f1"]["score"] - value < 0.01


def test_names_are_only_text(folders, page, read):
    assert not re.search(r"<script>alert|<b>|<i>", page)
    for words in (EVIL, folders[1][0].name, "a&b'<i>"):
        assert words in read.words
    scenes = json.loads(read.scripts["scenes"])
    assert {one["name"] for scene in scenes.values() for one in scene["found"]} == {EVIL, "berry"}
    assert set(read.scripts) == {"", "scenes"}


HOSTILE = "</title></style></script></svg><script>alert(1)</script>\" onload=\"alert(1)' onclick='alert(2)&lt;"


def test_whatever_comes_from_outside_is_only_text(report):
    """Data, notes, runs, classes, examples, sweeps and their rows; in texts, attributes and charts."""
    runs = [
        {"row": row, "seed": seed, "metrics": {"AP": 0.1 * seed + shift, "AP50": 0.3}}
        for row, shift in (("base", 0), (HOSTILE, 0.01 * 2))
        for seed in (1, 2, 3)
    ]
    sweeps = tuple(make_sweep(HOSTILE, None, make_rows(runs), baseline) for baseline in ("base", HOSTILE))
    first = replace(report.runs[0], run=replace(report.runs[0].run, name=HOSTILE), notes=(HOSTILE,))
    shown = replace(first, metrics={**first.metrics, "per_class": {HOSTILE: 0.1, "b": 0.2}})
    examples = tuple(replace(one, why=HOSTILE) for one in report.examples)
    text = make_page(
        replace(
            report, runs=(shown, *report.runs[1:]), sweeps=sweeps, examples=examples, data=HOSTILE, notes=(HOSTILE,)
        )
    )
    read = Page(text)  # which lets no handler through
    assert set(read.scripts) == {"", "scenes"}
    assert not re.search("<script>alert|<img|[^/]</svg><script", text)
    assert (text.count("</style>"), text.count("</title>") > 100) == (2, True)
    for caption in ("Metrics", "AP by class", "Reasons"):
        assert HOSTILE in read.table(caption)[{"Metrics": "metric", "AP by class": "class", "Reasons": ""}[caption]]
    assert f"{HOSTILE}, AP" in read.table("Against base")
    assert read.words.count(HOSTILE) >= 30
    json.loads(read.scripts["scenes"])


def test_charts_share_one_style(page, read):
    assert len(read.styles) == 2
    assert STYLE in read.styles[""]
    svg = '<svg xmlns="http://www.w3.org/2000/svg" aria-labelledby="vf0123abcdt vf0123abcdd"><title id="vf0123abcdt">'
    assert inline_chart(f"{svg}<style>\na\n</style>b", "7") == (
        '<svg aria-labelledby="vf0123abcd-7t vf0123abcd-7d"><title id="vf0123abcd-7t">b'
    )
