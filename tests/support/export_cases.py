"""What every export format is tried with: detectors, sizes, forms; and what torch says of the same pixels."""

import numpy as np
import pytest
import torch

from varifocal.models import DETECTORS

FIXED, FREE = (96, 128), None
LOOK_UPS = "gridsample"
# other sizes and numbers than those of the example, a level of one cell among them
SHAPES = {FIXED: [(1, 3, 96, 128), (3, 3, 96, 128)], FREE: [(1, 3, 32, 160), (3, 3, 128, 96)]}
# name, options, size, form of deformable convolutions
# every deformable layer, a norm behind each
NORMED = {"deformable_tower": True, "star_norm": "group"}
CASES = [
    ("vfnet", NORMED, FIXED, "auto"),
    ("vfnet", {}, FREE, "auto"),
    ("fcos", {}, FIXED, "auto"),
    *(
        pytest.param(name, {}, size, deform, marks=pytest.mark.slow)
        for name in DETECTORS
        for size in (FIXED, FREE)
        for deform in ("auto", LOOK_UPS)
        # the others have no deformable convolution
        if deform == "auto" or name in ("vfnet", "reppoints")
    ),
    *(
        pytest.param("vfnet", {"deformable_stages": (5,), **NORMED}, size, deform, marks=pytest.mark.slow)
        for size, deform in ((FREE, "auto"), (FIXED, LOOK_UPS))
    ),
]

# padding as TensorFlow has it, channels last, and a plain transformer
BACKBONES = ("tf_efficientnet_lite0", "test_convnext", "test_vit")


def torch_says(model, pixels):
    """The trained network itself, in float32, of raw pixels."""
    statistics = (model.info.preprocess.mean, model.info.preprocess.std)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in statistics)
    images = torch.from_numpy(pixels)
    images = images.flip(1) if model.info.preprocess.bgr else images
    with torch.no_grad():
        outputs = model.detector((images - mean) / std)
        return model.detector.decode(outputs, [pixels.shape[2:]] * len(pixels))


def noise(*shape):
    """Raw pixels, the same in every call."""
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def same_outputs(built, session, shapes):
    """That what a session says of noise of these shapes is what torch says."""
    for shape in shapes:
        pixels = noise(*shape)
        wanted, found = torch_says(built.model, pixels), session.run(pixels)
        assert wanted.counts == built.info.graph.counts(*shape[2:])
        assert np.abs(found["boxes"] - wanted.boxes.numpy()).max() < 1e-3
        assert np.abs(found["scores"] - wanted.scores.numpy()).max() < 3e-5
        assert wanted.scores.amax() - wanted.scores.amin() > 0.1  # or anything would do
        assert ("quality" in found) == (wanted.quality is not None)
        if wanted.quality is not None:
            assert np.abs(found["quality"] - wanted.quality.numpy()).max() < 3e-5
