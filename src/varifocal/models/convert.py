"""The authors' and mmdetection's VFNet files: their state dicts under our names."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from varifocal.errors import CheckpointError
from varifocal.models.backbone import BackboneConfig
from varifocal.models.info import ModelInfo
from varifocal.models.names import rename
from varifocal.models.vfnet import VFNetConfig
from varifocal.ops.nms import PostProcess
from varifocal.types import Category


def from_authors(state: Mapping[str, Tensor], detector: str = "vfnet") -> tuple[dict[str, Tensor], list[str]]:
    """The state dict under our names, and the keys that have no place here."""
    renamed = {key: rename(key, detector) for key in state}
    mapped = {name: state[key] for key, name in renamed.items() if name is not None}
    return mapped, [key for key, name in renamed.items() if name is None]


def read_published(path: Path) -> tuple[ModelInfo, dict[str, Tensor]]:
    """A published VFNet ``.pth`` file: what it is, recognised by its keys and shapes, and its weights, renamed.

    Nothing in the file is run: only tensors and plain values are read.

    Raises:
        CheckpointError: not a PyTorch file, more in it than tensors and plain values, or not a VFNet that this
            version converts; the first key that does not fit is named.
    """
    content = _read_pth(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds no state dict (a mapping of names to tensors).")
    _refuse_other_models(state, path)
    tensors, left = from_authors(state)
    if left:
        raise CheckpointError(f"{path}: {len(left)} weights have no place in VFNet (first: {left[0]}).")
    names = _class_names(content.get("meta"))
    config = _recognise(state)
    categories = _categories(names, config.num_classes, path)
    # the authors keep the best points, each with all its classes
    return ModelInfo("vfnet", config, categories, postprocess=PostProcess(select="points")), tensors


def _class_names(meta: Any) -> Sequence[str] | None:
    """mmdetection 2 writes ``CLASSES``, mmdetection 3 ``dataset_meta["classes"]``; published files often neither."""
    if not isinstance(meta, dict):
        return None
    later = meta.get("dataset_meta")
    names = meta.get("CLASSES") or (later.get("classes") or later.get("CLASSES") if isinstance(later, dict) else None)
    return [names] if isinstance(names, str) else names


def _read_pth(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file.") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors and plain values, or is not a PyTorch file; reading that could run "
            "code and is refused."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged, or not a PyTorch file ({str(error).splitlines()[0]}).") from error


def _refuse_other_models(state: Mapping[str, Tensor], path: Path) -> None:
    needed = (
        "bbox_head.vfnet_cls.bias",
        "bbox_head.cls_convs.0.conv.weight",
        "backbone.layer3.0.conv2.weight",
    )
    missing = [key for key in needed if key not in state]
    if missing:
        raise CheckpointError(
            f"{path}: not a VFNet with a ResNet that this version converts ({missing[0]} is missing)."
        )
    deformable = [key for key in state if "conv_offset" in key or "conv2_offset" in key]
    if deformable:
        raise CheckpointError(
            f"{path}: a VFNet with deformable convolutions ({deformable[0]}), which this version does not convert yet."
        )


def _recognise(state: Mapping[str, Tensor]) -> VFNetConfig:
    """The configuration that the keys and shapes imply."""
    blocks = len({key.split(".")[2] for key in state if key.startswith("backbone.layer3.")})
    return VFNetConfig(
        num_classes=len(state["bbox_head.vfnet_cls.bias"]),
        backbone=BackboneConfig(name={6: "resnet50", 23: "resnet101"}.get(blocks, "resnet50"), frozen_stages=1),
        width=state["bbox_head.vfnet_cls.weight"].shape[1],
        convs=len({key.split(".")[2] for key in state if key.startswith("bbox_head.cls_convs.")}),
        star="bbox_head.vfnet_cls_dconv.weight" in state,
        refine="bbox_head.vfnet_reg_refine.weight" in state,
    )


def _categories(names: Sequence[str] | None, count: int, path: Path) -> tuple[Category, ...]:
    """The classes that the file names; 80 unnamed ones are COCO's, with COCO's ids."""
    coco = coco_categories()
    if names is None and count != len(coco):
        names = [f"class {i}" for i in range(count)]
    if names is None or list(names) == [category.name for category in coco]:
        return coco
    if len(names) != count:
        raise CheckpointError(f"{path}: names {len(names)} classes but its network has {count}.")
    return tuple(Category(i, str(name)) for i, name in enumerate(names, start=1))


def coco_categories() -> tuple[Category, ...]:
    """The 80 classes of COCO with their ids 1 to 90, ten of which are not used."""
    from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

    names = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(Category(i, name) for i, name in enumerate(names) if name not in ("__background__", "N/A"))
