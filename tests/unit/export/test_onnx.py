"""Networks exported to ONNX against torch: every detector, fixed and free sizes, several pictures, both forms."""

import pytest
from export_cases import CASES, SHAPES, same_outputs

from varifocal.export import ExportSettings
from varifocal.runtime.session import Session


@pytest.mark.parametrize(("name", "options", "size", "deform"), CASES)
def test_every_detector(build_tiny, name, options, size, deform):
    built = build_tiny(name, ExportSettings(size, deform=deform), **options)
    same_outputs(built, Session(built.content), SHAPES[size])
