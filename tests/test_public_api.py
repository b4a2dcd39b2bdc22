"""The front door: few names, all there, all explained, and cheap to open."""

import inspect
import subprocess
import sys

import varifocal

# what even the names do not need: each waits for the function that uses it
LATE = ("torchvision", "timm", "triton", "torch._dynamo", "sympy", "hotcoco", "lightning_fabric", "supervision")
HEAVY = ("torch", "numpy", "PIL", "pydantic", "jaxtyping", "yaml", "rich", *LATE)


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


def loaded_by(code, names):
    """Which of the modules a fresh interpreter has after that code."""
    code = f"import sys, varifocal; {code}; print(*(name for name in {names} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_import_is_light():
    assert loaded_by("pass", HEAVY) == []


def test_the_names_need_torch_and_little_else():
    """torchvision by itself, and what it imports of torch, takes as long as torch."""
    assert loaded_by("[getattr(varifocal, name) for name in varifocal.__all__]", ("torch", *LATE)) == ["torch"]
