"""The command bench on exported files: the keys and steps of a checkpoint's report, and what such a file cannot do."""

import json
import sys

import pytest
from openvino_cpu import has_bf16, without_bf16

from varifocal.cli import main
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import described
from varifocal.export.openvino import save_openvino, to_openvino
from varifocal.inference.exported.model import load_exported
from varifocal.inference.model import save
from varifocal.models.flops import count_flops
from varifocal.tools.bench import bench, peak, run
from varifocal.tools.bench.config import Settings
from varifocal.tools.bench.exported import ExportedWorkload, one_pass
from varifocal.tools.bench.images import decode, made_image
from varifocal.tools.bench.results import STAGES

SIZE = (96, 128)
RUNTIMES = {"tiny.onnx": "onnxruntime", "tiny.xml": "openvino"}
FILES = pytest.mark.parametrize("name", RUNTIMES)


@pytest.fixture(autouse=True)
def small_peak(monkeypatch):
    monkeypatch.setattr(run, "CONVOLUTIONS", (peak.Convolution(16, 16, 3, 32, 32),))
    monkeypatch.setattr(peak, "SECONDS", 0.01)


@pytest.fixture(scope="module")
def folder(build_tiny, tmp_path_factory):
    """A folder with tiny.safetensors, and tiny.onnx and tiny.xml exported from it for any size."""
    path = tmp_path_factory.mktemp("bench")
    built = build_tiny("vfnet", ExportSettings(None))
    save(built.model, path / "tiny.safetensors")
    (path / "tiny.onnx").write_bytes(described(built.content, built.info))
    save_openvino(to_openvino(built.content), path / "tiny.xml", built.info)
    return path


def refused(capsys, *arguments):
    """Return the only sentence on stderr of a command that must fail with exit code 2."""
    capsys.readouterr()
    assert main(["bench", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@FILES
def test_the_report_is_that_of_a_checkpoint(folder, tmp_path, capsys, name):
    reports = []
    for file in ("tiny.safetensors", name):
        target = tmp_path / "speed.json"
        words = ["--size", "96x128", "--batch", "1,2", "--repeats", "2", "--output-json", str(target)]
        assert main(["bench", str(folder / file), *words]) == 0
        reports.append(json.loads(target.read_text()))
    expected, found = reports
    for key in ("model", "settings", "machine"):
        assert found[key].keys() == expected[key].keys()
    assert found.keys() == expected.keys()
    assert found["settings"]["runtime"] == RUNTIMES[name]
    assert RUNTIMES[name] in found["versions"]
    assert (found["model"]["detector"], found["model"]["classes"], found["model"]["input"]) == ("vfnet", 3, [96, 128])
    assert found["peak"][0]["gflops_per_second"] > 0
    for one, other in zip(found["batches"], expected["batches"], strict=True):
        assert one.keys() == other.keys()
        assert [step["name"] for step in one["steps"]] == list(STAGES)
        assert one["steps"][0].keys() == other["steps"][0].keys()
        assert one["detections"] == pytest.approx(other["detections"], abs=2)
        assert sum(step["milliseconds"]["median"] for step in one["steps"]) > 0
        assert one["memory"]["extra"] is None or one["memory"]["extra"] >= 0
        # in proportion to the area of 800x1216, for which it was counted; levels of a few points round up
        gflop = [step["gflop"] for step in (one["steps"][2], other["steps"][2])]
        assert gflop[0] == pytest.approx(gflop[1], rel=0.02)
        assert one["steps"][2]["fraction_of_peak"] > 0
    out = capsys.readouterr().out
    assert f"{RUNTIMES[name]} " in out
    assert "of peak" in out


def test_work_is_counted_exactly_at_the_size_of_a_file(build_tiny):
    built = build_tiny("vfnet", ExportSettings(SIZE), deformable_tower=True)
    assert built.info.work[:2] == SIZE
    assert built.info.operations(*SIZE) == count_flops(built.model.detector, SIZE)[""]
    assert built.info.operations(2 * SIZE[0], SIZE[1]) == 2 * built.info.operations(*SIZE)


@FILES
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pass_finds_what_prediction_finds(folder, name, batch):
    model = load_exported(folder / name)
    image = made_image()
    shape = model.fitted_shape(decode(image), model.info.preprocess)
    done = []
    found = one_pass(ExportedWorkload(model, [image], shape), [image] * batch, done.append)
    assert done == list(STAGES)
    expected = model.predict([decode(image)] * batch)
    for one, other in zip(found, expected, strict=True):
        assert one.boxes.tolist() == other.boxes.tolist()
        assert one.scores.tolist() == other.scores.tolist()


@FILES
def test_threads(folder, name):
    report = bench(str(folder / name), Settings(SIZE, threads=1, repeats=1, runtime=RUNTIMES[name]))
    assert report.machine["threads"] == 1


@pytest.mark.skipif(not has_bf16(), reason="OpenVINO has no arithmetic in bf16 on this processor")
def test_precision(folder):
    settings = Settings(SIZE, precision="bf16", repeats=1, runtime="openvino")
    assert bench(str(folder / "tiny.xml"), settings).settings["precision"] == "bf16"


def test_a_precision_that_the_processor_lacks(folder, capsys, monkeypatch):
    without_bf16(monkeypatch)
    printed = refused(capsys, folder / "tiny.xml", "--precision", "bf16")
    assert printed.endswith("tiny.xml: this processor does not support bf16; use --precision fp32.")


@FILES
def test_without_torch_there_is_no_peak(folder, monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["bench", str(folder / name), "--size", "96x128", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "note: the machine's peak is measured with torch, which is not installed." in " ".join(out.split())


def test_wishes_that_a_file_cannot_meet(folder, tmp_path, capsys, monkeypatch):
    file, checkpoint = folder / "tiny.onnx", folder / "tiny.safetensors"
    assert "tiny.onnx: runs in onnxruntime; leave out --runtime torch" in refused(capsys, file, "--runtime", "torch")
    printed = refused(capsys, file, "--profile", tmp_path / "x.json")
    assert printed.endswith("--profile is torch's profiler and cannot profile onnxruntime; leave it out.")
    assert "the precision of an ONNX file is its own" in refused(capsys, file, "--precision", "bf16")
    assert "--device cuda: files of OpenVINO" in refused(capsys, folder / "tiny.xml", "--device", "cuda")
    printed = refused(capsys, checkpoint, "--runtime", "openvino")
    assert f"varifocal export {checkpoint} --format openvino, then: varifocal bench {folder / 'tiny.xml'}" in printed
    printed = refused(capsys, "vfnet_r50_1x", "--runtime", "onnxruntime")
    assert printed.endswith("varifocal export CHECKPOINT --format onnx, then: varifocal bench CHECKPOINT.onnx")
    assert "gone.onnx: cannot be read" in refused(capsys, "gone.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "needs the package onnxruntime" in refused(capsys, file)


def test_a_fixed_size(build_tiny, tmp_path, capsys):
    built = build_tiny("fcos", ExportSettings(SIZE))
    (tmp_path / "fixed.onnx").write_bytes(described(built.content, built.info))
    report = bench(str(tmp_path / "fixed.onnx"), Settings(repeats=1, runtime="onnxruntime"))
    assert report.model["input"] == list(SIZE)
    assert report.model["resized"] == [96, 128]  # the size of a 640x480 image after preprocessing
    printed = refused(capsys, tmp_path / "fixed.onnx", "--size", "64x64")
    assert printed.endswith("fixed.onnx: --size 64x64: its input is 96x128; leave out --size.")
