"""Running exported files: images in, boxes back, and one sentence for every file that is none."""

import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from error_codes import raises_code
from PIL import Image

import varifocal as vf
from varifocal.inference.exported.formats import SUFFIXES
from varifocal.inference.exported.info import ExportInfo, GraphInfo, from_json, pad_color, to_json
from varifocal.inference.exported.model import ExportedModel, load_exported, resize
from varifocal.inference.loading import EXPORTED, is_exported
from varifocal.types import PAPER_TTA, TTA, Category, PostProcess, Preprocess, Tiling
from varifocal.utils.errors import CheckpointError, ConfigError

CATEGORIES = (Category(7, "spot"), Category(42, "other"))
GRAPH = GraphInfo(None, (32,))


class Spot:
    """Stands for a graph: finds what is white; keeps what it was given."""

    name = "spot.onnx"

    def __init__(self, nms="host"):
        self.nms, self.batches = nms, []

    def run(self, images):
        self.batches.append(images.copy())
        cells = math.ceil(images.shape[2] / 32) * math.ceil(images.shape[3] / 32)
        boxes = np.zeros((len(images), cells, 4), np.float32)
        scores = np.zeros((len(images), cells, 2), np.float32)
        for i, image in enumerate(images):
            y, x = (image.min(axis=0) > 200).nonzero()
            if len(x):
                boxes[i, 0] = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                scores[i, 0] = [0.9, 0.2]
        if self.nms == "host":
            return {"boxes": boxes, "scores": scores}
        boxes, best = boxes[:, :1].repeat(3, axis=1), scores[:, :1, 0].repeat(3, axis=1)
        boxes[:, 1] = [500, 500, 501, 501]  # in the padding
        labels = np.array([[0, 1, -1]]).repeat(len(images), axis=0)
        return {"boxes": boxes, "scores": best, "labels": labels}


def make(graph=GRAPH, **settings):
    info = ExportInfo("vfnet", CATEGORIES, graph, Preprocess(scale=1.0), PostProcess(), **settings)
    return ExportedModel(Spot(graph.nms), info)


def spot(width=400, height=250, box=(120, 60, 220, 160)):
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def test_the_spot_is_found_and_the_rest_is_the_mean_color():
    model = make()
    found = model.predict(spot())
    assert found.boxes.tolist() == [[120, 60, 220, 160]] * 2
    assert found.scores.tolist() == pytest.approx([0.9, 0.2])
    assert found.class_names == ["spot", "other"]
    batch = model.session.batches[0]
    assert batch.shape == (1, 3, 256, 416)
    assert batch[0, :, :250, :400].max() == 255
    for row in (batch[0, :, 250:].reshape(3, -1), batch[0, :, :, 400:].reshape(3, -1)):
        assert (row == np.array(Preprocess().mean, np.float32)[:, None]).all()


def test_the_mean_color_is_red_first_whatever_the_network_wants():
    assert pad_color(Preprocess(mean=(1.0, 2.0, 3.0))) == (1, 2, 3)
    assert pad_color(Preprocess(mean=(1.0, 2.0, 3.0), bgr=True)) == (3, 2, 1)


