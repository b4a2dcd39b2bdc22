"""The network as prediction runs it: batch norms folded into the convolutions before them, one type of numbers."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from varifocal.models.layers import StarConv
from varifocal.ops.deform_conv import DeformConv
from varifocal.utils.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROBE = (1, 3, 128, 128)  # an image on which the order of the backbone's parts is seen
TOLERANCE = 1e-6  # of the largest magnitude, by which folding may change the maps of the probe, in float64


class FusionWarning(UserWarning):
    """The batch norms of a backbone stay as they are."""


class _Pair(NamedTuple):
    """A convolution whose result goes into a batch norm, by their names."""

    conv: str
    norm: str


def optimize_for_inference(detector: nn.Module, precision: Precision = "fp32") -> nn.Module:
    """A copy of a detector that computes the same faster and cannot be trained.

    Batch norms of the backbone that directly follow a convolution become part of it: their statistics are constants
    here. In half precision convolutions and linear layers compute in it; normalisations, learned factors of the boxes
    and all coordinates stay float32; the network wants to be called under autocast then, see :func:`computing`. Weights
    that do not change are shared with the detector.
    """
    shared = {id(tensor): tensor for tensor in (*detector.parameters(), *detector.buffers())}
    network = copy.deepcopy(detector, shared).eval()
    device = next(iter(shared.values())).device.type
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
        if isinstance(getattr(network, "backbone", None), nn.Module):
            _fold(network.get_submodule("backbone"))
        if precision != "fp32":
            _lower(network, TYPES[precision])
    return network


def autocast(precision: Precision, device: str) -> torch.autocast:
    """The context in which a network of that precision is called."""
    return torch.autocast(device, TYPES[precision], enabled=precision != "fp32")


class OptimizedCache:
    """The prediction network of a detector, made when it is first asked for and again when a weight has changed.

    Changes are seen by the tensors' addresses and version counters. Those made through ``.data``, by a fused optimizer,
    or to a module's other attributes are not; ``Model.train()`` begins anew. Hooks that come later are not in the copy.
    A copy of this object starts empty.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, nn.Module] | None = None

    def network(self, detector: nn.Module, precision: Precision) -> nn.Module:
        """See :func:`prediction_network`."""
        tensors = (*detector.parameters(), *detector.buffers())
        if any(tensor.is_inference() for tensor in tensors):  # they have no counter
            return optimize_for_inference(detector, precision)
        key = (precision, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        last = self._last
        if last is None or last[0] != key:
            last = self._last = key, optimize_for_inference(detector, precision)
        return last[1]

    def __deepcopy__(self, memo: Any) -> OptimizedCache:
        return OptimizedCache()

    def __reduce__(self) -> Any:
        return OptimizedCache, ()


def check_precision(precision: str, device: str) -> None:
    """Raises ConfigError: unknown, or float16 on a CPU, which computes it slower than float32."""
    if precision not in TYPES:
        raise ConfigError(f"precision {precision!r}: there is no such one; choose from {', '.join(TYPES)}.")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; use bf16 or fp32 on a CPU.")


def _fold(backbone: nn.Module) -> None:
    """Fold batch norms of ``backbone`` itself where the maps of a random image, computed exactly, stay the same; else
    warn."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return
    trial = copy.deepcopy(backbone).to("cpu", torch.float64)
    probe = torch.randn(PROBE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    calls = _Calls(trial)
    try:
        expected = calls.watch(probe)
        pairs = calls.pairs()
        _put(trial, pairs)
        found = trial(probe)
        same = all((a - b).abs().max() <= TOLERANCE * b.abs().max() for a, b in zip(found, expected, strict=True))
    except (RuntimeError, AssertionError, ValueError) as error:  # some take no image of this size
        same, why = False, str(error).splitlines()[0]
    else:
        why = "the maps would change"
    if same:
        _put(backbone, pairs)
    else:
        warnings.warn(
            f"{type(backbone).__name__}: the batch norms are not folded ({why}); prediction is right but slower.",
            FusionWarning,
            stacklevel=2,
        )


def _put(backbone: nn.Module, pairs: list[_Pair]) -> None:
    for pair in pairs:
        conv, norm = (backbone.get_submodule(name) for name in pair)
        backbone.set_submodule(pair.conv, _folded(conv, norm))
        backbone.set_submodule(pair.norm, _rest(norm))


class _Calls:
    """Which convolution's very result each batch norm takes, where both are called once."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.results: dict[int, str] = {}
        self.held: list[Tensor] = []  # so that no other tensor gets the same id
        self.source: dict[str, str] = {}
        self.times: dict[str, int] = {}

    def watch(self, probe: Tensor) -> Any:
        """The network's maps for the image."""
        handles = []
        for name, module in self.network.named_modules():
            if isinstance(module, (nn.Conv2d, DeformConv)):
                handles.append(module.register_forward_hook(self._after(name)))
            elif isinstance(module, nn.BatchNorm2d):
                handles.append(module.register_forward_pre_hook(self._before(name)))
        try:
            return self.network(probe)
        finally:
            for handle in handles:
                handle.remove()

    def pairs(self) -> list[_Pair]:
        """Convolutions and norms that were called once, the one on the other's result."""
        once = {name for name, times in self.times.items() if times == 1}
        return [_Pair(conv, norm) for norm, conv in self.source.items() if {norm, conv} <= once and self._known(norm)]

    def _known(self, norm: str) -> bool:
        module: Any = self.network.get_submodule(norm)
        if module.weight is None or module.running_var is None:
            return False
        kind = type(module) is nn.BatchNorm2d
        return kind or all(isinstance(getattr(module, name, None), nn.Module) for name in ("drop", "act"))

    def _after(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, result: Tensor) -> None:
            self.times[name] = self.times.get(name, 0) + 1
            self.results[id(result)] = name
            self.held.append(result)

        return hook

    def _before(self, name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.times[name] = self.times.get(name, 0) + 1
            if id(inputs[0]) in self.results:
                self.source[name] = self.results[id(inputs[0])]

        return hook


def _folded(conv: Any, norm: Any) -> nn.Module:
    """The convolution with the norm's scale in its weight and its shift as bias."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    before = conv.bias if conv.bias is not None else torch.zeros_like(norm.running_mean)
    result = copy.copy(conv)
    result._parameters = dict(conv._parameters)
    result.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    result.bias = nn.Parameter((before - norm.running_mean) * scale + norm.bias, requires_grad=False)
    return result


def _rest(norm: Any) -> nn.Module:
    """What timm's batch norms with an activation do beside normalizing."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(norm.drop, norm.act)


def _lower(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights of ``network`` that are multiplied with maps to ``dtype``; everything else stays."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, StarConv, DeformConv)):
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
