"""Networks exported to ONNX against torch: every detector, fixed and any sizes, several images, both forms."""

from pathlib import Path

import numpy as np
import pytest
import timm
from error_codes import raises_code
from export_cases import BACKBONES, CASES, FIXED, FREE, NORMED, SHAPES, noise, same_outputs, torch_says

import varifocal as vf
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.export.parity import BOUNDS, SIDE
from varifocal.inference.exported.formats import read_info
from varifocal.inference.exported.onnx_session import OnnxRuntimeSession
from varifocal.utils.errors import ConfigError


@pytest.mark.parametrize(("name", "options", "size", "deform"), CASES)
def test_every_detector(build_tiny, name, options, size, deform):
    built = build_tiny(name, ExportSettings(size, deform=deform), **options)
    same_outputs(built, OnnxRuntimeSession(built.content), SHAPES[size])


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0"])
def test_half_precision(build_tiny, backbone):
    """Weights and products have eleven bits; inputs, outputs and coordinates have 24."""
    built = build_tiny("vfnet", ExportSettings(FIXED, "fp16"), backbone=backbone, **NORMED)
    whole = build_tiny("vfnet", ExportSettings(FIXED), **NORMED)  # of test_resnet
    assert backbone != "test_resnet" or len(built.content) < 0.7 * len(whole.content)
    pixels = noise(2, 3, *FIXED)
    expected, found = torch_says(built.model, pixels), OnnxRuntimeSession(built.content).run(pixels)
    assert all(values.dtype == np.float32 for values in found.values())
    assert 1e-5 < np.abs(found["scores"] - expected.scores.numpy()).max() < BOUNDS["fp16"].score
    assert np.abs(found["boxes"] - expected.boxes.numpy()).max() < BOUNDS["fp16"].box * SIDE


def test_windows_want_a_size(tiny):
    model = tiny("fcos", backbone="swin_tiny_patch4_window7_224")
    with pytest.raises(ConfigError, match=r"swin_tiny.*--size 800x1216"):
        build_onnx(model, ExportSettings())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_other_backbones(build_tiny, backbone):
    built = build_tiny("fcos", ExportSettings(FREE), backbone=backbone)
    same_outputs(built, OnnxRuntimeSession(built.content), [(1, 3, 96, 160), (2, 3, 128, 96)])


def test_a_file_says_nothing_of_the_machine_that_wrote_it(build_tiny):
    """The exporter stores lines of code and the paths of their files for every node."""
    content = build_tiny("vfnet", ExportSettings(FREE)).content
    for path in (vf.__file__, timm.__file__, __file__):
        assert str(Path(path).parent).encode() not in content
    assert b"File " not in content


def test_weights_that_changed_on_the_way_are_seen(build_tiny, tmp_path):
    """A file with other weights would run, too, and find other objects."""
    built = build_tiny("vfnet", ExportSettings(FREE))
    content, file = bytearray(built.content), tmp_path / "best.onnx"
    file.write_bytes(content)
    assert vf.load(file).info == built.info
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with raises_code("graph-checksum"):
        vf.load(file)
    assert read_info(file) == built.info
