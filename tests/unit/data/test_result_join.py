"""Entries of a results file go to the image and the class that they mean, by id or by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code

from varifocal.data.coco_results import read_results
from varifocal.types import Category, Dataset, Sample, SourceIds
from varifocal.utils.errors import DataError

CLASSES = (Category(1, "cup"), Category(2, "box"), Category(4, "jar"))


def make_set(files, ids=None, **source) -> Dataset:
    """Images of these ids, or counted from 1 as of formats without ids."""
    nothing = np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool)
    counted = ids is None
    ids = range(1, len(files) + 1) if counted else ids
    samples = [Sample(Path(file), id, 50, 50, *nothing) for file, id in zip(files, ids, strict=True)]
    return Dataset(samples, CLASSES, Path("made.json"), ids=SourceIds(counted=counted, **source))


def entry(image_id, x=0, category_id=1, **more) -> dict:
    """One whose x says which it is."""
    return {"image_id": image_id, "category_id": category_id, "bbox": [x, 0, 5, 5], "score": 0.5, **more}


def read(tmp_path, entries, data):
    """Of each image the x of its detections and their classes, and what is told."""
    file, told = tmp_path / "results.json", []
    file.write_text(json.dumps(entries))
    found = read_results(file, data, told.append)
    return (
        [[int(x) for x in one.boxes[:, 0]] for one in found],
        [[one.categories[label].name for label in one.labels] for one in found],
        told,
    )


def placed(tmp_path, entries, data):
    images, _, told = read(tmp_path, entries, data)
    return images, told


def test_file_names_count_where_ids_contradict_them(tmp_path):
    data = make_set(["d/images/a.jpg", "d/images/b.jpg", "d/images/c.jpg"], [3, 2, 1])
    entries = [entry(i, i, file_name=f"images/{name}.jpg") for i, name in enumerate("abc", start=1)]
    images, told = placed(tmp_path, entries, data)
    assert images == [[1], [2], [3]]
    assert told == ["2 entries have the image id of another image than the file name says; the names were used."]


def test_names_and_ids_that_agree_are_not_told(tmp_path):
    data = make_set(["a.jpg", "b.jpg"], [7, 8])
    entries = [entry(8, 1, file_name="b.jpg", category_name="cup"), entry(7, 2, file_name="x/a.jpg")]
    assert placed(tmp_path, entries, data) == ([[2], [1]], [])


def test_ids_that_nothing_has_do_not_matter_where_there_are_names(tmp_path):
    data = make_set(["a.jpg", "b.jpg"], [7, 8])
    images, told = placed(tmp_path, [entry(1, 1, file_name="b.jpg"), entry("x", 2, file_name="a.jpg")], data)
    assert images == [[2], [1]]
    assert told == ["2 entries have the image id of another image than the file name says; the names were used."]


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b", "x\\y\\b.jpg", "/other/machine/b.jpeg"])
def test_names_without_their_suffix_and_from_other_machines(tmp_path, name):
    assert placed(tmp_path, [entry(1, 5, file_name=name)], make_set(["a.jpg", "b.jpg"], [1, 2]))[0] == [[], [5]]


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    data = make_set(["d/one/1.jpg", "d/two/1.jpg", "d/two/2.jpg"], [5, 6, 7])
    entries = [
        entry(7, 1, file_name="two/1.jpg"),
        entry(1, 2, file_name="/there/one/1.jpg"),
        entry(6, 3, file_name="1.jpg"),
    ]
    assert placed(tmp_path, entries, data)[0] == [[2], [1, 3], []]
    images, told = placed(tmp_path, [*entries, entry(7, 4, file_name="1.jpg"), entry(99, 5, file_name="1.jpg")], data)
    assert images == [[2], [1, 3], []]
    assert told[-1] == "2 entries that may be of several images left out: 1.jpg."


def test_names_of_several_images_alone_are_not_called_unknown(tmp_path):
    data = make_set(["d/one/1.jpg", "d/two/1.jpg"], [5, 6])
    entries = [entry(6, 1, file_name="1.jpg"), entry(99, 2, file_name="1.jpg")]
    images, told = placed(tmp_path, entries, data)
    assert images == [[], [1]]
    assert told == ["1 entry that may be of several images left out: 1.jpg."]


def test_images_of_another_split_with_the_same_names_are_left_out(tmp_path):
    data = make_set(["d/val/1.jpg", "d/val/2.jpg"], [5, 6])
    entries = [
        entry(i, i, file_name=f"d/{name}.jpg") for i, name in enumerate(["train/1", "train/2", "val/1", "val/2"])
    ]
    images, told = placed(tmp_path, entries, data)
    assert images == [[2], [3]]
    assert told[-1] == "2 entries of images that the data set does not have left out: d/train/1.jpg, d/train/2.jpg."
    # a copy of the images elsewhere contradicts nothing
    assert placed(tmp_path, [entry(1, 1, file_name="copy/1.jpg"), entry(2, 2, file_name="1.jpg")], data)[0] == [
        [1, 2],
        [],
    ]


@pytest.mark.parametrize("name", ["MY CUP.JPG", "my%20cup.jpg", "x/My%20Cup.png", "my cup"])
def test_case_and_percent_signs_of_names_make_no_difference(tmp_path, name):
    data = make_set(["b.jpg", "my cup.jpg"], [1, 2])
    assert placed(tmp_path, [entry(1, 5, file_name=name)], data)[0] == [[], [5]]


@pytest.mark.parametrize("absent", [{}, {"image_id": None, "category_id": None}])
def test_a_name_may_stand_without_an_id(tmp_path, absent):
    box = {"bbox": [0, 0, 5, 5], "score": 0.5}
    entries = [box | {"file_name": "b.jpg", "category_name": "jar"} | absent, entry(1, 3)]
    images, classes, told = read(tmp_path, entries, make_set(["a.jpg", "b.jpg"], [1, 2]))
    assert (images, classes, told) == ([[3], [0]], [["cup"], ["jar"]], [])
    with raises_code("results-unknown-id"):
        read(tmp_path, [{**entries[0], "file_name": "x.jpg"}], make_set(["a.jpg"], [1]))


@pytest.mark.parametrize(
    ("ids", "used", "told"),
    [
        ((0, 1, 2), (1, 2, 3), "count from 1 and those of the data set from 0; they were shifted, so that 1 is cup."),
        ((1, 2, 3), (0, 1, 2), "count from 0 and those of the data set from 1; they were shifted, so that 0 is cup."),
    ],
)
def test_class_ids_that_count_from_the_other_number(tmp_path, ids, used, told):
    """As the results of YOLO's trainers beside the data that they were trained on."""
    data = replace(make_set(["a.jpg"], [1]), categories=tuple(map(Category, ids, ("cup", "box", "jar"))))
    entries = [{**entry(1, x, id), "score": 0.9 - x / 10} for x, id in enumerate(used)]
    _, classes, said = read(tmp_path, entries, data)
    assert classes == [["cup", "box", "jar"]]
    assert said == [f"its class ids {told}"]


