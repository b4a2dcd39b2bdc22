import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code
from PIL import Image, ImageFile

from varifocal.data import images as opened
from varifocal.data.image_scan import read_size, read_stored_size
from varifocal.data.images import read_image
from varifocal.data.listing import list_images
from varifocal.utils.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def one_line(error: pytest.ExceptionInfo[DataError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def refused(path: Path, *parts: str, read=read_image) -> None:
    with pytest.raises(DataError) as error:
        read(path)
    one_line(error, str(path), *parts)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def corners() -> Image.Image:
    """3 wide, 2 high: red, green at the top, blue, white at the bottom."""
    image = Image.new("RGB", (3, 2))
    for place, color in {(0, 0): RED, (2, 0): GREEN, (0, 1): BLUE, (2, 1): WHITE}.items():
        image.putpixel(place, color)
    return image


def exif(orientation: object) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Where the stored top left (red) and top right (green) pixel lie when upright, from the EXIF definition.
UPRIGHT = {
    1: ((3, 2), (0, 0), (2, 0)),
    2: ((3, 2), (2, 0), (0, 0)),
    3: ((3, 2), (2, 1), (0, 1)),
    4: ((3, 2), (0, 1), (2, 1)),
    5: ((2, 3), (0, 0), (0, 2)),
    6: ((2, 3), (1, 0), (1, 2)),
    7: ((2, 3), (1, 2), (1, 0)),
    8: ((2, 3), (0, 2), (0, 0)),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_exif_rotation_is_applied_once(tmp_path, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    corners().save(path, exif=exif(orientation))
    size, red, green = UPRIGHT[orientation]
    image = read_image(path)
    assert image.size == size
    assert image.getpixel(red) == RED
    assert image.getpixel(green) == GREEN
    assert read_size(path) == size
    assert read_stored_size(path) == (3, 2)
    assert image.getexif().get(0x0112) is None


def test_jpeg_rotation(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30), RED).save(path, exif=exif(6))
    assert read_image(path).size == (30, 40)
    assert read_size(path) == (30, 40)


def test_png_rotation_behind_the_pixels(tmp_path):
    path = tmp_path / "late.png"
    corners().save(path)
    data = path.read_bytes()
    late = chunk(b"eXIf", exif(6).tobytes()[6:])
    path.write_bytes(data[:-12] + late + data[-12:])
    assert read_image(path).size == (2, 3)
    assert read_size(path) == (2, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_size_is_read_without_decoding(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a.{suffix}"
    corners().save(path)
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", decoded.append)
    assert read_size(path) == read_stored_size(path) == (3, 2)
    assert decoded == []


@pytest.mark.parametrize("damage", [b"Exif\x00\x00MM\x00*garbage", b"Exif\x00\x00", b"no exif at all"])
def test_damaged_exif_counts_as_upright(tmp_path, damage):
    path = tmp_path / "a.jpg"
    corners().save(path, exif=damage)
    assert read_image(path).size == (3, 2)
    assert read_size(path) == (3, 2)


@pytest.mark.parametrize("value", [0, 9])
def test_unknown_orientation_counts_as_upright(tmp_path, value):
    path = tmp_path / "a.png"
    corners().save(path, exif=exif(value))
    assert read_image(path).size == read_size(path) == (3, 2)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray_is_scaled_by_its_range(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 32896, 65279, 65535]], dtype=np.uint16)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    image = read_image(path)
    assert image.mode == "RGB"
    assert np.asarray(image)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 128, 254, 255)]


def test_big_endian_16_bit_gray(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n2 1\n65535\n" + bytes([0xFF, 0xFF, 0x01, 0x01]))
    assert [read_image(path).getpixel((x, 0)) for x in (0, 1)] == [WHITE, (1, 1, 1)]


def test_gray_beyond_16_bits_is_refused(tmp_path):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.array([[-5, 70000]], dtype=np.int32)).save(path)
    refused(path, "-5", "70000", "65535")


def test_float_pixels_are_refused_without_a_range(tmp_path):
    path = tmp_path / "a.tiff"
    Image.new("F", (2, 2), 0.5).save(path)
    refused(path, "'F'", "8-bit RGB")


def test_cmyk(tmp_path):
    path = tmp_path / "a.tiff"
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(path)
    assert read_image(path).getpixel((0, 0)) == RED
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=100)
    np.testing.assert_allclose(read_image(path).getpixel((0, 0)), RED, atol=4)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 0), (77, 77, 77)),
        ("RGBA", (*RED, 0), RED),
        ("RGBA", (*GREEN, 128), GREEN),
        ("RGB", BLUE, BLUE),
    ],
)
def test_modes_become_rgb_and_alpha_is_dropped(tmp_path, mode, value, expected):
    path = tmp_path / "a.png"
    Image.new(mode, (2, 2), value).save(path)
    image = read_image(path)
    assert (image.mode, image.getpixel((1, 1))) == ("RGB", expected)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128])])
