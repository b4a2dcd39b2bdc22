"""Tiny networks of every detector whose scores are spread out, so that there is something to detect and suppress."""

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from filelock import FileLock  # torch needs it
from typechecker import unchecked

from varifocal.export.config import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.inference.exported.info import ExportInfo
from varifocal.inference.model import Model, create_model
from varifocal.models import DETECTORS

CLASSES = ["cat", "dog", "cow"]


def make_tiny(name: str, deformable_stages: tuple[int, ...] = (), **options: Any) -> Model:
    """Return a network with 64 channels and three levels whose deformable convolutions have offsets."""
    torch.manual_seed(0)
    settings = {
        "backbone": "test_resnet",
        "classes": CLASSES,
        "channels": 64,
        "num_levels": 3,
        "num_convs": 1,
        **options,
    }
    model = create_model(name, **settings)
    if deformable_stages:
        backbone = replace(model.info.config.backbone, dcn_stages=deformable_stages)
        config = replace(model.info.config, backbone=backbone)
        model = Model(DETECTORS[name][0](config), replace(model.info, config=config))
    generator = torch.Generator().manual_seed(1)
    # the output of a norm needs smaller weights for scores of the same spread
    spread = 0.03 if options.get("star_norm") == "group" else 0.3
    with torch.no_grad():
        for key, weight in model.detector.named_parameters():
            if key.endswith(("cls.weight", "offset.weight")):
                scale = spread if key.endswith("cls.weight") else 0.05
                weight.copy_(scale * torch.randn(weight.shape, generator=generator))
            elif key.endswith("cls.bias"):
                weight.fill_(-2)
    model.info = replace(model.info, preprocess=replace(model.info.preprocess, short_side=128, max_long_side=192))
    return model.eval()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Model]:
    """Return a function that makes such a network from the detector's name and options."""
    return make_tiny


class Built(NamedTuple):
    """A network, the content of its ONNX file, and the description."""

    model: Model
    content: bytes
    info: ExportInfo


@pytest.fixture(scope="session")
def build_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Return a function that makes a network and its ONNX file from the detector's name, settings and options, once.

    The files are common to all processes of the tests, since building one takes up to ten seconds.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    @cache
    def build(name: str, settings: ExportSettings, **options: Any) -> Built:
        model = make_tiny(name, **options)
        words = repr((name, settings, sorted(options.items())))
        file = shared / f"exported-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                with unchecked():
                    file.write_bytes(pickle.dumps(build_onnx(model, settings)))
        return Built(model, *pickle.loads(file.read_bytes()))

    return build