def test_entries_of_other_images_are_left_out_and_counted(tmp_path):
    data = make_set(["a.jpg", "b.jpg"], [1, 2])
    entries = [entry(1, 1, file_name="a.jpg"), entry(2, 2, file_name="c.jpg"), entry(3, 3, file_name="b.jpg")]
    images, told = placed(tmp_path, [*entries, entry(2, 4, file_name="c.jpg"), entry(2, 5)], data)
    assert images == [[1], [3, 5]]
    assert told[-1] == "2 entries of images that the data set does not have left out: c.jpg."


def test_names_of_nothing_at_all(tmp_path):
    images, told = placed(tmp_path, [entry(2, 1, file_name="x.jpg")], make_set(["a.jpg", "b.jpg"], [1, 2]))
    assert images == [[], [1]]
    assert told == ["none of its file names is that of an image of the data set, so only ids were used."]
    with raises_code("results-unknown-id"):
        placed(tmp_path, [entry(3, 1, file_name="x.jpg")], make_set(["a.jpg", "b.jpg"], [1, 2]))


@pytest.mark.parametrize(
    ("ids", "files"),
    [
        ((100, 20, 3), ["0003.jpg", "0020.jpg", "0100.jpg"]),
        (("c", "b", "a"), ["a.jpg", "b.jpg", "c.jpg"]),
        (("x/c.png", "b.jpg", "a"), ["x/a.jpg", "x/b.jpg", "x/c.jpg"]),
    ],
)
@pytest.mark.parametrize("own", [None, [11, 12, 13]])
def test_ids_that_are_the_names_of_the_files(tmp_path, ids, files, own):
    data = make_set(files, own)
    images, told = placed(tmp_path, [entry(id, i) for i, id in enumerate(ids)], data)
    assert images == [[2], [1], [0]]
    assert told == ["its image ids are names of files and are used as such."]