def test_palette(tmp_path, transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    path = tmp_path / "a.png"
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    assert [read_image(path).getpixel((x, 0)) for x in (0, 1)] == [RED, GREEN]


@pytest.mark.parametrize(("mode", "color"), [("L", 7), ("RGB", (7, 7, 7))])
def test_transparent_color_is_kept(tmp_path, mode, color):
    path = tmp_path / "a.png"
    Image.new(mode, (2, 2), color).save(path, transparency=color)
    assert read_image(path).getpixel((0, 0)) == (7, 7, 7)


def test_first_frame_of_an_animation(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("RGB", (4, 4), RED).save(path, save_all=True, append_images=[Image.new("RGB", (4, 4), BLUE)], duration=10)
    assert read_image(path).getpixel((0, 0)) == RED


@pytest.mark.parametrize("size", [(20_000, 2), (1, 1)])
def test_extreme_sizes(tmp_path, size):
    path = tmp_path / "a.png"
    Image.new("RGB", size, GREEN).save(path)
    assert read_size(path) == size
    assert read_image(path).size == size
    assert read_image(path).getpixel((size[0] - 1, 0)) == GREEN


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_result_outlives_its_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    corners().save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    path.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    assert image.getpixel((0, 0)) == RED
    assert type(image) is Image.Image
    image.putpixel((0, 0), BLUE)
    assert image.getpixel((0, 0)) == BLUE


def test_an_rgb_image_is_there_once(tmp_path, monkeypatch):
    """A copy of a large one takes gigabytes."""
    corners().save(tmp_path / "a.png")

    def copy(self):
        raise AssertionError("copied")

    monkeypatch.setattr(Image.Image, "copy", copy)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == RED


def png_header(path: Path, width: int, height: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.parametrize("read", [read_image, read_size])
def test_decompression_bomb(tmp_path, read):
    """Headers are read of what may be cut into windows, too."""
    path = tmp_path / "bomb.png"
    png_header(path, 50_000, 40_000)
    size, limit = ("2000000000", "178956970") if read is read_image else ("50000 x 40000", "1073741824")
    refused(path, size, limit, read=read)


@pytest.mark.parametrize("read", [read_image, read_size])
def test_own_limit_holds_where_pillow_has_none(tmp_path, monkeypatch, read):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "bomb.png"
    png_header(path, 50_000, 40_000)
    refused(path, "50000 x 40000", "178956970" if read is read_image else "1073741824", read=read)


def test_large_but_allowed_does_not_warn(tmp_path):
    path = tmp_path / "large.png"
    png_header(path, 10_000, 9_000)
    assert read_size(path) == (10_000, 9_000)


def test_limit_itself_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "MAX_PIXELS", 6)
    path = tmp_path / "a.png"
    corners().save(path)
    assert read_image(path).size == (3, 2)
    monkeypatch.setattr(opened, "MAX_PIXELS", 5)
    refused(path, "3 x 2", "limit of 5")


@pytest.mark.parametrize("read", [read_image, read_size])
def test_what_is_no_image(tmp_path, read):
    refused(tmp_path / "none.jpg", "does not exist", read=read)
    refused(tmp_path, "folder", read=read)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    refused(empty, "0 bytes", read=read)
    text = tmp_path / "text.jpg"
    text.write_text("hello, this is not an image")
    refused(text, "not an image", read=read)
    refused(tmp_path / "a\x00b.jpg", "cannot be accessed", read=read)
    refused(text / "below.jpg", "cannot be accessed", read=read)


def test_pipe_does_not_block(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    refused(path, "regular file")


def test_no_format_that_starts_programs(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    refused(path, "not an image")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_forbidden(tmp_path):
    path = tmp_path / "a.png"
    corners().save(path)
    path.chmod(0)
    refused(path, "cannot be read")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "bmp", "gif"])
def test_truncated(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for part in (0.5, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        refused(path)
    path.write_bytes(data[:9])
    refused(path)
    refused(path, read=read_size)


def test_flipped_bytes_give_an_image_or_a_sentence(tmp_path):
    rng = np.random.default_rng(1)
    for suffix in ("png", "jpg", "tiff", "gif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path, exif=exif(6))
        data = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            bad = data.copy()
            bad[rng.integers(0, min(len(bad), 400), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(bad.tobytes())
            for read in (read_image, read_size):
                message = outcome(path, read)
                assert message is None or str(path) in message
                assert "\n" not in (message or "")


def outcome(path: Path, read) -> str | None:
    try:
        read(path)
    except DataError as error:
        return str(error)
    return None


def test_import_changes_nothing_global():
    code = (
        "import warnings; from PIL import Image, ImageFile\n"
        "before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES\n"
        "import numpy; filters = list(warnings.filters)\n"
        "import varifocal.data.images\n"
        "assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)\n"
        "assert filters == list(warnings.filters)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


@pytest.fixture
def tree(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.jpeg", "sub/deep/d.tif", ".hidden.png", ".git/e.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "photos"


def test_folder_is_walked_and_sorted(tree):
    expected = [tree / name for name in ("a.JPG", "b.png", "sub/c.jpeg", "sub/deep/d.tif")]
    assert list_images([str(tree)]) == expected


def test_globs(tree):
    assert list_images([f"{tree}/*.png"]) == [tree / "b.png"]
    deep = [tree / name for name in ("a.JPG", "b.png", "sub/c.jpeg", "sub/deep/d.tif")]
    assert sorted(list_images([f"{tree}/**"])) == deep
    assert list_images([f"{tree}/?.*"]) == [tree / "a.JPG", tree / "b.png"]
    assert list_images([f"{tree}/su*"]) == [tree / "sub/c.jpeg", tree / "sub/deep/d.tif"]


def test_files_keep_their_order_and_come_once(tree):
    named = [str(tree / "b.png"), str(tree / "a.JPG"), str(tree / "notes.txt")]
    assert list_images([*named, str(tree / "b.png")]) == [Path(name) for name in named]
    assert list_images(named[0]) == [tree / "b.png"]


def test_brackets_in_a_real_name(tmp_path):
    file = tmp_path / "img[1].png"
    file.touch()
    assert list_images([str(file)]) == [file]


def test_linked_folders_are_walked_once(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "z.png").touch()
    (tree / "zlink").symlink_to(outside)
    (tree / "sub" / "up").symlink_to(tree)
    names = ["a.JPG", "b.png", "sub/c.jpeg", "sub/deep/d.tif", "zlink/z.png"]
    assert list_images([str(tree)]) == [tree / name for name in names]


def test_nothing_found(tree):
    for pattern in ("none.jpg", "*.webp", ".git/none"):
        with pytest.raises(DataError) as error:
            list_images([str(tree), f"{tree}/{pattern}"])
        one_line(error, f"{tree}/{pattern}", "no image")
    (tree / "bare").mkdir()
    with raises_code("no-image-found"):
        list_images([str(tree / "bare")])
    with raises_code("no-image-named"):
        list_images([])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(tree):
    (tree / "sub").chmod(0)
    try:
        with raises_code("folder-unreadable"):
            list_images([str(tree)])
    finally:
        (tree / "sub").chmod(0o755)


@pytest.mark.parametrize("name", ["[v2]", "a*b", "what?", "x [1-3] *"])
def test_folders_with_the_signs_of_globs_in_their_names(tmp_path, name):
    for folder in (name, f"sets/{name}/deep", "v", "aab"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / folder / "p.png")
    assert list_images([f"{tmp_path}/{name}"]) == [tmp_path / name / "p.png"]
    assert list_images([f"{tmp_path}/{name}/*.png"]) == [tmp_path / name / "p.png"]
    assert list_images([f"{tmp_path}/{name}/p.png"]) == [tmp_path / name / "p.png"]
    assert list_images([f"{tmp_path}/sets/{name}/*/?.png"]) == [tmp_path / "sets" / name / "deep/p.png"]
    assert list_images([f"{tmp_path}/sets/{name}/**"]) == [tmp_path / "sets" / name / "deep/p.png"]


def test_globs_beside_folders_with_their_signs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("[v2]", "v", "v3"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / folder / "p.png")
    assert list_images(["v[3-5]/*.png"]) == [Path("v3/p.png")]
    assert list_images(["[v2]/*.png"]) == [Path("[v2]/p.png")]
    assert sorted(list_images(["v*/*.png"])) == [Path("v/p.png"), Path("v3/p.png")]
    assert list_images(["[[]v2]/*.png"]) == [Path("[v2]/p.png")]
