"""The page stands by itself: no script, no network, well-formed, whatever the data set calls its things."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from messy import image, make_messy
from PIL import Image

from varifocal.analysis.pages.render import load_environment
from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.load import read_raw
from varifocal.models.vfnet import VFNetConfig
from varifocal.tools.check import page as module
from varifocal.tools.check.findings import Finding
from varifocal.tools.check.page import make_page
from varifocal.tools.check.report import ModelReport
from varifocal.tools.check.run import check_data
from varifocal.tools.check.split import Split
from varifocal.tools.check.thumbnails import SIDE, make_thumbnails
from varifocal.types import Preprocess

EYE = TrainingGeometry.of("vfnet", "vfnet", VFNetConfig(5), Preprocess(short_side=128, max_long_side=256))
EVIL = '<script>alert("1")</script>&\'"'


class Reader(HTMLParser):
    """Checks that tags close in order; collects what a page refers to and what it says."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.ids, self.words = [], [], set(), ""

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[key] for key in ("src", "href") if key in values]
        self.ids |= {values["id"]} if "id" in values else set()
        assert tag not in ("script", "iframe", "link", "object")
        assert not [key for key in values if key.startswith("on")]
        if tag == "svg":
            named = values.get("aria-label") or values.get("aria-labelledby")
            assert values.get("aria-hidden") == "true" or (values["role"] == "img" and named)
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    for link in reader.links:
        assert link.startswith("data:image/jpeg;base64,") or link[1:] in reader.ids, link
    return reader


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return check_data(make_messy(tmp_path_factory.mktemp("messy")), EYE)


def test_it_stands_by_itself(report):
    text = make_page(report)
    reader = read(text)
    assert not re.search(r"https?:|@import|url\(", text)
    assert 'name="viewport"' in text
    assert 'lang="en"' in text
    assert "prefers-color-scheme: dark" in text
    for words in ("Training would stop or lose data", "cut.jpg", "the class 'ghost' has no boxes", "missing.png"):
        assert words in reader.words
    for kind in report.findings.kinds():
        for one in report.findings.of(kind):
            assert f" {one.text}" in reader.words
    assert text.count("<details") == text.count("<summary")
    assert 20 <= text.count("data:image/jpeg") <= module.MOST_THUMBS


def test_names_of_a_data_set_are_only_text(tmp_path):
    """Class names, file names and splits with signs of HTML."""
    image(1).save(tmp_path / "a&b'<i>.png")
    record = {"id": 1, "file_name": "a&b'<i>.png", "width": 192, "height": 128}
    boxes = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0.5, 60]} for i in range(2)]
    content = {"images": [record], "annotations": boxes, "categories": [{"id": 1, "name": EVIL}]}
    (tmp_path / "train<b>.json").write_text(json.dumps(content))
    reader = read(make_page(check_data(tmp_path / "train<b>.json", EYE)))
    assert EVIL in reader.words
    assert "a&b'<i>.png" in reader.words
    assert "train<b>" in reader.words


HOSTILE = "</title></style></script></svg><script>alert(1)</script>\" onload=\"alert(1)' onclick='alert(2)&lt;"


def test_whatever_comes_from_outside_is_only_text(report, tmp_path):
    """Also the data set's own name, notes, a recipe, a model and what a finding says."""
    image(1).save(tmp_path / "1.png")
    record = {"id": 1, "file_name": "1.png", "width": 192, "height": 128}
    boxes = [{"id": i, "image_id": 1, "category_id": i, "bbox": [5, 5, 60, 60]} for i in range(1, 4)]
    names = [{"id": i, "name": HOSTILE + str(i)} for i in range(1, 4)]
    (tmp_path / "train.json").write_text(json.dumps({"images": [record], "annotations": boxes, "categories": names}))
    found = check_data(tmp_path, EYE)
    boxes = ((HOSTILE, (5.0, 5.0, 60.0, 60.0)),)
    for kind in ("missing-label", "no-area", "rare-class"):
        one = Finding(kind, "train", HOSTILE, file=HOSTILE, location=HOSTILE, image=0, boxes=boxes)
        found.findings.add_many((kind, "train"), [one], lambda finding: finding)
    advice = None if report.advice is None else replace(report.advice, text=HOSTILE, overrides=(HOSTILE,))
    text = make_page(
        replace(
            found,
            data=HOSTILE,
            notes=(HOSTILE,),
            advice=advice,
            matching=replace(found.matching, recipe=HOSTILE),
            model=ModelReport(HOSTILE, 1, 1, 1, (HOSTILE,)),
        )
    )
    reader = read(text)  # which lets no script and no handler through
    assert not re.search("<script|<img|</script", text)
    # title, heading; note, matching, model and its note; advice and its words; class table, foot; findings
    assert reader.words.count(HOSTILE) >= 20
    assert text.count("</style>") == 2


