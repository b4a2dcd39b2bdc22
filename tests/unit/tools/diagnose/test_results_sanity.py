"""Results in another form than COCO's are not taken for those of a bad detector without a word."""

import json
from dataclasses import replace

import numpy as np
import pytest
from detection_cases import make_data

from varifocal.analysis.diagnose import diagnose
from varifocal.data.coco_results import read_results
from varifocal.tools.diagnose.console import show
from varifocal.tools.diagnose.results_sanity import mixed_pairs, results_sanity


@pytest.fixture(scope="module")
def made():
    """A data set and the entries of a detector that finds every box where it is."""
    data, _ = make_data(0, images=12)
    entries = []
    for sample in data.samples:
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            bbox = [x1, y1, x2 - x1, y2 - y1]
            entries.append(
                {
                    "image_id": sample.image_id,
                    "category_id": data.categories[label].id,
                    "bbox": bbox,
                    "score": 0.9,
                    "size": (sample.width, sample.height),
                }
            )
    return data, entries


def said(data, entries, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(entries))
    return " ".join(results_sanity(read_results(file, data), data))


def changed(entries, bbox):
    return [{**one, "bbox": bbox(*one["bbox"], *one["size"])} for one in entries]


def test_sound_results_raise_no_doubt(made, tmp_path):
    assert said(*made, tmp_path) == ""


@pytest.mark.parametrize(
    ("bbox", "words"),
    [
        (lambda x, y, w, h, *_: [x, y, x + w, y + h], "look like [left, top, right, bottom]"),
        (lambda x, y, w, h, a, b: [x / a, y / b, w / a, h / b], "fractions of it"),
        (lambda x, y, w, h, a, b: [x / a, y / b, (x + w) / a, (y + h) / b], "fractions of it"),
        (lambda *box: [3.3 * value for value in box[:4]], "not of a resized one"),
    ],
)
def test_boxes_of_another_form(made, tmp_path, bbox, words):
    data, entries = made
    assert words in said(data, changed(entries, bbox), tmp_path)


def test_images_that_are_missing(made, tmp_path):
    data, entries = made
    assert "there is no detection" in said(data, [], tmp_path)
    labeled = [sample.image_id for sample in data.samples if len(sample.boxes)]
    few = [one for one in entries if one["image_id"] in labeled[:3]]
    told = said(data, few, tmp_path)
    assert f"{len(labeled) - 3} of {len(labeled)} images with boxes have no detection" in told


def test_scores_in_percent(made, tmp_path):
    data, entries = made
    assert "scores reach 90" in said(data, [{**one, "score": 90} for one in entries], tmp_path)


def test_classes_that_are_one_off(made, tmp_path, capsys):
    """Every box is taken for the next class; crowd regions have no class to be mixed up."""
    from rich.console import Console

    data, entries = made
    data = replace(data, samples=tuple(replace(s, crowd=np.zeros(len(s.boxes), bool)) for s in data.samples))
    ids = [category.id for category in data.categories]
    after = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    file = tmp_path / "results.json"
    file.write_text(json.dumps([{**one, "category_id": after[one["category_id"]]} for one in entries]))
    found = diagnose(read_results(file, data), data)
    names = [category.name for category in data.categories]
    for words in mixed_pairs(found.confusion, names):
        was, taken = words.rsplit(" ", 1)[0].split(" as ")
        assert names.index(taken) == (names.index(was) + 1) % len(names)
    Console(width=200).print(show(found))
    assert "are the category ids those of the data?" in capsys.readouterr().out
