"""The images on which an exported network is compared with torch."""

import weakref

import numpy as np
from PIL import Image

from varifocal.export import images as images
from varifocal.export.images import comparison_images
from varifocal.inference.model import ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.types import PostProcess, Preprocess, Tiling


def test_of_images_that_are_read_in_windows_one_is_in_memory_at_a_time(tmp_path, monkeypatch):
    for i in range(3):
        image = Image.new("RGB", (40, 30), (i, 0, 0))
        image.paste((200, 100, i), (15, 10, 25, 20))
        image.save(tmp_path / f"{i}.png")
    whole, read = [], images.read_for

    def watched(info, file):
        assert [one() for one in whole] == [None] * len(whole)
        image = read(info, file)
        whole.append(weakref.ref(image))
        return image

    monkeypatch.setattr(images, "read_for", watched)
    info = ModelInfo("vfnet", VFNetConfig(1), (), Preprocess(), PostProcess(), tiling=Tiling(10, 2))
    found = comparison_images(str(tmp_path), info)
    assert len(whole) == 3
    for i, one in enumerate(found):
        assert (np.asarray(one) == np.full((10, 10, 3), (200, 100, i))).all()
