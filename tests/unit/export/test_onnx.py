"""Networks exported to ONNX against torch: every detector, fixed and free sizes, several pictures, both forms."""

import pytest
from export_cases import CASES, SHAPES, same_outputs

from varifocal.errors import ConfigError
from varifocal.export import ExportSettings
from varifocal.runtime.session import Session


@pytest.mark.parametrize(("name", "options", "size", "deform"), CASES)
def test_every_detector(build_tiny, name, options, size, deform):
    built = build_tiny(name, ExportSettings(size, deform=deform), **options)
    same_outputs(built, Session(built.content), SHAPES[size])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_other_backbones(build_tiny, backbone):
    """Padding as TensorFlow has it, channels last, and a plain transformer, for any size."""
    built = build_tiny("fcos", ExportSettings(), backbone=backbone)
    same_outputs(built, Session(built.content), [(1, 3, 96, 160), (2, 3, 128, 96)])


def test_windows_want_a_size(build_tiny):
    with pytest.raises(ConfigError, match=r"swin_tiny.*give a size, as --size 800x1216"):
        build_tiny("fcos", ExportSettings(), backbone="swin_tiny_patch4_window7_224")