def test_ids_of_the_data_set_count_more_than_names_that_look_like_them(tmp_path):
    """Files 1.jpg and 2.jpg of which the data set says that their ids are 2 and 1."""
    entries = [entry(1, 1), entry(2, 2)]
    assert placed(tmp_path, entries, make_set(["1.jpg", "2.jpg"], [2, 1])) == ([[2], [1]], [])
    # without ids of its own, the numbers in the results can only be those of the files
    assert placed(tmp_path, entries, make_set(["2.jpg", "1.jpg"]))[0] == [[2], [1]]


def test_ids_that_are_texts_in_the_data_set(tmp_path):
    data = make_set(["1.jpg", "2.jpg"], [1, 2], images={"abc": 1, "2": 2})
    assert placed(tmp_path, [entry("abc", 1), entry(2.0, 2), entry("2", 3), entry(1, 4)], data) == (
        [[1, 4], [2, 3]],
        [],
    )


def test_class_names_count_where_ids_contradict_them(tmp_path):
    entries = [entry(1, 1, 0, category_name="cup"), entry(1, 2, 1, category_name="box"), entry(1, 3, 4)]
    _, classes, told = read(tmp_path, entries, make_set(["a.jpg"], [1]))
    assert classes == [["cup", "box", "jar"]]
    assert told == ["2 entries have the class id of another class than the class name says; the names were used."]


def test_classes_that_the_data_does_not_have_are_left_out(tmp_path):
    entries = [entry(1, 1, 1, category_name="cup"), entry(1, 2, 2, category_name="lid")]
    images, _, told = read(tmp_path, entries, make_set(["a.jpg"], [1]))
    assert images == [[1]]
    assert told == ["1 entry of classes that the data set does not have left out: lid."]


def test_other_names_for_the_same_classes(tmp_path):
    _, classes, told = read(tmp_path, [entry(1, 1, 2, category_name="Kiste")], make_set(["a.jpg"], [1]))
    assert classes == [["box"]]
    assert told == ["none of its class names is one of the data set, so only ids were used."]


@pytest.mark.parametrize(
    ("used", "hint"),
    [
        ((0, 1, 3), "all of them seem one too low; add 1 to each"),
        ((2, 3, 5), "all of them seem one too high; subtract 1 from each"),
        ((0, 1, 2), "all of them seem to count the classes from 0"),
        ((1, 2, 3), "all of them seem to count the classes from 1"),
    ],
)
def test_what_class_ids_look_like_that_are_not_known(tmp_path, used, hint):
    entries = [entry(1, 0, id) for id in used]
    with pytest.raises(DataError, match=hint) as caught:
        read(tmp_path, entries, make_set(["a.jpg"], [1]))
    assert "which no category of made.json has; its ids are 1, 2, 4" in str(caught.value)


def test_no_hint_where_there_is_none(tmp_path):
    with raises_code("results-unknown-id"):
        read(tmp_path, [entry(1, 0, 1), entry(1, 0, 77)], make_set(["a.jpg"], [1]))


def test_class_ids_that_are_texts(tmp_path):
    data = make_set(["a.jpg"], [1], classes={"c": 4})
    _, classes, told = read(tmp_path, [entry(1, 0, "c"), entry(1, 1, "box"), entry(1, 2, "1")], data)
    assert sorted(classes[0]) == ["box", "cup", "jar"]
    assert told == []


def test_a_dot_in_a_name_begins_no_suffix(tmp_path):
    data = make_set(["scene.1.jpg", "scene.2.jpg", "scene.jpg"], [7, 8, 9])
    entries = [entry("scene.2", 1), entry("scene", 2), entry("scene.1.png", 3)]
    assert placed(tmp_path, entries, data)[0] == [[3], [1], [2]]
    with raises_code("results-unknown-id"):
        placed(tmp_path, [*entries, entry("scene.3", 4)], data)
