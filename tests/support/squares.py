"""A detector whose boxes are known: it finds every bright region on black, exactly."""

import torch
from skimage.measure import label, regionprops
from torch import nn

from varifocal.inference.model import Model, ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.structures import Candidates, Outputs
from varifocal.types import Category, PostProcess, Preprocess

CATEGORIES = (Category(7, "square"), Category(3, "bar"))


class Shared(list[tuple[int, ...]]):
    """A list that the copy of a detector that predicts shares with it."""

    def __deepcopy__(self, memo):
        return self


class Squares(nn.Module):
    """Finds what is joined and at least 40 of 255 in red.

    The score is the brightness, red over 255; what is twice as wide as high is a bar. ``batches`` tells the shape of
    every batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches = Shared()

    def forward(self, images):
        self.batches.append(tuple(images.shape))
        found = [self._look(image[0].numpy()) for image in images]
        most = max(1, *(len(one) for one in found))
        table = torch.zeros(len(found), most, 6)
        for i, one in enumerate(found):
            if one:
                table[i, : len(one)] = torch.tensor(one)
        return Outputs({"table": table}, ((1, most),))

    def _look(self, red):
        rows = []
        for region in regionprops(label(red >= 40, connectivity=2), intensity_image=red):
            top, left, bottom, right = region.bbox
            score = float(region.image_intensity.max()) / 255
            bar = right - left >= 2 * (bottom - top)
            rows.append([left, top, right, bottom, 0.0 if bar else score, score if bar else 0.0])
        return rows

    def decode(self, outputs, sizes):
        table = outputs.tensors["table"]
        return Candidates(table[..., :4], table[..., 4:], (table.shape[1],))


def squares_model(**settings) -> Model:
    """It sees pixels as they are, without a resize."""
    preprocess = Preprocess(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, size_divisor=1)
    info = ModelInfo("vfnet", VFNetConfig(2), CATEGORIES, preprocess, PostProcess(**settings))
    return Model(Squares(), info).eval()
