"""COCO results of any detector: what is read, and what is said of entries that cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest

from varifocal.data.coco_results import read_results
from varifocal.data.readers.json_stream import read_list
from varifocal.types import Category, Dataset, Sample
from varifocal.utils.errors import DataError

CATEGORIES = (Category(17, "cat"), Category(3, "dog"))
GOOD = {"image_id": 7, "category_id": 3, "bbox": [1, 2.5, 10, 20], "score": 0.5}


def make_set(ids=(9, 7, 4)):
    nothing = np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool)
    return Dataset([Sample(Path(f"{i}.jpg"), i, 50, 50, *nothing) for i in ids], CATEGORIES, Path("made.json"))


def write(folder, content):
    file = folder / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_entries_go_to_their_images_best_first(tmp_path):
    entries = [
        GOOD,
        GOOD | {"score": 1, "category_id": 17, "file_name": "ignored", "segmentation": []},
        GOOD | {"image_id": 4, "bbox": [0, 0, 0, 0], "score": -3.5},
        GOOD | {"bbox": [5, 5, 5, 5]},
        GOOD | {"image_id": 4, "score": 10**30},
    ]
    nine, seven, four = read_results(write(tmp_path, entries), make_set())
    assert len(nine) == 0
    assert seven.scores.tolist() == [1, 0.5, 0.5]
    assert seven.labels.tolist() == [0, 1, 1]
    assert seven.boxes.tolist() == [[1, 2.5, 11, 22.5], [1, 2.5, 11, 22.5], [5, 5, 10, 10]]
    assert four.scores.tolist() == [1e30, -3.5]
    assert seven.categories == CATEGORIES


@pytest.mark.parametrize("content", [[], "  [ ]\n"])
def test_nothing_found(tmp_path, content):
    assert [len(one) for one in read_results(write(tmp_path, content), make_set())] == [0, 0, 0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (5, r"entry 1 is 5 and should be an object; an entry is \{"),
        ({"image_id": 7}, "entry 1 has no 'category_id'"),
        (GOOD | {"image_id": 8}, "image_id 8, which no image of made.json has; the ids there are 9, 7, 4$"),
        (GOOD | {"image_id": "x"}, "image_id 'x', which no image"),
        (GOOD | {"image_id": 7.5}, "image_id '7.5', which no image"),
        (GOOD | {"image_id": None}, "image_id None, which no image"),
        (GOOD | {"category_id": ""}, "category_id '', which no category"),
        (GOOD | {"image_id": [7]}, r"image_id \[7\], which no image"),
        (GOOD | {"category_id": True}, "category_id True, which no category"),
        (GOOD | {"category_id": 1}, "category_id 1, which no category of made.json has; the ids there are 17, 3$"),
        (GOOD | {"bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]; a box is \[x, y, width, height\]"),
        (GOOD | {"bbox": [1, 2, 3, 4, 5]}, "has the bbox"),
        (GOOD | {"bbox": [1, 2, -3, 4]}, r"bbox \[1, 2, -3, 4\]; a box is"),
        (GOOD | {"bbox": [1, 2, "3", 4]}, "has the bbox"),
        (GOOD | {"bbox": [1, 2, True, 4]}, "has the bbox"),
        (GOOD | {"bbox": {"x": 1}}, "has the bbox"),
        (GOOD | {"bbox": [1, 2, float("nan"), 4]}, "has the bbox"),
        (GOOD | {"score": float("inf")}, "has the score inf; it should be a finite number"),
        (GOOD | {"score": 10**400}, "has the score 1000"),
        (GOOD | {"bbox": [1, 2, 10**400, 4]}, "has the bbox"),
        (GOOD | {"score": None}, "has the score None"),
        (GOOD | {"score": "0.5"}, "has the score '0.5'"),
        (GOOD | {"score": True}, "has the score True"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entry, message):
    file = write(tmp_path, [GOOD, entry, GOOD])
    with pytest.raises(DataError, match=message) as caught:
        read_results(file, make_set())
    assert str(caught.value).startswith(f"{file}: entry 1 ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": []}, "this is not a list of COCO results"),
        ("5", "this is not a list"),
        ("", "this is not a list"),
        ("[{]", "not valid JSON at line 1 column 3"),
        ('[{"image_id": 7}', "not valid JSON"),
        ("[] 5", "not valid JSON"),
    ],
)
def test_another_file_is_refused(tmp_path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_results(file, make_set())
    assert str(file) in str(caught.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path / "no.json", make_set())


def test_images_of_one_id_are_refused(tmp_path):
    with pytest.raises(DataError, match="two images have one id"):
        read_results(write(tmp_path, []), make_set((7, 7)))


def test_a_long_list_comes_in_parts_and_the_entry_is_counted_through(tmp_path, monkeypatch):
    monkeypatch.setattr("varifocal.data.readers.json_stream._BLOCK", 1 << 12)
    file = write(tmp_path, [GOOD | {"score": i / 1000} for i in range(1000)])
    parts = []
    assert read_list(file, lambda first, entries: parts.append((first, len(entries)))) == 1000
    assert len(parts) > 3
    assert [first for first, _ in parts] == [sum(count for _, count in parts[:i]) for i in range(len(parts))]
    assert read_results(file, make_set())[1].scores[[0, -1]].tolist() == [0.999, 0]
    bad = write(tmp_path, [*(GOOD for _ in range(777)), 5, *(GOOD for _ in range(99))])
    with pytest.raises(DataError, match="entry 777 is 5"):
        read_results(bad, make_set())
