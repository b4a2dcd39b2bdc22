"""Class names of any script: a font that has the letters, or else numbers and a note."""

from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from varifocal.cli import main
from varifocal.inference.draw import draw_detections, draw_labels
from varifocal.types import Category, Detections
from varifocal.utils import fonts


def make_font(path: Path, letters: str) -> Path:
    """A font in which each of these letters is a block of its own height, and all others an empty frame."""
    names = [".notdef", *(f"g{i}" for i in range(len(letters)))]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"g{i}" for i, letter in enumerate(letters)})
    glyphs = {}
    for i, name in enumerate(names):
        pen = TTGlyphPen(None)
        height = 100 + 600 * i // len(names)
        pen.moveTo((50, 0))
        for x, y in ((50, height), (450, height), (450, 0)):
            pen.lineTo((x, y))
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (500, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    builder.save(path)
    return path


CUP = "杯子"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine whose only folder of fonts is this one, empty at first."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    monkeypatch.setattr(fonts, "_folders", lambda: [folder])
    monkeypatch.delenv(fonts.FONT, raising=False)
    for cached in (fonts._search_with, fonts._face, fonts._load, fonts._missing):
        cached.cache_clear()
    yield folder
    fonts._search_with.cache_clear()


def test_pillows_own_font_is_for_what_it_has(system):
    assert fonts.can_write("traffic light 0.87")
    assert fonts.shown_name("cup", 3) == "cup"
    assert fonts.font_note(["cup", "box"]) == []


def test_names_without_a_font_become_numbers_and_one_note(system):
    assert not fonts.can_write(CUP)
    assert fonts.shown_name(CUP, 3) == "class 3"
    (note,) = fonts.font_note(["cup", CUP, "коробка"])
    assert note.startswith("No installed font has the letters of 杯子, коробка, so class numbers are drawn")
    assert "--font or the environment variable VARIFOCAL_FONT" in note
    assert "and 3 more" in fonts.font_note([CUP + "一二三四五六七"[i] for i in range(7)])[0]


def test_a_font_of_the_system_is_found(system):
    make_font(system / "Bold.ttf", "ABC")
    (system / "damaged.ttf").write_bytes(b"no font")
    (system / "deep").mkdir()
    made = make_font(system / "deep" / "Wide.ttf", CUP + "0123456789. ")
    assert fonts.shown_name(CUP, 3) == CUP
    assert fonts.font_note([CUP]) == []
    assert fonts.font_for(CUP, 20).path == str(made)
    assert fonts.shown_name("коробка", 4) == "class 4"  # which it has not


def test_a_font_of_letters_without_digits_does_not_do_for_a_name_with_a_score(system):
    make_font(system / "Only.ttf", CUP)
    assert fonts.shown_name(CUP, 3) == "class 3"


def test_a_named_font_comes_first(system, tmp_path, monkeypatch):
    named = make_font(tmp_path / "mine.ttf", CUP + "cup0123456789. ")
    monkeypatch.setenv(fonts.FONT, str(named))
    assert fonts.font_for(CUP, 20).path == str(named)
    assert fonts.font_for("cup", 20).path == str(named)
    assert fonts.can_write("box")  # in Pillow's own
    (tmp_path / "no.ttf").write_text("hello")
    for bad in (tmp_path / "no.ttf", tmp_path / "none.ttf", tmp_path):
        monkeypatch.setenv(fonts.FONT, str(bad))
        with raises_code("font-unreadable"):
            fonts.check_font()


def test_names_are_on_one_line(system):
    assert fonts.shown_name("\u200b", 9) == "class 9"  # nothing of it would be seen
    assert fonts.shown_name("traffic\nlight\t \x07 red", 1) == "traffic light red"
    found = Detections(np.array([[5.0, 5, 90, 90]]), np.array([0.5]), np.array([0]), (Category(1, "a\nb"),))
    draw_detections(Image.new("RGB", (100, 100)), found)


def drawn(name: str) -> np.ndarray:
    image = Image.new("RGB", (200, 120))
    boxes, labels = np.array([[20.0, 30, 180, 110]]), np.array([0])
    return np.asarray(draw_labels(image, boxes, labels, np.array([False]), [Category(7, name)]))


def test_a_drawn_name_is_its_letters_or_its_number(system):
    assert (drawn(CUP) == drawn("class 7")).all()
    assert (drawn("子杯") == drawn(CUP)).all()  # numbers, too
    make_font(system / "Wide.ttf", CUP + "0123456789. ")
    fonts._search_with.cache_clear()
    assert (drawn(CUP) != drawn("class 7")).any()
    assert (drawn("子杯") != drawn(CUP)).any()


def test_a_wrong_font_is_one_sentence_before_the_work(system, tmp_path, capsys):
    code = main(["predict", "none.safetensors", str(tmp_path), "--font", str(tmp_path / "none.ttf")])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert fonts.FONT not in __import__("os").environ
