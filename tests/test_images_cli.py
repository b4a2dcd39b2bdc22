"""Images of all kinds on the command line: none is passed over without a word."""

import json

import numpy as np
import pytest
from deep_images import HEIC_HEAD, png16
from PIL import Image
from squares import squares_model

import varifocal.inference.loading as predict_module
from varifocal.cli import main
from varifocal.data import image_errors
from varifocal.data import images as opened


@pytest.fixture
def model(monkeypatch):
    """The known detector, whatever checkpoint is named."""
    made = squares_model()
    monkeypatch.setattr(predict_module, "load_checkpoint", lambda *_: made)
    return made


@pytest.fixture
def predict(model, tmp_path, monkeypatch, capsys):
    """The verb: its exit code, what it found, and its lines on stderr without bars."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        code = main(["predict", "model.safetensors", *map(str, words), "--out", "out"])
        file = tmp_path / "out" / "detections.json"
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return code, json.loads(file.read_text()) if file.exists() else None, err

    return run


def square(path, size=(60, 40)):
    image = Image.new("RGB", size)
    image.paste((200, 200, 200), (10, 10, 30, 30))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


@pytest.fixture
def without_heif(monkeypatch):
    for module in (image_errors, opened):
        monkeypatch.setattr(module, "has_heif", lambda: False)


def test_a_telephones_folder_without_the_package(predict, tmp_path, without_heif):
    square(tmp_path / "in" / "ok.png")
    for name in ("IMG_1.HEIC", "IMG_2.heic"):
        (tmp_path / "in" / name).write_bytes(HEIC_HEAD + bytes(300))
    code, found, err = predict("in")
    assert code == 2
    assert [entry["file_name"] for entry in found] == ["in/ok.png"]
    for name in ("IMG_1.HEIC", "IMG_2.heic"):
        assert f"in/{name}: this is a HEIC image, which needs the package pillow-heif" in err
    code, _, err = predict("in/IMG_1.HEIC")  # named in full it is no video either
    assert code == 2
    assert 'run pip install "varifocal[heif]"' in err
    assert not list((tmp_path / "out").rglob("*.mp4"))


def test_images_of_kinds_that_are_not_read_are_each_named(predict, tmp_path):
    square(tmp_path / "in" / "ok.png")
    (tmp_path / "in" / "a.dng").write_bytes(b"II*\x00")
    (tmp_path / "in" / "b.psd").write_bytes(b"8BPS")
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "Thumbs.db").write_text("x")
    code, found, err = predict("in")
    assert (code, len(found)) == (2, 1)
    assert "in/a.dng: this is a raw file of a camera, which is not read" in err
    assert "in/b.psd: this is a Photoshop file" in err
    assert "notes" not in err
    assert "Thumbs" not in err


def test_images_with_an_unknown_suffix_get_a_note(predict, tmp_path):
    image = square(tmp_path / "in" / "ok.png")
    image.save(tmp_path / "in" / "b.jpg_large", format="JPEG")
    code, found, err = predict("in")
    assert (code, len(found)) == (0, 1)
    assert "1 image is left out, with an unknown suffix (.jpg_large: 1), first b.jpg_large; rename them" in err


def test_a_folder_of_other_files_says_what_they_are(predict, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "a.zip").write_text("x")
    code, _, err = predict("in")
    assert code == 2
    assert "in: no image is found there, but 2 other files (.txt: 1, .zip: 1)" in err or "(.zip: 1" in err


def test_pages_and_frames_get_one_note(predict, tmp_path):
    first = square(tmp_path / "in" / "a.png")
    more = [Image.new("RGB", (60, 40), (i, 0, 0)) for i in (3, 9)]
    first.save(tmp_path / "in" / "b.tif", save_all=True, append_images=more)
    first.save(tmp_path / "in" / "c.gif", save_all=True, append_images=more)
    code, found, err = predict("in")
    assert (code, len(found)) == (0, 3)
    note = "2 files hold several pages or frames, of which only the first was used; in/b.tif holds 3."
    assert [line for line in err.splitlines() if "pages" in line] == [note]


def test_a_range_on_the_command_line(predict, tmp_path, model):
    """A square of 3000 in 1000 is no brighter than 40 of 255 over 16 bits, and white over 1000..3000."""
    values = np.full((40, 60), 1000, np.uint16)
    values[10:30, 10:30] = 3000
    values[39, 59] = 9000  # one dead pixel, so that the file is not taken for one of 12 bits
    png16(tmp_path / "a.png", values)
    assert len(predict("a.png")[1]) == 0
    found = predict("a.png", "--range", "1000,3000")[1]
    assert [10, 10, 20, 20] in [entry["bbox"] for entry in found]
    assert found[0]["score"] == 1
    assert len(predict("a.png", "--range=-500,1e6")[1]) == 0


@pytest.mark.parametrize("bad", ["5", "a,b", "9,1", "0,inf", "auto", "1,2,3"])
def test_a_range_that_is_none(predict, tmp_path, capsys, bad):
    with pytest.raises(SystemExit):
        predict("a.png", "--range", bad)
    assert "is not two numbers, the lower first, such as 0,4095" in capsys.readouterr().err


def test_large_images_are_read_in_windows(predict, tmp_path, monkeypatch):
    """2,400 pixels where 1,000 may be read whole."""
    monkeypatch.setattr(opened, "MAX_PIXELS", 1000)
    square(tmp_path / "a.png")
    code, _, err = predict("a.png")
    assert code == 2
    assert "60 x 40 pixels, above the limit of 1000; read it in tiles with --tile" in err
    code, found, _ = predict("a.png", "--tile", "32")
    assert (code, [entry["bbox"] for entry in found]) == (0, [[10, 10, 20, 20]])
    code, found, _ = predict("a.png", "--max-pixels", "2400")
    assert (code, len(found)) == (0, 1)
    assert predict("a.png", "--tile", "32", "--max-pixels", "2399")[0] == 2
    assert opened.LIMIT not in __import__("os").environ


def test_names_without_a_font_are_told_once(predict, tmp_path, model, monkeypatch):
    from dataclasses import replace

    from varifocal.types import Category
    from varifocal.utils import fonts

    monkeypatch.setattr(fonts, "_font_files", list)
    fonts._search_with.cache_clear()
    model.info = replace(model.info, categories=(Category(7, "杯子"), Category(3, "bar")))
    square(tmp_path / "a.png", (300, 200))
    _, found, err = predict("a.png")
    assert found[0]["category_name"] == "杯子"
    assert err.count("No installed font has the letters of 杯子, so class numbers are drawn") == 1
    fonts._search_with.cache_clear()
