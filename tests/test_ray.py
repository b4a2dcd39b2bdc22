"""Ray Data: the detections of ``varifocal predict``, whatever form the images have, and also if an actor dies."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from error_codes import raises_code
from PIL import Image

from varifocal.inference.loading import load
from varifocal.inference.model import create_model, save
from varifocal.inference.stream import StreamOptions, predict_files
from varifocal.ray import Detector
from varifocal.utils.errors import DataError

SUPPORT = Path(__file__).with_name("support")
SMALL = {"backbone": "test_resnet", "num_classes": 2, "channels": 16, "num_levels": 3, "num_convs": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(create_model("vfnet", **SMALL), file)
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty images of two sizes, and one that cannot be read."""
    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(20):
        shape = (40, 60, 3) if i % 2 else (60, 40, 3)
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(made / f"{i:02d}.png")
    (made / "07.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    return made


@pytest.fixture(scope="module")
def expected(model, folder):
    """The detections of each file as ``varifocal predict`` finds them, None for the damaged one."""
    files = sorted(folder.iterdir())
    found = predict_files(load(model), files, StreamOptions(score_threshold=0.0))
    return {str(one.file): one.detections and one.detections.to_coco(0, "") for one in found}


def assert_expected(rows, expected):
    assert len(rows) == len(expected)
    for row in rows:
        wanted = expected[row["file_name"]]
        if wanted is None:
            assert row["detections"] is None
            assert "07.png" in row["file_name"]
            assert row["error"]
            continue
        assert row["error"] is None
        assert (row["width"], row["height"]) in ((60, 40), (40, 60))
        keys = ("category_id", "category_name", "bbox", "score")
        assert row["detections"] == [{key: entry[key] for key in keys} for entry in wanted]
        assert row["detections"]


@pytest.mark.parametrize("kind", ["bytes and paths", "paths", "hugging face", "dictionary"])
def test_every_form_of_images(model, folder, expected, kind):
    files = sorted(map(str, folder.iterdir()))
    contents = [Path(file).read_bytes() for file in files]
    batch = {
        "bytes and paths": pyarrow.table({"bytes": contents, "path": files, "more": list(range(20))}),
        "paths": pyarrow.table({"item": files}),
        "hugging face": pyarrow.table({"image": [{"bytes": one} for one in contents], "file_name": files}),
        "dictionary": {"path": np.array(files), "bytes": np.array(contents, object)},
    }[kind]
    found = Detector(model, score_threshold=0.0)(batch)
    assert_expected(found.to_pylist(), expected)
    assert ("more" in found.column_names) == (kind == "bytes and paths")
    assert "bytes" not in found.column_names


def test_arrays(model, folder, expected):
    files = [file for file in sorted(map(str, folder.iterdir())) if "07" not in file]
    arrays = np.empty(len(files), object)
    arrays[:] = [np.asarray(Image.open(file)) for file in files]
    found = Detector(model, score_threshold=0.0)({"image": arrays, "path": np.array(files)})
    assert_expected(found.to_pylist(), {file: expected[file] for file in files})


@pytest.mark.parametrize(
    ("values", "readable"),
    [
        ([None, {"bytes": None, "path": None}], [False, False]),
        ([np.zeros((8, 8, 3), np.uint16), np.zeros((8, 8, 3), np.float32)], [True, False]),
        ([np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8, 7), np.uint8)], [True, False]),
        ([np.zeros((8, 8, 3), np.uint8).tolist(), "https://example.com/a.png"], [True, False]),
    ],
)
def test_an_image_that_cannot_be_read_is_an_error_of_its_own(model, values, readable):
    images = np.empty(len(values), object)
    for i, value in enumerate(values):
        images[i] = value
    rows = Detector(model, score_threshold=0.0)({"image": images}).to_pylist()
    assert [row["error"] is None for row in rows] == readable


def test_a_batch_without_images_is_refused(model):
    with raises_code("ray-no-images", DataError) as raised:
        Detector(model)(pyarrow.table({"label": [1]}))
    assert "(found: label)" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_on_a_local_ray_with_two_actors(model, folder, expected, tmp_path, killed):
    pytest.importorskip("ray.data", reason="needs the package ray: pip install 'varifocal[ray]'")
    marker = [str(tmp_path / "killed")] if killed else []
    environment = {**os.environ, "RAY_raylet_start_wait_time_s": "120", "PYTHONPATH": str(SUPPORT)}
    words = [sys.executable, str(SUPPORT / "ray_run.py"), model, str(folder), str(tmp_path / "found"), *marker]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, timeout=280)
    if done.returncode == 3:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr[-3000:]
    assert_expected(pyarrow.parquet.read_table(tmp_path / "found").to_pylist(), expected)
    assert (tmp_path / "killed").exists() == killed
