"""Parameter groups on a whole detector, and the learning rate against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.ops.deform_conv import DeformConv
from varifocal.training.optim import Schedule, TrainConfig, base_lr, lr_factor, make_optimizer, set_lr
from varifocal.utils.config import from_dict
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

# ResNet: its convolutions have no bias, and the first stages can be frozen.
CONFIG = VFNetConfig(
    2, BackboneConfig("resnet18", frozen_stages=1), channels=32, num_levels=3, num_convs=1, star_norm="group"
)


@pytest.fixture(scope="module")
def detector() -> VFNet:
    return VFNet(CONFIG)


@pytest.fixture(scope="module")
def rules(detector) -> dict[str, tuple[float, float]]:
    """Return (rate, decay) of each parameter by name; every setting of the config has a different value."""
    config = TrainConfig(lr=1.0, weight_decay=0.01, bias_lr_mult=2.0, bias_decay_mult=0.5, backbone_lr_mult=0.25)
    optimizer = make_optimizer(detector, config)
    set_lr(optimizer, 0.1)
    names = {id(p): name for name, p in detector.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def test_every_learning_parameter_is_in_exactly_one_group(detector, rules):
    optimizer = make_optimizer(detector, TrainConfig())
    members = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(members) == len(set(members))
    learning = {name for name, p in detector.named_parameters() if p.requires_grad}
    assert set(rules) == learning
    assert "backbone.net.conv1.weight" not in rules  # frozen
    assert any(name.startswith("backbone.net.layer2.") for name in rules)


@pytest.mark.parametrize(
    ("name", "rate", "decay"),
    [
        ("head.cls.bias", 0.2, 0.005),
        ("head.reg.bias", 0.2, 0.005),
        ("neck.lateral.0.bias", 0.2, 0.005),
        ("head.cls.weight", 0.1, 0.01),
        ("head.reg_star.weight", 0.1, 0.01),
        ("head.scales.0", 0.1, 0.01),
        ("head.cls_tower.0.1.bias", 0.1, 0.01),  # of a norm
        ("head.cls_tower.0.1.weight", 0.1, 0.01),
        ("head.reg_star.norm.weight", 0.1, 0.01),
        ("head.reg_star.norm.bias", 0.1, 0.01),
        ("backbone.net.layer2.0.conv1.weight", 0.025, 0.01),
        ("backbone.net.layer2.0.bn1.bias", 0.025, 0.01),
    ],
)
def test_rate_and_decay_by_kind(rules, name, rate, decay):
    assert rules[name] == pytest.approx((rate, decay))


def test_the_bias_rule_holds_for_convolutions_and_nothing_else(detector, rules):
    for module_name, module in detector.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{module_name}.{name}"
            if full in rules:
                is_bias = isinstance(module, nn.Conv2d) and name == "bias"
                assert (rules[full][1] == pytest.approx(0.005)) == is_bias, full


def test_what_steers_a_deformable_convolution_has_no_bias_rule():
    """As in the authors' code, whose rule only applies to plain convolutions."""
    network = nn.ModuleDict({"deformable": DeformConv(2, 2), "plain": nn.Conv2d(2, 2, 1)})
    groups = make_optimizer(network, TrainConfig(bias_lr_mult=3.0)).param_groups
    scales = {id(p): group["scale"] for group in groups for p in group["params"]}
    assert {scales[id(p)] for p in network["deformable"].parameters()} == {1.0}
    assert scales[id(network["plain"].bias)] == 3.0


def test_the_defaults_are_the_authors_rule(detector):
    for group in make_optimizer(detector, TrainConfig()).param_groups:
        assert (group["scale"], group["weight_decay"]) in {(2.0, 0.0), (1.0, 1e-4)}


@pytest.mark.parametrize("attribute", ["backbone", "student"])
def test_the_backbone_is_known_by_its_kind_wherever_it_is(attribute):
    """Both factors apply to the biases of its convolutions."""
    network = nn.Module()
    setattr(network, attribute, nn.Sequential(Backbone(BackboneConfig("resnet18"))))
    network.backbone_like = nn.Conv2d(1, 1, 1)
    inside = getattr(network, attribute)[0]
    inside.net.extra = nn.Conv2d(1, 1, 1)
    groups = make_optimizer(network, TrainConfig(bias_lr_mult=3.0, backbone_lr_mult=0.5)).param_groups
    scales = {id(p): group["scale"] for group in groups for p in group["params"]}
    assert scales[id(inside.net.extra.bias)] == 1.5
    assert {scales[id(p)] for p in inside.parameters() if p is not inside.net.extra.bias} == {0.5}
    assert scales[id(network.backbone_like.weight)] == 1.0
    assert scales[id(network.backbone_like.bias)] == 3.0


