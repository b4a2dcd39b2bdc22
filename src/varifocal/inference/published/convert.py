"""Checkpoints of the authors and of mmdetection, and files of backbones, converted to this package's names."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varifocal.inference.model import Model, ModelInfo, build
from varifocal.inference.published.identify import Identified, backbone_name, identify, neck_of
from varifocal.inference.published.key_maps import map_key
from varifocal.models import DETECTORS
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.checkpoint import load_state_dict_strict
from varifocal.types import Category
from varifocal.utils.errors import CheckpointError

COUNTER = "num_batches_tracked"  # of a batch norm; old files lack it, and nothing depends on it
SHADOWS = ("ema_", "swa_")  # buffers in which a training hook kept a second set of weights


@dataclass(frozen=True, eq=False)
class PublishedCheckpoint:
    """A published file under this package's names.

    ``tensors`` are the whole state dict of the model that ``info`` describes; the weights in ``missing`` have their
    initial values. ``unknown`` are names of the file that the model lacks, ``notes`` are sentences for the user.
    """

    info: ModelInfo
    tensors: dict[str, Tensor]
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def convert_state_dict(state: Mapping[str, Tensor], detector: str = "vfnet") -> tuple[dict[str, Tensor], list[str]]:
    """Return the state dict under this package's names, and the keys that have no counterpart here."""
    renamed = {key: map_key(key, detector, neck_of(state)) for key in state}
    mapped = {name: state[key] for key, name in renamed.items() if name is not None}
    return mapped, [key for key, name in renamed.items() if name is None]


def load_published(path: Path) -> tuple[Model, tuple[str, ...]]:
    """Return the model of a published ``.pth`` file, and notes on what its weights leave open.

    Raises:
        CheckpointError: as :func:`read_published`.
    """
    found = read_published(path)
    return model_of(found, path), found.notes


def model_of(found: PublishedCheckpoint, path: Path) -> Model:
    """Return the model of a published file that was read from ``path``."""
    model = build(found.info)
    load_state_dict_strict(model.detector, found.tensors, path)
    return model


def read_published(path: Path, *, partial: bool = False) -> PublishedCheckpoint:
    """Read a published ``.pth`` file, identify it by its keys and shapes, and rename its weights.

    No code in the file is run: only tensors and plain values are read.

    Raises:
        CheckpointError: the file is not a PyTorch file, holds more than tensors and plain values, or is not a model
            that this version converts; or, unless ``partial``, a weight is unknown or missing; the first is named.
    """
    state, meta = read_state(path)
    state, notes = _without_wrapping(state)
    if is_backbone(state):
        raise CheckpointError(
            f"{path}: holds the weights of a backbone and not of a detector; convert it for model.backbone.weights "
            f"with: varifocal convert-weights {path} --out {path.with_suffix('.safetensors')}",
            code="published-backbone-only",
        )
    written = f"{path.name} {meta.get('cfg', meta.get('config', ''))}"  # mmdetection 3 and 2
    found = identify(state, written, str(path), pairs="mmengine_version" in meta)
    categories = _categories(_class_names(meta), found.config.num_classes, path)
    fit = _fit(state, found)
    if (fit.unknown or fit.missing) and not partial:
        raise CheckpointError(
            f"{path}: a {found.detector} that does not fit: {len(fit.unknown)} of {len(state)} weights are "
            f"unknown{_first(fit.unknown)}, {len(fit.missing)} are missing{_first(fit.missing)}; "
            "convert-weights --partial keeps what fits.",
            code="published-misfit",
        )
    info = ModelInfo(found.detector, found.config, categories, found.preprocess, found.postprocess)
    return PublishedCheckpoint(info, fit.tensors, tuple(fit.unknown), tuple(fit.missing), (*notes, *found.notes))


def _first(names: Sequence[str]) -> str:
    return f" (first: {names[0]})" if names else ""


class _Fit(NamedTuple):
    tensors: dict[str, Tensor]
    unknown: list[str]
    missing: list[str]


def _fit(state: Mapping[str, Tensor], found: Identified) -> _Fit:
    """Return the network's state dict with every weight that fits; missing counters are not reported."""
    mapped, unknown = convert_state_dict(state, found.detector)
    with torch.device("meta"):  # only shapes are needed
        target = _start(found.detector, found.config)
    tensors = {name: mapped[name] for name in target if name in mapped and mapped[name].shape == target[name].shape}
    left_out = [name for name in target if name not in tensors]
    if left_out:
        tensors = {**_start(found.detector, found.config), **tensors}
    unfit = [name for name in mapped if name not in target or name in left_out]
    return _Fit(tensors, [*unknown, *unfit], [name for name in left_out if not name.endswith(COUNTER)])


