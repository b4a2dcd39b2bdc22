"""What check says of images with more than 8 bits and of files with several images."""

import json

import numpy as np
import pytest
from deep_images import float_tiff
from PIL import Image

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.models.vfnet import VFNetConfig
from varifocal.tools.check.fix import write_fixed
from varifocal.tools.check.run import check_data
from varifocal.types import Preprocess


def eye(levels=None, crop=0) -> TrainingGeometry:
    return TrainingGeometry.of(
        "vfnet", "vfnet", VFNetConfig(1), Preprocess(short_side=64, max_long_side=96, range=levels), crop
    )


def data(folder, images):
    """A COCO set of arrays or images of 40 x 30, one box on each."""
    names = []
    for i, image in enumerate(images):
        names.append(f"{i}.tif" if isinstance(image, np.ndarray) and image.dtype == np.float32 else f"{i}.png")
        if names[-1].endswith("tif"):
            float_tiff(folder / names[-1], image)
        else:
            (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(folder / names[-1])
    content = {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0} for i in range(len(names))
        ],
        "categories": [{"id": 1, "name": "cup"}],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json"


def noise(low, high, seed=0, dtype=np.uint16):
    """Values that run from ``low`` to ``high``."""
    values = np.random.default_rng(seed).uniform(low, high, (30, 40)).astype(dtype)
    values[0, :2] = low, high
    return values


def texts(report, kind):
    return [one.text for one in report.findings.of(kind)]


def test_images_of_12_bits_in_files_of_16(tmp_path):
    """They have the range of 12 bits anyway: nothing is said of one that fills it, nor is that range suggested."""
    images = [noise(1520, 2224, 1), noise(1000, 4000, 2), noise(0, 65535, 3), noise(20, 230, 4, np.uint8)]
    said = "uses only 1520..2224 of 0..4095; set data.preprocess.range={}"
    report = check_data(data(tmp_path, images), eye())
    assert texts(report, "narrow-range") == [said.format("image")]
    assert report.exit_code == 0
    report = check_data(data(tmp_path, images[:2]), eye())
    assert texts(report, "narrow-range") == [said.format("image")]
    report = check_data(data(tmp_path, [noise(1520, 2224, 1), noise(1500, 2000, 2)]), eye())
    assert texts(report, "narrow-range")[0] == said.format("[1500,2224]")


@pytest.mark.parametrize(
    ("spans", "wanted"),
    [
        ([(0, 200), (100, 1000)], "[0,1023]"),
        ([(0, 900), (100, 16000)], "image"),
        ([(5000, 9000), (100, 16000)], "[0,16383]"),
        ([(28000, 29000), (27000, 33000)], "[27000,33000]"),
        ([(28000, 29000), (0, 60000)], "image"),
        ([(7000, 7000)], "image"),
    ],
)
def test_what_is_suggested_is_less_than_what_is_taken(tmp_path, spans, wanted):
    report = check_data(data(tmp_path, [noise(*span) for span in spans]), eye())
    assert texts(report, "narrow-range")[0].endswith(f"; set data.preprocess.range={wanted}")


def test_thermal_images_use_little_of_16_bits(tmp_path):
    report = check_data(data(tmp_path, [noise(28000, 31000, 1), noise(28500, 32000, 2)]), eye())
    assert len(texts(report, "narrow-range")) == 2
    assert (
        "uses only 28000..31000 of 0..65535; set data.preprocess.range=[28000,32000]"
        in texts(report, "narrow-range")[0]
    )


@pytest.mark.parametrize("levels", [(0, 4095), "image", "percentile"])
def test_a_range_that_fits_is_no_finding(tmp_path, levels):
    report = check_data(data(tmp_path, [noise(1520, 2224, 1), noise(1000, 4000, 2)]), eye(levels))
    assert not texts(report, "narrow-range")
    assert not texts(report, "beyond-range")


def test_a_range_that_does_not_fit(tmp_path):
    report = check_data(data(tmp_path, [noise(1520, 1600, 1), noise(3000, 9000, 2)]), eye((0, 4095)))
    assert texts(report, "narrow-range") == ["uses only 1520..1600 of data.preprocess.range, 0..4095"]
    assert texts(report, "beyond-range") == ["has values of 3000..9000, beyond data.preprocess.range, 0..4095"]


def test_floating_point_needs_a_range_and_is_no_damage(tmp_path):
    path = data(tmp_path, [noise(15, 35, 1, np.float32), noise(10, 40, 2, np.float32)])
    report = check_data(path, eye())
    assert [text[:70] for text in texts(report, "no-range")] == [
        "pixels of type 'F' have no known range; here they run from 15 to 35; n",
        "pixels of type 'F' have no known range; here they run from 10 to 40; n",
    ]
    assert report.exit_code == 1
    assert not texts(report, "truncated-image")
    report = check_data(path, eye((0, 50)))
    assert report.exit_code == 0
    assert not texts(report, "no-range")


def test_dark_12_bit_images_are_not_all_alike(tmp_path):
    """As four levels of gray they were."""
    images = [noise(1520, 2224, seed) for seed in range(4)]
    report = check_data(data(tmp_path, images), eye())
    assert not texts(report, "near-duplicate")


def test_files_of_several_images(tmp_path):
    path = data(tmp_path, [noise(0, 255, 1, np.uint8), noise(0, 255, 2, np.uint8)])
    frames = [Image.fromarray(noise(0, 255, seed, np.uint8)) for seed in (1, 5, 6)]
    frames[0].save(tmp_path / "0.png", save_all=True, append_images=frames[1:])
    report = check_data(path, eye())
    assert texts(report, "several-images") == ["holds 3 images"]
    assert report.exit_code == 0


def test_large_images_are_sound_but_above_the_limit_unless_training_takes_crops(tmp_path, monkeypatch):
    """They are not called damaged, and a cleaned copy keeps them with their boxes."""
    monkeypatch.setattr("varifocal.data.images.MAX_PIXELS", 1000)
    path = data(tmp_path, [noise(0, 255, 1, np.uint8)])
    report = check_data(path, eye())
    assert texts(report, "unreadable-image") == []
    (said,) = texts(report, "large-image")
    assert "40 x 30 pixels, above the limit of 1000" in said
    assert "data.augment.crop" in said
    assert report.exit_code == 1
    write_fixed(report, tmp_path / "fixed")
    (copied,) = (tmp_path / "fixed" / "annotations").iterdir()
    content = json.loads(copied.read_text())
    assert [len(content["images"]), len(content["annotations"])] == [1, 1]
    assert check_data(path, eye(crop=16)).exit_code == 0
