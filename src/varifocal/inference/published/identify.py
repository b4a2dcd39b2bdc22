"""Identification of a published state dict by its names, shapes and stored configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from varifocal.models import DETECTORS
from varifocal.models.backbone import BackboneConfig
from varifocal.types import PostProcess, Preprocess
from varifocal.utils.errors import CheckpointError

State = Mapping[str, Tensor]

# the weight that only this detector has; FoveaBox after FCOS, whose own mark is the centerness
MARKS = {
    "vfnet": "bbox_head.vfnet_cls.weight",
    "gfl": "bbox_head.gfl_cls.weight",
    "atss": "bbox_head.atss_cls.weight",
    "retinanet": "bbox_head.retina_cls.weight",
    "reppoints": "bbox_head.reppoints_cls_out.weight",
    "fcos": "bbox_head.conv_centerness.weight",
    "foveabox": "bbox_head.conv_cls.weight",
}
CLASSES = {**MARKS, "fcos": "bbox_head.conv_cls.weight"}
LATERAL = "neck.lateral_convs.0.conv.weight"
ANCHORS = 9  # of a RetinaNet cell
LOOSE_NMS = ("vfnet", "gfl", "atss")  # suppressed at 0.6, the others at 0.5
CAFFE_MEANS = {"fcos": (102.9801, 115.9465, 122.7717)}  # of Detectron; that of the others is detectron2's
CAFFE_MEAN = (103.53, 116.28, 123.675)

_OFFSET_OF_A_LAYER = re.compile(r"backbone\.layer\d\..*(conv_offset|conv2_offset)\.")
_FIRST_3X3 = ("backbone.layer1.0.conv2.weight", "backbone.layer1.0.convs.0.weight")


@dataclass(frozen=True)
class Identified:
    """A detector's name and config, its pre- and post-processing, and what could not be read from the weights."""

    detector: str
    config: Any
    preprocess: Preprocess
    postprocess: PostProcess
    notes: tuple[str, ...] = field(default=())


def identify(state: State, written: str, source: str, *, pairs: bool = False) -> Identified:
    """Identify the detector of a state dict.

    ``pairs``: it comes from mmdetection 3, which counts pairs of box and class before suppression, where the authors'
    and its older versions count points. ``written`` is the configuration that mmdetection stored as text beside the
    weights, and the file's name: it shows what shapes do not (Caffe's pixels, normalized distances).

    Raises:
        CheckpointError: this version knows no such detector or backbone.
    """
    detector = next((name for name, mark in MARKS.items() if mark in state), None)
    if detector is None:
        raise CheckpointError(
            f"{source}: not a detector that this version converts; it knows {', '.join(sorted(MARKS))} by their heads' "
            "weights, and backbones alone.",
            code="published-detector-unknown",
        )
    if LATERAL not in state or CLASSES[detector] not in state:
        raise CheckpointError(
            f"{source}: {detector} with another neck or head than this version converts.", code="published-neck-unknown"
        )
    notes: list[str] = []
    caffe = _is_caffe(detector, state, written, notes)
    values: dict[str, Any] = {
        "num_classes": state[CLASSES[detector]].shape[0] // (ANCHORS if detector == "retinanet" else 1),
        "backbone": _backbone(state, caffe, source),
        "channels": state[LATERAL].shape[0],
        "num_convs": len({key.split(".")[2] for key in state if key.startswith("bbox_head.cls_convs.")}),
        **_HEADS.get(detector, lambda state, written: {})(state, written),
    }
    pixels = Preprocess()
    if caffe:
        pixels = Preprocess(mean=CAFFE_MEANS.get(detector, CAFFE_MEAN), std=(1.0, 1.0, 1.0), bgr=True)
    post = _postprocess(detector, values, "pairs" if pairs else "points")
    return Identified(detector, DETECTORS[detector][1](**values), pixels, post, tuple(notes))


def _postprocess(detector: str, values: Mapping[str, Any], select: Literal["pairs", "points"]) -> PostProcess:
    if values.get("neck") == "pafpn":  # VFNet-X
        return PostProcess(topk_mode=select, nms_type="soft-nms", nms_iou=0.65)
    return PostProcess(topk_mode=select, nms_iou=0.6 if detector in LOOSE_NMS or values.get("norm_on_bbox") else 0.5)


def neck_of(state: State) -> Literal["fpn", "pafpn"]:
    """Return the neck: the authors' pyramid with bottom-up convolutions is VFNet-X's."""
    return "pafpn" if any(key.startswith("neck.pafpn_convs.") for key in state) else "fpn"


def _vfnet(state: State, written: str) -> dict[str, Any]:
    return {
        "neck": neck_of(state),
        "deformable_tower": any(key.startswith("bbox_head.cls_convs.") and "conv_offset" in key for key in state),
        "star": "bbox_head.vfnet_cls_dconv.weight" in state,
        "refine": "bbox_head.vfnet_reg_refine.weight" in state,
    }


def _fcos(state: State, written: str) -> dict[str, Any]:
    """Return the options of an FCOS, whose improved version is recognized by the biases of its towers."""
    improved = "bbox_head.cls_convs.0.conv.bias" in state or "norm_on_bbox=True" in written
    return {
        "conv_bias": "bbox_head.cls_convs.0.conv.bias" in state,
        "norm_on_bbox": improved,
        "centerness_on_reg": improved,
        "center_sampling": improved,
        "box_loss": "giou" if improved else "iou",
    }


def _atss(state: State, written: str) -> dict[str, Any]:
    return {"centerness": "bbox_head.atss_centerness.weight" in state}


_HEADS: dict[str, Callable[[State, str], dict[str, Any]]] = {"vfnet": _vfnet, "fcos": _fcos, "atss": _atss}


def _is_caffe(detector: str, state: State, written: str, notes: list[str]) -> bool:
    """Return whether the backbone's weights come from Caffe: BGR, not scaled, stride in the 1x1 convolution."""
    if "caffe" in written:
        return True
    if "style=" in written or "to_rgb=True" in written:  # the configuration is there and says otherwise
        return False
    if detector == "fcos" and _kind(state)[0] == 1:
        notes.append("taken for a ResNet in Caffe's style (BGR, no scaling), as all published FCOS files are")
        return True
    return False


def _backbone(state: State, caffe: bool, source: str) -> BackboneConfig:
    name = backbone_name(state)
    if name is None:
        groups, wide, blocks = _kind(state)
        raise CheckpointError(
            f"{source}: a detector whose backbone this version does not know ({blocks} blocks in layer3, {groups} "
            f"groups of {wide} channels in layer1).",
            code="published-detector-backbone",
        )
    deformable = sorted({int(key.split(".")[1][5:]) for key in state if _OFFSET_OF_A_LAYER.match(key)})
    return BackboneConfig(
        name=name,
        frozen_stages=1,
        dcn_stages=tuple(layer + 1 for layer in deformable),
        res2net_pool="mmdet" if name.startswith("res2net") else "timm",
        style="caffe" if caffe else "pytorch",
    )


def backbone_name(state: State) -> str | None:
    """Return timm's name of the ResNet, ResNeXt or Res2Net under ``backbone.``, or None."""
    groups, wide, blocks = _kind(state)
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


def _kind(state: State) -> tuple[int, int, int]:
    """Return groups and channels per group of the 3x3 convolutions of layer1, and the number of blocks of layer3."""
    first = next((state[key] for key in _FIRST_3X3 if key in state), None)
    blocks = len({key.split(".")[2] for key in state if key.startswith("backbone.layer3.")})
    return (0, 0, blocks) if first is None else (first.shape[0] // first.shape[1], first.shape[1], blocks)
