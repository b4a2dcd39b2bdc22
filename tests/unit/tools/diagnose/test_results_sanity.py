"""Results that break COCO's conventions are reported, and are not mistaken for those of a poor detector."""

import json
from dataclasses import replace

import numpy as np
import pytest
from detection_cases import make_data
from PIL import Image

from varifocal.analysis.detection_table import make_table
from varifocal.analysis.diagnosis import diagnose
from varifocal.cli import main
from varifocal.data.coco_results import read_results
from varifocal.tools.diagnose.console import show
from varifocal.tools.diagnose.results_sanity import mixed_pairs, results_sanity
from varifocal.types import Category


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
    return " ".join(results_sanity(make_table(data, read_results(file, data)), data))


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


IN_ORDER = [2, 4, 5, 9]  # class ids by size


def with_ids(made, ids, found_as):
    """The data without crowds, its labels 0 to 2 being the classes of the first three ``ids``, and its entries with
    the ids that ``found_as`` gives for the true ones."""
    data, entries = made
    samples = tuple(replace(sample, crowd=np.zeros(len(sample.boxes), bool)) for sample in data.samples)
    true = {category.id: id for category, id in zip(data.categories, ids, strict=False)}
    changed = [{**entry, "category_id": found_as(true[entry["category_id"]])} for entry in entries]
    categories = tuple(Category(id, f"class {id}") for id in ids)
    return replace(data, samples=samples, categories=categories), changed


def lower(id):
    return IN_ORDER[IN_ORDER.index(id) - 1]


@pytest.mark.parametrize(
    ("ids", "found_as", "words"),
    [
        ((5, 4, 9, 2), lower, ("one too low", "the next higher one")),
        ((5, 2, 4, 9), lambda id: IN_ORDER[IN_ORDER.index(id) + 1], ("one too high", "the next lower one")),
    ],
)
def test_class_ids_that_are_shifted_by_one(made, tmp_path, ids, found_as, words):
    """Each id is its neighbor in the order of the ids, which is not that of the classes; none is unknown."""
    told = said(*with_ids(made, ids, found_as), tmp_path)
    assert all(part in told for part in words)


def test_class_ids_of_a_poor_detector_are_not_shifted(made, tmp_path):
    """Neither right ids, nor ids by chance, nor one class that is taken for its neighbor throughout."""
    rng = np.random.default_rng(0)
    assert said(*with_ids(made, (5, 4, 9, 2), lambda id: id), tmp_path) == ""
    assert said(*with_ids(made, (5, 4, 9, 2), lambda id: int(rng.choice(IN_ORDER))), tmp_path) == ""
    data, entries = with_ids(made, (5, 4, 9, 2), lambda id: 4)
    only = tuple(replace(sample, labels=np.zeros_like(sample.labels)) for sample in data.samples)
    assert said(replace(data, samples=only), entries, tmp_path) == ""


def test_a_few_detections_say_nothing_about_the_ids(made, tmp_path):
    data, entries = with_ids(made, (5, 4, 9, 2), lower)
    few = entries[:9]
    kept = {entry["image_id"] for entry in few}
    data = replace(data, samples=tuple(sample for sample in data.samples if sample.image_id in kept))
    assert "class ids" not in said(data, few, tmp_path)


def test_shifted_ids_are_reported_on_the_command_line(made, tmp_path, capsys):
    data, entries = with_ids(made, (5, 4, 9, 2), lower)
    folder = tmp_path / "data"
    folder.mkdir()
    images, annotations = [], []
    for sample in data.samples:
        Image.new("L", (sample.width, sample.height)).save(folder / sample.file.name)
        images.append(
            {"id": sample.image_id, "file_name": sample.file.name, "width": sample.width, "height": sample.height}
        )
        for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": sample.image_id,
                    "category_id": data.categories[label].id,
                    "bbox": bbox,
                }
            )
    categories = [{"id": category.id, "name": category.name} for category in data.categories]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "val.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(entries))
    assert main(["diagnose", str(folder), "--predictions", str(tmp_path / "results.json")]) == 0
    error = capsys.readouterr().err
    assert f"{tmp_path / 'results.json'}: class ids seem to be one too low" in error
