"""Small videos whose frames are known."""

from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, FRAMES = 64, 48, 12


def box(i):
    """xyxy of the square of frame i: on even pixels, so that colors at half the resolution keep its edges."""
    return [2 * i, 10, 2 * i + 12, 22]


def image(i, width=WIDTH, height=HEIGHT):
    """A square that moves and brightens from frame to frame."""
    pixels = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box(i)
    pixels[y1:y2, x1:x2] = 100 + 10 * i
    return pixels


def make_video(path, images=None, *, codec="libx264", rate=25, ticks=None, container=None):
    """A video of the images; ``ticks`` are their times in ms, evenly spaced when left out. Luma is without loss."""
    images = [image(i) for i in range(FRAMES)] if images is None else images
    lossless = {"libx264": {"qp": "0"}, "mpeg4": {"flags": "+qscale", "global_quality": "1"}}.get(codec, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=lossless)
        stream.height, stream.width = images[0].shape[:2] if images else (HEIGHT, WIDTH)
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if ticks:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(images):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = ticks[i] if ticks else i
            frame.time_base = Fraction(1, 1000) if ticks else 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def decoded(path):
    """Times and pixels of all frames, and the stream's rate."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        stream = container.streams.video[0]
        kinds = [one.type for one in container.streams]
        return frames, stream.average_rate, stream.codec_context.name, kinds
