"""Counts with their nouns, shortened values, and names that differ from others."""

import pytest

from varifocal.utils.text import counted, cut, short_list, unlike


@pytest.mark.parametrize(
    ("count", "sentence"),
    [(0, "0 images are (left) out"), (1, "1 image is (left) out"), (2, "2 images are (left) out")],
)
def test_words_go_with_their_count(count, sentence):
    assert counted(count, "(image|images) (is|are) (left) out") == sentence


def test_the_middle_of_a_long_text_is_left_out():
    assert cut("a" * 100) == "a" * 100
    assert cut("a" * 60 + "b" * 60) == "a" * 50 + "..." + "b" * 25
    assert cut("a\nb") == "a\\nb"


def test_a_list_ends_with_the_number_of_the_others():
    assert short_list(range(3)) == "0, 1, 2"
    assert short_list(range(5), 3) == "0, 1, 2 and 2 more"


def test_a_name_gets_the_first_free_number():
    taken = {"a", "a-2", "b"}
    assert [unlike(taken, name) for name in ("a", "b", "c", "A")] == ["a-3", "b-2", "c", "A"]
    assert unlike(taken, "A", str.lower) == "A-3"
