"""The list of the paper's models: what is counted is counted by hand, what is typed works."""

import json

import pytest

from varifocal.cli import make_parser
from varifocal.recipes.auto import PRESETS
from varifocal.recipes.recipe import recipe_names
from varifocal.tools.model_zoo import PUBLISHED, commands, count, list_zoo, table, to_json
from varifocal.utils.errors import ConfigError

LEVELS = (100 * 168, 50 * 84, 25 * 42, 13 * 21, 7 * 11)


def resnet50(height: int, width: int) -> int:
    """Multiply-adds of its convolutions."""
    total, area = 3 * 64 * 49 * (height // 2) * (width // 2), (height // 4) * (width // 4)
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        middle = 64 * 2**stage
        for block in range(blocks):
            before = area
            if block == 0 and stage:
                area = area // 4
            total += before * inputs * middle + area * (middle * middle * 9 + middle * 4 * middle)
            if block == 0:
                total += area * inputs * 4 * middle
            inputs = 4 * middle
    return total


def vfnet_r50() -> int:
    pyramid = sum(area * 256 * inputs for area, inputs in zip(LEVELS, (512, 1024, 2048), strict=False))
    pyramid += sum(area * 256 * 256 * 9 for area in LEVELS)
    # three layers in each tower, one before the first box, two stars; then 80 classes and twice four distances
    head = sum(LEVELS) * 9 * 256 * (9 * 256 + 80 + 4 + 4)
    return resnet50(800, 1344) + pyramid + head


def test_multiply_adds_by_hand():
    parameters, gflops = count("vfnet_r50_1x")
    assert parameters == 32_891_554  # the authors' state dict without buffers
    assert gflops == pytest.approx(vfnet_r50() / 1e9, rel=1e-9)


def test_every_recipe_of_the_paper_is_listed_and_nothing_else():
    assert set(PUBLISHED) == set(recipe_names()) - {"trees", *PRESETS}


@pytest.mark.parametrize("name", ["vfnet_r50_1x", "vfnet_r50_1x_tta"])
def test_the_commands_are_ones_that_the_parser_takes(name):
    (entry,) = list_zoo([name])
    lines = commands(entry).splitlines()
    assert ("--tta" in lines[1]) == name.endswith("_tta")
    assert [line.split()[1] for line in lines] == ["convert-weights", "eval", "train"]
    for line in lines:
        words = line.split()[1:]
        options, rest = make_parser().parse_known_args(words)
        assert options.command == words[0]
        assert all("=" in word for word in rest)


def test_table_and_json():
    entries = list_zoo(["vfnet_r50_1x"])
    assert table(entries).row_count == 1
    (row,) = json.loads(json.dumps(to_json(entries)))
    assert (row["recipe"], row["published"]["ap"], row["epochs"]) == ("vfnet_r50_1x", 41.6, 12)
    assert row["published"]["file"] in row["commands"][0]


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(ConfigError, match=r"'vfnet_r51' .*choose from .*vfnet_r50_1x"):
        list_zoo(["vfnet_r51"])
