"""Decoding in parallel says the same as reading one image at a time."""

import hashlib
import io

import numpy as np
import pytest
from messy import image
from PIL import Image

from varifocal.data.image_scan import THUMB, read_size, read_stored_size
from varifocal.data.images import read_image
from varifocal.tools.check.image_scan import cost_of_decoding, scan_files
from varifocal.utils.errors import DataError

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of all formats, whole, rotated, cut at several places and with bytes changed."""
    folder, made = tmp_path_factory.mktemp("images"), []
    rng = np.random.default_rng(0)
    for suffix, name in FORMATS.items():
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        image(1, (96, 64)).save(buffer, name, **({} if name in ("BMP", "GIF") else {"exif": exif}))
        content = buffer.getvalue()
        for share in (1.0, 0.99, 0.7, 0.2, 0.01, 0.0):
            made.append(folder / f"{suffix}-{share}.{suffix}")
            made[-1].write_bytes(content[: int(share * len(content))])
        for i in range(6):
            changed = bytearray(content)
            for place in rng.integers(0, len(content), 12):
                changed[place] = rng.integers(256)
            made.append(folder / f"{suffix}-changed-{i}.{suffix}")
            made[-1].write_bytes(changed)
    return made


def read(file):
    """The image, or None of one that cannot be read."""
    try:
        return read_image(file)
    except DataError:
        return None


def test_as_one_at_a_time(files):
    done = []
    found = scan_files(files, done.append, threads=3)
    assert done == list(range(1, len(files) + 1))
    broken = 0
    for i, file in enumerate(files):
        image = read(file)
        if image is None:
            broken += 1
            kind, text = found.errors[i]
            assert not found.seen[i]
            assert kind == ("truncated-image" if found.sizes[i].any() else "unreadable-image")
            assert str(file) not in text
            continue
        assert found.seen[i]
        assert i not in found.errors
        assert tuple(found.sizes[i]) == image.size == read_size(file)
        assert tuple(found.stored[i]) == read_stored_size(file)
        assert found.digests[i] == hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
        small = np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BOX).convert("L")).astype(float)
        if "changed" not in file.name:  # damaged colors are other ones in a JPEG that is decoded small
            assert np.abs(small - found.grays[i]).mean() < 2, file
    assert 20 < broken < len(files) - 10


def test_missing_ones_are_left_out(files):
    found = scan_files([None, files[0], None], lambda done: None)
    assert found.seen.tolist() == [False, True, False]
    assert found.digests[0] == b""
    assert not found.errors


def test_the_cost_is_that_of_all(files):
    assert cost_of_decoding(files[:1] * 40) > 0
    assert np.isnan(cost_of_decoding([None, None]))
    assert np.isnan(cost_of_decoding([]))
