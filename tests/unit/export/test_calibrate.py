"""Which images are used for calibration, and which statistics are measured on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code
from PIL import Image
from small_graphs import model, node, run

from varifocal.export.calibrate import choose_views, measure, read_views
from varifocal.inference.exported.info import ExportInfo, GraphInfo
from varifocal.types import Category, Dataset, Preprocess, Sample, Tiling
from varifocal.utils.errors import DataError, ExportError

INFO = ExportInfo("vfnet", (Category(1, "a"),), GraphInfo(None, (8,)))
RNG = np.random.default_rng(0)


def data_set(folder, sizes):
    """Write images of noise of these sizes (width, height); None is a file that is not an image."""
    samples = []
    for i, size in enumerate(sizes):
        file = Path(folder) / f"{i}.png"
        width, height = size or (8, 8)
        if size is None:
            file.write_bytes(b"no image")
        else:
            Image.fromarray(RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(file)
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
        samples.append(Sample(file, i, width, height, *none))
    return Dataset(tuple(samples), (Category(1, "a"),), Path(folder))


def test_the_choice_is_the_seeds(tmp_path):
    data = data_set(tmp_path, [(8, 8)] * 20)
    first = [view.sample.image_id for view in choose_views(data, Tiling(), 5, 0)]
    assert first == sorted(first)
    assert len(set(first)) == 5
    assert first == [view.sample.image_id for view in choose_views(data, Tiling(), 5, 0)]
    assert first != [view.sample.image_id for view in choose_views(data, Tiling(), 5, 1)]
    assert len(choose_views(data, Tiling(), 99)) == 20


def test_windows_of_a_model_that_reads_such(tmp_path):
    data = data_set(tmp_path, [(30, 20), (10, 10)])
    views = choose_views(data, Tiling(10, 0), 99)
    assert len(views) == 6 + 1
    sizes = [image.size for image in read_views(views, INFO)]
    assert sizes == [(10, 10)] * 7
    assert len(choose_views(data, Tiling(10, 0), 4)) == 4
    whole = np.asarray(Image.open(data.samples[0].file))
    shown = np.concatenate([np.asarray(image).ravel() for image in read_views(views[:6], INFO)])
    assert np.array_equal(np.sort(shown), np.sort(whole.ravel()))


def test_what_cannot_be_read_is_left_out(tmp_path):
    data = data_set(tmp_path, [None, (9, 7), None])
    assert [image.size for image in read_views(choose_views(data, Tiling()), INFO)] == [(9, 7)]
    with pytest.raises(DataError, match=r"none of the 2 images to calibrate on can be read; the first: .*0\.png"):
        list(read_views([view for view in choose_views(data, Tiling()) if view.sample.image_id != 1], INFO))


def test_no_images_at_all(tmp_path):
    empty = replace(data_set(tmp_path, []), source=Path("somewhere"))
    with raises_code("no-calibration-images", DataError):
        choose_views(empty, Tiling())


INFO = ExportInfo("vfnet", (Category(1, "a"),), GraphInfo(None, (8,)), Preprocess(scale=1.0, mean=(0.0,) * 3))


def small():
    weight = RNG.normal(0, 1, (4, 3, 1, 1)).astype(np.float32)
    nodes = [node("Conv", ["images", "w"], "c"), node("Relu", ["c"], "r"), node("Conv", ["r", "w2"], "y")]
    return model(nodes, {"w": weight, "w2": np.ones((1, 4, 1, 1), np.float32)}, ["y"])


def test_ranges_and_means_are_those_of_the_tensors(tmp_path):
    """One of ten images may exceed a range; between images, the extremes are interpolated."""
    data = data_set(tmp_path, [(32 * (1 + i % 2), 32) for i in range(11)])
    proto = small()
    printed = []
    found = measure(proto.SerializeToString(), INFO, choose_views(data, Tiling()), printed.append)
    assert printed == list(range(1, 12))
    assert found.images == 11
    least, most, means = [], [], []
    for sample in data.samples:
        pixels = np.asarray(Image.open(sample.file)).astype(np.float32).transpose(2, 0, 1)[None]
        maps = run(proto, pixels, "c", "r", "y")
        least.append([one.min() for one in maps])
        most.append([one.max() for one in maps])
        means.append(maps[1].mean(axis=(0, 2, 3)))
    for i, name in enumerate(("c", "r", "y")):
        own = found.ranges[name]
        # with eleven images, the second of each is the quantile 0.9
        assert own.low == pytest.approx(min(0, sorted(low[i] for low in least)[1]), rel=1e-5)
        assert own.high == pytest.approx(max(0, sorted(high[i] for high in most)[-2]), rel=1e-5)
    assert found.ranges["r"].low == 0
    assert found.means["r"] == pytest.approx(np.mean(means, axis=0), rel=1e-5)
    assert set(found.means) == {"images", "r"}


def test_the_graph_sees_what_the_model_will(tmp_path):
    """Images are resized, and the rest of a fixed input has the mean color."""
    data = data_set(tmp_path, [(100, 50)])
    info = replace(INFO, graph=GraphInfo((64, 64), (8,)), preprocess=replace(INFO.preprocess, mean=(300.0,) * 3))
    found = measure(small().SerializeToString(), info, choose_views(data, Tiling()))
    assert found.ranges["images"].high == 300
    assert found.means["images"][0] == pytest.approx((300 + 127) / 2, abs=8)  # half of it is noise


def test_numbers_that_are_none(tmp_path):
    proto = small()
    proto.graph.initializer[0].CopyFrom(
        type(proto.graph.initializer[0])(
            name="w", data_type=1, dims=[4, 3, 1, 1], raw_data=np.full((4, 3, 1, 1), np.inf, np.float32).tobytes()
        )
    )
    views = choose_views(data_set(tmp_path, [(32, 32)]), Tiling())
    with raises_code("calibration-not-finite", ExportError):
        measure(proto.SerializeToString(), INFO, views)


def test_deep_images_are_calibrated_on_by_the_models_range(tmp_path):
    data = data_set(tmp_path, [(8, 8)])
    Image.fromarray(np.full((8, 8), 2000, np.uint16)).save(data.samples[0].file)
    for levels, gray in (((1000.0, 3000.0), 128), (None, 125)):
        info = replace(INFO, preprocess=Preprocess(range=levels))
        (image,) = read_views(choose_views(data, Tiling()), info)
        assert image.getpixel((3, 3)) == (gray,) * 3
