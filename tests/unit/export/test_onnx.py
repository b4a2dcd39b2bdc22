"""Exported networks against torch: every detector, fixed and free sizes, several pictures, both forms."""

import numpy as np
import pytest
import torch

from varifocal.errors import ConfigError
from varifocal.export import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.models import DETECTORS

FIXED, FREE = (96, 128), None
LOOK_UPS = "gridsample"


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
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def same_outputs(model, exported, shapes):
    for shape in shapes:
        pixels = noise(*shape)
        wanted, found = torch_says(model, pixels), exported.session.run(pixels)
        assert wanted.counts == exported.info.graph.counts(*shape[2:])
        assert np.abs(found["boxes"] - wanted.boxes.numpy()).max() < 1e-3
        assert np.abs(found["scores"] - wanted.scores.numpy()).max() < 3e-5
        assert wanted.scores.amax() - wanted.scores.amin() > 0.1  # or anything would do
        assert ("quality" in found) == (wanted.quality is not None)
        if wanted.quality is not None:
            assert np.abs(found["quality"] - wanted.quality.numpy()).max() < 3e-5


# other sizes and numbers than those of the example, a level of one cell among them
SHAPES = {FIXED: [(1, 3, 96, 128), (3, 3, 96, 128)], FREE: [(1, 3, 32, 160), (3, 3, 128, 96)]}


@pytest.mark.parametrize(
    ("name", "options", "size", "deform"),
    [
        ("vfnet", {"deformable_tower": True}, FIXED, "auto"),
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
    ],
)
def test_every_detector(tiny, export_tiny, name, options, size, deform):
    model = tiny(name, **options)
    same_outputs(model, export_tiny(model, ExportSettings(size, deform=deform)), SHAPES[size])


@pytest.mark.slow
@pytest.mark.parametrize(("size", "deform"), [(FREE, "deformconv"), (FIXED, LOOK_UPS)])
def test_deformable_towers_and_backbone(tiny, export_tiny, size, deform):
    model = tiny("vfnet", deformable_stages=(5,), deformable_tower=True)
    same_outputs(model, export_tiny(model, ExportSettings(size, deform=deform)), SHAPES[size])


def test_windows_want_a_size(tiny):
    model = tiny("fcos", backbone="swin_tiny_patch4_window7_224")
    with pytest.raises(ConfigError, match=r"swin_tiny.*give a size, as --size 800x1216"):
        build_onnx(model, ExportSettings())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_other_backbones(tiny, export_tiny, backbone):
    """Padding as TensorFlow has it, channels last, and a plain transformer, for any size."""
    model = tiny("fcos", backbone=backbone)
    same_outputs(model, export_tiny(model, ExportSettings()), [(1, 3, 96, 160), (2, 3, 128, 96)])
