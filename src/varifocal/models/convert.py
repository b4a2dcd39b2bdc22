"""The authors' and mmdetection's VFNet files: their state dicts under our names."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from varifocal.errors import CheckpointError
from varifocal.models.backbone import BackboneConfig
from varifocal.models.info import ModelInfo
from varifocal.models.names import rename
from varifocal.models.vfnet import VFNetConfig
from varifocal.ops.nms import PostProcess
from varifocal.types import Category

_OFFSET_OF_A_LAYER = re.compile(r"backbone\.layer\d\..*(conv_offset|conv2_offset)\.")
_FIRST_3X3 = ("backbone.layer1.0.conv2.weight", "backbone.layer1.0.convs.0.weight")


def from_authors(state: Mapping[str, Tensor], detector: str = "vfnet") -> tuple[dict[str, Tensor], list[str]]:
    """The state dict under our names, and the keys that have no place here."""
    renamed = {key: rename(key, detector, _neck(state)) for key in state}
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
    # the authors keep the best points, each with all its classes; VFNet-X, known by its neck, lets scores decay
    post = PostProcess(select="points")
    if config.neck == "pafpn":
        post = PostProcess(select="points", method="soft-nms", iou=0.65)
    return ModelInfo("vfnet", config, categories, postprocess=post), tensors


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
        "bbox_head.vfnet_cls.weight",
        "bbox_head.cls_convs.0.conv.weight",
        "backbone.layer1.0.conv1.weight",
        "backbone.layer3.0.conv1.weight",
    )
    missing = [key for key in needed if key not in state]
    if missing:
        raise CheckpointError(
            f"{path}: not a VFNet with a ResNet that this version converts ({missing[0]} is missing)."
        )
    if _backbone_name(state) is None:
        groups, wide, blocks = _backbone_kind(state)
        raise CheckpointError(
            f"{path}: a VFNet whose backbone this version does not know ({blocks} blocks in layer3, {groups} groups of "
            f"{wide} channels in layer1)."
        )


def _recognise(state: Mapping[str, Tensor]) -> VFNetConfig:
    """The configuration that the keys and shapes imply."""
    deformable = sorted({int(key.split(".")[1][5:]) for key in state if _OFFSET_OF_A_LAYER.match(key)})
    name = _backbone_name(state)
    assert name is not None
    return VFNetConfig(
        num_classes=len(state["bbox_head.vfnet_cls.bias"]),
        backbone=BackboneConfig(
            name=name,
            frozen_stages=1,
            deformable_stages=tuple(layer + 1 for layer in deformable),
            res2net_pool="mmdet" if name.startswith("res2net") else "timm",
        ),
        width=state["bbox_head.vfnet_cls.weight"].shape[1],
        convs=len({key.split(".")[2] for key in state if key.startswith("bbox_head.cls_convs.")}),
        neck=_neck(state),
        deformable_tower=any(key.startswith("bbox_head.cls_convs.") and "conv_offset" in key for key in state),
        star="bbox_head.vfnet_cls_dconv.weight" in state,
        refine="bbox_head.vfnet_reg_refine.weight" in state,
    )


def _neck(state: Mapping[str, Tensor]) -> Literal["fpn", "pafpn"]:
    return "pafpn" if any(key.startswith("neck.pafpn_convs.") for key in state) else "fpn"


def _backbone_name(state: Mapping[str, Tensor]) -> str | None:
    """timm's name of it, or None."""
    groups, wide, blocks = _backbone_kind(state)
    depth = {6: 50, 23: 101, 36: 152}.get(blocks)
    if depth is None:
        return None
    if "backbone.stem.0.weight" in state:  # v1d of 26 channels in four splits
        return f"res2net{depth}d" if depth < 152 and wide == 26 and groups == 1 else None
    if groups == 1:
        return f"resnet{depth}" if wide == 64 else None
    return {(50, 32, 4): "resnext50_32x4d", (101, 32, 4): "resnext101_32x4d", (101, 64, 4): "resnext101_64x4d"}.get(
        (depth, groups, wide)
    )


def _backbone_kind(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Groups and channels a group of the 3x3 convolutions of layer1, and the number of blocks of layer3."""
    first = next((state[key] for key in _FIRST_3X3 if key in state), state["backbone.layer1.0.conv1.weight"])
    blocks = len({key.split(".")[2] for key in state if key.startswith("backbone.layer3.")})
    return first.shape[0] // first.shape[1], first.shape[1], blocks


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
