"""Shards: every image once, whatever kills the process, and nothing of another prediction in the folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code
from fake_predictor import FakePredictor
from PIL import Image
from videos import make_video

from varifocal.cli import main
from varifocal.inference.sources import list_source
from varifocal.inference.stream import StreamOptions
from varifocal.tools.shards.merge import merge_shards
from varifocal.tools.shards.records import read_records
from varifocal.tools.shards.run import PredictOptions, Shard, Target, parse_shard, predict_shard, suffix_of_output
from varifocal.utils.errors import ConfigError, DataError

SUPPORT = Path(__file__).parents[3] / "support"


def save(path, value=100, size=(20, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def photos(tmp_path):
    for i in range(11):
        save(tmp_path / "photos" / f"{i:02d}.png", 10 * i)
    return tmp_path / "photos"


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """``varifocal predict`` with a model that needs no network; returns the exit code."""
    fake = FakePredictor()
    monkeypatch.setattr("varifocal.cli.shards.load_model", lambda options: fake)
    (tmp_path / "model.onnx").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        return main(["predict", "model.onnx", *map(str, words)])

    run.fake = fake
    return run


def without_digests(folder):
    """The names of the files in a folder, without the digest of their prediction."""
    return sorted(re.sub(r"[-.][0-9a-f]{8}(?=[.])", "", name) for name in os.listdir(folder))


def shard_file():
    (found,) = Path("out").glob("shard-00001-of-00001-*.jsonl")
    return found


def begin(source, predict, content, *words):
    """Leave a part with this content in out/, as a killed process does; return its path."""
    assert predict(source, "--output", "out", *words) == 0
    target = shard_file()
    target.unlink()
    part = target.with_name(f".{target.name}.{target.stem[-8:]}.part.jsonl")
    part.write_bytes(b"".join(content))
    return part


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "-1/4", "1/4/5", "a/b", " 1/4", "1/1e9"])
def test_shards_that_do_not_exist(text):
    with raises_code("shard-range", ConfigError):
        parse_shard(text)


@pytest.mark.parametrize(("images", "count"), [(0, 3), (2, 5), (16, 16), (1000, 7), (5, 1)])
def test_shards_cover_all_images_once_in_order(images, count):
    ranges = [Shard(number, count).range_of(images) for number in range(1, count + 1)]
    assert [i for start, end in ranges for i in range(start, end)] == list(range(images))
    assert max(end - start for start, end in ranges) - min(end - start for start, end in ranges) <= 1


def test_shards_merge_to_what_one_process_writes(photos, predict, capsys):
    assert predict(photos, "--output", "whole.jsonl") == 0
    for number in (3, 1, 2):
        assert predict(photos, "--shard", f"{number}/3", "--output", "out") == 0
    capsys.readouterr()
    assert main(["merge", "out"]) == 0
    assert "11 detections in 11 images and videos, each once: out/detections.jsonl" in capsys.readouterr().out
    assert Path("out/detections.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    first = lines("whole.jsonl")[1]
    (found,) = first.pop("detections")
    assert first == {"image_id": 2, "file_name": str(photos / "01.png"), "width": 20, "height": 10}
    assert found["bbox"] == [0, 0, 20, 10]
    assert found["score"] == pytest.approx(10 / 255)
    assert (found["category_id"], found["category_name"]) == (7, "thing")
    assert without_digests("out") == [
        "detections.jsonl",
        "run.json",
        *(f"shard-0000{number}-of-00003.jsonl" for number in (1, 2, 3)),
    ]
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_a_merged_json_is_what_predict_writes(photos, predict, monkeypatch):
    monkeypatch.setattr("varifocal.cli.detect.load_model", lambda options: predict.fake)
    assert predict(photos, "--output-json", "coco.json") == 0
    assert predict(photos, "--output", "out") == 0
    assert main(["merge", "out", "--output", "merged.json"]) == 0
    assert json.loads(Path("merged.json").read_text()) == json.loads(Path("coco.json").read_text())


def test_parquet_holds_the_same_records(photos, predict):
    (photos / "05.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    for output in ("out.parquet", "out.jsonl"):
        assert predict(photos, "--output", output) == 0
    assert list(read_records(Path("out.parquet"))) == lines("out.jsonl")
    for number in (1, 2):
        words = ("--shard", f"{number}/2", "--output", "out", "--output-format", "parquet")
        assert predict(photos, *words) == 0
    assert main(["merge", "out"]) == 0
    assert list(read_records(Path("out/detections.parquet"))) == lines("out.jsonl")


def test_what_is_done_is_skipped(photos, predict, capsys):
    words = (photos, "--shard", "2/4", "--output", "out")
    assert predict(*words) == 0
    calls = predict.fake.calls
    assert predict(*words) == 0
    assert "already done" in capsys.readouterr().out
    assert predict.fake.calls == calls


def test_a_removed_manifest_of_done_shards_comes_back(photos, predict, capsys):
    words = (photos, "--shard", "2/4", "--output", "out")
    assert predict(*words) == 0
    before = Path("out/run.json").read_bytes()
    Path("out/run.json").unlink()
    assert predict(*words) == 0
    assert "already done" in capsys.readouterr().out
    assert Path("out/run.json").read_bytes() == before


def test_a_file_is_not_overwritten(photos, predict, capsys):
    assert predict(photos, "--output", "out.jsonl") == 0
    assert predict(photos, "--output", "out.jsonl") == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["checkpoint", "added", "replaced", "count", "threshold", "format"])
def test_shards_of_another_prediction_are_refused(photos, predict, capsys, change):
    assert predict(photos, "--shard", "1/2", "--output", "out") == 0
    shard, more = "2/2", []
    if change == "checkpoint":
        Path("model.onnx").write_bytes(b"other weights")
    elif change == "added":
        save(photos / "99.png")
    elif change == "replaced":
        save(photos / "03.png", size=(200, 100))
    elif change == "count":
        shard = "2/3"
    elif change == "threshold":
        more = ["--score-threshold", "0.5"]
    else:
        more = ["--output-format", "parquet"]
    capsys.readouterr()
    assert predict(photos, "--shard", shard, "--output", "out", *more) == 2
    said = {
        "checkpoint": "another checkpoint",
        "added": "11 images and videos as",
        "replaced": "source was another one",
        "count": "2 shards and not 3",
        "threshold": "score_threshold=None (now 0.5)",
        "format": ".jsonl files",
    }
    err = capsys.readouterr().err
    assert "belongs to another prediction" in err
    assert said[change] in err
    assert without_digests("out") == ["run.json", "shard-00001-of-00002.jsonl"]


def test_a_done_shard_of_another_checkpoint_is_refused_too(photos, predict, capsys):
    assert predict(photos, "--shard", "1/2", "--output", "out") == 0
    Path("model.onnx").write_bytes(b"other weights")
    assert predict(photos, "--shard", "1/2", "--output", "out") == 2
    assert "another checkpoint" in capsys.readouterr().err


def test_a_copied_source_is_the_same(photos, predict):
    """The digest is of the paths below the source, so that each machine may mount it elsewhere."""
    before = list_source([str(photos)]).digest()
    photos.rename(photos.with_name("elsewhere"))
    assert list_source([str(photos.with_name("elsewhere"))]).digest() == before


def test_an_unreadable_image_is_listed(photos, predict, capsys):
    (photos / "04.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert predict(photos, "--output", "out.jsonl") == 0
    captured = capsys.readouterr()
    assert "04.png" in captured.err
    assert "10 detections in 11 images and videos, 1 unreadable file: out.jsonl" in captured.out
    found = lines("out.jsonl")
    assert [record["image_id"] for record in found] == list(range(1, 12))
    assert set(found[4]) == {"image_id", "file_name", "error"}


def test_an_unreadable_image_may_stop_the_shard(photos, predict, capsys):
    (photos / "04.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    words = (photos, "--output", "out", "--fail-on-unreadable")
    assert predict(*words) == 2
    assert "04.png" in capsys.readouterr().err
    assert without_digests("out") == [".shard-00001-of-00001.jsonl.part.jsonl", "run.json"]
    assert predict.fake.calls in (4, 5)
    assert predict(*words) == 2  # and again, while
    assert predict(*words[:-1]) == 0
    assert len(lines(shard_file())) == 11


def test_what_could_not_be_read_before_is_not_forgotten(photos, predict, capsys):
    """A part with an unreadable file is not finished under --fail-on-unreadable: the file is not read again."""
    (photos / "04.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert predict(photos, "--output", "whole.jsonl") == 0
    part = begin(photos, predict, Path("whole.jsonl").read_bytes().splitlines(keepends=True)[:6])
    assert predict(photos, "--output", "out", "--fail-on-unreadable") == 2
    assert "1 files could not be read before" in capsys.readouterr().err
    assert part.exists()


def test_a_source_that_vanishes_stops_the_shard(photos, predict, capsys):
    read = FakePredictor.predict

    def vanishing(self, images, **limits):
        for file in photos.glob("0[5-9].png"):
            file.unlink()
        return read(self, images, **limits)

    predict.fake.predict = vanishing.__get__(predict.fake)
    before = {file: file.read_bytes() for file in photos.iterdir()}
    assert predict(photos, "--output", "out") == 2
    assert "was there when the source was listed" in capsys.readouterr().err
    del predict.fake.predict
    for file, content in before.items():
        file.write_bytes(content)
    assert predict(photos, "--output", "out") == 0
    assert all("error" not in record for record in lines(shard_file()))


def test_a_failed_start_pins_nothing(photos, predict, monkeypatch):
    def fail(options):
        raise ConfigError("no such precision", code="test")

    with monkeypatch.context() as patched:
        patched.setattr("varifocal.cli.shards.load_model", fail)
        assert predict(photos, "--output", "out", "--precision", "fp16") == 2
    assert predict(photos, "--output", "out") == 0


def test_ctrl_c_says_that_the_command_goes_on(photos, predict, capsys):
    def interrupted(images, **limits):
        raise KeyboardInterrupt

    predict.fake.predict = interrupted
    assert predict(photos, "--output", "out") == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_part_or_shard_of_another_prediction_is_not_used_although_the_manifest_is_gone(photos, predict, capsys):
    assert predict(photos, "--output", "whole.jsonl") == 0
    whole = Path("whole.jsonl").read_bytes()
    part = begin(photos, predict, whole.splitlines(keepends=True)[:6])
    assert predict(photos, "--shard", "1/2", "--output", "two") == 0
    for folder in ("out", "two"):
        Path(folder, "run.json").unlink()
    Path("model.onnx").write_bytes(b"other weights")
    before = predict.fake.calls
    assert predict(photos, "--output", "out") == 0
    assert predict.fake.calls - before == 11
    assert part.exists()
    assert predict(photos, "--shard", "2/2", "--output", "two") == 0
    assert main(["merge", "two"]) == 2
    assert "1 shard is missing: 1/2" in capsys.readouterr().err


@pytest.mark.parametrize("tail", [b"", b'{"image_id": 5, "file', b"\0\0\0\0\n", b'{"image_id": 9, "file_name": "x"}\n'])
def test_a_part_goes_on_after_its_last_complete_line(photos, predict, tail):
    assert predict(photos, "--output", "whole.jsonl") == 0
    whole = Path("whole.jsonl").read_bytes().splitlines(keepends=True)
    part = begin(photos, predict, [*whole[:4], tail])
    before = predict.fake.calls
    assert predict(photos, "--output", "out") == 0
    assert predict.fake.calls - before == 7
    assert shard_file().read_bytes() == b"".join(whole)
    assert not part.exists()


def test_a_video_has_a_record_for_each_frame(tmp_path, predict):
    make_video(tmp_path / "in" / "b.mp4")
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "d.mp4").write_bytes(bytes(5000))
    assert predict(tmp_path / "in", "--output", "out.jsonl", "--frame-stride", "5") == 0
    found = lines("out.jsonl")
    frames = [(1, None), (2, 0), (2, 5), (2, 10), (3, None), (4, None)]
    assert [(one["image_id"], one.get("frame")) for one in found] == frames
    assert [one.get("time") for one in found[1:4]] == pytest.approx([0, 0.2, 0.4])
    assert "error" in found[-1]
    whole = Path("out.jsonl").read_bytes()
    for number in (1, 2):
        words = ("--shard", f"{number}/2", "--output", "out", "--frame-stride", "5")
        assert predict(tmp_path / "in", *words) == 0
    assert main(["merge", "out"]) == 0
    assert Path("out/detections.jsonl").read_bytes() == whole


@pytest.mark.parametrize("kept", range(6))
def test_a_video_that_may_lack_frames_is_begun_again(tmp_path, predict, kept):
    make_video(tmp_path / "in" / "b.mp4")
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "c.png")
    assert predict(tmp_path / "in", "--output", "whole.jsonl", "--frame-stride", "5") == 0
    whole = Path("whole.jsonl").read_bytes()
    begin(tmp_path / "in", predict, whole.splitlines(keepends=True)[:kept], "--frame-stride", "5")
    assert predict(tmp_path / "in", "--output", "out", "--frame-stride", "5") == 0
    assert shard_file().read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_hundred_kills_lose_and_double_nothing(tmp_path, suffix):
    for i in range(700):
        save(tmp_path / "in" / f"{i:03d}.png", i % 256, (8, 8))
    target = tmp_path / f"out{suffix}"
    script = Path(__file__).with_name("kill_often.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)])}
    words = [sys.executable, script, str(tmp_path / "in"), str(target), "100"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 100
    records = list(read_records(target))
    assert [record["image_id"] for record in records] == list(range(1, 701))
    assert [record["detections"][0]["score"] for record in records] == pytest.approx(
        [i % 256 / 255 for i in range(700)]
    )


def test_a_full_disk_keeps_what_is_done(photos, monkeypatch):
    target = Target(photos.parent / "out.jsonl", photos.parent / "run.json", "digest", in_folder=True)
    items = list_source([str(photos)]).items
    limits = PredictOptions(StreamOptions(1, 1))

    class Full:
        """A file on a disk with room for three more lines."""

        def __init__(self, stream):
            self.stream, self.room = stream, 3

        def write(self, line):
            if not self.room:
                raise OSError(28, "No space left on device")
            self.room -= 1
            return self.stream.write(line)

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __iter__(self):
            return iter(self.stream)

    with monkeypatch.context() as patched:
        patched.setattr(
            "builtins.open", lambda *words, _open=open: Full(_open(*words)) if "a+b" in words else _open(*words)
        )
        with raises_code("part-not-written", ConfigError):
            predict_shard(FakePredictor(), items, 0, target, limits)
    fake = FakePredictor()
    counts, _ = predict_shard(fake, items, 0, target, limits)
    assert counts.items == 11
    assert fake.calls == 8
    assert [record["image_id"] for record in read_records(target.file)] == list(range(1, 12))


def test_two_processes_cannot_write_one_shard(photos, tmp_path):
    target = Target(tmp_path / "out.jsonl", tmp_path / "run.json", "digest", in_folder=True)
    items = list_source([str(photos)]).items

    class Second(FakePredictor):
        def predict(self, images, **limits):
            with raises_code("locked", ConfigError):
                predict_shard(FakePredictor(), items, 0, target, PredictOptions(StreamOptions(1, 1)))
            return super().predict(images, **limits)

    predict_shard(Second(), items, 0, target, PredictOptions(StreamOptions(1, 1)))
    assert len(lines(target.file)) == 11


def test_merge_names_missing_shards(photos, predict, capsys):
    for number in (1, 3):
        assert predict(photos, "--shard", f"{number}/4", "--output", "out") == 0
    assert main(["merge", "out"]) == 2
    assert "2 shards are missing: 2/4, 4/4" in capsys.readouterr().err
    assert not Path("out/detections.jsonl").exists()


def test_merge_names_missing_and_double_images(photos, predict, capsys):
    assert predict(photos, "--output", "out") == 0
    file = shard_file()
    found = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*found[:3], found[2], *found[4:-1]]))
    assert main(["merge", "out"]) == 2
    err = capsys.readouterr().err
    assert err.count("remove this file and repeat its shard") == 1
    assert "2 images are missing: " in err
    assert str(photos / "03.png") in err
    assert str(photos / "10.png") in err
    assert f"1 image is there twice or out of order: {photos / '02.png'}" in err
    save(photos / "77.png")  # now the source is another one, whose images have other numbers
    assert main(["merge", "out"]) == 2
    assert "number 4, number 11" in capsys.readouterr().err
    assert not Path("out/detections.jsonl").exists()


def test_merge_refuses_what_predict_did_not_write(tmp_path):
    with raises_code("manifest-missing", DataError):
        merge_shards(tmp_path)
    (tmp_path / "run.json").write_text('{"shards": 2}')
    with raises_code("manifest-unreadable", DataError):
        merge_shards(tmp_path)


def test_merge_refuses_a_damaged_shard(photos, predict):
    assert predict(photos, "--output", "out") == 0
    file = shard_file()
    file.write_bytes(file.read_bytes()[:-20])
    with raises_code("record-line", DataError):
        merge_shards(Path("out"))


@pytest.mark.parametrize(
    ("name", "count", "suffix", "code"),
    [
        ("a.json", 1, "", "output-kind"),
        ("a.jsonl", 2, "", "output-one-file"),
        ("a.jsonl", 1, ".parquet", "output-one-file"),
    ],
)
def test_outputs_that_cannot_be(name, count, suffix, code):
    with raises_code(code, ConfigError):
        suffix_of_output(Path(name), Shard(1, count), suffix)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "o", "--output-format", "parquet", "--shard", "2/1"), "--shard 2/1"),
        (("--shard", "1/2"), "--shard: needs --output"),
        (("--fail-on-unreadable",), "--fail-on-unreadable: needs --output"),
        (("--output", "o", "--out", "p"), "--out and --output"),
        (("--output", "o", "--output-json", "p.json"), "--output-json and --output"),
        (("--output", "o", "--shard", "0/4"), "--shard 0/4"),
    ],
)
def test_options_that_do_not_go_together(photos, predict, capsys, words, said):
    assert predict(photos, *words) == 2
    assert said in capsys.readouterr().err


def test_each_process_of_torchrun_takes_a_shard(photos, predict, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        assert predict(photos, "--output", "out") == 0
    assert predict(photos) == 2
    assert "torchrun: needs --output" in capsys.readouterr().err
    assert predict(photos, "--output", "out", "--shard", "1/3") == 2
    assert "already splits" in capsys.readouterr().err
    assert main(["merge", "out"]) == 0
    assert len(lines("out/detections.jsonl")) == 11


def test_numbers_are_not_rounded(tmp_path, predict, photos):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (7, 9, 3), dtype=np.uint8)).save(photos / "z.png")
    assert predict(photos, "--output", "o.jsonl") == 0
    expected = FakePredictor().predict(Image.open(photos / "z.png")).scores[0]
    assert np.float32(lines("o.jsonl")[-1]["detections"][0]["score"]) == expected


def test_merge_names_what_is_wrong_in_every_shard(photos, predict, capsys):
    for number in (1, 2):
        assert predict(photos, "--shard", f"{number}/2", "--output", "out") == 0
    for file in Path("out").glob("shard-*"):
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))
    assert main(["merge", "out"]) == 2
    err = capsys.readouterr().err
    assert str(photos / "00.png") in err
    assert str(photos / "05.png") in err
    assert "repeat their 2 shards" in err


def test_merge_sees_a_frame_that_is_there_twice(tmp_path, predict, capsys):
    make_video(tmp_path / "in" / "b.mp4")
    assert predict(tmp_path / "in", "--output", "out", "--frame-stride", "5") == 0
    assert main(["merge", "out"]) == 0
    content = shard_file().read_bytes().splitlines(keepends=True)
    shard_file().write_bytes(b"".join([*content[:2], content[1], *content[2:]]))
    assert main(["merge", "out"]) == 2
    assert "1 image is there twice or out of order" in capsys.readouterr().err


def test_merge_does_not_write_over_its_input(photos, predict, capsys):
    assert predict(photos, "--output", "out") == 0
    before = {file: file.read_bytes() for file in Path("out").iterdir()}
    for file in before:
        assert main(["merge", "out", "--output", str(file)]) == 2
    assert {file: file.read_bytes() for file in Path("out").iterdir()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_names_that_are_not_text(photos, predict, suffix):
    (photos / "00.png").rename(os.fsdecode(os.fsencode(photos) + b"/0\xff.png"))
    assert predict(photos, "--output", f"out{suffix}") == 0
    names = [record["file_name"] for record in read_records(Path(f"out{suffix}"))]
    assert [name.endswith("0\\xff.png") for name in names].count(True) == 1
