"""Expect an error by its code, so that a better wording of its sentence breaks no test."""

import pytest

from varifocal.utils.errors import VarifocalError


def raises_code(code, kind=VarifocalError):
    """Return a context in which an error of that kind with that code must be raised; its ``value`` is the error."""
    return pytest.raises(kind, check=lambda error: error.code == code)
