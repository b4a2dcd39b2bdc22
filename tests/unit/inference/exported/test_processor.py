"""Processors that compute int8 exactly, and files that want them."""

import json
from dataclasses import replace

import onnx
import pytest
from error_codes import raises_code
from PIL import Image
from small_graphs import model, node

import varifocal as vf
from varifocal.cli import main
from varifocal.export.onnx import described
from varifocal.inference.exported import formats, processor
from varifocal.inference.exported.info import ExportInfo, GraphInfo, from_json, to_json
from varifocal.tools.info import about
from varifocal.types import Category

INFO = ExportInfo("vfnet", (Category(1, "cat"),), GraphInfo((32, 32), (8,), precision="int8"))


@pytest.mark.parametrize(
    ("machine", "flags", "features", "wanted"),
    [
        ("x86_64", "fpu avx2", {}, False),
        ("x86_64", "fpu avx2 avx512f avx512bw", {}, False),  # AVX-512 alone has no such products
        ("x86_64", "fpu avx512f avx512_vnni", {}, True),
        ("x86_64", "fpu avx2 avx_vnni", {}, True),
        ("AMD64", None, {"AVX512VNNI": True}, True),
        ("AMD64", None, {"AVX512VNNI": False}, None),  # NumPy does not know AVX-VNNI
        ("x86_64", None, {}, None),
        ("aarch64", None, {}, True),
        ("arm64", None, {}, True),
    ],
)
def test_has_vnni(machine, flags, features, wanted, tmp_path, monkeypatch):
    listed = tmp_path / "cpuinfo"
    if flags is not None:
        listed.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "CPUINFO", listed)
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_numpy_features", lambda: features)
    assert processor.has_vnni() is wanted


def test_numpy_says_its_features():
    """Its list has no public name; that it is still there is seen here."""
    assert "SSE2" in processor._numpy_features() or "NEON" in processor._numpy_features()


def written(folder, info):
    """A file of ONNX with that description; what it computes is nothing."""
    proto = model([node("Relu", ["images"], "y", "head")], {}, ["y"])
    file = folder / "best.onnx"
    file.write_bytes(described(proto.SerializeToString(), info))
    onnx.checker.check_model(str(file))
    return file


def with_target(target):
    return replace(INFO, graph=replace(INFO.graph, int8_target=target))


@pytest.mark.parametrize("target", ["vnni", None], ids=["vnni", "older file"])
def test_a_file_for_vnni_is_refused_without_it(target, tmp_path, monkeypatch, capfd):
    file = written(tmp_path, with_target(target))
    monkeypatch.setattr(formats, "has_vnni", lambda: False)
    with raises_code("int8-without-vnni"):
        vf.load(file)
    with raises_code("int8-without-vnni"):
        vf.load(file, device="cpu:0")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert main(["predict", str(file), str(tmp_path / "a.png"), "--out", str(tmp_path / "found")]) == 2
    assert "--int8-target portable" in capfd.readouterr().err


def test_where_it_cannot_be_seen_there_is_a_warning(tmp_path, monkeypatch):
    file = written(tmp_path, with_target("vnni"))
    monkeypatch.setattr(formats, "has_vnni", lambda: None)
    with pytest.warns(UserWarning, match="is unknown whether this one has it"):
        vf.load(file)


@pytest.mark.parametrize("there", [True, False, None])
@pytest.mark.parametrize("info", [with_target("portable"), replace(INFO, graph=GraphInfo((32, 32), (8,)))])
def test_others_run_everywhere(info, there, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "has_vnni", lambda: there)
    assert vf.load(written(tmp_path, info)).info == info


@pytest.mark.parametrize(
    ("target", "there", "words"),
    [
        ("portable", False, "portable: same results on every processor"),
        ("vnni", True, "this processor runs it exactly"),
        ("vnni", False, "this processor has no VNNI and cannot run it"),
        (None, None, "whether this processor has VNNI is unknown"),
    ],
)
def test_info_says_it(target, there, words, tmp_path, monkeypatch):
    import varifocal.tools.info as module

    monkeypatch.setattr(module, "has_vnni", lambda: there)
    rows = about(written(tmp_path, with_target(target)))
    names, values = (list(column.cells) for column in rows.columns)
    assert words in values[names.index("int8")]


def test_the_description_of_an_older_file_is_read():
    held = to_json(INFO)
    assert held["format"] == 3  # the names of its settings are those of today
    assert "int8_target" not in held["graph"]
    assert to_json(with_target("portable"))["format"] == 3
    assert from_json(json.dumps(held), "old.onnx").graph.wants_vnni
    assert not from_json(json.dumps(to_json(with_target("portable"))), "new.onnx").graph.wants_vnni
