"""Copies of images: a hash and its look-up against a table of all pairs, and what people do to images."""

import io
import itertools

import numpy as np
import pytest
from messy import image
from PIL import Image, ImageEnhance

from varifocal.data import near_duplicates as near
from varifocal.data.image_scan import THUMB
from varifocal.data.near_duplicates import (
    BITS,
    exact_duplicates,
    hamming_distance,
    near_duplicate_groups,
    perceptual_hash,
)


def gray(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BOX).convert("L"))


def found_groups(grays, usable=None):
    usable = np.ones(len(grays), bool) if usable is None else usable
    return near_duplicate_groups(grays, usable, perceptual_hash(grays))


def joined(pairs, total):
    """Groups by walking from place to place."""
    neighbors = {place: {b for pair in pairs if place in pair for b in pair} for place in range(total)}
    left, groups = set(range(total)), []
    while left:
        reached, new = set(), {min(left)}
        while new:
            reached |= new
            new = set().union(*(neighbors[place] for place in new)) - reached
        left -= reached
        groups += [sorted(reached)] if len(reached) > 1 else []
    return groups


def test_the_hash_is_a_cosine_transform_against_its_median():
    grays = np.random.default_rng(0).integers(0, 255, (3, THUMB, THUMB), dtype=np.uint8)
    for one, value in zip(grays, perceptual_hash(grays).tolist(), strict=True):
        waves = []
        for v, u in itertools.product(range(8), range(8)):
            total = 0.0
            for y, x in itertools.product(range(THUMB), range(THUMB)):
                total += one[y, x] * np.cos(np.pi * (y + 0.5) * v / THUMB) * np.cos(np.pi * (x + 0.5) * u / THUMB)
            waves.append(total)
        waves[0] = 0.0
        signs = [wave > np.median(waves) for wave in waves]
        assert value == sum(1 << i for i, sign in enumerate(signs) if sign)


def test_distances_are_numbers_of_bits():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2**63, (2, 50), dtype=np.uint64)
    expected = [bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b, strict=True)]
    assert hamming_distance(a, b).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_look_up_finds_every_near_pair(seed):
    """Random images, and of each some that are more and more different."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (30, THUMB, THUMB)).astype(float)
    noise = [base + rng.normal(0, strength, base.shape) for strength in (0, 2, 8, 20, 40)]
    grays = np.clip(np.concatenate(noise), 0, 255).astype(np.uint8)
    hashes = perceptual_hash(grays)
    shades = grays.reshape(len(grays), -1).astype(float)
    expected = set()
    for a, b in itertools.combinations(range(len(grays)), 2):
        alike = np.corrcoef(shades[a], shades[b])[0, 1] >= 0.9 and abs(shades[a].mean() - shades[b].mean()) <= 24
        if alike and bin(int(hashes[a]) ^ int(hashes[b])).count("1") <= BITS:
            expected.add((a, b))
    assert found_groups(grays) == joined(expected, len(grays))
    assert 60 < len(expected) < 30 * 10


def test_what_people_do_to_images():
    base = [image(seed, (240, 160)) for seed in range(20)]
    buffer = [io.BytesIO() for _ in base]
    for one, file in zip(base, buffer, strict=True):
        one.save(file, "JPEG", quality=40)
    changes = {
        "compressed": [Image.open(file) for file in buffer],
        "smaller": [one.resize((120, 80)) for one in base],
        "brighter": [ImageEnhance.Brightness(one).enhance(1.1) for one in base],
        "trimmed": [one.crop((2, 1, 239, 158)) for one in base],
    }
    for name, changed in changes.items():
        groups = found_groups(np.stack([gray(one) for one in (*base, *changed)]))
        assert all(group == [group[0], group[0] + 20] for group in groups), name  # nothing that is not a copy
        assert len(groups) >= 19, name


def test_flat_and_unusable_images_are_not_compared():
    flat = np.full((4, THUMB, THUMB), 200, np.uint8)
    flat[1, 3, 3] = 205
    assert found_groups(flat) == []
    twice = np.stack([gray(image(1))] * 3)
    assert found_groups(twice) == [[0, 1, 2]]
    assert found_groups(twice, np.array([True, False, True])) == [[0, 2]]


def test_the_frames_of_a_video_are_one_group(monkeypatch):
    """Each frame is near the next ones only; more of them share a part than are compared, and blocks are small."""
    first, last = gray(image(1)).astype(float), gray(image(2)).astype(float)
    frames = np.stack([first + (last - first) * share for share in np.linspace(0, 0.6, 200)]).astype(np.uint8)
    hashes = perceptual_hash(frames)
    assert hamming_distance(hashes[:1], hashes[-1:])[0] > BITS
    monkeypatch.setattr(near, "_BLOCK", 50)
    monkeypatch.setattr(near, "NEIGHBORS", 10)
    assert found_groups(frames) == [list(range(200))]


def test_same_bytes():
    assert exact_duplicates([b"a", b"", b"b", b"a", b"", b"a", b"b", b"c"]) == [[0, 3, 5], [2, 6]]


def test_no_images():
    assert found_groups(np.zeros((0, THUMB, THUMB), np.uint8)) == []
