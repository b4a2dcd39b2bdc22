"""The table of splits, which the terminal and the page show alike."""

from varifocal.tools.check.statistics import SplitCounts, split_table


def counts(name, regions):
    return SplitCounts(name, "a.json", "coco", 9, 2, 31, 1, 3, 7, regions)


def test_regions_have_a_column_where_there_are_any():
    names, rows = split_table([counts("train", 4), counts("val", 0)])
    assert names == ("images", "without boxes", "boxes", "crowd", "difficult", "most in one", "ignored regions")
    assert rows == [(9, 2, 31, 1, 3, 7, 4), (9, 2, 31, 1, 3, 7, 0)]


def test_without_regions_there_is_no_such_column():
    names, rows = split_table([counts("train", 0), counts("val", 0)])
    assert "ignored regions" not in names
    assert rows == [(9, 2, 31, 1, 3, 7)] * 2
