"""The rule for image sizes, calculated by hand."""

import numpy as np
import pytest

from varifocal.data.recommend_size import recommend_size
from varifocal.types import Preprocess, resized_shape


def ask(sizes, sides, preprocess=Preprocess()):  # noqa: B008
    """Square boxes of these sides (one list an image)."""
    owner = np.repeat(np.arange(len(sizes)), [len(row) for row in sides])
    side = np.concatenate(sides).astype(np.float32)
    boxes = np.stack([side * 0, side * 0, side, side], axis=1)
    shapes = [resized_shape(height, width, preprocess)[::-1] for width, height in sizes]
    return recommend_size(np.array(sizes), owner, boxes, np.array(shapes), preprocess, 8)


def test_the_recipe_is_right():
    found = ask([(640, 480)], [[12.0] * 100])  # 800 / 480 x 12 = 20 pixels; 16 / 12 x 480 = 640 would do
    assert found.overrides == ()
    assert found.fraction_now == 1
    assert found.text.startswith("the recipe's size is right: 100% of the boxes span 16 pixels")


def test_smaller_images_would_do():
    found = ask([(640, 480)], [[100.0] * 100])
    assert found.overrides == ("data.preprocess.short_side=320", "data.preprocess.max_long_side=448")
    assert "16% of the computation" in found.text
    assert found.fraction_then == 1


def test_enlarge():
    found = ask([(640, 480)], [[8.0] * 60 + [5.0] * 40])  # at most 2 x 480, though 5 pixels ask for more
    assert found.overrides == ("data.preprocess.short_side=960", "data.preprocess.max_long_side=1280")
    assert found.fraction_now == 0
    assert found.fraction_then == 0.6
    assert found.preprocess.short_side == 960


def test_a_fixed_scale_is_taken_back():
    found = ask([(640, 480)], [[8.0] * 100], Preprocess(scale=0.5))
    assert found.overrides[-1] == "data.preprocess.scale=null"
    assert found.preprocess.scale is None


def test_windows():
    found = ask([(4000, 3000)], [[20.0] * 99 + [90.0]])
    # 16 / 20 = 0.8; 800 / 0.8 = 1000, up to a multiple of 32; boxes up to 20 (99 %: 20.7) pixels long, and two more
    assert found.overrides == (
        "data.preprocess.scale=0.8",
        "data.augment.crop=832",
        "tiling.size=1024",
        f"tiling.overlap={int(np.ceil(np.quantile([20.0] * 99 + [90.0], 0.99))) + 2}",
    )
    assert (found.window, found.fraction_then) == (1024, 1.0)
    assert resized_shape(3000, 4000, found.preprocess) == (2400, 3200)


def test_windows_hold_the_longest_boxes():
    found = ask([(8000, 6000)], [[16.0] * 50 + [1000.0] * 50])
    assert found.overlap == 1002
    assert found.window == 2016  # twice the overlap, up to a multiple of 32


def test_nineteen_of_twenty_count():
    found = ask([(640, 480)], [[1.0] * 4 + [12.0] * 96])
    assert found.overrides == ()
    assert found.fraction_now == pytest.approx(0.96)
    assert ask([(640, 480)], [[1.0] * 4 + [100.0] * 96]).preprocess.short_side == 320


def test_no_boxes():
    assert ask([(640, 480)], [[]]) is None
