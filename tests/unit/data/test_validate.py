import math
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code
from folders import fill

from varifocal.data import validate as validity_module
from varifocal.data.annotations import (
    LISTED,
    NO_LABEL,
    BoxColumns,
    Files,
    ImageColumns,
    Issue,
    Problems,
    RawDataset,
    SourceLocation,
)
from varifocal.data.load import build_dataset
from varifocal.data.validate import box_problems, validate_boxes
from varifocal.types import Category
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

SIZES = [(100, 50), (1, 1), (0, 0), (7, 9)]


def raw_set(boxes, images, *, problems=(), **more) -> RawDataset:
    count = len(boxes)
    columns = {
        "crowd": np.zeros(count, bool),
        "difficult": np.zeros(count, bool),
        "areas": np.full(count, np.nan),
        **{key: np.array(value) for key, value in more.items()},
    }
    files = Files([Path("d")], np.zeros(len(SIZES), np.int64), [f"{i}.png" for i in range(len(SIZES))])
    rows = ImageColumns([f"{i}.png" for i in range(len(SIZES))], files, np.array(SIZES), np.arange(len(SIZES)) + 10)
    return RawDataset(
        "coco",
        Path("d/a.json"),
        "all",
        rows,
        BoxColumns(
            np.array(images, np.int64),
            np.zeros(count, np.int64),
            np.array(boxes, np.float64).reshape(-1, 4),
            where=lambda index: SourceLocation(Path("d/a.json"), f"box {index}"),
            **columns,
        ),
        (Category(1, "cat"),),
        Problems(problems),
    )


def literal(box, size) -> str:
    """What is wrong with one box, by the words of the docs."""
    width, height = size
    x1, y1, x2, y2 = map(float, box)
    if not width:
        return "unknown"
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return "not-a-number"
    if x2 <= x1 or y2 <= y1:
        return "no-area"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return "outside"
    inside = [
        np.float32(min(max(value, 0), side)) for value, side in zip((x1, y1, x2, y2), (width, height) * 2, strict=True)
    ]
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return "no-area"
    return "clipped" if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1 else "good"


@pytest.mark.parametrize("chunk", [7, 1 << 19])
def test_against_a_literal_loop(monkeypatch, chunk):
    monkeypatch.setattr(validity_module, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    values = np.array(
        [-9e9, -2, -1, -0.5, 0, 1e-9, 0.5, 1, 7, 8, 8.5, 9, 50, 99.5, 100, 101, 102, np.nan, np.inf, 1e308]
    )
    boxes, images = rng.choice(values, (4000, 4)), rng.integers(0, len(SIZES), 4000)
    raw = raw_set(boxes, images)
    verdict = validate_boxes(raw)
    expected = [literal(box, SIZES[image]) for box, image in zip(boxes, images, strict=True)]
    assert len(set(expected)) == 6
    for kind in ("not-a-number", "no-area", "outside"):
        assert verdict.faults[kind].tolist() == [one == kind for one in expected]
    assert verdict.clipped.tolist() == [one == "clipped" for one in expected]
    assert verdict.unknown.tolist() == [one == "unknown" for one in expected]
    assert verdict.good.tolist() == [one in ("good", "clipped") for one in expected]
    for index in np.flatnonzero(verdict.good):
        width, height = SIZES[images[index]]
        clipped = np.clip(boxes[index], 0, [width, height, width, height]).astype(np.float32)
        assert verdict.boxes[index].tolist() == clipped.tolist()


def test_a_box_without_a_label_has_that_fault_alone():
    raw = raw_set([[1, 2, 3, 4], [1, 2, 1, 4], [np.nan, 2, 3, 4], [1, 2, 3, 4]], [0, 0, 0, 0])
    raw.boxes.labels[:3] = NO_LABEL
    verdict = validate_boxes(raw)
    assert verdict.faults["no-label"].tolist() == [True, True, True, False]
    assert not any(verdict.faults[kind].any() for kind in ("not-a-number", "no-area", "outside"))
    assert verdict.good.tolist() == [False, False, False, True]
    problems = box_problems(raw, verdict)
    assert [problem.kind for problem in problems] == ["no-label"] * 3
    assert "has the box [1, 2, 3, 4], which has no label (the name of its class)" in problems[0].sentence


def test_no_boxes():
    raw = raw_set([], [])
    verdict = validate_boxes(raw)
    assert verdict.boxes.shape == (0, 4)
    assert len(box_problems(raw, verdict)) == 0


def test_problems_are_counted_beyond_those_that_are_kept():
    raw = raw_set([[3, 3, 3, 3]] * (LISTED + 5) + [[900, 3, 901, 4]], [0] * (LISTED + 6))
    problems = box_problems(raw, validate_boxes(raw))
    assert len(problems) == LISTED + 1
    assert problems.counts == {"no-area": LISTED + 5, "outside": 1}
    assert (problems[-1].kind, problems[-1].image, problems[-1].box) == ("outside", 0, LISTED + 5)
    joined = Problems([Issue("no-area", SourceLocation(Path("x"), ""), "", "")])
    joined.extend(problems)
    assert joined.counts == {"no-area": LISTED + 6, "outside": 1}
    assert len(joined) == LISTED + 1


def test_samples_are_made_of_columns(tmp_path):
    boxes = [[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 5, 5], [4, 4, 6, 6], [5, 5, 5, 5]]
    flags = {"crowd": np.arange(5) == 0, "difficult": np.arange(5) == 3}
    raw = raw_set(boxes, [3, 0, 3, 0, 3], **flags, areas=[1, 2, -3, np.inf, 5])
    fill(tmp_path, {"2.png": (20, 10)})
    raw.images.files._folders[0] = tmp_path
    data = build_dataset(raw, invalid_boxes="drop")
    assert len(data.samples) == 4
    assert [sample.image_id for sample in data.samples] == [10, 11, 12, 13]
    assert data.samples[-1].file == tmp_path / "3.png"
    assert data.samples[3].boxes.tolist() == [[0, 0, 2, 2], [0, 0, 5, 5]]
    assert data.samples[3].crowd.tolist() == [True, False]
    assert data.samples[3].areas.tolist() == [1, 25]
    assert data.samples[0].crowd.tolist() == [False, True]
    assert data.samples[0].areas.tolist() == [2, 4]
    assert data.samples[1].boxes.shape == (0, 4)
    assert (data.samples[2].width, data.samples[2].height) == (20, 10)
    assert [sample.image_id for sample in data.samples[1:3]] == [11, 12]
    for index in (4, -5):
        with pytest.raises(IndexError):
            data.samples[index]
    assert data.notes == (
        "a.json: 1 box was left out, first that of box 4: it has no area (width and height must be above 0).",
    )


def test_the_first_problem_stops():
    problems = [Issue("twice", SourceLocation(Path("f"), "line 3"), "is bad", "fix it")] * 3
    with pytest.raises(DataError, match=r"^f: line 3 is bad; fix it \(2 more like it\)$"):
        build_dataset(raw_set([], [], problems=problems), invalid_boxes="drop")
    with raises_code("unreadable-image"):
        build_dataset(raw_set([], []))


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, "0 boxes (of a) were left out"),
        (1, "1 box (of a) was left out"),
        (1200, "1200 boxes (of a) were left out"),
    ],
)
def test_the_words_go_by_the_count(count, sentence):
    assert counted(count, "(box|boxes) (of a) (was|were) left out") == sentence
