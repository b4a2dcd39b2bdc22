"""What changes pixels leaves them in their places, draws from its own seed, and touches no image that is kept."""

import numpy as np
import pytest
import torch

from varifocal.data.augment import Augmentation
from varifocal.data.photometric import BY_NAME, apply_transforms, build_transforms, random_erasing
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

NEEDED = {
    "ColorJitter": {"brightness": [0.5, 1.5]},
    "GaussianBlur": {"kernel_size": 5},
    "RandomAdjustSharpness": {"sharpness_factor": 3.0, "p": 1.0},
    "RandomPosterize": {"bits": 2, "p": 1.0},
    "RandomSolarize": {"threshold": 100.0, "p": 1.0},
}


def halves():
    """Two colors side by side, channels last as decoded images are."""
    image = torch.empty(48, 64, 3, dtype=torch.uint8)
    image[:, :32] = torch.tensor([200, 60, 30], dtype=torch.uint8)
    image[:, 32:] = torch.tensor([20, 90, 150], dtype=torch.uint8)
    return image.permute(2, 0, 1)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_transform_leaves_pixels_in_their_places(name):
    """Away from the seam each half is of one color still, and some seed changes it."""
    image = halves()
    transforms = build_transforms({name: NEEDED.get(name, {"p": 1.0})})
    outputs = [apply_transforms(image, transforms, np.random.default_rng(seed)) for seed in range(6)]
    assert torch.equal(image, halves())
    for output in outputs:
        assert output.shape == image.shape
        assert output.dtype == torch.uint8
        for side in (output[:, 8:-8, :16], output[:, 8:-8, -16:]):
            assert int((side.amax(dim=(1, 2)).int() - side.amin(dim=(1, 2)).int()).max()) <= 2
    if name != "RandomAdjustSharpness":  # which sees the seam alone
        assert any(not torch.equal(output[:, :, :16], image[:, :, :16]) for output in outputs) or name == "GaussianBlur"
    assert any(not torch.equal(output, image) for output in outputs)


def test_p_is_the_chance_of_those_without_one_too():
    image = halves()
    for transforms in ({"GaussianBlur": {"kernel_size": 5, "p": 0.3}}, {"RandomInvert": {"p": 0.3}}):
        made = build_transforms(transforms)
        hits = sum(
            not torch.equal(apply_transforms(image, made, np.random.default_rng([3, s])), image) for s in range(300)
        )
        assert abs(hits - 90) < 5 * np.sqrt(300 * 0.3 * 0.7)


def test_they_are_applied_in_order():
    image = torch.full((3, 8, 8), 200, dtype=torch.uint8)
    invert, posterize = {"RandomInvert": {"p": 1.0}}, {"RandomPosterize": {"bits": 1, "p": 1.0}}
    rng = np.random.default_rng(0)
    assert apply_transforms(image, build_transforms({**invert, **posterize}), rng).unique().tolist() == [
        0
    ]  # 55, then 0
    assert apply_transforms(image, build_transforms({**posterize, **invert}), rng).unique().tolist() == [
        127
    ]  # 128, then 127


def test_the_seed_decides_and_torchs_own_chance_is_left_alone():
    made = build_transforms({"RandomPhotometricDistort": {"p": 0.7}, "ColorJitter": {"hue": 0.4}})
    state = torch.random.get_rng_state()
    first, second, other = (apply_transforms(halves(), made, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{Gauss: {}}", r"'Gauss' is not among the transforms that leave boxes alone: ColorJitter, "),
        ("{RandomRotation: {degrees: 9}}", r"'RandomRotation' is not among"),
        ("{Lambda: {}}", r"'Lambda' is not among"),
        ("{RandomInvert: {q: 3}}", r"RandomInvert does not accept \{'q': 3\}: .*'q'\.$"),
        ("{GaussianBlur: {kernel_size: 4}}", r"GaussianBlur does not accept .* odd and positive number\.$"),
        ("{GaussianBlur: {kernel_size: 3, p: 1.5}}", r"GaussianBlur does not accept"),
        ("{RandomInvert: {p: 2}}", r"RandomInvert does not accept"),
    ],
)
def test_what_is_not_understood(value, said):
    with pytest.raises(ConfigError, match=r"^override .*: augment: extra_transforms: " + said) as error:
        override(Augmentation(), [f"extra_transforms={value}"])
    assert "\n" not in str(error.value)


def test_erase_fills_one_rectangle_with_the_color():
    image = halves()
    shares = []
    for seed in range(60):
        erased, (x1, y1, x2, y2) = random_erasing(image, (1, 2, 3), np.random.default_rng(seed))
        wanted = image.clone()
        for channel, value in enumerate((1, 2, 3)):
            wanted[channel, y1:y2, x1:x2] = value
        assert torch.equal(erased, wanted)
        shares.append((x2 - x1) * (y2 - y1) / (48 * 64))
    assert 0.015 < min(shares) < 0.05
    assert 0.25 < max(shares) < 0.35
    assert torch.equal(image, halves())
