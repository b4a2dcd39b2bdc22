"""Networks exported to OpenVINO against torch, both files together or none, and the errors for bad files."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from error_codes import raises_code
from export_cases import BACKBONES, CASES, FIXED, FREE, NORMED, SHAPES, noise, same_outputs, torch_says
from openvino_cpu import has_bf16, without_bf16
from PIL import Image

import varifocal as vf
from varifocal.cli import main
from varifocal.export.config import ExportSettings
from varifocal.export.openvino import export_openvino, save_openvino, to_openvino
from varifocal.export.parity import Parity
from varifocal.inference.exported.openvino import OpenvinoSession
from varifocal.inference.model import save
from varifocal.utils.errors import CheckpointError, ConfigError, ExportError


@pytest.mark.parametrize(("name", "options", "size", "deform"), CASES)
def test_every_detector(build_tiny, tmp_path, name, options, size, deform):
    """The files are those of test_onnx.py, built once for both."""
    built = build_tiny(name, ExportSettings(size, deform=deform), **options)
    file = tmp_path / "tiny.xml"
    save_openvino(to_openvino(built.content), file, built.info)
    same_outputs(built, OpenvinoSession(file), SHAPES[size])


@pytest.mark.slow
# for any size, OpenVINO resizes a plain transformer's position embeddings differently; the comparison refuses that
@pytest.mark.parametrize(("backbone", "size"), [(name, FIXED if name == "test_vit" else FREE) for name in BACKBONES])
def test_other_backbones(build_tiny, tmp_path, backbone, size):
    built = build_tiny("fcos", ExportSettings(size), backbone=backbone)
    save_openvino(to_openvino(built.content), tmp_path / "tiny.xml", built.info)
    shapes = [(1, 3, 96, 160), (2, 3, 128, 96)] if size is FREE else SHAPES[size]
    same_outputs(built, OpenvinoSession(tmp_path / "tiny.xml"), shapes)


def test_deformable_convolution_is_onnx_s_own():
    """With a mask, stride, dilation and groups, against ONNX's reference implementation; zero outside the map."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(0)
    shapes = {"x": (2, 4, 7, 9), "w": (6, 2, 3, 3), "offset": (2, 36, 4, 5), "mask": (2, 18, 4, 5)}
    values = {name: rng.normal(0, 2, shape).astype(np.float32) for name, shape in shapes.items()}
    node = helper.make_node(
        "DeformConv",
        ["x", "w", "offset", "", "mask"],
        ["y"],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        dilations=[1, 1],
        group=2,
        offset_group=2,
        kernel_shape=[3, 3],
    )
    weight = helper.make_tensor("w", TensorProto.FLOAT, shapes["w"], values["w"].ravel())
    places = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in ("x", "offset", "mask")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", places, [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    given = {name: values[name] for name in ("x", "offset", "mask")}
    expected = ReferenceEvaluator(model).run(None, given)[0]
    compiled = openvino.Core().compile_model(
        to_openvino(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled([values["x"], values["offset"], values["mask"]])[0]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.fixture
def cached(monkeypatch, build_tiny):
    """The exporter uses the ONNX files of the fixture, of vfnet, instead of building them again."""
    from varifocal.export import openvino as module

    def build_onnx(model, settings):
        built = build_tiny("vfnet", settings)
        return built.content, built.info

    monkeypatch.setattr(module, "build_onnx", build_onnx)
    return build_tiny("vfnet", ExportSettings(FREE)).model


@pytest.fixture
def photo():
    noise = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((300, 200), Image.Resampling.BICUBIC)


@pytest.fixture
def exported(cached, photo, tmp_path):
    """The path of a file that export_openvino has written."""
    file = tmp_path / "deployed" / "best.xml"
    export_openvino(cached, file, ExportSettings(FREE), [photo])
    return file


def test_an_exported_file_predicts_what_the_checkpoint_does(exported, cached, photo):
    assert sorted(path.name for path in exported.parent.iterdir()) == ["best.bin", "best.xml", "best.xml.json"]
    model = vf.load(exported)
    found, expected = model.predict(photo), cached.predict(photo)
    assert len(found) == len(expected) > 5
    assert np.abs(found.scores - expected.scores).max() < 0.01  # the resize differs by a gray level
    assert [category.name for category in model.categories] == ["cat", "dog", "cow"]
    described = json.loads((exported.parent / "best.xml.json").read_text())
    inside = openvino.Core().read_model(exported).get_rt_info("varifocal").astype(str)
    assert json.loads(inside) == described
    assert described["parity"]["detections"] == described["parity"]["matched"] > 5
    assert described["versions"]["openvino"] == openvino.__version__.split("-")[0]


def test_precisions_of_an_exported_file(exported, cached, monkeypatch):
    """fp32 is exact; bf16 is less precise."""
    pixels = noise(1, 3, 96, 128)
    expected = torch_says(cached, pixels).scores.numpy()
    assert np.abs(vf.load(exported, precision="fp32").session.run(pixels)["scores"] - expected).max() < 1e-5
    with pytest.raises(ConfigError, match=r"best\.xml: OpenVINO computes in fp32 or bf16 on a CPU, not in fp16"):
        vf.load(exported, precision="fp16")
    if has_bf16():
        low = vf.load(exported, precision="bf16").session.run(pixels)["scores"]
        assert 1e-5 < np.abs(low - expected).max() < 0.05
    without_bf16(monkeypatch)
    with raises_code("bf16-not-in-processor"):
        vf.load(exported, precision="bf16")


@pytest.mark.skipif(not has_bf16(), reason="OpenVINO has no arithmetic in bf16 on this processor")
def test_a_file_of_a_fixed_size_in_bf16(build_tiny, tmp_path):
    """It runs image by image; a batch gives the same results as each image alone."""
    built = build_tiny("vfnet", ExportSettings(FIXED), **NORMED)
    save_openvino(to_openvino(built.content), tmp_path / "fixed.xml", built.info)
    session = OpenvinoSession(tmp_path / "fixed.xml", precision="bf16")
    pixels = noise(3, 3, *FIXED)
    found, expected = session.run(pixels), torch_says(built.model, pixels)
    assert 1e-5 < np.abs(found["scores"] - expected.scores.numpy()).max() < 0.05
    assert np.abs(found["boxes"] - expected.boxes.numpy()).max() < 5
    for i in range(3):
        assert np.array_equal(session.run(pixels[i : i + 1])["scores"][0], found["scores"][i])


@pytest.mark.parametrize(
    ("size", "options", "norms", "deformable"),
    # three levels; a norm in either tower and in the convolution before the first boxes, and one after each star
    [(FREE, {}, 3 * 3, 3 * 2), (FIXED, NORMED, 3 * 5, 3 * 4)],
)
def test_norms_of_groups_have_one_operator(build_tiny, size, options, norms, deformable):
    content = build_tiny("vfnet", ExportSettings(size), **options).content
    kinds = [node.get_type_name() for node in to_openvino(content).get_ops()]
    assert kinds.count("GroupNormalization") == norms
    assert kinds.count("DeformableConvolution") == deformable
    assert "MVN" not in kinds


def test_half_weights_are_half_as_large(cached, photo, tmp_path):
    sizes = []
    for precision in ("fp32", "fp16"):
        file = tmp_path / precision / "best.xml"
        settings = ExportSettings(FREE, precision)
        parity = export_openvino(cached, file, settings, [photo])
        assert (parity.precision, parity.score < (1e-5, 0.01)[precision == "fp16"]) == (precision, True)
        assert vf.load(file).info.graph.precision == precision
        sizes.append(file.with_suffix(".bin").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]


@pytest.mark.slow
def test_a_file_that_suppresses_by_itself(build_tiny, tmp_path, photo):
    built = build_tiny("vfnet", ExportSettings(FREE, nms="graph"))
    save_openvino(to_openvino(built.content), tmp_path / "in.xml", built.info)
    found, expected = vf.load(tmp_path / "in.xml").predict(photo), built.model.predict(photo)
    assert len(found) == len(expected) > 5
    assert np.abs(found.scores - expected.scores).max() < 0.01


def test_nothing_is_left_of_an_export_that_differs(cached, photo, tmp_path, monkeypatch):
    kept = tmp_path / "best.xml"
    kept.write_text("old")

    def far(self, name):
        raise ExportError(f"{name}: is not kept")

    monkeypatch.setattr(Parity, "check", far)
    with pytest.raises(ExportError, match=re.escape(f"{kept}: is not kept")):
        export_openvino(cached, kept, ExportSettings(FREE), [photo])
    assert [path.name for path in tmp_path.iterdir()] == ["best.xml"]
    assert kept.read_text() == "old"


def test_look_ups_and_bf16_do_not_go_together(build_tiny, tmp_path):
    built = build_tiny("vfnet", ExportSettings(FREE))
    graph = replace(built.info.graph, deform="gridsample")
    save_openvino(to_openvino(built.content), tmp_path / "look.xml", replace(built.info, graph=graph))
    with pytest.raises(ConfigError, match=r"look\.xml: bf16 rounds its sampling locations.* --deform-op deformconv"):
        vf.load(tmp_path / "look.xml", precision="bf16")


# files that are bad


def refused(file, match, kind=CheckpointError):
    with pytest.raises(kind, match=match):
        vf.load(file)


def test_weights_that_are_missing_or_not_its_own(exported, cached, photo, tmp_path):
    weights = exported.with_suffix(".bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    refused(exported, rf"best\.bin: damaged, or not the weights of best\.xml \({len(content) - 100} bytes of ")
    weights.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    refused(
        exported, r"best\.bin: damaged, or not the weights of best\.xml \(other bytes than those that were written\)"
    )
    weights.unlink()
    refused(exported, r"best\.xml: its weights, best\.bin, are not beside it; copy both files")
    weights.mkdir()
    refused(exported, r"best\.bin: cannot be read \(Is a directory\)")


def test_a_graph_that_is_damaged_or_something_else_s(exported):
    content = exported.read_text()
    for bad in (content[: len(content) // 2], "", "hello", content.replace("</rt_info>", "")):
        exported.write_text(bad)
        refused(exported, r"best\.xml: damaged or not an OpenVINO model")
    exported.write_text(content.replace('type="Convolution"', 'type="Convolved"'))
    refused(
        exported,
        r"best\.xml: damaged, or not a model that openvino \d+\.\d+\.\d+ runs .*pip install --upgrade openvino",
    )
    exported.write_text(re.sub(r"<varifocal value=[^>]*>", "", content))
    refused(exported, r"best\.xml: an OpenVINO model without a varifocal description.* --format openvino")
    exported.write_text(content.replace("&quot;format&quot;: 3", "&quot;format&quot;: 99"))
    refused(exported, r"best\.xml: written by a newer version of varifocal")
    exported.unlink()
    refused(exported, r"best\.xml: cannot be read \(No such file")


def test_a_runtime_that_is_missing_or_too_old(exported, monkeypatch):
    monkeypatch.setattr(openvino, "__version__", "2024.6.0-1234-releases")
    refused(exported, r"openvino 2024\.6 is too old; exported models need \d+\.\d or newer: pip install", ConfigError)
    monkeypatch.setitem(sys.modules, "openvino", None)
    refused(exported, r'needs the package openvino: pip install "openvino>=', ConfigError)


def test_an_exporter_that_is_missing(cached, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r'needs the package openvino: pip install "varifocal\[openvino\]"'):
        export_openvino(cached, tmp_path / "best.xml", ExportSettings(FREE), [photo])


def test_devices_that_there_are_not(exported):
    for name in ("cuda", "cuda:1", "tpu"):
        with pytest.raises(ConfigError, match=f"--device {name}: files of OpenVINO run on the CPU"):
            vf.load(exported, name)


def test_the_verb(cached, tmp_path, capsys):
    checkpoint = tmp_path / "best.safetensors"
    save(cached, checkpoint)
    command = ["export", str(checkpoint), "--format", "openvino"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert re.search(r"best\.xml and best\.bin: \d+\.\d MB, input of any size; the description: best\.xml\.json", said)
    for file in ("best.xml", "best.bin", "best.xml.json"):
        assert (tmp_path / file).stat().st_size > 100
    (tmp_path / "best.xml").unlink()
    assert main(command) == 2
    assert "best.bin: already exists" in capsys.readouterr().err
    for wrong, message in (
        (tmp_path / "gone.safetensors", "there is no such file; name a checkpoint"),
        (tmp_path / "best.onnx", "is already an exported file; name the checkpoint that it was made from"),
    ):
        assert main(["export", str(wrong), "--out", str(tmp_path / "new")]) == 2
        assert f"{wrong}: {message}" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
    assert main([*command, "--overwrite"]) == 0
    photo = Path(__file__).parents[3] / "docs" / "demo.jpg"
    assert main(["predict", str(tmp_path / "best.xml"), str(photo), "--output-json", str(tmp_path / "found.json")]) == 0
    assert len(json.loads((tmp_path / "found.json").read_text())) > 5
