"""predict with videos, as a person meets it."""

import json
import sys

import pytest
from PIL import Image
from squares import squares_model
from videos import image, make_video

import varifocal.inference.loading as predict_module
from varifocal.cli import main


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line with the known detector, whatever checkpoint is named."""
    monkeypatch.setattr(predict_module, "load_checkpoint", lambda *_: squares_model())
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["predict", "model.safetensors", *map(str, words)])


def test_videos_and_images_together(command, tmp_path, capsys):
    make_video(tmp_path / "in" / "a.mp4")
    make_video(tmp_path / "in" / "a.mov")
    make_video(tmp_path / "in" / "sub" / "c.avi", codec="mpeg4")
    Image.fromarray(image(3)).save(tmp_path / "in" / "b.png")
    for _ in range(2):  # the second time over what the first has left
        assert command("in", "--out", "out") == 0
        left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
        videos = {f"{name}.{suffix}" for name in ("a", "a-2", "sub/c") for suffix in ("mp4", "jsonl")}
        assert left == videos | {"b.png", "detections.json"}
    (entry,) = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert (entry["image_id"], entry["bbox"]) == (1, [6, 10, 12, 12])
    printed = capsys.readouterr()
    assert "12 detections in 12 frames: out/a.mp4 (no sound), out/a.jsonl" in printed.out
    assert "12/12" in printed.err


def test_every_on_the_command_line(command, tmp_path, capsys):
    make_video(tmp_path / "a.mp4")
    assert command("a.mp4", "--out", "out", "--frame-stride", "4") == 0
    assert len((tmp_path / "out" / "a.jsonl").read_text().splitlines()) == 3
    assert command("a.mp4", "--out", "out", "--frame-stride", "0") == 2
    assert "--frame-stride 0" in capsys.readouterr().err


def test_a_bad_video_is_named_and_the_rest_is_done(command, tmp_path, capsys):
    make_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"")
    Image.fromarray(image(3)).save(tmp_path / "c.png")
    assert command("b.mp4", "a.mp4", "c.png", "--out", "out") == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("varifocal")]
    assert said == ["varifocal predict: b.mp4: the video is empty (0 bytes); replace it or leave it out."]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4", "a.jsonl", "c.png", "detections.json"}


@pytest.mark.parametrize("name", ["a.mp4", "a.jsonl"])
def test_nothing_foreign_is_overwritten(command, tmp_path, capsys, name):
    make_video(tmp_path / "in" / "a.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    assert command("in/a.mp4", "--out", "out") == 2
    assert f"out/{name}: would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_the_video_itself_is_not_overwritten(command, tmp_path, capsys):
    before = make_video(tmp_path / "a.mp4").read_bytes()
    assert command("a.mp4", "--out", ".") == 2
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_video_wants_a_folder(command, tmp_path, capsys):
    make_video(tmp_path / "a.mp4")
    assert command("a.mp4", "--output-json", "d.json") == 2
    assert "a.mp4: an annotated video needs an output folder" in capsys.readouterr().err
    assert not (tmp_path / "d.json").exists()


def test_without_the_package(command, tmp_path, capsys, monkeypatch):
    make_video(tmp_path / "a.mp4")
    Image.fromarray(image(3)).save(tmp_path / "c.png")
    monkeypatch.setitem(sys.modules, "av", None)
    assert command("a.mp4", "c.png", "--out", "out") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines == ['varifocal predict: a.mp4: a video needs the package av: pip install "varifocal[video]"']
    assert not (tmp_path / "out").exists()
    assert command("c.png", "--out", "out") == 0


def test_without_images_there_is_no_bar_of_none(command, tmp_path, capsys):
    make_video(tmp_path / "a.mp4")
    assert command("a.mp4", "--out", "out") == 0
    said = capsys.readouterr().err
    assert "12/12" in said
    assert "detecting" not in said
    assert "0/0" not in said
