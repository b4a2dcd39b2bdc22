"""Decisions on a recipe: by hand for round numbers, and their limits."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code

from varifocal.data.recommend_size import recommend_size
from varifocal.data.summary import DataSummary, summarize
from varifocal.recipes import auto
from varifocal.recipes.auto import InputSize, Machine
from varifocal.recipes.budget import parse_budget, show_duration
from varifocal.training.measure import Costs
from varifocal.types import Category, Dataset, Preprocess, Sample

CPU = Machine("cpu", "a CPU", 2, 8 * 2**30)
GPU = Machine("cuda", "a GPU", 8, 40 * 2**30)


def data_of(width=640, height=480, side=64.0, images=300, boxes=4, **more) -> DataSummary:
    """A summary of equal images with square boxes."""
    sizes = np.array([[width, height]] * images)
    corners = np.tile([0.0, 0.0, side, side], (images * boxes, 1))
    advice = recommend_size(sizes, np.repeat(np.arange(images), boxes), corners, sizes, Preprocess(scale=1.0), 8)
    short, long = sorted((width, height))
    return DataSummary(images, images * boxes, short, long, width * height, 3, size=advice, **more)


@pytest.mark.parametrize(
    ("text", "seconds"), [("8m", 480), ("2h", 7200), ("1h30m", 5400), ("90s", 90), ("1.5H", 5400), ("1d 2h", 93600)]
)
def test_a_budget(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "m", "8 minutes", "-8m", "0m", "8m3", "nan"])
def test_a_wrong_budget(text):
    with raises_code("budget-form"):
        parse_budget(text)


def test_durations_as_people_write_them():
    assert [show_duration(s) for s in (4.4, 99, 100, 480, 3599, 3600, 7500)] == [
        *("4 s", "99 s", "2 min", "8 min"),
        *("1 h 00 min", "1 h 00 min", "2 h 05 min"),
    ]


def test_a_summary():
    def sample(labels, crowd=False, size=(100, 50)):
        count = len(labels)
        boxes = np.tile([0.0, 0.0, 10.0, 10.0], (count, 1)).reshape(count, 4)
        return Sample(Path("a.jpg"), 0, *size, boxes, np.array(labels, np.int64), np.full(count, crowd))

    samples = [sample([0, 0]), sample([1]), sample([0]), sample([2], crowd=True), sample([], size=(40, 80))]
    data = summarize(Dataset(samples, tuple(Category(i, f"c{i}") for i in range(3)), Path("made")))
    assert (data.images, data.classes, data.boxes) == (5, 3, 4)
    assert (data.short_side, data.long_side) == (50, 100)
    assert data.empty == 0.4
    assert data.rarest == ("c1", 0.2)


def test_boxes_that_are_large_need_small_images_only():
    data = data_of(1280, 960, side=200)
    needed = auto.needed_size(data, CPU)
    assert needed == InputSize(320, math.ceil(320 * 4 / 3 / 32) * 32)


def test_boxes_of_two_cells_need_the_images_as_they_are():
    assert auto.needed_size(data_of(640, 480, side=16), CPU) == InputSize(480, 640) == auto.native_size(data_of())


def test_small_boxes_in_large_images_are_read_in_tiles():
    data = data_of(4000, 3000, side=20)
    on_cpu, on_gpu = auto.needed_size(data, CPU), auto.needed_size(data, GPU)
    assert on_cpu.crop == auto.SMALL_CROP
    assert on_gpu.crop == auto.LARGE_CROP
    assert 20 <= on_cpu.overlap < on_cpu.crop / on_cpu.scale
    words = on_cpu.words()
    assert words["tiling.size"] == str(round(on_cpu.crop / on_cpu.scale))
    assert {"data.augment.crop", "data.preprocess.scale", "tiling.overlap"} <= set(words)


def steps_at(per_pixel: float):
    """Steps in some time, which fall with the pixels: 1,000 for 480 x 640 at 1."""
    return lambda size: 1000 * per_pixel * 480 * 640 / size.pixels


def test_images_are_enlarged_only_with_much_time():
    native, needed = InputSize(480, 640), InputSize(960, 1280)
    assert auto.fitting_size(needed, native, steps_at(8))[0] == needed
    assert auto.fitting_size(needed, native, steps_at(7.9))[0] == native


def test_images_are_made_smaller_with_little_time():
    native = needed = InputSize(480, 640)
    assert auto.fitting_size(needed, native, steps_at(0.4))[0] == native
    size, why = auto.fitting_size(needed, native, steps_at(0.2))
    assert size == InputSize(352, 480)  # half of the pixels
    assert "time is short" in why
    assert auto.fitting_size(needed, native, steps_at(0.01))[0] == InputSize(256, 352)  # not below half of the sides


def test_steps_and_validations_fit_into_the_time():
    costs = Costs(step=0.5, validation=10.0, batches=75)
    steps, validations = auto.steps_in(480, costs)
    assert validations == 4  # a tenth of the time
    assert steps * 0.5 + validations * 10 == pytest.approx(480, abs=0.5)
    assert auto.steps_in(480, Costs(0.5, 0.0, 75)) == (960, 1)
    assert auto.steps_in(480, Costs(0.5, 0.01, 75))[1] == auto.VALIDATIONS


def test_a_time_that_is_too_short_says_what_it_takes():
    costs = Costs(1.0, 20.0, 75)
    with raises_code("budget-too-short") as caught:
        auto.ensure_trainable(29, 60, 10, costs)
    assert "30 steps and an evaluation take 66 s" in str(caught.value)
    auto.ensure_trainable(30, 60, 10, costs)


def test_few_images_are_not_repeated_without_end():
    assert auto.epochs_in(750, Costs(1, 1, 75))[0] == 10
    assert auto.epochs_in(10**6, Costs(1, 1, 75))[0] == 150
    assert auto.epochs_in(10**6, Costs(1, 1, 1))[0] == 4000


def test_epochs_without_a_limit_of_time():
    assert [auto.usual_epochs(batches) for batches in (1, 50, 100, 3000)] == [100, 60, 30, 12]


def test_the_batch_fits_into_memory():
    data = data_of()
    assert auto.choose_batch(data, CPU, 8, 2**30)[0] == 4
    batch, why = auto.choose_batch(data, Machine("cpu", "a CPU", 2, 6 * 2**30), 8, 2**30)
    assert batch == 3
    assert "6.0 GiB are free" in why
    assert auto.choose_batch(data, Machine("cpu", "a CPU", 2, 2**20), 8, 2**30)[0] == 1


def test_rare_classes_and_empty_images():
    assert auto.choose_sampling(data_of()) == ({}, [])
    words, reasons = auto.choose_sampling(data_of(rarest=("owl", 0.049), empty=0.51))
    assert words == {"data.repeat_factor_threshold": "0.1", "data.max_empty_fraction": "0.3"}
    assert "owl is in 4.9% of the images" in reasons[0]
    assert "51% of the data" in reasons[1]


def test_the_learning_rate_grows_with_the_root_of_the_batch():
    words = auto.schedule_words(1000, 4, 8, 0.0014)
    assert float(words["train.lr"]) == pytest.approx(0.0014 / math.sqrt(2), rel=0.02)
    assert words["train.warmup_steps"] == "50"


def test_images_with_many_objects_get_many_detections():
    assert auto.choose_detections(replace(data_of(), most=50)) == ({}, [])
    words, (reason,) = auto.choose_detections(replace(data_of(), most=51))
    assert words == {"postprocess.max_detections": "200"}
    assert "up to 51 objects" in reason
    assert auto.choose_detections(replace(data_of(), most=10**6))[0] == {"postprocess.max_detections": "10000"}
