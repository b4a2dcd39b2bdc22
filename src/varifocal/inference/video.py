"""Videos: decoding, detection, drawing and encoding run at the same time, with a few frames in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from varifocal.data.image_errors import read_head
from varifocal.data.image_kinds import HEIF, UNREAD, begins_as_image, kind_of_head, suffix_of
from varifocal.data.images import LIMIT, pixel_limit
from varifocal.inference.draw import draw_detections
from varifocal.inference.pipeline import BATCH, Predictor
from varifocal.types import Detections
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.locks import claimed_file
from varifocal.utils.prefetch import prefetch

# fmt: off
SUFFIXES = frozenset([
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".ogv",
    ".3gp", ".3g2",
])
# fmt: on

# Containers of video and no other: FFmpeg would also follow playlists, which name other files and addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
_ENCODERS = {  # in the order of preference
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libopenh264": {"b": "8000000"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(3 * 118)},  # 118 is FF_QP2LAMBDA
}
_WAITING = 1 << 28  # bytes of frames that may wait between two steps
_BASE = Fraction(1, 60000)  # seconds; whole for 24, 25, 30, 50, 60 and 29.97 frames a second
_BT601, _LIMITED = 6, 1  # AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG: what the conversion from RGB computes


class FrameDetections(NamedTuple):
    """A frame with its detections.

    ``number`` counts the frames of the video from 0, ``time`` is in seconds after its first frame, ``image`` is
    upright, and the boxes are in its pixels.
    """

    number: int
    time: float
    image: Image.Image
    detections: Detections


@dataclass(frozen=True)
class VideoInfo:
    """The header of a video: frames per second, the unit of time stamps in seconds, the size in pixels as stored.

    ``frames`` is their number, or None if the header lacks it; ``aspect`` is the shape of a pixel, width by height.
    """

    rate: Fraction
    base: Fraction
    width: int
    height: int
    frames: int | None
    aspect: Fraction


class _Frame(NamedTuple):
    number: int
    time: Fraction
    image: Image.Image


def is_video(path: Path) -> bool:
    """Return whether a file is read as a video, by its first bytes, by its suffix where they do not tell, or by FFmpeg.

    A file that begins like an image is an image, also an animation. So is an image of a kind that is not read, by its
    content or its suffix: HEIC and some raw files of cameras are in the container of MP4.
    """
    head, suffix = read_head(path), suffix_of(path.name)
    if begins_as_image(head) or kind_of_head(head) or suffix in UNREAD | HEIF:
        return False
    if suffix in SUFFIXES:
        return True
    try:
        probe_video(path)
    except (ConfigError, DataError):
        return False
    return True


def select_videos(files: Sequence[Path], out: Path | None) -> dict[Path, None]:
    """Return the videos among files, in their order.

    Raises:
        ConfigError: there are videos, but no output folder ``out``, or the package av is not installed.
    """
    found = {file: None for file in files if is_video(file)}
    for file in found:
        _av(file)
        if out is None:
            raise ConfigError(
                f"{file}: an annotated video needs an output folder; name it with --out.",
                code="video-without-out",
            )
    return found


def probe_video(path: Path) -> VideoInfo:
    """Read the header of a video.

    Raises:
        ConfigError: the package av is not installed.
        DataError: the file is missing, empty, no video, damaged, or its frames are larger than an image may be.
    """
    with _opened(path) as (container, stream):
        rate = _fraction(stream.average_rate) or _fraction(stream.guessed_rate) or Fraction(25)
        length = Fraction(container.duration or 0, 1_000_000)
        return VideoInfo(
            rate,
            _fraction(stream.time_base) or _BASE,
            stream.width,
            stream.height,
            stream.frames or round(length * rate) or None,
            _fraction(stream.sample_aspect_ratio) or Fraction(1),
        )


def predict_video(
    model: Predictor,
    path: Path | str,
    *,
    every: int = 1,
    score_threshold: float | None = None,
    max_detections: int | None = None,
) -> Generator[FrameDetections, None, None]:
    """Detect in the frames of a video of any length, in order, while a thread decodes the next ones.

    Frames are turned upright as the video says. Time stamps are those of the file, so that a variable frame rate
    is kept; a frame without one, or with one that is not after its predecessor's, follows that at the mean rate.

    Args:
        every: detect in frames 0, ``every``, 2 * ``every``, ... only.
        score_threshold, max_detections: as of :meth:`Model.predict`.

    Raises:
        ConfigError: the package av is not installed, or ``every`` is below 1.
        DataError: not a video, without a frame, damaged or cut short, or larger than an image may be. The end of a
            Matroska file may be missing without a trace.
    """
    if every < 1:
        raise ConfigError(
            f"every={every}: give 1 for every frame, 2 for every second, 3 for every third, ...", code="frame-stride"
        )
    video = probe_video(Path(path))  # now, and not at the first frame
    return _detect(
        model, Path(path), video, every, {"score_threshold": score_threshold, "max_detections": max_detections}
    )


def write_annotated_video(
    model: Predictor,
    path: Path,
    folder: Path,
    *,
    every: int = 1,
    score_threshold: float | None = None,
    max_detections: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[int, int]:
    """Write the video with boxes on it to ``path``, an .mp4, and the detections to a .jsonl beside it.

    The .jsonl has a line for each frame: ``{"frame": number, "time": seconds, "detections": [...]}``, whose
    entries are those of :meth:`Detections.to_coco` with the frame's number as image id. The video has these frames and
    no other, at their times, without sound; H.264 where the encoder is installed and else MPEG-4. A side of odd
    length is a pixel longer in it, because its colors are stored for pairs of pixels. Both files appear at the end.

    Args:
        progress: called with the number of frames of the video that are done.

    Returns:
        The number of frames with detection, and the number of detections in all.

    Raises:
        ConfigError, DataError: as :func:`predict_video`; ``path`` cannot be written; the frames cannot be encoded.
    """
    video = probe_video(path)
    seen = predict_video(model, path, every=every, score_threshold=score_threshold, max_detections=max_detections)
    with claimed_file(folder):
        return _annotate(path, video, seen, folder, every, progress)


def _annotate(
    path: Path,
    video: VideoInfo,
    seen: Generator[FrameDetections, None, None],
    folder: Path,
    every: int,
    progress: Callable[[int], None],
) -> tuple[int, int]:
    lines = folder.with_suffix(".jsonl")
    parts = [one.with_name(f".{one.name}.part") for one in (folder, lines)]
    frames = objects = 0
    try:
        with closing(prefetch(seen, _room(video))) as ready, open(parts[1], "w", encoding="utf-8") as text:
            first = next(ready)
            with _encoder(parts[0], first.image.size, video, every) as encode:
                for one in chain([first], ready):
                    text.write(_line(one, path))
                    encode(draw_detections(one.image, one.detections), one.time)
                    frames, objects = frames + 1, objects + len(one.detections)
                    progress(one.number + 1)
        for part, final in zip(parts, (folder, lines), strict=True):
            os.replace(part, final)
    except OSError as error:  # those of FFmpeg that are about the disk too
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}); make room or choose another --out.",
            code="video-not-written",
        ) from error
    except _av(path).error.FFmpegError as error:
        raise DataError(
            f"{path}: its frames cannot be encoded as an mp4 ({error.strerror}); cut or scale it.",
            code="video-not-encoded",
        ) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return frames, objects


def _line(one: FrameDetections, path: Path) -> str:
    entries = one.detections.to_coco(one.number, str(path))
    return json.dumps({"frame": one.number, "time": one.time, "detections": entries}) + "\n"


def _detect(
    model: Predictor, path: Path, video: VideoInfo, every: int, limits: dict[str, Any]
) -> Generator[FrameDetections, None, None]:
    # a GPU is faster with several frames at once, a CPU is busy with one
    at_once = 1 if model.device == "cpu" else _room(video)
    with closing(prefetch(_frames(path, video, every), _room(video))) as frames:
        while few := list(islice(frames, at_once)):
            found = model.predict([frame.image for frame in few], **limits)
            for frame, one in zip(few, found, strict=True):
                yield FrameDetections(frame.number, float(frame.time), frame.image, one)


def _room(video: VideoInfo) -> int:
    return max(1, min(BATCH, _WAITING // (3 * video.width * video.height)))


def _frames(path: Path, video: VideoInfo, every: int) -> Generator[_Frame, None, None]:
    """Yield every ``every``-th frame of a video, upright, with its time since the first."""
    av = _av(path)
    index, start, time = -1, Fraction(0), Fraction(0)
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        try:
            for index, frame in enumerate(_decoded(path, container, stream)):
                if index == 0:
                    start = (frame.pts or 0) * video.base
                else:
                    follows = time + 1 / video.rate
                    stamp = follows if frame.pts is None else frame.pts * video.base - start
                    time = stamp if stamp > time else follows
                _check_frame(path, video, index, frame)
                if index % every == 0:
                    yield _Frame(index, time, _upright(frame))
        except av.error.FFmpegError as error:
            raise DataError(
                f"{path}: frame {index + 1} cannot be decoded ({error.strerror}); the video is damaged or cut short, "
                "replace it or leave it out.",
                code="video-frame-damaged",
            ) from error
    if index < 0:
        raise DataError(f"{path}: the video has no frame; replace it or leave it out.", code="video-no-frame")


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of a stream.

    A truncated file shows in its last packet, of any stream: decoders sometimes make an image of half a packet, and
    their threads lose an error in the last one.
    """
    whole = True
    for packet in container.demux():
        whole = not packet.is_corrupt if packet.size else whole
        if packet.stream.index == stream.index:
            yield from packet.decode()
    if not whole:
        raise DataError(
            f"{path}: ends in the middle of a frame; the video is damaged or cut short, replace it.",
            code="video-cut-short",
        )


