"""Many files: the same detections as one by one, in order, with bounded memory, whatever cannot be read."""

import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from error_codes import raises_code
from PIL import Image

from varifocal.inference import stream
from varifocal.inference.model import create_model
from varifocal.inference.pipeline import Pipeline
from varifocal.inference.stream import AHEAD, WAITING, StreamOptions, predict_files
from varifocal.types import TTA, Tiling
from varifocal.utils.errors import ConfigError, DataError

SIZES = [(96, 64), (64, 96), (96, 64), (50, 50), (96, 64), (64, 96), (90, 60), (96, 64), (33, 70)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    rng = np.random.default_rng(0)
    made = []
    for i, (width, height) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        made.append(folder / f"{i}.png")
    return made


@pytest.fixture(scope="module")
def model():
    made = create_model("vfnet", backbone="test_resnet", num_classes=2, channels=16, num_levels=3, num_convs=1)
    made.info = replace(made.info, preprocess=replace(made.info.preprocess, short_side=64, max_long_side=96))
    return made


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
@pytest.mark.parametrize("threads", [1, 3])
def test_detections_are_those_of_one_by_one(files, model, batch, threads):
    found = list(predict_files(model, files, StreamOptions(batch, threads, score_threshold=0.0)))
    assert [one.file for one in found] == files
    for one, size in zip(found, SIZES, strict=True):
        alone = model.predict(one.file, score_threshold=0.0)
        assert one.error is None
        assert one.image.size == size
        np.testing.assert_allclose(one.detections.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(one.detections.boxes, alone.boxes, atol=1e-3)
        assert (one.detections.labels == alone.labels).all()


def test_only_images_of_one_size_share_a_batch(files, model, monkeypatch):
    batches = []
    predict = type(model).predict

    def spy(self, images, **limits):
        if isinstance(images, list):  # predict calls itself with a list of one
            batches.append([image.size for image in images])
        return predict(self, images, **limits)

    monkeypatch.setattr(type(model), "predict", spy)
    list(predict_files(model, files, StreamOptions(3, 1)))
    assert sum(map(len, batches)) == len(files)
    assert [(96, 64)] * 3 in batches
    for sizes in batches:
        assert len({stream._padded_shapes(Image.new("RGB", size), model.info) for size in sizes}) == 1


def test_with_several_scales_all_of_them_are_of_one_size(model):
    """96 and 90 columns are both padded to 96, and at 1.5 times to 160 and 160, but at 1.4 times to 160 and 128."""
    first, second = Image.new("RGB", (96, 64)), Image.new("RGB", (90, 64))
    for scales, same in (((1.0,), True), ((1.0, 1.4), False)):
        info = replace(model.info, tta=TTA(scales=scales))
        assert (stream._padded_shapes(first, info) == stream._padded_shapes(second, info)) == same


def test_a_large_image_is_tiled_alone(files, model):
    info = model.info
    model.info = replace(info, tiling=Tiling(size=48, overlap=8))
    try:
        found = list(predict_files(model, files[:3], StreamOptions(4, 2)))
        alone = [model.predict(file) for file in files[:3]]
    finally:
        model.info = info
    assert [len(one.detections) for one in found] == [len(one) for one in alone]


@pytest.mark.parametrize("batch", [1, 3])
def test_what_cannot_be_read_is_reported_in_its_place(files, model, tmp_path, batch):
    (tmp_path / "bad.png").write_bytes(b"no image")
    mixed = [files[0], tmp_path / "bad.png", tmp_path / "missing.png", *files[1:4]]
    found = list(predict_files(model, mixed, StreamOptions(batch, 2)))
    assert [one.file for one in found] == mixed
    assert [one.error is None for one in found] == [True, False, False, True, True, True]
    assert "bad.png" in str(found[1].error)
    assert found[1].image is found[1].detections is None


def test_few_images_are_in_memory(files, model, monkeypatch):
    """One image of a rare shape at the beginning, which waits for others, and many of another shape."""
    monkeypatch.setattr(
        model, "predict", lambda images, **limits: ["found"] * len(images) if isinstance(images, list) else "found"
    )
    many = [files[3], *[files[0]] * 200]
    opened, taken, most = [], 0, 0
    read = stream.read_for

    def count(info, file):
        opened.append(file)
        return read(info, file)

    monkeypatch.setattr(stream, "read_for", count)
    for batch, threads in ((1, 1), (4, 2)):
        opened.clear()
        taken = most = 0
        for _ in predict_files(model, many, StreamOptions(batch, threads)):
            taken += 1
            most = max(most, len(opened) - taken)
        assert taken == len(many)
        assert most <= (WAITING + 1) * batch + (AHEAD + 1) * threads


def test_with_tiles_one_image_is_in_memory(files, model, monkeypatch):
    monkeypatch.setattr(model, "info", replace(model.info, tiling=Tiling(size=48, overlap=8)))
    monkeypatch.setattr(
        model, "predict", lambda images, **limits: ["found"] * len(images) if isinstance(images, list) else "found"
    )
    opened = []
    monkeypatch.setattr(stream, "read_for", lambda info, file: opened.append(file) or Image.new("RGB", (9, 9)))
    for taken, _ in enumerate(predict_files(model, files, StreamOptions(4, 3)), start=1):
        assert len(opened) == taken


def test_whoever_leaves_early_leaves_no_thread(files, model):
    results = predict_files(model, files * 20, StreamOptions(1, 3))
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_limits_are_those_of_predict(files, model):
    with raises_code("score-threshold-range", ConfigError):
        list(predict_files(model, files, StreamOptions(score_threshold=2.0)))


def test_nothing_to_do(model):
    assert list(predict_files(model, [])) == []


@pytest.mark.parametrize(
    ("given", "device", "files", "expected"),
    [
        (StreamOptions(), "cpu", 1000, (1, 1, 3)),
        (StreamOptions(), "cpu", stream.MANY - 1, (1, 1, 1)),
        (StreamOptions(), "cuda:0", 1000, (stream.GPU_BATCH, min(os.cpu_count(), stream.GPU_BATCH), 1)),
        (StreamOptions(2, 5), "cuda:0", 1000, (2, 5, 1)),
        (StreamOptions(4), "cpu", 1000, (4, 1, 1)),
        (StreamOptions(calls=2), "cpu", 1, (1, 1, 2)),
        (StreamOptions(100), "cpu", 1000, (8, 1, 1)),
    ],
)
def test_numbers_for_the_device(given, device, files, expected):
    class Three(Pipeline):
        calls_at_once = 3
        categories = ()

    model = Three()
    model.device, model.info = device, SimpleNamespace(tiling=Tiling())
    chosen = given.chosen(model, files)
    assert (chosen.batch_size, chosen.threads, chosen.calls) == expected


@pytest.mark.parametrize("calls", [2, 3])
def test_several_at_the_same_time_find_the_same(files, model, calls):
    many = files * 4
    found = list(predict_files(model, many, StreamOptions(score_threshold=0.0, calls=calls)))
    assert [one.file for one in found] == many
    for one in found:
        alone = model.predict(one.file, score_threshold=0.0)
        np.testing.assert_array_equal(one.detections.boxes, alone.boxes)
        np.testing.assert_array_equal(one.detections.scores, alone.scores)


def test_several_at_the_same_time_are_bounded_in_order_and_end(files, model, monkeypatch):
    """Slow files hold back what comes after them, and few are read ahead; closing ends the threads."""
    read, started = stream.read_for, []

    def slow(info, file):
        started.append(file)
        time.sleep(0.05 if len(started) == 1 else 0)
        return read(info, file)

    monkeypatch.setattr(stream, "read_for", slow)
    results = predict_files(model, files * 10, StreamOptions(calls=3))
    first = next(results)
    time.sleep(0.3)
    assert first.file == files[0]
    assert len(started) <= 3 * (1 + AHEAD)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("predict")]


def test_several_at_the_same_time_report_what_cannot_be_read(files, model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")

    def check(position, image):
        if position == 3:
            raise DataError("refused", code="test-refused")

    given = [files[0], tmp_path / "bad.png", files[1], files[2], files[3]]
    found = list(predict_files(model, given, StreamOptions(calls=2), check))
    assert [one.error is None for one in found] == [True, False, True, False, True]
    assert "bad.png" in str(found[1].error)


def test_large_images_are_in_the_network_one_at_a_time(files, model, monkeypatch):
    monkeypatch.setattr(stream, "SMALL_PIXELS", 96 * 64 - 1)
    inside, most, predict = [0], [0], type(model).predict

    def spy(self, images, **limits):
        if not isinstance(images, list) and images.size == (96, 64):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1
        return predict(self, images, **limits)

    monkeypatch.setattr(type(model), "predict", spy)
    list(predict_files(model, files * 3, StreamOptions(calls=3)))
    assert most == [1]
