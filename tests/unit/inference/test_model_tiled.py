"""Large images in windows: the same boxes as of the whole image, from a detector whose boxes are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from squares import squares_model

import varifocal as vf
from varifocal.cli import main
from varifocal.inference.tiling import make_tiles, tiling_from_options
from varifocal.types import Preprocess, Tiling


def scene(width, height, boxes):
    """Each box in a gray of its own, the first the brightest."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        pixels[y1:y2, x1:x2] = 250 - i
    return Image.fromarray(pixels)


def scattered(seed, width, height, longest):
    rng = np.random.default_rng(seed)
    pitch = longest + 3
    places = [(x, y) for x in range(0, width - longest, pitch) for y in range(0, height - longest, pitch)]
    sides = rng.integers(3, longest + 1, (len(places), 2))
    return [(x, y, x + int(w), y + int(h)) for (x, y), (w, h) in zip(places, sides, strict=True)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overlap", [0.2, 0.5, 30])
def test_a_scene_of_several_windows_is_what_it_is_untiled(seed, overlap):
    """Every object is two pixels shorter than the overlap: whole in some window, and cut by the border of others."""
    model = squares_model(max_detections=1000)
    boxes = scattered(seed, 260, 190, 18)
    image = scene(260, 190, boxes)
    whole = model.predict(image)
    assert whole.boxes.tolist() == [list(box) for box in boxes]
    model.info = replace(model.info, tiling=tiling_from_options(Tiling(), 100, overlap))
    tiled = model.predict(image)
    assert len(make_tiles(190, 260, model.info.tiling)) >= 6
    assert tiled.boxes.tolist() == whole.boxes.tolist()
    assert tiled.scores.tolist() == whole.scores.tolist()
    assert tiled.labels.tolist() == whole.labels.tolist()


def test_at_most_eight_tiles_are_cut_out_at_a_time(monkeypatch):
    model = squares_model()
    model.info = replace(model.info, tiling=Tiling(50, 10))
    cut, crop = [], Image.Image.crop

    def watched(image, box):
        cut.append(sum(batch[0] for batch in model.detector.batches))
        return crop(image, box)

    monkeypatch.setattr(Image.Image, "crop", watched)
    model.predict(scene(210, 170, [(3, 3, 9, 9)]))
    assert [batch[0] for batch in model.detector.batches] == [8, 8, 4]
    assert cut == [0] * 8 + [8] * 8 + [16] * 4  # tiles that had been detected in when each was cut out


@pytest.mark.parametrize(("method", "iou"), [("nms", 0.99), ("soft-nms", 0.3)])
@pytest.mark.parametrize("tile", [96, 97, 5000])
def test_a_image_that_fits_into_one_window_is_untiled_exactly(method, iou, tile):
    """Of a network with weights and overlapping boxes, so that suppressing twice would show."""
    model = vf.create_model("vfnet", backbone="resnet18", num_classes=2, channels=32, num_levels=3, num_convs=1)
    settings = replace(model.info.postprocess, nms_type=method, score_threshold=0.001, nms_iou=iou, min_score=1e-5)
    model.info = replace(model.info, preprocess=Preprocess(short_side=64, max_long_side=96), postprocess=settings)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    whole = model.predict(pixels)
    assert len(whole) > 5
    model.info = replace(model.info, tiling=tiling_from_options(Tiling(), tile, 0.2))
    tiled = model.predict(pixels)
    assert np.array_equal(tiled.boxes, whole.boxes)
    assert np.array_equal(tiled.scores, whole.scores)
    assert np.array_equal(tiled.labels, whole.labels)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model that is read in windows of 40 pixels unless it is told otherwise, and an image of 100 x 80 beside it."""
    folder = tmp_path_factory.mktemp("model")
    model = vf.create_model("vfnet", backbone="resnet18", classes=["cat"], channels=32, num_levels=3, num_convs=1)
    model.info = replace(model.info, preprocess=Preprocess(short_side=64, max_long_side=128), tiling=Tiling(40, 10))
    vf.save(model, folder / "m.safetensors")
    Image.new("RGB", (100, 80)).save(folder / "a.png")
    return folder / "m.safetensors"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ([], 9),
        (["--tile", "0"], 1),
        (["--tile", "80", "--overlap", "0.2"], 2),
        (["--tile", "60", "--overlap", "30"], 6),
        (["--tile", "64"], 4),
    ],
    ids=str,
)
def test_the_flags_choose_the_windows(checkpoint, tmp_path, monkeypatch, words, count):
    """Windows of 40 that overlap by 10 are 3 x 3 on 100 x 80; of 60 by 30, 3 x 2; of 64 by 13, 2 x 2."""
    seen, candidates = [], vf.Model.candidates
    monkeypatch.setattr(
        vf.Model, "candidates", lambda self, batch: seen.extend(batch.images) or candidates(self, batch)
    )
    file, out = str(checkpoint.with_name("a.png")), str(tmp_path / "d.json")
    assert main(["predict", str(checkpoint), file, "--output-json", out, *words]) == 0
    assert len(seen) == count


def test_eval_takes_the_flags(checkpoint, tmp_path, monkeypatch):
    def evaluate(model, data, advance, batch_size):
        seen.append(model.info.tiling)
        raise vf.DataError("that is enough")

    seen = []
    monkeypatch.setattr("varifocal.evaluation.evaluate.evaluate_in_processes", evaluate)
    image, box = {"id": 1, "file_name": "a.png", "width": 100, "height": 80}, [10, 10, 30, 30]
    content = {
        "images": [image],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    (tmp_path / "val.json").write_text(json.dumps(content))
    for words in ([], ["--tile", "64", "--overlap", "0.5"]):
        assert main(["eval", str(checkpoint), str(tmp_path / "val.json"), *words]) == 2
    assert seen == [Tiling(40, 10), Tiling(64, 32)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tile", "-1"], "--tile -1"),
        (["--tile", "80", "--overlap", "1.0"], "below 1"),
        (["--tile", "80", "--overlap", "80"], "overlap by 0 to 79"),
        (["--overlap", "0.2"], "--tile"),
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["predict", "eval"])
def test_bad_values_are_one_sentence(checkpoint, tmp_path, capsys, verb, words, said):
    arguments = [verb, str(checkpoint), str(checkpoint.with_name("a.png")), *words]
    if verb == "predict":
        arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"varifocal {verb}: ")
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_an_overlap_that_is_no_number(checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(checkpoint), str(checkpoint.with_name("a.png")), "--tile", "80", "--overlap", "much"])
    assert "'much' is not a fraction such as 0.2 or a whole number of pixels" in capsys.readouterr().err
