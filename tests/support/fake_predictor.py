"""A predictor without a network: one detection in each image, computed from its pixels."""

import time
from types import SimpleNamespace

import numpy as np

from varifocal.inference.pipeline import Pipeline
from varifocal.types import TTA, Category, Detections, PostProcess, Preprocess, Tiling


class FakePredictor(Pipeline):
    """Detects the whole image, with its mean value as the score; each call takes ``seconds``."""

    device = "cpu"
    categories = (Category(7, "thing"),)

    def __init__(self, seconds=0.0):
        self.info = SimpleNamespace(
            preprocess=Preprocess(), postprocess=PostProcess(), tiling=Tiling(), tta=TTA(), categories=self.categories
        )
        self.seconds, self.calls = seconds, 0

    def predict(self, images, *, score_threshold=None, max_detections=None):
        if isinstance(images, list):
            return [self.predict(image) for image in images]
        self.calls += 1
        time.sleep(self.seconds)
        score = np.asarray(images, np.float64).mean() / 255
        box = np.array([[0, 0, images.width, images.height]], np.float32)
        return Detections(box, np.array([score], np.float32), np.array([0]), self.categories)
