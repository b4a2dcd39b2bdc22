import numpy as np

from varifocal.data.annotations import NO_LABEL
from varifocal.data.readers.classes import join_duplicates
from varifocal.types import Category


def test_labels_without_a_class_stay_as_they_are():
    categories = [Category(number, name) for number, name in enumerate(["set", "cat", "set", "owl"])]
    joined = join_duplicates(np.array([2, NO_LABEL, -1, 3, 1]), categories)
    assert [category.name for category in joined.categories] == ["cat", "set", "owl"]
    assert joined.labels.tolist() == [1, NO_LABEL, -1, 2, 0]
    assert (joined.names, joined.clashes) == (["set"], [])


def test_classes_that_both_have_boxes_stay_and_are_named():
    joined = join_duplicates(np.array([0, 1]), [Category(0, "cat"), Category(1, "cat")])
    assert (len(joined.categories), joined.names, joined.clashes) == (2, [], ["cat"])
