"""Exports of networks whose last map is a single point with one channel per group, which torch's group norm refuses."""

import numpy as np
import pytest
from export_cases import FREE, noise, torch_says

from varifocal.export.config import ExportSettings
from varifocal.export.openvino import save_openvino, to_openvino
from varifocal.inference.exported.onnx_session import OnnxRuntimeSession
from varifocal.inference.exported.openvino import OpenvinoSession

ONE = (32, 32)  # pixels; the third level has one point for each 32


@pytest.mark.parametrize(
    ("detector", "options", "size"),
    [
        ("vfnet", {"star_norm": "group"}, ONE),
        pytest.param("fcos", {}, ONE, marks=pytest.mark.slow),
        pytest.param("reppoints", {}, ONE, marks=pytest.mark.slow),
        pytest.param("vfnet", {}, FREE, marks=pytest.mark.slow),
        pytest.param("vfnet", {"star_norm": "group"}, FREE, marks=pytest.mark.slow),
    ],
)
def test_a_last_map_of_one_cell(build_tiny, tmp_path, detector, options, size):
    built = build_tiny(detector, ExportSettings(size), channels=32, **options)
    save_openvino(to_openvino(built.content), tmp_path / "tiny.xml", built.info)
    for session in (OnnxRuntimeSession(built.content), OpenvinoSession(tmp_path / "tiny.xml")):
        for count in (1, 2):
            pixels = noise(count, 3, *ONE)
            expected, found = torch_says(built.model, pixels), session.run(pixels)
            assert expected.counts == built.info.graph.counts(*ONE)
            assert expected.counts[-1] == 1
            assert np.abs(found["boxes"] - expected.boxes.numpy()).max() < 1e-3
            assert np.abs(found["scores"] - expected.scores.numpy()).max() < 3e-5
            assert len(expected.scores.unique()) > 10  # for 21 points and three classes
