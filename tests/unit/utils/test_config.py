"""Configurations from and to dictionaries; errors name the key and the valid ones."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from error_codes import raises_code
from pydantic import TypeAdapter

import varifocal.utils.config as config_module
from varifocal.utils.config import from_dict, to_dict
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override, update


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    mode: Literal["fast", "slow"] = "fast"


@dataclass(frozen=True)
class Outer:
    steps: int = 3
    pair: tuple[float, float] = (1.5, 2.0)
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Named:
    name: str = ""


def test_there_and_back():
    config = Outer(5, (1.0, 2.0), 4.0, Inner(0.2, "slow"))
    values = to_dict(config)
    assert values == {"steps": 5, "pair": [1.0, 2.0], "limit": 4.0, "inner": {"rate": 0.2, "mode": "slow"}}
    assert from_dict(Outer, values, "file") == config


def test_what_is_left_out_keeps_its_default():
    assert from_dict(Outer, {"inner": {"rate": 1}}, "file") == Outer(inner=Inner(1.0))
    assert from_dict(Outer, {}, "file") == Outer()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"step": 1},
            r"^recipe\.yaml: there is no 'step' here\. Did you mean 'steps'\? Valid keys: inner, limit, pair, steps\.$",
        ),
        ({"zzz": 1}, r"^recipe\.yaml: there is no 'zzz' here\. Valid keys: "),
        ({"inner": {"rat": 1}}, r"^recipe\.yaml: inner: there is no 'rat' here\. Did you mean 'rate'\? .*mode, rate"),
        ({"steps": "many"}, r"^recipe\.yaml: steps: .*'many'"),
        ({"inner": {"mode": "medium"}}, r"^recipe\.yaml: inner\.mode: .*'medium'"),
        ({"pair": [1.0]}, r"^recipe\.yaml: pair"),
        ({"inner": 3}, r"^recipe\.yaml: inner: .*3"),
    ],
)
def test_errors_name_place_and_mend(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, values, "recipe.yaml")


def test_override():
    config = override(Outer(), ["steps=7", "inner.mode=slow", "pair=[3, 4]", "limit=2.5"])
    assert config == Outer(7, (3.0, 4.0), 2.5, Inner(0.1, "slow"))
    assert override(config, ["limit=null"]).limit is None
    assert override(config, []) == config


def test_a_mapping_is_merged_into_the_old_values():
    config = override(Outer(inner=Inner(0.7, "slow")), ["inner={rate: 0.5}", "inner={}"])
    assert config == Outer(inner=Inner(0.5, "slow"))
    assert override(config, ["inner={mode: fast}", "inner.rate=0.25"]).inner == Inner(0.25, "fast")


def test_nothing_after_the_sign_is_empty_text():
    assert override(Named("x"), ["name="]) == Named("")
    assert override(Named("x"), ["name=''"]) == Named("")
    assert override(Named("x"), ["name=a=b"]) == Named("a=b")


def test_the_last_override_wins():
    assert override(Outer(), ["steps=7", "steps=8"]).steps == 8


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps", r"'steps'.*key=value"),
        ("stpes=1", r"no 'stpes' here.*Did you mean 'steps'"),
        ("inner.rte=1", r"no 'rte' here.*Did you mean 'rate'"),
        ("iner.rate=1", r"no 'iner' here.*Did you mean 'inner'"),
        ("steps.deep=1", r"override 'steps.deep=1'"),
        ("steps=a few", r"steps: .*'a few'"),
        ("inner.mode=medium", r"inner\.mode"),
        ("steps=", r"override 'steps=': steps: .*\(got ''\)"),
        ("inner=", r"override 'inner=': inner: "),
        ("steps=[1", r"override 'steps=\[1': the value is not YAML \("),
        ("pair={a: b", r"the value is not YAML"),
        ("steps=2020-13-45", r"override 'steps=2020-13-45': the value is not YAML \(month"),
        ("inner={1: 2}", r"inner: there is no 1 here\. Valid keys: mode, rate"),
        ("=5", r"there is no '' here"),
    ],
)
def test_wrong_overrides(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(Outer(), [assignment])


def test_each_override_is_checked_by_itself():
    """The message names the one that is wrong, though a later one mends it."""
    with pytest.raises(ConfigError, match=r"^override 'steps=a': steps: ") as error:
        override(Outer(), ["inner.rate=1", "steps=a", "steps=3"])
    assert "\n" not in str(error.value)


def test_update_replaces_only_what_is_named():
    config = Outer(5, (1.0, 2.0), 4.0, Inner(0.2, "slow"))
    assert update(config, {"inner": {"rate": 0.5}}, "file") == Outer(5, (1.0, 2.0), 4.0, Inner(0.5, "slow"))
    assert update(config, {}, "file") == config
    with raises_code("config-unknown-key"):
        update(config, {"inner": {"rat": 0.5}}, "file")


def test_what_reads_a_kind_is_made_once(monkeypatch):
    """Making it takes pydantic longer than anything else here, and a run of many overrides would make dozens."""
    made = []
    monkeypatch.setattr(config_module, "TypeAdapter", lambda kind: made.append(kind) or TypeAdapter(kind))

    @dataclass(frozen=True)
    class Fresh:
        steps: int = 3

    assert override(Fresh(), ["steps=7", "steps=8"]) == Fresh(8)
    assert made == [Fresh]
