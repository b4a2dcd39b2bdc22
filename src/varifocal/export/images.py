"""The images on which an exported network is compared with torch."""

from __future__ import annotations

from PIL import Image

from varifocal.data.images import read_image
from varifocal.data.listing import list_images
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import ModelInfo
from varifocal.inference.pipeline import read_for

MAX_IMAGES = 8
SIDE = 512  # pixels of the built-in photographs that are used, so that the comparison takes seconds


def comparison_images(pattern: str | None, info: ModelInfo) -> list[Image.Image]:
    """Return the first eight images that match ``pattern``, or parts of the built-in photographs if it is None.

    For a model that uses tiles, each image is cropped to the size of a tile around its center.

    Raises:
        DataError: there is no image, or one cannot be read.
    """
    if pattern is None:
        images = [read_image(file) for file in list_images([str(sample_dataset_dir())])]
        return [_center_crop(image, info.tiling.size or SIDE) for image in images]
    side = info.tiling.size
    files = list_images([pattern])[:MAX_IMAGES]
    # cropped at once: two images that need tiles may not fit into memory
    return [_center_crop(read_for(info, file), side) if side else read_for(info, file) for file in files]


def _center_crop(image: Image.Image, side: int) -> Image.Image:
    width, height = min(side, image.width), min(side, image.height)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