def test_its_size_is_bounded(tmp_path, monkeypatch):
    """Thousands of findings give a list of forty and a few thumbnails."""
    for i in range(4):
        image(i, (1200, 900)).save(tmp_path / f"{i}.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 1200, "height": 900} for i in range(4)]
    boxes = [{"id": i, "image_id": i % 4, "category_id": 1, "bbox": [i % 900, 9, 0, 9]} for i in range(5000)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_data(tmp_path, EYE)
    text = make_page(report)
    assert text.count("data:image/jpeg") == module.THUMBS
    assert len(text) < 400_000
    assert f"{module.ROWS - module.THUMBS - module.FIRST} more (5,000 in all)" in text
    monkeypatch.setattr(module, "MOST_THUMBS", 3)
    assert make_page(report).count("data:image/jpeg") == 3


def test_a_set_without_boxes(tmp_path):
    image(1).save(tmp_path / "1.png")
    record = {"id": 1, "file_name": "1.png", "width": 192, "height": 128}
    content = {"images": [record], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert "No data would be lost" in read(make_page(check_data(tmp_path, EYE))).words


def drawn(thumb):
    """The SVG of a thumbnail."""
    return str(load_environment().get_template("tools/check/thumbnail.html").module.thumbnail(thumb))


def numbers(svg, kind):
    row = re.search(rf'<rect class="{kind}" x="([-.\d]+)" y="([-.\d]+)" width="([.\d]+)" height="([.\d]+)"', svg)
    return [float(value) for value in row.groups()]


def test_a_thumbnail_shows_what_is_around_a_box(tmp_path):
    Image.new("RGB", (1000, 500)).save(tmp_path / "1.png")
    image = {"id": 1, "file_name": "1.png", "width": 1000, "height": 500}
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [400, 200, 100, 50]}]
    content = {"images": [image], "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    split = Split.of(read_raw(tmp_path))
    (thumb,) = make_thumbnails(split.on_box("thin-box", 0, "is thin"), [split])
    # three times its longer side about the middle (450, 225): 300 x 300 from (300, 75)
    scale = SIDE / 300
    assert numbers(drawn(thumb), "a") == pytest.approx([100 * scale, 125 * scale, 100 * scale, 50 * scale], abs=0.06)
    assert f'viewBox="0 0 {SIDE} {SIDE}"' in drawn(thumb)
    # at the corner it is moved into the image; a tiny box gets 48 pixels
    corner = Finding("tiny-box", "train", "", image=0, boxes=(("a", (0.0, 0.0, 2.0, 2.0)),))
    assert numbers(drawn(make_thumbnails(corner, [split])[0]), "a") == pytest.approx(
        [0, 0, 2 * SIDE / 48, 2 * SIDE / 48], abs=0.06
    )
    # without a box of its own: the whole image with all its boxes
    whole = drawn(make_thumbnails(split.on_image("no-boxes", 0, ""), [split])[0])
    assert numbers(whole, "a") == pytest.approx([0.4 * SIDE, 0.2 * SIDE, 0.1 * SIDE, 0.05 * SIDE])
    # what a model found is dashed
    asked = Finding("missing-label", "train", "", image=0, boxes=(("found a 0.9", (10.0, 10.0, 90.0, 90.0)),))
    asked_svg = drawn(make_thumbnails(asked, [split])[0])
    assert 'class="b"' in asked_svg
    assert 'class="c"' in asked_svg  # the labels around it


def test_no_thumbnail_without_a_image(report):
    for kind in ("missing-image", "unreadable-image", "truncated-image", "empty-class"):
        assert make_thumbnails(report.findings.of(kind)[0], report.splits) == []
    (copy,) = report.findings.of("leaked-image")
    assert [thumb.caption for thumb in make_thumbnails(copy, report.splits)] == ["leak.png", "sound-1.png"]


def test_bars_and_maps():
    macros = load_environment().get_template("analysis/pages/macros.html").module
    assert 'width="25.00"' in macros.bar(1, 4)
    assert 'class="marked" width="12.50"' in macros.bar(1, 4, 0.5)
    assert macros.bar(0, 0) == macros.bars("nothing", ("", "", ""), []) == ""
    assert module._centers([[0, 0], [0, 0]]) is None
    centers = module._centers([[0, 1200], [300, 0]])
    assert re.findall(r'fill-opacity="([.\d]+)"><title>([,\d]+)</title>', centers) == [
        ("0.800", "1,200"),
        ("0.260", "300"),
    ]
    assert centers.count("</text>") == 1  # the title: names and percent are for a confusion matrix