def _check_frame(path: Path, video: VideoInfo, index: int, frame: Any) -> None:
    if (frame.width, frame.height) != (video.width, video.height):
        raise DataError(
            f"{path}: frame {index} has {frame.width} x {frame.height} pixels, but the video {video.width} x "
            f"{video.height}; cut it where the size changes.",
            code="video-frame-size",
        )


def _upright(frame: Any) -> Image.Image:
    # the angle is counted against the clock, as that of rot90
    return Image.fromarray(np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open the container and its first video stream, whose frames are within the limit of pixels of an image."""
    av = _av(path)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the video is empty (0 bytes); replace it or leave it out.", code="video-empty")
        # an absolute path is not taken for an address
        container = av.open(str(path.absolute()), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
    except (OSError, ValueError, av.error.FFmpegError) as error:  # ValueError: of metadata that are no text
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as a video ({reason}); it is damaged, cut short or no video, replace it or leave "
            "it out.",
            code="video-not-read",
        ) from error
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: has no video stream, only sound at most; leave it out.", code="video-no-stream")
        stream = container.streams.video[0]
        if not 0 < stream.width * stream.height <= pixel_limit():
            raise DataError(
                f"{path}: frames of {stream.width} x {stream.height} pixels; between 1 and {pixel_limit()} can be "
                f"read; raise that with --max-pixels N or the environment variable {LIMIT}.",
                code="video-too-large",
            )
        yield container, stream


def _av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            f'{path}: a video needs the package av: pip install "varifocal[video]"', code="av-missing"
        ) from error
    return av


def _fraction(value: Any) -> Fraction | None:
    """Return a rational number, or None if it is unset, which PyAV writes as None or, from version 19 on, as 0/1."""
    return Fraction(value.numerator, value.denominator) if value else None


@contextmanager
def _encoder(
    path: Path, size: tuple[int, int], video: VideoInfo, every: int
) -> Iterator[Callable[[Image.Image, float], None]]:
    """Yield a function that adds an image of that size and its time to the mp4 at ``path``."""
    av = _av(path)
    base = video.base if video.base.denominator <= 65535 else _BASE  # more is beyond MPEG-4
    last = -1
    with av.open(str(path.absolute()), "w", format="mp4") as container:
        name = next(name for name in _ENCODERS if _has_encoder(av, name))
        stream = container.add_stream(name, rate=video.rate / every, options=_ENCODERS[name])
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base, context.colorspace, context.color_range = base, _BT601, _LIMITED
        turned = size != (video.width, video.height)
        context.sample_aspect_ratio = 1 / video.aspect if turned else video.aspect

        def encode(image: Image.Image, time: float) -> None:
            nonlocal last
            odd = [(0, image.height % 2), (0, image.width % 2), (0, 0)]
            frame = av.VideoFrame.from_ndarray(np.pad(np.asarray(image), odd, mode="edge"), format="rgb24")
            last = max(round(time / base), last + 1)
            frame.pts, frame.time_base = last, base
            container.mux(stream.encode(frame))

        yield encode
        container.mux(stream.encode(None))


def _has_encoder(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True
