"""The network as prediction runs it: batch norms folded into the convolutions before them, and its precision."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from varifocal.models.layers import StarConv
from varifocal.ops.deform_conv import DeformConv
from varifocal.utils.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROBE = (1, 3, 128, 128)  # shape of the random image that shows the order of the backbone's parts
TOLERANCE = 1e-6  # by which folding may change the maps of the probe, relative to the largest value, in float64

Pair = tuple[str, str]  # the names of a convolution and of the batch norm that takes its result


class FusionWarning(UserWarning):
    """The batch norms of a backbone stay as they are."""


class OptimizedCache:
    """The prediction network of a detector, made at the first call and again when a weight has changed.

    Changes are detected by the tensors' addresses and version counters. Changes through ``.data``, by a fused
    optimizer, or to a module's other attributes are not detected; ``Model.train()`` empties the cache. Hooks that are
    registered later are not in the copy. A copy of this object starts empty.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, nn.Module] | None = None

    def network(self, detector: nn.Module, precision: Precision) -> nn.Module:
        """Return :func:`optimize_for_inference` of the detector."""
        tensors = (*detector.parameters(), *detector.buffers())
        if any(tensor.is_inference() for tensor in tensors):  # these have no version counter
            return optimize_for_inference(detector, precision)
        key = (precision, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        if self._last is None or self._last[0] != key:
            self._last = key, optimize_for_inference(detector, precision)
        return self._last[1]

    def __deepcopy__(self, memo: Any) -> OptimizedCache:
        return OptimizedCache()

    def __reduce__(self) -> Any:
        return OptimizedCache, ()


def optimize_for_inference(detector: nn.Module, precision: Precision = "fp32") -> nn.Module:
    """Return a copy of a detector that computes the same outputs faster and cannot be trained.

    Batch norms of the backbone that directly follow a convolution become part of it, since their statistics are
    constants here. In half precision, convolutions and linear layers compute in that type; norms, learned factors of
    the boxes and all coordinates stay float32, and the network must be called under :func:`autocast`. Weights that do
    not change are shared with the detector.
    """
    shared = {id(tensor): tensor for tensor in (*detector.parameters(), *detector.buffers())}
    network = copy.deepcopy(detector, shared).eval()
    device = next(iter(shared.values())).device.type
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
        if isinstance(getattr(network, "backbone", None), nn.Module):
            _fold_batch_norms(network.get_submodule("backbone"))
        if precision != "fp32":
            _convert(network, TYPES[precision])
    return network


def autocast(precision: Precision, device: str) -> torch.autocast:
    """Return the context in which a network of that precision is called."""
    return torch.autocast(device, TYPES[precision], enabled=precision != "fp32")


def check_precision(precision: str, device: str) -> None:
    """Check that a network can predict in that precision on that device.

    Raises:
        ConfigError: the precision is unknown, or is float16 on a CPU, which computes it slower than float32.
    """
    if precision not in TYPES:
        raise ConfigError(
            f"precision {precision!r}: there is no such precision; choose from {', '.join(TYPES)}.",
            code="precision-unknown",
        )
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; use bf16 or fp32 on a CPU.", code="precision-fp16-on-cpu")


def _fold_batch_norms(backbone: nn.Module) -> None:
    """Fold the batch norms of ``backbone`` in place if the exact maps of a random image stay the same; else warn."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return
    trial = copy.deepcopy(backbone).to("cpu", torch.float64)
    probe = torch.randn(PROBE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reason = "the maps would change"
    try:
        expected, pairs = _trace(trial, probe)
        _replace(trial, pairs)
        found = trial(probe)
        same = all((a - b).abs().max() <= TOLERANCE * b.abs().max() for a, b in zip(found, expected, strict=True))
    except (RuntimeError, AssertionError, ValueError) as error:  # some backbones refuse images of this size
        same, reason = False, str(error).splitlines()[0]
    if same:
        _replace(backbone, pairs)
    else:
        warnings.warn(
            f"{type(backbone).__name__}: the batch norms are not folded ({reason}); prediction is right but slower.",
            FusionWarning,
            stacklevel=2,
        )


def _trace(network: nn.Module, probe: Tensor) -> tuple[Any, list[Pair]]:
    """Return the network's maps of an image, and each convolution whose result a batch norm takes, both called once."""
    calls: Counter[str] = Counter()
    made: dict[int, tuple[str, Tensor]] = {}  # tensors are kept, so that no other one gets the same id
    pairs: list[Pair] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            calls[name] += 1
            if not isinstance(module, nn.BatchNorm2d):
                made[id(result)] = name, result
            elif id(inputs[0]) in made and _is_foldable(module):
                pairs.append((made[id(inputs[0])][0], name))

        return module.register_forward_hook(hook)

    kinds = (nn.Conv2d, DeformConv, nn.BatchNorm2d)
    handles = [watch(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    try:
        maps = network(probe)
    finally:
        for handle in handles:
            handle.remove()
    return maps, [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _is_foldable(norm: Any) -> bool:
    """Return whether a batch norm is torch's, or timm's with an activation, and has weights and statistics."""
    timms = all(isinstance(getattr(norm, name, None), nn.Module) for name in ("drop", "act"))
    return norm.weight is not None and norm.running_var is not None and (type(norm) is nn.BatchNorm2d or timms)


def _replace(backbone: nn.Module, pairs: list[Pair]) -> None:
    """Put the scale of each norm into the weight of its convolution, and its shift into the bias."""
    for conv_name, norm_name in pairs:
        conv: Any = backbone.get_submodule(conv_name)
        norm: Any = backbone.get_submodule(norm_name)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = conv.bias if conv.bias is not None else torch.zeros_like(norm.running_mean)
        folded = copy.copy(conv)
        folded._parameters = dict(conv._parameters)
        folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
        folded.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias, requires_grad=False)
        plain = type(norm) is nn.BatchNorm2d
        backbone.set_submodule(conv_name, folded)
        backbone.set_submodule(norm_name, nn.Identity() if plain else nn.Sequential(norm.drop, norm.act))


def _convert(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights of ``network`` that are multiplied with maps to ``dtype``."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, StarConv, DeformConv)):
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