@pytest.mark.parametrize(("width", "height"), [(400, 250), (250, 400), (1000, 200), (64, 64), (30, 20)])
@pytest.mark.parametrize("nms", ["graph", "host"])
def test_a_image_larger_than_a_fixed_input_is_scaled_down(width, height, nms):
    """Its sides keep their ratio, it lies at the top left, and the boxes are those of the image."""
    model = make(GraphInfo((64, 96), (32,), nms=nms))
    box = (width // 4, height // 4, width // 2, height // 2)
    found = model.predict(spot(width, height, box))
    factor = min(1, 64 / height, 96 / width)
    assert model.session.batches[0].shape == (1, 3, 64, 96)
    assert np.abs(found.boxes[0] - box).max() <= 1.5 / factor
    assert found.scores[0] == pytest.approx(0.9)
    if nms == "graph":
        assert len(found) == 1  # without padding and what fills up


def test_a_image_that_fits_is_not_scaled_up():
    model = make(GraphInfo((64, 96), (32,)))
    assert model.predict(spot(30, 20, (5, 5, 15, 10))).boxes.tolist() == [[5, 5, 15, 10]] * 2


def test_boxes_end_with_the_image():
    model = make(replace(GRAPH, border=1))
    assert model.predict(spot(100, 60, (50, 20, 100, 60))).boxes[0].tolist() == pytest.approx(
        [50, 20, 99, 59], abs=1e-4
    )


def test_lists_windows_and_views():
    model = make()
    assert [len(one) for one in model.predict([spot(), np.asarray(spot()), Image.new("RGB", (9, 9))])] == [2, 2, 0]
    model.info = replace(model.info, tiling=Tiling(250, 150))
    found = model.predict(spot(350, 350, (110, 120, 200, 220)))
    assert found.boxes[0].tolist() == [110, 120, 200, 220]
    assert len(found) == 2
    model = make(tta=TTA((1.0, 2.0), flip=True))
    assert np.abs(model.predict(spot()).boxes - [120, 60, 220, 160]).max() < 1.01
    assert [batch.shape[2:] for batch in model.session.batches] == [(256, 416)] * 2 + [(512, 800)] * 2
    mirrored = model.session.batches[1][0, :, :250, :400]
    assert np.array_equal(mirrored[:, :, ::-1], model.session.batches[0][0, :, :250, :400])


def test_thresholds():
    model = make()
    assert model.predict(spot(), score_threshold=0.5).scores.tolist() == pytest.approx([0.9])
    assert len(model.predict(spot(), max_detections=1)) == 1
    inside = make(replace(GRAPH, nms="graph"))
    assert len(inside.predict(spot(), score_threshold=0.5, max_detections=1)) == 1
    for words in ({"score_threshold": 0.01}, {"max_detections": 101}):
        with raises_code("graph-nms-limits"):
            inside.predict(spot(), **words)
    for graph in (replace(GRAPH, nms="graph"), replace(GRAPH, size=(64, 96))):
        with raises_code("tta-fixed-graph"):
            make(graph, tta=PAPER_TTA).predict(spot())


def test_resizing_is_torchs_within_a_gray_level():
    from varifocal.data.preprocess import pil_to_tensor
    from varifocal.data.preprocess import resize as torch_resize

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8))
    for height, width in ((45, 61), (200, 300), (90, 130)):
        wanted = torch_resize(pil_to_tensor(image), height, width).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(np.asarray(resize(image, height, width)) - wanted).max() <= 1


def test_descriptions_come_back():
    info = make(tta=PAPER_TTA, tiling=Tiling(250, 150), versions={"torch": "2"}, parity={"score": 0.0}).info
    assert from_json(json.dumps(to_json(info)), "x") == info
    fixed = replace(info, graph=GraphInfo((64, 96), (8, 16), per_cell=9, nms="graph"))
    assert from_json(json.dumps(to_json(fixed)), "x") == fixed
    assert fixed.graph.counts(64, 96) == (8 * 12 * 9, 4 * 6 * 9)


@pytest.mark.parametrize("levels", [(0.0, 4095.0), "image", None])
def test_the_range_of_deep_images_travels_with_the_file(levels):
    info = make().info
    info = replace(info, preprocess=replace(info.preprocess, range=levels))
    assert from_json(json.dumps(to_json(info)), "x") == info
    before = to_json(info)
    del before["preprocess"]["range"]  # as files of before say it
    assert from_json(json.dumps(before), "x").preprocess.range is None


def test_deep_images_are_read_by_the_range_in_the_description(tmp_path):
    values = np.full((250, 400), 1000, np.uint16)
    values[60:160, 120:220], values[0, 0] = 3000, 9000
    Image.fromarray(values).save(tmp_path / "a.png")
    model = make()
    model.info = replace(model.info, preprocess=replace(model.info.preprocess, range=(1000, 3000)))
    for given in (tmp_path / "a.png", values, (tmp_path / "a.png").read_bytes()):
        assert model.predict(given).boxes.tolist()[0] == [0, 0, 220, 160]
    assert model.session.batches[0][0, :, 30, 30].tolist() == [0, 0, 0]
    assert model.session.batches[0][0, :, 100, 150].tolist() == [255, 255, 255]


