"""Networks exported to ONNX against torch: every detector, fixed and free sizes, several pictures, both forms."""

from pathlib import Path

import pytest
from export_cases import BACKBONES, CASES, FIXED, FREE, SHAPES, same_outputs

from varifocal.errors import ConfigError
from varifocal.export import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.runtime.session import Session


@pytest.mark.parametrize(("name", "options", "size", "deform"), CASES)
def test_every_detector(build_tiny, name, options, size, deform):
    built = build_tiny(name, ExportSettings(size, deform=deform), **options)
    same_outputs(built, Session(built.content), SHAPES[size])


def test_a_file_tells_nothing_of_the_machine(build_tiny):
    content = build_tiny("fcos", ExportSettings(FIXED)).content
    assert str(Path(__file__).parents[3]).encode() not in content
    assert b"site-packages" not in content


def test_windows_want_a_size(tiny):
    model = tiny("fcos", backbone="swin_tiny_patch4_window7_224")
    with pytest.raises(ConfigError, match=r"swin_tiny.*give a size, as --size 800x1216"):
        build_onnx(model, ExportSettings())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_other_backbones(build_tiny, backbone):
    built = build_tiny("fcos", ExportSettings(FREE), backbone=backbone)
    same_outputs(built, Session(built.content), [(1, 3, 96, 160), (2, 3, 128, 96)])
