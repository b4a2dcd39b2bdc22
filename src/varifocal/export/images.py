"""The images on which an exported network is compared with torch."""

from __future__ import annotations

from PIL import Image

from varifocal.data.images import read_image
from varifocal.data.listing import list_images
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import ModelInfo
from varifocal.inference.pipeline import read_for

MOST = 8
SIDE = 512  # pixels of the package's photographs, so that the comparison takes seconds


def comparison_images(pattern: str | None, info: ModelInfo) -> list[Image.Image]:
    """The first eight that ``pattern`` names, or parts of the package's photographs; windows for a model of such.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    if pattern is None:
        found = [read_image(file) for file in list_images([str(sample_dataset_dir())])]
        return [_middle(image, info.tiling.size or SIDE) for image in found]
    side = info.tiling.size
    files = list_images([pattern])[:MOST]
    # cut out at once: of images that are read in windows not even two need fit into memory
    return [_middle(read_for(info, file), side) if side else read_for(info, file) for file in files]


def _middle(image: Image.Image, side: int) -> Image.Image:
    width, height = min(side, image.width), min(side, image.height)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