def test_bytes_and_files_are_taken_and_anything_else_is_a_sentence(tmp_path):
    spot().save(tmp_path / "a.png")
    content, model = (tmp_path / "a.png").read_bytes(), make()
    wanted = model.predict(tmp_path / "a.png").boxes
    with open(tmp_path / "a.png", "rb") as file:
        for given in (content, bytearray(content), memoryview(content), io.BytesIO(content), file):
            assert np.array_equal(model.predict(given).boxes, wanted)
            assert np.array_equal(model.predict([given, given])[1].boxes, wanted)
    for odd in (None, 5, {}, [None], [[content]]):
        with raises_code("image-type"):
            model.predict(odd)


def graph_file(path, description, opset=17, domain=""):
    """A file whose graph gives its input back."""
    place = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["images"], ["boxes"], domain=domain)
    graph = onnx.helper.make_graph([node], "g", [place], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    if description is not None:
        onnx.helper.set_model_props(model, {"varifocal": json.dumps(description)})
    path.write_bytes(model.SerializeToString())
    return path


GOOD = to_json(make().info)


def test_a_file_is_loaded(tmp_path):
    file = graph_file(tmp_path / "m.onnx", GOOD)
    for model in (load_exported(file), vf.load(str(file)), vf.load(file)):
        assert model.categories == CATEGORIES
        assert model.info == make().info
    assert is_exported("a/B.ONNX")
    assert not is_exported("a.safetensors")
    assert set(EXPORTED) == set(SUFFIXES)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"format": 4}, "description-newer"),
        ({"format": "x"}, "description-damaged"),
        ({"graph": {}}, "description-damaged"),
        ({"preprocess": {"shrt": 3}}, "description-damaged"),
        ({"tta": {"scales": [], "flip": False}}, "description-damaged"),
        (None, "description-missing"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_files_that_are_not_ours(tmp_path, change, code):
    file = graph_file(tmp_path / "m.onnx", None if change is None else {**GOOD, **change})
    with raises_code(code) as error:
        vf.load(file)
    assert str(file) in str(error.value)


def test_damaged_files(tmp_path):
    file = graph_file(tmp_path / "m.onnx", GOOD)
    content = file.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"hello"):
        file.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"m\.onnx: (damaged or not an ONNX file|ONNX without)"):
            vf.load(file)
    with pytest.raises(CheckpointError, match=r"gone\.onnx: cannot be read \(No such file"):
        vf.load(tmp_path / "gone.onnx")
    graph_file(file, GOOD, opset=99)
    with raises_code("onnx-opset"):
        vf.load(file)


def test_onnxruntime_tells_nobody(tmp_path, monkeypatch):
    """Nor does it leave anything: 1.29 and newer note an identifier, and what is to be sent, under these folders."""
    file = graph_file(tmp_path / "m.onnx", GOOD)
    home = tmp_path / "home"
    home.mkdir()
    own = {name: str(home) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    others = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    command = [sys.executable, "-c", f"import varifocal; varifocal.load({str(file)!r})"]
    subprocess.run(command, check=True, env={**others, **own})
    assert list(home.iterdir()) == []
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    vf.load(file)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_a_runtime_that_is_missing_or_too_old(tmp_path, monkeypatch):
    file = graph_file(tmp_path / "m.onnx", GOOD)
    monkeypatch.setattr(onnxruntime, "__version__", "1.24.4")
    with pytest.raises(ConfigError, match=r"onnxruntime 1\.24\.4 is too old.* need 1\.25 or newer: pip install"):
        vf.load(file)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with raises_code("onnxruntime-missing"):
        vf.load(file)


def test_devices_and_precisions_that_there_are_not(tmp_path):
    file = graph_file(tmp_path / "m.onnx", GOOD)
    with raises_code("device-not-in-onnxruntime"):
        vf.load(file, "tpu")
    with raises_code("device-number"):
        vf.load(file, "cuda:x")
    with raises_code("onnx-precision-fixed"):
        vf.load(file, precision="bf16")
