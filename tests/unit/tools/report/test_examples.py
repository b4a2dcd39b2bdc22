"""Examples, stars and gains against slow loops over what the network says."""

import json
import re
import subprocess
from dataclasses import replace
from importlib.resources import files
from shutil import which

import numpy as np
import pytest
from page_reader import Page
from run_folders import make_model, make_run, reread

from varifocal.analysis.star_points import predict_with_stars
from varifocal.tools.report import examples as module
from varifocal.tools.report.examples import make_examples
from varifocal.tools.report.image_panels import scene_data
from varifocal.tools.report.make import make_report
from varifocal.tools.report.page import make_page


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (area - w * h)


def best_truth(box, label, sample):
    """(place, IoU) of the ground truth box of its class that it overlaps most."""
    shares = [iou(box, truth) if own == label else 0.0 for truth, own in zip(sample.boxes, sample.labels, strict=True)]
    place = int(np.argmax(shares))
    return (place, shares[place]) if shares[place] > 0 else (-1, 0.0)


def test_scenes_are_what_the_networks_say(folders, report, page):
    told = json.loads(json.dumps(scene_data(report)))
    read = Page(page)
    assert json.loads(read.scripts["scenes"]) == told
    data, runs = folders
    assert len(report.examples) == 2
    for run, folder in enumerate(runs):
        model, split = reread(folder, data)
        by_name = {sample.file.name: sample for sample in split.samples}
        for number, example in enumerate(report.examples):
            sample = by_name[example.sample.file.name]
            found, stars = predict_with_stars(model, str(sample.file))
            scene = told[f"{number}-{run}"]
            assert scene["size"] == [96, 80]
            assert scene["refines"] is True
            assert scene["truth"] == [[pytest.approx(float(side), abs=0.051) for side in box] for box in sample.boxes]
            assert len(scene["found"]) == len(found) > 0
            for i, one in enumerate(scene["found"]):
                place, share = best_truth(found.boxes[i].tolist(), found.labels[i], sample)
                assert one["box"] == pytest.approx(found.boxes[i].tolist(), abs=0.051)
                assert one["score"] == pytest.approx(float(found.scores[i]), abs=0.00051)
                assert one["name"] == found.class_names[i]
                assert (one["truth"], one["iou"]) == (place, pytest.approx(share, abs=0.00051))
                assert one["center"] == pytest.approx(stars.centers[i].tolist(), abs=0.051)
                assert one["initial"] == pytest.approx(stars.initial[i].tolist(), abs=0.051)
                truth = sample.boxes[place].tolist()
                boxes = (stars.initial[i].tolist(), stars.refined[i].tolist())
                wanted = [None, None] if place < 0 else [pytest.approx(iou(box, truth), abs=0.00051) for box in boxes]
                assert one["ious"] == wanted


def test_the_gain_of_refinement(folders, report):
    data, runs = folders
    model, split = reread(runs[0], data)
    firsts, lasts = [], []
    for sample in split.samples:
        found, stars = predict_with_stars(model, str(sample.file))
        for label in set(found.labels.tolist()):
            free = [place for place, own in enumerate(sample.labels) if own == label]
            for i in np.flatnonzero(found.labels == label):  # best first: COCO's matching at 0.5
                shares = {place: iou(found.boxes[i].tolist(), sample.boxes[place].tolist()) for place in free}
                place = max(shares, key=shares.get, default=None)
                if place is not None and shares[place] >= 0.5:
                    free.remove(place)
                    firsts.append(iou(stars.initial[i].tolist(), sample.boxes[place].tolist()))
                    lasts.append(iou(stars.refined[i].tolist(), sample.boxes[place].tolist()))
    gain = report.runs[0].measured.gain
    assert gain.count == len(firsts) > 3
    assert (gain.initial, gain.refined) == (pytest.approx(np.mean(firsts)), pytest.approx(np.mean(lasts)))
    assert gain.better == pytest.approx(np.mean([b > a for a, b in zip(firsts, lasts, strict=True)]))


