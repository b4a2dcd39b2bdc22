"""The front door: few names, all there, all explained, and cheap to open."""

import inspect
import subprocess
import sys

import varifocal

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "PIL",
    "rich",
    "pydantic",
    "hotcoco",
    "lightning_fabric",
    "supervision",
)


def test_names_are_sorted_unique_and_few():
    names = list(varifocal.__all__)
    assert names == sorted(set(names))
    assert 0 < len(names) <= 20


def test_every_name_is_there():
    missing = []
    for name in varifocal.__all__:
        try:
            getattr(varifocal, name)
        except (AttributeError, ImportError) as error:
            missing.append(f"{name}: {error}")
    assert missing == []


def test_every_name_is_explained():
    """By its own docstring: a dataclass without one would show its generated signature."""
    bare = []
    for name in varifocal.__all__:
        thing = getattr(varifocal, name)
        if not (inspect.isclass(thing) or callable(thing) or inspect.ismodule(thing)):
            continue  # __version__, tables
        text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
        if not text or text.startswith(f"{name}("):
            bare.append(name)
    assert bare == []


def test_dir_shows_every_name():
    assert set(varifocal.__all__) <= set(dir(varifocal))


def test_star_import_gives_exactly_the_names():
    scope: dict[str, object] = {}
    exec("from varifocal import *", scope)
    assert set(scope) - {"__builtins__"} == set(varifocal.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(varifocal, "no_such_name")


def test_import_is_light():
    code = f"import sys, varifocal; print(*(name for name in {HEAVY} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "", "importing varifocal loads these"