def _start(detector: str, config: Any) -> dict[str, Tensor]:
    """Return the initial state dict of a detector."""
    return DETECTORS[detector][0](config).state_dict()


def read_state(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Read the state dict of a ``.pth`` file and its metadata; errors as in :func:`read_published`."""
    content = _read_pth(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path}: holds no state dict (a mapping of names to tensors).", code="published-no-state-dict"
        )
    meta = content.get("meta")
    return state, meta if isinstance(meta, dict) else {}


def _without_wrapping(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the state without the prefix of a wrapper and without a second set of weights, and notes on these."""
    notes = []
    for prefix in ("module.", "ema_model.module.", "model."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    shadows = [key for key in state if key.startswith(SHADOWS)]
    if shadows:
        notes.append(
            f"{len(shadows)} buffers of a weight average ({shadows[0]}, ...) are left out; such a file carries the "
            "tested weights under the plain names"
        )
    return {key: value for key, value in state.items() if key not in shadows}, notes


def is_backbone(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is a bare ResNet of torchvision or timm."""
    return "layer1.0.conv1.weight" in state and not any(key.startswith("backbone.") for key in state)


def read_backbone(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Read timm's name and the weights, without the classifier, of a file that holds a ResNet, ResNeXt or Res2Net.

    Raises:
        CheckpointError: the file holds none of these.
    """
    state, _ = read_state(path)
    renamed = {key: map_key(f"backbone.{key}") for key in state if not key.startswith("fc.")}
    name = backbone_name({f"backbone.{key}": value for key, value in state.items()})
    if name is None and "conv1.0.weight" in state:  # timm's own Res2Net, whose stem has another name
        name = backbone_name({"backbone.stem.0.weight": state["conv1.0.weight"], **_under_backbone(state)})
    tensors = {str(ours).removeprefix("backbone.net."): state[key] for key, ours in renamed.items()}
    if name is None or not _is_backbone_of(name, tensors):
        raise CheckpointError(
            f"{path}: is not a backbone that this version knows: ResNet-50 and deeper, ResNeXt and Res2Net.",
            code="published-backbone-unknown",
        )
    return name, tensors


def _is_backbone_of(name: str, tensors: dict[str, Tensor]) -> bool:
    """Return whether names and shapes are those of the backbone; counters that old files lack are added."""
    with torch.device("meta"):
        expected = Backbone(BackboneConfig(name)).net.state_dict()
    for key in expected:
        if key.endswith(COUNTER):
            tensors.setdefault(key, torch.zeros((), dtype=torch.int64))
    return {key: tensor.shape for key, tensor in tensors.items()} == {key: t.shape for key, t in expected.items()}


def _under_backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{key}": value for key, value in state.items()}


def _class_names(meta: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the class names in the metadata, ``CLASSES`` of mmdetection 2 or ``dataset_meta`` of mmdetection 3."""
    later = meta.get("dataset_meta")
    names = meta.get("CLASSES") or (later.get("classes") or later.get("CLASSES") if isinstance(later, dict) else None)
    return [names] if isinstance(names, str) else names


def _read_pth(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below covers torch's warnings about pickles
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file.", code="published-missing") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors and plain values, or is not a PyTorch file; reading that could run "
            "code and is refused.",
            code="published-unsafe-pickle",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: damaged, or not a PyTorch file; get another copy of it.", code="published-damaged"
        ) from error


def _categories(names: Sequence[str] | None, count: int, path: Path) -> tuple[Category, ...]:
    """Return the classes that the file names; 80 unnamed ones are COCO's, with COCO's ids."""
    coco = coco_categories()
    if names is None and count != len(coco):
        names = [f"class {i}" for i in range(count)]
    if names is None or list(names) == [category.name for category in coco]:
        return coco
    if len(names) != count:
        raise CheckpointError(
            f"{path}: names {len(names)} classes, but its network has {count}.", code="published-class-count"
        )
    return tuple(Category(i, str(name)) for i, name in enumerate(names, start=1))


def coco_categories() -> tuple[Category, ...]:
    """Return the 80 classes of COCO with their ids 1 to 90, ten of which are not used."""
    from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

    names = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(Category(i, name) for i, name in enumerate(names) if name not in ("__background__", "N/A"))
