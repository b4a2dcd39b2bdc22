"""The run-time checks of the tests reach every function and dataclass of the package."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor
from typechecker import checked, jaxtyped, unchecked

from varifocal.ops.boxes import elementwise_iou
from varifocal.ops.nms import multiclass_nms
from varifocal.types import Category, PostProcess
from varifocal.utils.overrides import override


@jaxtyped(typechecker=checked)
def plain(x: "int", *more: "float", name: "Unknown" = None) -> "str":
    return "text" if more else x


@jaxtyped(typechecker=checked)
def shaped(x: Float[Tensor, " N"], y: "Float[Tensor, 'N'] | None") -> Float[Tensor, " N"]:
    return x


def test_a_function_without_shapes():
    assert plain(1, 2) == "text"  # a whole number where a float is expected, and a type that nothing defines
    for wrong in (("a", 1.0), (1, "a"), (1,)):
        with pytest.raises(TypeCheckError, match="plain"):
            plain(*wrong)
    with unchecked():
        assert plain("a") == "a"


def test_axes_of_one_call_agree():
    assert shaped(torch.ones(2), None).tolist() == shaped(torch.ones(2), torch.zeros(2)).tolist() == [1, 1]
    for wrong in ((torch.ones(2), torch.ones(3)), (torch.ones(2, 2), None), (torch.ones(2).long(), None)):
        with pytest.raises(TypeCheckError, match="shaped"):
            shaped(*wrong)


def test_the_package_is_checked():
    for call in (
        lambda: elementwise_iou(torch.zeros(2, 4), torch.zeros(3, 4)),
        lambda: multiclass_nms(torch.zeros(2, 4), torch.zeros(3, 1), (2,), PostProcess()),
        lambda: override({}, 1),
        lambda: Category("1", "cat"),
        lambda: PostProcess(nms_iou="0.5"),
    ):
        with pytest.raises(TypeCheckError):
            call()
