"""Videos whose frames are known, through a detector whose boxes are known."""

import json
import struct
import threading
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from deep_images import HEIC_HEAD
from error_codes import raises_code
from PIL import Image
from squares import squares_model
from videos import FRAMES, HEIGHT, WIDTH, box, decoded, image, make_video

from varifocal.inference import video
from varifocal.inference.video import is_video, predict_video, write_annotated_video
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.prefetch import prefetch


@pytest.fixture
def model():
    return squares_model()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts"])
def test_frames_come_in_order_with_their_times_and_boxes(model, tmp_path, name):
    """A transport stream begins at 0.08 s; times are since the first frame."""
    seen = list(predict_video(model, make_video(tmp_path / name)))
    assert [one.number for one in seen] == list(range(FRAMES))
    assert [one.time for one in seen] == pytest.approx([i / 25 for i in range(FRAMES)], abs=1e-9)
    for i, one in enumerate(seen):
        assert one.detections.boxes.tolist() == [box(i)]
        assert one.detections.scores[0] == pytest.approx((100 + 10 * i) / 255, abs=2 / 255)
        assert np.abs(np.asarray(one.image).astype(int) - image(i)).max() <= 2


def test_a_variable_frame_rate_keeps_its_times(model, tmp_path):
    ticks = [0, 40, 80, 200, 210, 250, 400, 500, 505, 600, 700, 1000]
    path = make_video(tmp_path / "a.mp4", ticks=ticks)
    assert [one.time for one in predict_video(model, path)] == pytest.approx([tick / 1000 for tick in ticks], abs=1e-6)
    write_annotated_video(model, path, tmp_path / "out" / "a.mp4")
    assert [time for time, _ in decoded(tmp_path / "out" / "a.mp4")[0]] == pytest.approx(
        [tick / 1000 for tick in ticks], abs=1e-4
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "a.jsonl").read_text().splitlines()]
    assert [line["time"] for line in lines] == pytest.approx([tick / 1000 for tick in ticks], abs=1e-6)


@pytest.mark.parametrize("rate", [25, Fraction(30000, 1001), 60])
def test_the_annotated_video_has_the_frames_the_rate_and_the_size(model, tmp_path, rate):
    done = []
    path, place = make_video(tmp_path / "a.mp4", rate=rate), tmp_path / "out" / "b.mp4"
    assert write_annotated_video(model, path, place, progress=done.append) == (FRAMES, FRAMES)
    frames, found_rate, codec, kinds = decoded(place)
    assert (found_rate, codec, kinds) == (rate, "h264", ["video"])
    assert [time for time, _ in frames] == pytest.approx([float(i / Fraction(rate)) for i in range(FRAMES)], abs=1e-4)
    for i, (_, pixels) in enumerate(frames):
        wanted = np.asarray(list(islice(predict_video(model, path), i + 1))[i].image)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        x1, y1, x2, y2 = box(i)
        assert np.abs(pixels[30:].astype(int) - wanted[30:]).max() < 60  # nothing is drawn there
        assert np.ptp(pixels[y1:y2, x1:x2].astype(int).mean(axis=(0, 1))) > 30  # a colored edge around the gray square
    assert done == list(range(1, FRAMES + 1))
    assert sorted(one.name for one in place.parent.iterdir()) == ["b.jsonl", "b.mp4"]


