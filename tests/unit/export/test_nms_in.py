"""NMS in the graph: boxes are clipped to the image before they are compared, as in torch."""

import numpy as np
import pytest
import torch
from export_cases import FIXED, FREE, noise

from varifocal.export.config import ExportSettings
from varifocal.export.openvino import save_openvino, to_openvino
from varifocal.inference.exported.info import OUTSIDE
from varifocal.inference.exported.onnx_session import OnnxRuntimeSession
from varifocal.inference.exported.openvino import OpenvinoSession
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Candidates

COVERED = [(96, 128), (70, 101)]  # height and width of the two images, the second with padding around


def padded(pixels):
    """Return both images in one batch; the padding of the second is marked as outside."""
    pixels = pixels.copy()
    height, width = COVERED[1]
    pixels[1, :, height:], pixels[1, :, :, width:] = OUTSIDE, OUTSIDE
    return pixels


def torch_chooses(model, pixels, clipped):
    """Return boxes, scores and labels of each image by the network itself and the package's own NMS."""
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (model.info.preprocess.mean, model.info.preprocess.std))
    images = torch.from_numpy(pixels)
    images = torch.where(images == OUTSIDE, mean, images)
    with torch.no_grad():
        outputs = model.detector((images - mean) / std)
        decoded: Candidates = model.detector.decode(outputs, COVERED if clipped else None)
    return [
        multiclass_nms(decoded.boxes[i], decoded.scores[i], decoded.counts, model.info.postprocess)
        for i in range(len(pixels))
    ]


def real(found, i):
    """Return the scores of image ``i`` without unused entries."""
    return found["scores"][i][found["labels"][i] >= 0]


@pytest.mark.parametrize("size", [FIXED, FREE], ids=["fixed", "free"])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_boxes_over_the_border_are_clipped_before_they_are_suppressed(build_tiny, tmp_path, size, runtime):
    built = build_tiny("vfnet", ExportSettings(size, nms="graph"))
    if runtime == "openvino":
        save_openvino(to_openvino(built.content), tmp_path / "in.xml", built.info)
    session = OnnxRuntimeSession(built.content) if runtime == "onnx" else OpenvinoSession(tmp_path / "in.xml")
    pixels = padded(noise(2, 3, *FIXED))
    found = session.run(pixels)
    expected, unclipped = (torch_chooses(built.model, pixels, clipped) for clipped in (True, False))
    for i, (boxes, scores, labels) in enumerate(expected):
        assert len(scores) > 5
        # boxes across the border overlap less before they are clipped, so that more of them would be kept
        assert len(unclipped[i][1]) != len(scores) or np.abs(unclipped[i][1] - scores).max() > 1e-3
        assert len(real(found, i)) == len(scores)
        assert np.abs(real(found, i) - scores.numpy()).max() < 3e-5
        assert np.array_equal(found["labels"][i][: len(labels)], labels.numpy())
        assert np.abs(found["boxes"][i][: len(boxes)] - boxes.numpy()).max() < 1e-3