def test_the_kind_of_optimizer_and_its_numbers(detector):
    sgd = make_optimizer(detector, TrainConfig(momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.8}
    assert isinstance(make_optimizer(detector, TrainConfig(optimizer="adamw")), torch.optim.AdamW)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.1),
        (1, 1 - (1 - 1 / 500) * 0.9),
        (250, 0.55),
        (499, 1 - (1 - 499 / 500) * 0.9),
        (500, 1.0),
        (7999, 1.0),
        (8000, 0.1),
        (10999, 0.1),
        (11000, 0.01),
        (11999, 0.01),
    ],
)
def test_the_papers_schedule(step, factor):
    assert lr_factor(step, 12000, TrainConfig()) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(("steps", "drops"), [(24000, (16000, 22000)), (42, (28, 38)), (6, (4, 6)), (1, (1, 1))])
def test_milestones_move_with_the_length_of_the_run(steps, drops):
    """11/12 of 42 is 38.5, which rounds to the even 38; with 6 steps the second drop would come after the last."""
    config = replace(TrainConfig(), warmup_steps=0)
    factors = [lr_factor(step, steps, config) for step in range(steps)]
    expected = [0.1 ** sum(step >= drop for drop in drops) for step in range(steps)]
    assert factors == pytest.approx(expected)


def test_milestones_of_ones_own():
    config = replace(TrainConfig(), warmup_steps=0, milestones=(0.5, 0.75, 0.9))
    factors = [lr_factor(step, 100, config) for step in (49, 50, 74, 75, 89, 90)]
    assert factors == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert lr_factor(99, 100, replace(config, milestones=())) == 1.0


@pytest.mark.parametrize(("steps", "warm"), [(12, 1), (100, 10), (4000, 400), (5000, 500), (50000, 500), (9, 0)])
def test_the_warm_up_is_at_most_a_tenth_of_the_run(steps, warm):
    config = replace(TrainConfig(), milestones=())
    below = [step for step in range(min(steps, 1000)) if lr_factor(step, steps, config) < 1]
    assert below == list(range(warm))
    if warm:
        middle = warm // 2
        assert lr_factor(middle, steps, config) == pytest.approx(0.1 + 0.9 * middle / warm)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (25, 0.5 + math.sqrt(0.125)), (50, 0.5), (100, 0.0)])
def test_cosine(step, factor):
    config = TrainConfig(schedule="cosine", warmup_steps=0)
    assert lr_factor(step, 100, config) == pytest.approx(factor, abs=1e-12)


