"""Networks exported to ONNX against torch: every detector, fixed and free sizes, several pictures, both forms."""

from pathlib import Path

import pytest
import timm
from export_cases import BACKBONES, CASES, FREE, SHAPES, same_outputs

import varifocal
from varifocal.errors import ConfigError
from varifocal.export import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.runtime.session import Session


@pytest.mark.parametrize(("name", "options", "size", "deform"), CASES)
def test_every_detector(build_tiny, name, options, size, deform):
    built = build_tiny(name, ExportSettings(size, deform=deform), **options)
    same_outputs(built, Session(built.content), SHAPES[size])


def test_windows_want_a_size(tiny):
    model = tiny("fcos", backbone="swin_tiny_patch4_window7_224")
    with pytest.raises(ConfigError, match=r"swin_tiny.*give a size, as --size 800x1216"):
        build_onnx(model, ExportSettings())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_other_backbones(build_tiny, backbone):
    built = build_tiny("fcos", ExportSettings(FREE), backbone=backbone)
    same_outputs(built, Session(built.content), [(1, 3, 96, 160), (2, 3, 128, 96)])


def test_a_file_says_nothing_of_the_machine_that_wrote_it(build_tiny):
    """The exporter notes lines of code and the paths of their files for every node."""
    content = build_tiny("vfnet", ExportSettings(FREE)).content
    for path in (varifocal.__file__, timm.__file__, __file__):
        assert str(Path(path).parent).encode() not in content
    assert b"File " not in content
