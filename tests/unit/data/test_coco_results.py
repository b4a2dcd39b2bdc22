"""COCO results of any detector: what is read, and what is said of entries that cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code

from varifocal.data.coco_results import read_results
from varifocal.data.readers import json_stream
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
        (GOOD | {"image_id": 8}, "image_id 8, which no image of made.json has; its ids are 9, 7, 4$"),
        (GOOD | {"image_id": "x"}, "image_id 'x', which no image"),
        (GOOD | {"image_id": 7.5}, "image_id '7.5', which no image"),
        (GOOD | {"image_id": None}, "image_id None, which no image"),
        (GOOD | {"category_id": ""}, "category_id '', which no category"),
        (GOOD | {"image_id": [7]}, r"image_id \[7\], which no image"),
        (GOOD | {"category_id": True}, "category_id True, which no category"),
        (GOOD | {"category_id": 1}, "category_id 1, which no category of made.json has; its ids are 17, 3$"),
        (GOOD | {"bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]; a box is \[x, y, width, height\]"),
        (GOOD | {"bbox": [1, 2, 3, 4, 5]}, "has the bbox"),
        (GOOD | {"bbox": [1, 2, -3, 4]}, r"bbox \[1, 2, -3, 4\]; a box is"),
        (GOOD | {"bbox": [1, 2, "3px", 4]}, "has the bbox"),
        (GOOD | {"bbox": [1, 2, "nan", 4]}, "has the bbox"),
        (GOOD | {"bbox": [], "segmentation": []}, r"has the bbox \[\]"),
        (GOOD | {"bbox": [1, 2, True, 4]}, "has the bbox"),
        (GOOD | {"bbox": {"x": 1}}, "has the bbox"),
        (GOOD | {"bbox": [1, 2, float("nan"), 4]}, "has the bbox"),
        (GOOD | {"score": float("inf")}, "has the score inf; it should be a finite number"),
        (GOOD | {"score": 10**400}, "has the score 1000"),
        (GOOD | {"bbox": [1, 2, 10**400, 4]}, "has the bbox"),
        (GOOD | {"score": None}, "has the score None"),
        (GOOD | {"score": "high"}, "has the score 'high'"),
        (GOOD | {"score": True}, "has the score True"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entry, message):
    file = write(tmp_path, [GOOD, entry, GOOD])
    with pytest.raises(DataError, match=message) as caught:
        read_results(file, make_set())
    assert str(caught.value).startswith(f"{file}: entry 1 ")


def test_an_entry_on_each_line(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_RECORDS", 2)
    lines = [json.dumps(GOOD | {"score": index / 8}) for index in range(5)]
    file = write(tmp_path, "\ufeff" + lines[0] + "\n\n" + "\r\n".join(lines[1:]))
    _, seven, _ = read_results(file, make_set())
    assert seven.scores.tolist() == [0.5, 0.375, 0.25, 0.125, 0]
    file = write(tmp_path, "\n".join([*lines, json.dumps(GOOD | {"score": None})]))
    with pytest.raises(DataError, match="entry 5 has the score None"):
        read_results(file, make_set())
    file = write(tmp_path, "\n".join([lines[0], "", lines[1][:-1], lines[2]]))
    with pytest.raises(DataError, match=f"not valid JSON at line 3 column {len(lines[1])} "):
        read_results(file, make_set())


def test_a_bbox_that_is_an_object(tmp_path):
    file = write(tmp_path, [GOOD | {"bbox": {"x": 1, "y": 2.5, "width": 10, "height": 20}}])
    assert read_results(file, make_set())[1].boxes.tolist() == [[1, 2.5, 11, 22.5]]


def test_an_unknown_file_name_as_an_id_is_compared_with_the_files(tmp_path):
    file = write(tmp_path, [GOOD | {"image_id": "7.jpg"}, GOOD | {"image_id": "images/8.jpg"}])
    with pytest.raises(DataError, match=r"'images/8.jpg', which no image of made.json has; its images are '?9.jpg"):
        read_results(file, make_set())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": {}}, "this is not a list of COCO results"),
        ({"annotations": [], "results": []}, "this is not a list of COCO results"),
        ({"images": [], "annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "0 has no 'score'"),
        ("5", "this is not a list"),
        ("", "not valid JSON at line 1 column 1"),
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
    with raises_code("image-ids-repeated"):
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
    with pytest.raises(DataError, match="entry 777 "):
        read_results(bad, make_set())


@pytest.mark.parametrize("key", ["annotations", "predictions", "detections", "results"])
def test_the_list_may_stand_in_an_object(tmp_path, key):
    found = read_results(write(tmp_path, {"info": {}, key: [GOOD]}), make_set())
    assert [len(one) for one in found] == [0, 1, 0]


@pytest.mark.parametrize("last", [False, True])
def test_ids_of_an_object_mean_what_its_own_lists_say(tmp_path, last):
    lists = {"images": [{"id": "5", "file_name": "x/4.jpg"}], "categories": [{"id": 0, "name": "dog"}]}
    entries = {"annotations": [GOOD | {"image_id": 5, "category_id": 0}]}
    told = []
    found = read_results(write(tmp_path, lists | entries if last else entries | lists), make_set(), told.append)
    assert [one.labels.tolist() for one in found] == [[], [], [1]]
    assert len(told) == 2  # ids that the data set means otherwise


RUNS = {"size": [30, 20], "counts": [2 * 30 + 5, 10, 20, 10, 600 - 2 * 30 - 45]}  # columns 2 and 3, rows 5 to 14


@pytest.mark.parametrize(
    ("outline", "box"),
    [([[3, 4, 13, 4, 13, 24]], [3, 4, 13, 24]), (RUNS, [2, 5, 4, 15])],
)
@pytest.mark.parametrize("absent", [{}, {"bbox": []}, {"bbox": None}])
def test_an_outline_stands_for_a_box(tmp_path, outline, box, absent):
    bare = {key: value for key, value in GOOD.items() if key != "bbox"}
    told = []
    entries = [bare | absent | {"segmentation": outline}, GOOD | {"score": 0.1, "segmentation": outline}]
    found = read_results(write(tmp_path, entries), make_set(), told.append)[1]
    assert found.boxes.tolist() == [box, [1, 2.5, 11, 22.5]]
    assert told == ["1 entry without a bbox: the box around the segmentation was used."]


def test_numbers_that_are_texts(tmp_path):
    told = []
    entry = GOOD | {"bbox": ["1", "2.5", 10, "2e1"], "score": "0.25"}
    found = read_results(write(tmp_path, [entry, GOOD]), make_set(), told.append)[1]
    assert found.boxes.tolist() == [[1, 2.5, 11, 22.5]] * 2
    assert found.scores.tolist() == [0.5, 0.25]
    assert told == ["1 entry with numbers written as texts."]


def test_a_folder_is_said_with_the_file_in_it(tmp_path):
    with raises_code("results-folder"):
        read_results(tmp_path, make_set())
    (tmp_path / "detections.json").write_text("[]")
    with pytest.raises(DataError, match=r"name .*detections\.json"):
        read_results(tmp_path, make_set())