def test_cosine_begins_with_the_warm_up_and_falls_after_it():
    config = TrainConfig(schedule="cosine", warmup_steps=10, warmup_factor=0.2)
    assert lr_factor(0, 100, config) == pytest.approx(0.2)
    factors = [lr_factor(step, 100, config) for step in range(10, 101)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == pytest.approx(0.5 * (1 + math.cos(math.pi / 10)))


def test_constant_warm_up_is_fcos():
    """A third of the learning rate for 500 iterations, then the full one."""
    config = TrainConfig(warmup_type="constant", warmup_factor=1 / 3)
    factors = [lr_factor(step, 12000, config) for step in range(600)]
    assert factors == [1 / 3] * 500 + [1.0] * 100


VFNETX = TrainConfig(epochs=41, swa_epochs=18, milestones=(36 / 41, 40 / 41), warmup_steps=500)


@pytest.mark.parametrize("per_epoch", [200, 7])
def test_the_59_epochs_of_vfnetx_are_a_literal_loop(per_epoch):
    """41 epochs with drops after 36 and 40, then 18 half cosines from .01 to .0001."""
    expected = []
    for epoch in range(59):
        for iteration in range(per_epoch):
            if epoch >= 41:
                cosine = math.cos(math.pi * iteration / per_epoch)
                expected.append(0.0001 + (0.01 - 0.0001) * (1 + cosine) / 2)
                continue
            warm = min(500, 41 * per_epoch // 10)
            rate = 0.01 if epoch < 36 else 0.001 if epoch < 40 else 0.0001
            expected.append(rate * (0.1 + 0.9 * min(len(expected) / warm, 1)))
    schedule = Schedule(VFNETX, per_epoch)
    assert schedule.steps == len(expected) == 59 * per_epoch
    checked = range(0, schedule.steps, max(per_epoch // 100, 1))
    assert [schedule.lr(step) for step in checked] == pytest.approx([expected[step] for step in checked], rel=1e-9)
    ends = [step for step in range(schedule.steps) if schedule.ends_swa_epoch(step)]
    assert ends == [epoch * per_epoch - 1 for epoch in range(42, 60)]


def test_swa_epochs_of_accumulated_steps():
    """Ten batches in steps of four: 7 steps in three epochs, then cycles of two steps."""
    schedule = Schedule(TrainConfig(epochs=3, accumulate_grad_batches=4, swa_epochs=2), 10)
    assert (schedule.plain, schedule.cycle, schedule.steps) == (7, 2, 11)
    assert [step for step in range(11) if schedule.ends_swa_epoch(step)] == [8, 10]
    assert Schedule(TrainConfig(epochs=9, accumulate_grad_batches=4, swa_epochs=2), 3).cycle == 1


def test_swa_rates_are_multiples_of_the_rate():
    schedule = Schedule(TrainConfig(epochs=1, lr=0.5, swa_epochs=1, swa_lr=0.8, swa_lr_min=0.2), 100)
    assert [schedule.lr(step) for step in (100, 150)] == pytest.approx([0.4, 0.25])
    assert schedule.lr(199) == pytest.approx(0.1, abs=1e-3)


def test_without_swa_there_is_no_such_epoch():
    schedule = Schedule(TrainConfig(epochs=2), 10)
    assert schedule.steps == 20
    assert not any(schedule.ends_swa_epoch(step) for step in range(20))


@pytest.mark.parametrize(
    ("batch", "accumulate", "lr_batch", "rate"),
    [(16, 1, 16, 0.01), (8, 1, 16, 0.005), (4, 2, 16, 0.005), (64, 1, 16, 0.04), (64, 1, 0, 0.01), (3, 1, 0, 0.01)],
)
def test_the_rate_goes_with_the_batch(batch, accumulate, lr_batch, rate):
    config = TrainConfig(batch_size=batch, accumulate_grad_batches=accumulate, base_batch_size=lr_batch)
    assert base_lr(config) == pytest.approx(rate)
    assert Schedule(config, 1000).lr(3000) == pytest.approx(rate)


BOUNDS = {
    "base_batch_size": 0,
    "swa_epochs": 0,
    "swa_lr": 0,
    "swa_lr_min": 0,
    "epochs": 1,
    "batch_size": 1,
    "accumulate_grad_batches": 1,
    "lr": 1e-9,
    "momentum": 0,
    "weight_decay": 0,
    "bias_lr_mult": 0,
    "bias_decay_mult": 0,
    "backbone_lr_mult": 0,
    "warmup_steps": 0,
    "warmup_factor": 0,
    "clip_grad_norm": 0,
    "ema": 0,
    "seed": 0,
    "num_workers": 0,
    "max_unreadable": 0,
    "val_every_epochs": 0,
    "save_every_steps": 0,
}


@pytest.mark.parametrize(("key", "least"), BOUNDS.items())
def test_least_values(key, least):
    assert getattr(from_dict(TrainConfig, {key: least}, "x"), key) == least
    with pytest.raises(ConfigError, match=rf"^x: {key}: Input should be greater than .*\(got "):
        from_dict(TrainConfig, {key: 0 if key == "lr" else least - 1}, "x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ema", 1.0),
        ("warmup_factor", 1.5),
        ("warmup_type", "cosine"),
        ("milestones", [8, 11]),
        ("precision", "16"),
        ("precision", 32),
        ("device", "tpu"),
        ("lr", float("nan")),
    ],
)
def test_wrong_values(key, value):
    with pytest.raises(ConfigError, match=rf"^x: {key}"):
        from_dict(TrainConfig, {key: value}, "x")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_are_words_in_yaml_too(precision):
    assert override(TrainConfig(), [f"precision={precision}"]).precision == precision
