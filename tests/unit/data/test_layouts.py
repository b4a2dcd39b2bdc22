"""Every layout and format that docs/data.md names is read, and taken for no other."""

import re
from pathlib import Path

import pytest
from folders import fill
from layouts import LAYOUTS, expected, read, try_layout

from varifocal.data.readers.formats import READERS, claims

DOCS = Path(__file__).parents[3] / "docs" / "data.md"


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_images_boxes_classes_and_splits_are_those_of_the_truth(tmp_path, name):
    if LAYOUTS[name].format == "parquet":
        pytest.importorskip("pyarrow")
    assert try_layout(LAYOUTS[name], tmp_path) == ""


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.packed])
def test_so_they_are_in_an_archive(tmp_path, name):
    assert try_layout(LAYOUTS[name], tmp_path, packed=True) == ""


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_so_they_are_in_a_folder_around_it(tmp_path, name):
    if LAYOUTS[name].format == "parquet":
        pytest.importorskip("pyarrow")
    files = LAYOUTS[name].files()
    fill(tmp_path, {f"my set/v3/{path}": content for path, content in files.items()} | {"README.md": "mine"})
    assert read(tmp_path) == (LAYOUTS[name].format, expected(LAYOUTS[name]))


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_no_two_formats_claim_one_folder(tmp_path, name):
    if LAYOUTS[name].format == "parquet":
        pytest.importorskip("pyarrow")
    assert list(claims(fill(tmp_path, dict(LAYOUTS[name].files())))) == [LAYOUTS[name].format]


def test_the_docs_name_every_layout_with_its_test():
    section = DOCS.read_text(encoding="utf-8").split("\n### Layouts\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE)) == set(LAYOUTS)


def test_every_format_is_tried():
    assert {layout.format for layout in LAYOUTS.values()} == set(READERS)