def test_a_line_for_each_frame(model, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    write_annotated_video(model, path, tmp_path / "b.mp4")
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    for i, line in enumerate(lines):
        x1, y1, x2, y2 = box(i)
        (entry,) = line.pop("detections")
        assert line == {"frame": i, "time": pytest.approx(i / 25)}
        assert entry.pop("score") == pytest.approx((100 + 10 * i) / 255, abs=2 / 255)
        assert entry == {
            "file_name": str(path),
            "image_id": i,
            "category_id": 7,
            "category_name": "square",
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
    assert len(lines) == FRAMES


def test_frames_without_objects_have_their_lines(model, tmp_path):
    path = make_video(tmp_path / "a.mp4", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 3)
    assert write_annotated_video(model, path, tmp_path / "b.mp4") == (3, 0)
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert lines == [{"frame": i, "time": i / 25, "detections": []} for i in range(3)]


def test_every_fifth_frame(model, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    assert [one.number for one in predict_video(model, path, every=5)] == [0, 5, 10]
    assert write_annotated_video(model, path, tmp_path / "b.mp4", every=5) == (3, 3)
    frames, rate, *_ = decoded(tmp_path / "b.mp4")
    assert [time for time, _ in frames] == pytest.approx([0, 0.2, 0.4])
    assert rate == 5
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"]) for line in lines] == [(0, 0.0), (5, 0.2), (10, 0.4)]
    with raises_code("frame-stride"):
        predict_video(model, path, every=0)


def test_limits_reach_the_model(model, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    counts = [len(one.detections) for one in predict_video(model, path, score_threshold=0.6)]
    assert counts == [int(100 + 10 * i >= 0.6 * 255) for i in range(FRAMES)]


def turn(path, matrix):
    """Write the display matrix of the track header (ISO 14496-12, 8.3.2): 16.16, the last column 2.30."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: 40 bytes before the matrix
    a, b, c, d = (value << 16 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "place"),
    [
        # a stored pixel (p, q) is shown at (a p + c q, b p + d q), shifted so that all are positive
        ((0, 1, -1, 0), lambda p, q: (HEIGHT - 1 - q, p)),
        ((-1, 0, 0, -1), lambda p, q: (WIDTH - 1 - p, HEIGHT - 1 - q)),
        ((0, -1, 1, 0), lambda p, q: (q, WIDTH - 1 - p)),
    ],
    ids=["clockwise", "half", "against the clock"],
)
def test_what_was_filmed_turned_is_upright(model, tmp_path, matrix, place):
    path = make_video(tmp_path / "a.mp4")
    turn(path, matrix)
    write_annotated_video(model, path, tmp_path / "b.mp4")
    size = (WIDTH, HEIGHT) if matrix[0] else (HEIGHT, WIDTH)
    assert decoded(tmp_path / "b.mp4")[0][0][1].shape == (size[1], size[0], 3)
    for i, one in enumerate(predict_video(model, path)):
        assert one.image.size == size
        x1, y1, x2, y2 = box(i)
        corners = [place(p, q) for p, q in ((x1, y1), (x2 - 1, y2 - 1))]
        (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
        assert one.detections.boxes.tolist() == [[left, top, right + 1, bottom + 1]]
    entries = [json.loads(line)["detections"] for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert entries[3][0]["bbox"][:2] == [min(place(6, 10)[0], place(17, 21)[0]), min(place(6, 10)[1], place(17, 21)[1])]


def test_odd_sides_are_a_pixel_longer_in_the_annotated_video(model, tmp_path):
    path = make_video(tmp_path / "a.mkv", [image(i, 63, 47) for i in range(4)], codec="ffv1")
    seen = list(predict_video(model, path))
    assert [one.image.size for one in seen] == [(63, 47)] * 4
    assert [one.detections.boxes.tolist() for one in seen] == [[box(i)] for i in range(4)]
    write_annotated_video(model, path, tmp_path / "b.mp4")
    assert [pixels.shape for _, pixels in decoded(tmp_path / "b.mp4")[0]] == [(48, 64, 3)] * 4


def test_mpeg4_where_there_is_no_h264(model, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", rate=Fraction(30000, 1001))
    monkeypatch.setattr(video, "_has_encoder", lambda av, name: name == "mpeg4")
    write_annotated_video(model, path, tmp_path / "b.mp4")
    frames, rate, codec, _ = decoded(tmp_path / "b.mp4")
    assert (len(frames), codec) == (FRAMES, "mpeg4")
    assert float(rate) == pytest.approx(30000 / 1001, rel=1e-3)


# What is wrong with a file.


def half(path, name, share=0.6):
    content = path.read_bytes()
    (path.parent / name).write_bytes(content[: int(len(content) * share)])
    return path.parent / name


def bad_files(folder):
    noise = [np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) for i in range(FRAMES)]
    whole = make_video(folder / "good" / "a.mp4", noise, container={"movflags": "faststart"})
    plain = make_video(folder / "good" / "b.mp4", noise)
    (folder / "good" / "empty.mp4").write_bytes(b"")
    (folder / "good" / "text.mp4").write_bytes(b"hello" * 100)
    playlist = f"ffconcat version 1.0\nfile {whole.name}\n"  # FFmpeg follows relative names
    (folder / "good" / "list.mp4").write_text(playlist)
    return {
        "cut": (half(whole, "cut.mp4"), "damaged or cut short"),
        "no index": (half(plain, "headless.mp4", 0.4), "cut short"),
        "empty": (folder / "good" / "empty.mp4", "empty"),
        "text": (folder / "good" / "text.mp4", "cannot be read as a video"),
        "playlist": (folder / "good" / "list.mp4", "cannot be read as a video"),
        "missing": (folder / "good" / "gone.mp4", "No such file"),
        "sound": (sound(folder / "good" / "sound.mp4"), "no video stream"),
    }


def sound(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["cut", "no index", "empty", "text", "playlist", "missing", "sound"])
def test_a_bad_file_is_a_sentence_and_leaves_nothing(model, tmp_path, name):
    path, said = bad_files(tmp_path)[name]
    out = tmp_path / "out"
    with pytest.raises(DataError, match=said) as error:
        write_annotated_video(model, path, out / "a.mp4")
    assert str(path) in str(error.value)
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_cut_video_is_known_wherever_it_is_cut(model, tmp_path, codec):
    """A decoder of MPEG-4, and one of H.264 with four threads, makes a frame of the half of one."""
    noise = [np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) for i in range(FRAMES)]
    whole = make_video(tmp_path / "a.mp4", noise, codec=codec, container={"movflags": "faststart"})
    assert len(list(predict_video(model, whole))) == FRAMES
    for share in np.linspace(0.4, 0.99, 12):
        with pytest.raises(DataError, match="damaged or cut short"):
            list(predict_video(model, half(whole, "cut.mp4", share)))


def test_a_video_without_a_frame(model, tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        out.start_encoding()
    with raises_code("video-no-frame"):
        write_annotated_video(model, path, tmp_path / "b.mp4")


def test_frames_larger_than_a_image_may_be(model, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4")
    monkeypatch.setenv("VARIFOCAL_MAX_PIXELS", str(WIDTH * HEIGHT - 1))
    with pytest.raises(DataError, match=r"frames of 64 x 48 pixels; between 1 and 3071 .* --max-pixels N"):
        predict_video(model, path)


def test_an_unfinished_write_keeps_what_was_there(model, tmp_path):
    """The detector fails in the sixth frame, after some are written."""
    path, place = make_video(tmp_path / "a.mp4"), tmp_path / "out" / "b.mp4"
    place.parent.mkdir()
    place.write_text("of yesterday")
    look, calls = model.predict, []

    def predict(images, **limits):
        calls.append(len(images))
        if sum(calls) > 5:
            raise RuntimeError("out of memory")
        return look(images, **limits)

    model.predict = predict
    with pytest.raises(RuntimeError, match="out of memory"):
        write_annotated_video(model, path, place)
    assert [(one.name, one.read_text()) for one in place.parent.iterdir()] == [("b.mp4", "of yesterday")]
    assert threads() == []


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_failing_encoder_ends_all(model, tmp_path, monkeypatch):
    path, place = make_video(tmp_path / "a.mp4"), tmp_path / "out" / "b.mp4"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("varifocal.inference.video.draw_detections", fail)
    with pytest.raises(ConfigError, match=r"b\.mp4: cannot be written \(No space left on device\)"):
        write_annotated_video(model, path, place)
    assert list(place.parent.iterdir()) == []
    assert threads() == []


def test_leaving_early_ends_the_threads(model, tmp_path):
    frames = predict_video(model, make_video(tmp_path / "a.mp4"))
    assert next(frames).number == 0
    assert len(threads()) == 1
    frames.close()
    assert threads() == []


def test_no_more_than_a_few_frames_wait():
    """Nine of a thousand are made while the first is held: eight that wait, and one in the thread's hand."""
    made, enough = [], threading.Event()

    def items():
        for i in range(1000):
            made.append(i)
            if i == 9:
                enough.set()
            yield i

    waiting = prefetch(items(), 8)
    assert next(waiting) == 0
    assert enough.wait(5)
    threading.Event().wait(0.3)
    assert len(made) <= 10
    assert list(waiting) == list(range(1, 1000))


def test_frames_overlap(model, tmp_path):
    """While one step holds a frame, the step before it works on the next."""
    path = make_video(tmp_path / "a.mp4")
    seen = predict_video(model, path)
    second = threading.Event()
    look, calls = model.predict, []

    def predict(images, **limits):
        calls.append(1)
        if len(calls) == 3:
            second.set()
        return look(images, **limits)

    model.predict = predict
    waiting = prefetch(seen, 8)
    next(waiting)
    assert second.wait(10)  # though nobody has asked for it
    waiting.close()


def test_what_is_a_video(tmp_path):
    made = make_video(tmp_path / "a.mp4")
    (tmp_path / "a.bin").write_bytes(made.read_bytes())
    (tmp_path / "b.jpg").write_bytes(made.read_bytes())
    Image.new("RGB", (8, 8)).save(tmp_path / "c.mp4", format="PNG")
    frames = [Image.fromarray(image(i)) for i in range(3)]
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "e.txt").write_text("hello")
    (tmp_path / "f.mov").write_text("hello")
    for name in ("g.heic", "h.jpg", "i.dng", "j.mp4"):  # in the container of MP4, and all of them images
        (tmp_path / name).write_bytes((b"hello " if name == "i.dng" else HEIC_HEAD) + made.read_bytes())
    (tmp_path / "k.wmv").write_text("hello")
    wanted = {
        "a.mp4": True,
        "a.bin": True,
        "b.jpg": True,
        "c.mp4": False,
        "d.gif": False,
        "e.txt": False,
        "f.mov": True,
        "g.heic": False,
        "h.jpg": False,
        "i.dng": False,
        "j.mp4": False,
        "k.wmv": True,
    }
    assert {name: is_video(tmp_path / name) for name in wanted} == wanted


def test_an_image_is_opened_by_pillow_to_be_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(video, "probe_video", lambda *_: pytest.fail("probed"))
    for name, head in (("a.jpg", b"\xff\xd8\xff\xe0"), ("b.png", b"\x89PNG\r\n\x1a\n"), ("c.mp4", b"GIF89a")):
        (tmp_path / name).write_bytes(head + bytes(600))
        assert not is_video(tmp_path / name)