def test_which_images_are_shown(report):
    seen = [one.measured for one in report.runs]
    costs = seen[0].diagnosis.costs + seen[1].diagnosis.costs
    first, second = make_examples(seen, 2)
    assert first.sample.file == seen[0].data.samples[int(np.argmax(costs))].file
    assert first.why == f"number 1 of the worst, cost {max(costs):.1f}"
    assert second.why == "chosen at random"
    assert [one.sample.file.name for one in make_examples(seen, 2)] == [first.sample.file.name, second.sample.file.name]
    assert len({one.sample.file.name for one in make_examples(seen, 9)}) == 3
    assert [scene.run for scene in make_examples([None, seen[1]], 1)[0].scenes] == [1]
    assert make_examples([None], 4) == make_examples(seen, 0) == ()


def test_size_and_number_are_bounded(report, monkeypatch):
    seen = [one.measured for one in report.runs]
    monkeypatch.setattr(module, "MOST_BYTES", 12_000)
    monkeypatch.setattr(module, "SIDES", (96, 48, 24))
    monkeypatch.setattr(module, "MOST_ON_PAGE", 21)
    small = make_examples(seen, 3)
    assert all(len(one.uri) <= 4000 for one in small)
    for one in small:
        for scene in one.scenes:
            assert len(scene.found) == len(scene.stars) == 3 < scene.total
            scores = [found.score for found in scene.found]
            assert scores == sorted(scores, reverse=True)


def test_without_refinement_there_is_one_box(folders, report, tmp_path):
    """The star lies on the box itself; with a run that refines beside it both are told."""
    data, (first, _) = folders
    model = make_model([one.name for one in reread(first, data)[0].categories], refine=False)
    plain = make_report([make_run(tmp_path / "plain", data, model, "model.refine=false")], examples=1)
    told = json.loads(json.dumps(scene_data(plain)))["0-0"]
    assert told["refines"] is False
    for one in told["found"]:
        assert one["refined"] == one["box"] == [min(max(x, 0), (96, 80)[i % 2]) for i, x in enumerate(one["initial"])]
    words = Page(make_page(plain)).words
    assert "its first box" not in words
    assert "ground truth boxnine points of the starboxmean over tiles" in words
    mixed = replace(report, runs=(*report.runs, *plain.runs))
    assert "refined box, or the only box" in Page(make_page(mixed)).words


@pytest.mark.skipif(which("node") is None, reason="needs node")
@pytest.mark.parametrize(("refines", "rows"), [(True, ["first box", "refined box"]), (False, ["box"])])
def test_the_rows_of_the_table(refines, rows):
    """The script's table about a box, without a browser: its method ``describe`` on a page that only collects words."""
    code = (files("varifocal.tools.report") / "page.js").read_text(encoding="utf-8")
    describe = re.search(r"\n    describe\(found\) \{.*?\n    \}\n", code, re.DOTALL).group()
    program = f"""
      const said = [];
      const element = () => ({{ append(words) {{ if (typeof words === "string") said.push(words); }},
                               appendChild: element, setAttribute() {{}}, replaceChildren() {{}} }});
      const document = {{ createElement: element }}, add = (name, words) => {{ if (name === "td") said.push(words);
                                                                             return element(); }};
      class Scene {{ {describe} moved() {{ return false; }} }}
      const one = new Scene();
      one.known = {{ refines: {json.dumps(refines)} }};
      one.element = {{ querySelector: element }};
      one.describe({{ name: "owl", kind: "right", truth: 0, iou: 0.74, score: 0.5, initial: [], ious: [0.7, 0.74] }});
      console.log(JSON.stringify(said));"""
    said = json.loads(subprocess.run(["node", "-e", program], capture_output=True, check=True, text=True).stdout)
    assert said[0::2] == [*rows, "score (minus IoU)"]
    assert said[1::2] == [*(["0.70", "0.74 (+0.04)"] if refines else ["0.74"]), "0.50 (\u22120.24)"]
