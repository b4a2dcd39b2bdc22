"""The ranking of blocks, the similarity of detections, and how matches are counted."""

import numpy as np
import pytest

from varifocal.export.quantize_accuracy import Accuracy, count_matched
from varifocal.export.sensitivity import block_of, blocks, detection_similarity, rank, restore
from varifocal.types import Category, Detections

CATEGORIES = (Category(1, "a"), Category(2, "b"))


def found(*rows):
    """Return detections from rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CATEGORIES)


@pytest.mark.parametrize(
    ("module", "block"),
    [
        ("backbone.layer1.0.conv1", "backbone.layer1"),
        ("backbone.conv1", "backbone.conv1"),
        ("backbone.blocks.3.1.conv_pw", "backbone.blocks.3"),
        ("backbone.stages.0.blocks.1", "backbone.stages.0"),
        ("neck.lateral.0", "neck"),
        ("head.cls_tower.2.0", "head.cls_tower"),
        ("head.cls", "head.cls"),
    ],
)
def test_blocks(module, block):
    assert block_of(module) == block


def test_blocks_come_once_and_in_order():
    assert blocks(["neck.a", "head.reg", "neck.b", "head.cls"]) == ["neck", "head.reg", "head.cls"]


def test_likeness():
    box = (0, 0, 10, 10)
    one = found((*box, 0.8, 0))
    assert detection_similarity(one, one) == pytest.approx(1)
    assert detection_similarity(one, found((*box, 0.4, 0))) == pytest.approx(0.5)
    assert detection_similarity(found((*box, 0.4, 0)), one) == pytest.approx(0.5)
    assert detection_similarity(one, found((0, 0, 10, 5, 0.8, 0))) == pytest.approx(0.5)
    assert detection_similarity(one, found((*box, 0.8, 1))) == 0
    assert detection_similarity(one, found()) == 0
    assert detection_similarity(found(), one) == 1
    assert detection_similarity(one, found((*box, 0.1, 0), (*box, 0.6, 0))) == pytest.approx(
        0.75
    )  # the most similar box
    # weighted by score
    both = found((*box, 0.6, 0), (50, 50, 60, 60, 0.2, 0))
    assert detection_similarity(both, one.filter(0.5)) == pytest.approx(0.6 * 0.75 / 0.8)
    assert detection_similarity(found((5, 5, 5, 5, 0.5, 0)), found((5, 5, 5, 5, 0.5, 0))) == 0  # boxes without area


HARM = {"neck": 0.01, "head.cls": 0.5, "head.reg": 0.1, "backbone.conv1": 0.0}


def harmed(keep):
    """Return one detection whose score drops by the effect of the blocks that are not kept."""
    score = 0.9 * float(np.prod([1 - harm for name, harm in HARM.items() if name not in keep]))
    return [found((0, 0, 10, 10, score, 0))]


def test_the_worst_comes_first():
    printed = []
    costs = rank(list(HARM), harmed, printed.append)
    assert [name for name, _ in costs] == ["head.cls", "head.reg", "neck", "backbone.conv1"]
    assert dict(costs) == pytest.approx(HARM, abs=1e-6)
    assert printed == [1, 2, 3, 4]


@pytest.mark.parametrize(("expected", "kept"), [(0.4, ("a", "b")), (0.3, ("a",)), (0.5, ("a", "b", "c"))])
def test_as_few_are_kept_as_it_takes(expected, kept):
    tried = []

    def attempt(keep):
        tried.append(keep)
        return 0.2 + len(keep) / 10, 0.2 + len(keep) / 10 >= expected - 1e-9

    costs = [(name, 1 / (i + 1)) for i, name in enumerate("abcdefg")]
    result = restore(costs, (), attempt)
    assert (result.keep, result.enough) == (kept, True)
    assert result.ap == pytest.approx(0.2 + len(kept) / 10)
    assert tried == [kept[:end] for end in range(1, len(kept) + 1)]


def test_four_are_tried_beside_those_that_are_kept():
    costs = [(name, 1.0) for name in "abcdefg"]
    result = restore(costs, ("x",), lambda keep: (len(keep) / 100, False))
    assert result.keep == ("x", "a", "b", "c", "d")
    assert not result.enough
    assert result.ap == pytest.approx(0.05)


def test_pairs_are_counted():
    """Each box of the second model matches at most one; labels count, its scores do not."""
    truth = found((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0), (20, 0, 30, 10, 0.7, 1), (50, 0, 60, 10, 0.2, 0))
    other = found((0, 0, 10, 10, 0.1, 0), (20, 0, 30, 10, 0.9, 0), (50, 0, 60, 10, 0.3, 0))
    assert count_matched([truth], [other]) == (3, 2, 1)
    assert count_matched([truth, truth], [truth, found()]) == (6, 3, 3)
    assert count_matched([], []) == (0, 0, 0)


@pytest.mark.parametrize(
    ("after", "detections", "matched", "sound"),
    [
        (0.50, 100, 100, True),
        (0.49, 100, 100, True),
        (0.489, 100, 100, False),
        (0.6, 100, 100, True),
        (0.5, 100, 89, False),
        (0.5, 100, 90, True),
        (0.5, 10, 2, True),  # too few detections for the second bound
    ],
)
def test_bounds(after, detections, matched, sound):
    accuracy = Accuracy(4, 8, 0.5, after, 1.0, detections, 7, matched)
    assert accuracy.sound == sound
    assert accuracy.drop == pytest.approx(100 * (0.5 - after))
    printed = accuracy.to_json()
    assert printed["bound"]["drop"] == 1.0
    assert (printed["ap_before"], printed["ap_after"], printed["precision"]) == (0.5, after, "int8")
    if not sound:
        words = "int8 costs 1.1 points of AP (50.0 with torch, 48.9 now; at most 1)" if matched == 100 else "89 of 100"
        assert words in accuracy.complaint()
