"""Descriptions inside files are found without a runtime, and no damage ends in anything but one sentence."""

import io
import json
import zipfile

import numpy as np
import onnx
import pytest
from error_codes import raises_code

from varifocal.inference.exported.metadata import GRAPH, MOST, check_graph, graph_checksum, read_description
from varifocal.utils.errors import CheckpointError

TEXT = json.dumps({"format": 1, "names": ["Käfer", "<&>\"'", "a" * 300]})


def onnx_file(text=TEXT, key="varifocal"):
    """With weights and other properties before and after."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    weight = onnx.numpy_helper.from_array(np.zeros(1000, np.float32), "w")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out], [weight]))
    onnx.helper.set_model_props(model, {"first": "1", key: text, "last": ""})
    return model.SerializeToString()


def ir_file(text=TEXT, key="varifocal"):
    from xml.sax.saxutils import quoteattr

    held = f'<rt_info><Runtime_version value="x"/><{key} value={quoteattr(text)}/></rt_info>'
    layer = '<layer id="0"><rt_info><attribute name="varifocal" value="no"/></rt_info></layer>'
    return f'<?xml version="1.0"?><net name="g"><layers>{layer}</layers>{held}</net>\n'.encode()


def archive(text=TEXT, key="varifocal"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("best/models/model.json", "{}")
        file.writestr(f"best/extra/{key}.json", text)
    return buffer.getvalue()


MAKERS = pytest.mark.parametrize(("make", "suffix"), [(onnx_file, ".onnx"), (ir_file, ".xml"), (archive, ".pt2")])


@MAKERS
def test_a_description_is_found(tmp_path, make, suffix):
    file = tmp_path / f"best{suffix}"
    file.write_bytes(make())
    assert read_description(file) == TEXT


@MAKERS
def test_files_of_something_else(tmp_path, make, suffix):
    file = tmp_path / f"best{suffix}"
    file.write_bytes(make(key="other"))
    with pytest.raises(CheckpointError, match=rf"best\{suffix}: .* without a varifocal description; .* --format "):
        read_description(file)
    file.unlink()
    with pytest.raises(CheckpointError, match=rf"best\{suffix}: cannot be read \(No such file"):
        read_description(file)


@MAKERS
def test_damage_is_told(tmp_path, make, suffix):
    """Cut anywhere, and with a byte changed anywhere: the description, or the one error."""
    file, content = tmp_path / f"best{suffix}", make()
    rng = np.random.default_rng(0)
    files = [content[: len(content) * i // 40] for i in range(40)]
    for place in rng.integers(0, len(content), 200):
        files.append(content[:place] + bytes([content[place] ^ rng.integers(1, 256)]) + content[place + 1 :])
    told = []
    for bad in files:
        file.write_bytes(bad)
        try:
            assert isinstance(read_description(file), str)
        except CheckpointError as error:
            told.append(str(error))
    assert len(told) >= 30
    assert all(message.startswith(str(file)) for message in told)


def test_a_description_without_end_is_not_unpacked(tmp_path):
    file = tmp_path / "best.pt2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("best/extra/varifocal.json", b" " * (MOST + 1))
    with raises_code("description-too-large"):
        read_description(file)


def test_any_damage_of_a_graph_is_seen(tmp_path):
    """A byte changed, lost or more; properties are no part of it, and a file without a mark is taken as it is."""
    model = onnx.load_model_from_string(onnx_file())
    mark = graph_checksum(io.BytesIO(model.SerializeToString()))
    onnx.helper.set_model_props(model, {"varifocal": TEXT, GRAPH: mark})
    content, file = model.SerializeToString(), tmp_path / "best.onnx"
    graph = len(model.graph.SerializeToString())
    assert content.index(model.graph.SerializeToString()) < 100
    rng = np.random.default_rng(0)
    for place in rng.integers(0, graph, 200):
        changed = content[:place] + bytes([content[place] ^ rng.integers(1, 256)]) + content[place + 1 :]
        for bad in (changed, content[:place] + content[place + 1 :], content[:place] + b"0" + content[place:]):
            file.write_bytes(bad)
            with pytest.raises(CheckpointError, match=r"^best: damaged"):
                check_graph(file, "best")
    for good in (content, content.replace(b"fer", b"FER"), onnx_file()):
        file.write_bytes(good)
        check_graph(file, "best")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"^best: cannot be read \(No such file"):
        check_graph(file, "best")
