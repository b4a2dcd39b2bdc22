"""The run-time type checker of the tests: jaxtyping's where shapes are annotated, otherwise beartype alone.

``--jaxtyping-packages`` decorates every function and class of the package with ``jaxtyping.jaxtyped``, which checks
each call twice and binds its arguments, so that the axes of one call agree. A function without shapes has no axes;
there beartype alone raises the same errors in a tenth of the time. ``conftest.py`` puts :func:`jaxtyped` in place.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

# whole numbers are accepted where floats are expected
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
with_shapes = jaxtyping.jaxtyped


@contextmanager
def unchecked() -> Iterator[None]:
    """Disable the checks of shapes and types while a network is traced: a symbolic size is not an integer."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    """Return the decorator that checks the calls of a function, or the fields of a dataclass."""
    return partial(_decorated, typechecker=typechecker)


def _decorated(target: Any, typechecker: Any) -> Any:
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and "__init__" in vars(target):
            target.__init__ = _decorated(target.__init__, typechecker)
        return target
    if not inspect.isfunction(target) or inspect.isgeneratorfunction(target):
        return with_shapes(target, typechecker=typechecker)
    hints = {name: _resolved(hint, target.__globals__) for name, hint in target.__annotations__.items()}
    if any(map(_has_shape, hints.values())):
        return with_shapes(target, typechecker=typechecker)
    target.__annotations__ = hints
    strict = typechecker(target)

    @wraps(target)
    def call(*values: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        return (target if jaxtyping.config.jaxtyping_disable else strict)(*values, **options)

    return call


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """Return the type that an annotation names, or Any where only a type checker imports it, as jaxtyping does."""
    try:
        return get_type_hints(type("holder", (), {"__annotations__": {"hint": hint}}), names, {}, True)["hint"]
    except Exception:
        return Any


def _has_shape(hint: Any) -> bool:
    array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return array or any(map(_has_shape, get_args(hint)))
