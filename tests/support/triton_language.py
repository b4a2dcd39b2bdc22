"""Triton's language as it was when the tests were collected.

Its interpreter puts functions of its own into the language while a kernel runs. After some orders of tests a part of
them was still there, and the compiler stopped at the first line of a kernel.
"""

from typing import Any

import triton.language as tl

_OWNERS: list[Any] = [tl, tl.core, tl.math, tl.core.tensor, tl.core.dtype, tl.core.tensor_descriptor_base]
_CLEAN = [(owner, dict(vars(owner))) for owner in _OWNERS]


def restore() -> None:
    """Put every name back that is no longer what it was."""
    for owner, names in _CLEAN:
        for name in [name for name in vars(owner) if name not in names]:
            delattr(owner, name)
        for name, value in names.items():
            if vars(owner).get(name) is not value:
                setattr(owner, name, value)
