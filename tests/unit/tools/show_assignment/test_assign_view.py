"""The assignment as numbers against literal loops and against the check; as images by their colors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.models import DETECTORS
from varifocal.tools.check.training_boxes import TrainingBoxes
from varifocal.tools.check.unassigned import count_points
from varifocal.tools.show_assignment import draw as module
from varifocal.tools.show_assignment.command import print_summary
from varifocal.tools.show_assignment.draw import LEVELS, LOST, draw_assigned
from varifocal.tools.show_assignment.pages import assign_view, write_view
from varifocal.tools.show_assignment.positive_points import assign_sample
from varifocal.types import Category, Dataset, Preprocess, Sample
from varifocal.utils.errors import DataError

CATEGORIES = (Category(3, "owl"), Category(1, "cat"))
PREPROCESS = Preprocess(short_side=96, max_long_side=160)


def eye_of(name="fcos", **options):
    return TrainingGeometry.of(name, name, DETECTORS[name][1](num_classes=2, num_levels=3, **options), PREPROCESS)


def sample_of(boxes, crowd=None, width=120, height=80, file="a.png", labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool)
    return Sample(Path(file), 7, width, height, boxes, np.array(labels or [1] * len(boxes), np.int64), flags)


BOXES = [(11, 11, 61, 51), (71, 21, 115, 77), (40, 40, 42, 42), (0, 0, 120, 80)]


def test_fcos_point_by_point():
    """Inside the box and of the right size, of two boxes the smaller; the network sees all 1.2 times as large."""
    one = assign_sample(sample_of(BOXES), eye_of())
    assert one.size == (144, 96)
    expected = np.zeros((4, 3), int)
    for level, stride in enumerate((8, 16, 32)):
        low, high = ((-1, 64), (64, 128), (128, 1e8))[level]
        for row in range(-(-96 // stride)):
            for column in range(-(-144 // stride)):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                fitting = []
                for number, box in enumerate(BOXES):
                    x1, y1, x2, y2 = (1.2 * side for side in box)
                    sides = (x - x1, y - y1, x2 - x, y2 - y)
                    if min(sides) > 0 and low <= max(sides) <= high:
                        fitting.append(((x2 - x1) * (y2 - y1), number))
                if fitting:
                    expected[min(fitting)[1], level] += 1
    np.testing.assert_array_equal(one.counts, expected)
    assert expected.sum() > 20
    assert one.unmatched.tolist() == np.flatnonzero(expected.sum(axis=1) == 0).tolist() == [2]


@pytest.mark.parametrize("name", list(DETECTORS))
def test_as_the_check_counts(name):
    rng = np.random.default_rng(3)
    eye = eye_of(name)
    for width, height in ((120, 80), (77, 131)):
        first = rng.uniform(0, 0.9, (9, 2))
        corners = np.concatenate([first, first + (1 - first) * rng.uniform(0.02, 1, (9, 2)) ** 2], axis=1)
        boxes = (corners * np.tile((width, height), 2)).astype(np.float32)
        one = assign_sample(sample_of(boxes, width=width, height=height), eye)
        scene = TrainingBoxes(
            np.array([[width, height]]), np.zeros(9, np.int64), boxes, np.zeros(9, np.int64), np.arange(9)
        )
        np.testing.assert_array_equal(one.counts.sum(axis=1), count_points(scene, eye).points)
        np.testing.assert_array_equal(one.unmatched, count_points(scene, eye).unmatched)
        owners = one.boxes[one.owner]
        if name not in ("retinanet", "reppoints", "foveabox"):  # whose points need not lie inside
            assert ((one.points > owners[:, :2]) & (one.points < owners[:, 2:])).all()


def test_crowd_regions_get_nothing_and_are_not_missed():
    one = assign_sample(sample_of(BOXES, [True, False, False, True]), eye_of())
    assert one.indices.tolist() == [1, 2]
    np.testing.assert_array_equal(one.counts, assign_sample(sample_of(BOXES[1:3]), eye_of()).counts)
    assert one.unmatched.tolist() == [1]
    np.testing.assert_allclose(one.crowd, 1.2 * np.array([BOXES[0], BOXES[3]]), rtol=1e-6)


@pytest.mark.parametrize("name", list(DETECTORS))
def test_a_image_without_objects(name):
    one = assign_sample(sample_of([]), eye_of(name))
    assert (one.counts.shape, len(one.points), len(one.unmatched)) == ((0, 3), 0, 0)
    page = draw_assigned(Image.new("RGB", (120, 80)), one, CATEGORIES, "x")
    assert page.width > 1000


def colors_of(page):
    return set(map(tuple, np.asarray(page).reshape(-1, 3)))


def test_points_have_the_colors_of_their_levels_and_lost_objects_are_red(monkeypatch):
    panels = []
    real = module._panel
    monkeypatch.setattr(module, "_panel", lambda *args, **kw: panels.append(real(*args, **kw)) or panels[-1])
    one = assign_sample(sample_of(BOXES), eye_of())
    page = draw_assigned(Image.new("RGB", (120, 80), (0, 0, 255)), one, CATEGORIES, "fcos")
    main = np.asarray(panels[0])
    scale = panels[0].width / one.size[0]
    drawn = [main[int(y * scale), int(x * scale)].tolist() for x, y in one.points]
    assert drawn == [list(LEVELS[level]) for level in one.level]
    assert LOST in colors_of(panels[0])
    used = sorted(set(one.level.tolist()))
    assert len(panels) == 1 + len(used)
    for level, panel in zip(used, panels[1:], strict=True):
        assert colors_of(panel) & set(LEVELS) == {LEVELS[level]}
        assert LOST in colors_of(panel)
    assert page.height > sum(panel.height for panel in panels[:2])


def test_nothing_red_where_all_have_points(monkeypatch):
    one = assign_sample(sample_of(BOXES[:2]), eye_of())
    assert LOST not in colors_of(draw_assigned(Image.new("RGB", (120, 80)), one, CATEGORIES, "fcos"))


@pytest.mark.parametrize("size", [(20, 300), (3000, 40), (4000, 3000)])
def test_any_shape_of_image_fits_on_a_page(size):
    sample = sample_of([(1, 1, size[0] - 1, size[1] - 1)], width=size[0], height=size[1])
    eye = TrainingGeometry.of("x", "vfnet", DETECTORS["vfnet"][1](num_classes=2), Preprocess(scale=1.0))
    page = draw_assigned(Image.new("RGB", size), assign_sample(sample, eye), CATEGORIES, "x")
    assert 1000 <= page.width < 3000
    assert page.height < 6000


def data_of(tmp_path, names):
    samples = []
    for name, boxes in names.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (120, 80), (90, 90, 90)).save(file)
        samples.append(sample_of(boxes, file=file, labels=[0] * len(boxes)))
    return Dataset(tuple(samples), CATEGORIES, tmp_path / "data.json")


def test_the_folder_holds_a_page_a_image_and_the_numbers(tmp_path):
    data = data_of(tmp_path, {"x/a.png": BOXES, "y/a.jpg": [], "y/b.png": BOXES[:1]})
    view = assign_view(data, eye_of())
    places = write_view(view, tmp_path / "out")
    assert [place.name for place in places] == ["a.png", "a-2.png", "b.png"]
    for place in places:
        with Image.open(place) as page:
            assert page.format == "PNG"
    held = json.loads((tmp_path / "out/assign.json").read_text())
    assert (held["objects"], held["unmatched"], held["strides"]) == (5, 1, [8, 16, 32])
    first, empty, last = held["images"]
    assert first["file"].endswith("x/a.png")
    assert (first["size"], first["seen"], first["unmatched"], empty["boxes"]) == ([120, 80], [144, 96], [2], [])
    assert first["boxes"][1]["box"] == list(BOXES[1])
    assert first["boxes"][1]["class"] == "owl"
    assert np.sum([box["points"] for one in (first, last) for box in one["boxes"]], axis=0).tolist() == held["points"]
    assert held["points"] == view.points
    assert held["orphans"] == [{"file": str(tmp_path / "x/a.png"), "box": list(BOXES[2]), "class": "owl"}]


def test_objects_without_a_point_are_counted_by_class(tmp_path, capsys):
    """Boxes of two pixels lie between the points; a crowd region before one moves its place."""
    lost = [(40, 40, 42, 42), (60, 40, 62, 42), (80, 40, 82, 42)]
    boxes = [BOXES[0], *lost, BOXES[1]]
    sample = sample_of(boxes, [True, False, False, False, False], labels=[0, 1, 0, 1, 0])
    view = assign_view(Dataset((sample, sample), CATEGORIES, tmp_path / "data.json"), eye_of())
    assert [(one["box"], one["class"]) for one in view.orphans] == 2 * [
        (list(box), name) for box, name in zip(lost, ("cat", "owl", "cat"), strict=True)
    ]
    print_summary(view)
    assert capsys.readouterr().out.endswith("\nwithout a point: cat 4, owl 2\n")
    names = tuple(Category(i, f"c{i}") for i in range(12))
    many = [sample_of(lost[:1], labels=[i]) for i in range(12)]
    print_summary(assign_view(Dataset(tuple(many), names, tmp_path / "data.json"), eye_of()))
    assert capsys.readouterr().out.endswith(", c8 1, c9 1, 2 other classes\n")


def test_a_image_of_another_size_is_said(tmp_path):
    data = data_of(tmp_path, {"x/a.png": BOXES})
    Image.new("RGB", (10, 10)).save(tmp_path / "x/a.png")
    with pytest.raises(DataError, match="the upright image has 10 x 10"):
        write_view(assign_view(data, eye_of()), tmp_path / "out")
