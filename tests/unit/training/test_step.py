"""A batch that a network cannot learn from is reported in one sentence, not by torch's traceback."""

import pytest
import torch
from tiny_data import TINY, make_data

from varifocal.cli import main
from varifocal.structures import Batch
from varifocal.training.step import outputs_of

SMALL = [
    "data.preprocess={scale: null, short_side: 32, max_long_side: 32}",
    "data.augment={crop: 0, scale_jitter: [1.0, 1.0]}",
    "data.val_split=",
]
LEARNING = ["model.backbone={name: test_resnet, pretrained: none, norm_eval: false, frozen_stages: 0}"]


@pytest.mark.parametrize(("words", "code"), [(LEARNING, 2), ([*LEARNING, "train.batch_size=2"], 0), ([], 0)])
def test_a_batch_norm_with_a_single_value_to_learn_from(tmp_path, capsys, words, code):
    """One image of 32 pixels leaves one value in the last stage; two images, or fixed statistics, train."""
    data = make_data(tmp_path / "data", images=2)
    tiny = [*TINY, *SMALL, "train.batch_size=1", "train.epochs=1", "model.backbone.pretrained=none", *words]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *tiny]) == code
    message = capsys.readouterr().err
    assert ("has a single value to learn its statistics from" in message) == (code == 2)
    if code:
        (line,) = [line for line in message.splitlines() if "single value" in line]
        assert line.startswith("varifocal train: step 1: a batch norm of the backbone")
        assert "only 32 x 32 pixels large; set model.backbone.norm_eval=true, or use a larger train.batch_size" in line
        assert ".png" in line


def test_another_error_stays_what_it_is():
    def network(images):
        raise ValueError("another")

    batch = Batch(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), (), ("a.png",))
    with pytest.raises(ValueError, match=r"^another$"):
        outputs_of(network, torch.zeros(1, 3, 32, 32), 0, batch)
