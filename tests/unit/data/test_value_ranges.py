"""Images of more than 8 bits: which of their values become which of 256 levels."""

import numpy as np
import pytest
import tifffile
from deep_images import float_tiff, png16, tiff
from error_codes import raises_code
from PIL import Image

from varifocal.data.image_scan import scan_images
from varifocal.data.images import read_image, to_upright_rgb
from varifocal.data.value_ranges import Used
from varifocal.types import Preprocess
from varifocal.utils.config import from_dict
from varifocal.utils.errors import ConfigError, DataError


def literal(value: float, low: float, high: float) -> int:
    """One value of 0..255, rounded half up, clipped."""
    return int(min(max((value - low) * 255 / (high - low) + 0.5, 0), 255))


def grays(path, levels=None) -> list[int]:
    pixels = np.asarray(read_image(path, levels))
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def test_12_bits_in_a_file_of_16_keep_their_levels(tmp_path):
    """Values of 1520..2224, as an industrial camera writes them: over 65535 they would be 6, 7, 8 and 9."""
    values = np.arange(1520, 2225, 17, dtype=np.uint16)[None]
    wanted = [literal(value, 0, 4095) for value in values[0].tolist()]
    assert grays(png16(tmp_path / "a.png", values)) == wanted
    assert len(set(wanted)) == values.size


@pytest.mark.parametrize(("most", "top"), [(4095, 4095), (4096, 65535)])
def test_the_range_is_that_of_16_bits_as_soon_as_one_value_needs_it(tmp_path, most, top):
    values = np.array([[0, 1000, 4000, most]], np.uint16)
    assert grays(png16(tmp_path / "a.png", values)) == [literal(value, 0, top) for value in values[0].tolist()]


@pytest.mark.parametrize("levels", [(0, 4095), (1000, 3000), (28000, 32000.5), (-100, 100)])
def test_a_named_range_holds_for_all_images(tmp_path, levels):
    values = np.array([[0, 50, 1000, 1001, 2048, 3000, 4095, 5000, 29315, 65535]], np.uint16)
    assert grays(png16(tmp_path / "a.png", values), levels) == [literal(value, *levels) for value in values[0].tolist()]


def test_each_images_own_range(tmp_path):
    values = np.array([[7, 1500, 1600, 2000, 60000]], np.uint16)
    wanted = [literal(value, 7, 60000) for value in values[0].tolist()]
    assert grays(png16(tmp_path / "a.png", values), "image") == wanted
    flat = png16(tmp_path / "b.png", np.full((1, 3), 500, np.uint16))
    assert grays(flat, "image") == grays(flat, "percentile") == [0, 0, 0]


def test_percentiles_are_not_moved_by_a_dead_pixel(tmp_path):
    values = np.concatenate([[0], np.arange(1000, 1999), [65535]]).astype(np.uint16)[None]
    low, high = sorted(values[0].tolist())[10], sorted(values[0].tolist())[-11]  # 1 % of 1001 on either side
    found = grays(png16(tmp_path / "a.png", values), "percentile")
    assert found == [literal(value, low, high) for value in values[0].tolist()]
    assert len(set(found)) == 256


def test_8_bits_do_not_feel_a_range(tmp_path):
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for levels in ((0.0, 4095.0), "image", "percentile"):
        assert (np.asarray(read_image(tmp_path / "a.png", levels)) == pixels).all()


@pytest.fixture(params=["png", "raw", "deflate", "big-endian"])
def colors(request, tmp_path):
    """16-bit colors [H, W, 3] up to 4095, and the file."""
    values = np.random.default_rng(0).integers(0, 4096, (6, 7, 3), dtype=np.uint16)
    values[0, 0] = 0, 2048, 4095
    if request.param == "png":
        return values, png16(tmp_path / "a.png", values)
    more = {"raw": {}, "deflate": {"compression": "zlib"}, "big-endian": {"byteorder": ">"}}[request.param]
    if request.param == "deflate":
        pytest.importorskip("imagecodecs") if tifffile.__version__ < "2020" else None
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", **more)
    return values, tmp_path / "a.tif"


@pytest.mark.parametrize("levels", [None, (0, 4095), (512, 2000), "image"])
def test_16_bit_colors_keep_their_low_bytes(colors, levels):
    """Pillow by itself gives the high bytes alone, 0 to 15."""
    values, path = colors
    low, high = levels if isinstance(levels, tuple) else (0, 4095)
    wanted = [[[literal(value, low, high) for value in pixel] for pixel in row] for row in values.tolist()]
    assert np.asarray(read_image(path, levels)).tolist() == wanted


@pytest.mark.parametrize("levels", [None, (0.0, 4095.0), (100.0, 612.0)])
@pytest.mark.parametrize("alpha", [0, 65535])
def test_gray_with_alpha_of_16_bits_is_that_gray(tmp_path, levels, alpha):
    values = np.arange(0, 4000, 7, dtype=np.uint16)[None]
    with_alpha = png16(tmp_path / "a.png", np.dstack([values, np.full_like(values, alpha)]))
    assert grays(with_alpha, levels) == [literal(value, *(levels or (0, 4095))) for value in values[0].tolist()]


def test_16_bit_colors_of_the_whole_range_are_as_pillow_reads_them(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (6, 7, 3), dtype=np.uint16)
    assert (np.asarray(read_image(png16(tmp_path / "a.png", values))) == values >> 8).all()


def test_a_named_range_of_bright_colors_needs_the_low_bytes(tmp_path):
    """Of 20000..20255 the high bytes tell two values apart."""
    values = np.arange(20000, 20256, 16, dtype=np.uint16).reshape(1, 16, 1).repeat(3, axis=2)
    found = np.asarray(read_image(png16(tmp_path / "a.png", values), (20000.0, 20240.0)))[0, :, 0].tolist()
    assert found == list(range(0, 256, 17))


def test_16_bit_colors_that_pillow_opened_are_not_put_in_a_range_that_they_have_lost(tmp_path):
    path = png16(tmp_path / "a.png", np.full((2, 2, 3), 1000, np.uint16))
    with (
        Image.open(path) as image,
        raises_code("deep-color-in-memory"),
    ):
        to_upright_rgb(image, "image", (0.0, 4095.0))
    with Image.open(path) as image:
        assert to_upright_rgb(image, "image").getpixel((0, 0)) == (3, 3, 3)


def test_floating_point_has_no_range_by_itself(tmp_path):
    values = np.array([[-20.0, 0.0, 15.5, 36.6, 120.0]], np.float32)
    path = float_tiff(tmp_path / "a.tif", values)
    with pytest.raises(
        DataError, match=r"no known range; here they run from -20 to 120; name the range with data\.prep"
    ):
        read_image(path)
    assert grays(path, (0, 40)) == [literal(value, 0, 40) for value in values[0].tolist()]
    assert grays(path, "image") == [literal(value, -20, 120) for value in values[0].tolist()]


@pytest.mark.parametrize("nodata", [None, "3.40282346638529e+38", "-9999"])
def test_pixels_without_a_value_are_black_and_move_no_range(tmp_path, nodata):
    """GDAL writes the value that stands for none as a text, with fewer digits than it has."""
    odd = np.nan if nodata is None else np.float32(3.4028235e38 if "e" in nodata else nodata)
    values = np.array([[odd, 10.0, 20.0, 30.0, np.inf]], np.float32)
    path = float_tiff(tmp_path / "a.tif", values, **({} if nodata is None else {"t42113": nodata}))
    assert grays(path, "image") == [0, 0, 128, 255, 255]
    assert grays(path, (0, 40)) == [0, 64, 128, 191, 255]


def test_signed_16_bits(tmp_path):
    values = np.array([[-500, 0, 1500]], np.int16)
    path = tiff(tmp_path / "a.tif", values.astype("<i2").tobytes(), (3, 1), t258=16, t339=2)
    with raises_code("values-out-of-range"):
        read_image(path)
    assert grays(path, (-500, 1500)) == [0, 64, 255]


def test_12_bits_that_the_file_declares(tmp_path):
    """Two pixels in three bytes."""
    path = tiff(tmp_path / "a.tif", bytes([0x80, 0x0F, 0xFF, 0x00, 0x00, 0x10]), (4, 1), t258=12)
    assert grays(path) == [literal(value, 0, 4095) for value in (0x800, 0xFFF, 0x000, 0x010)]
    looks = []
    scan_images([path], lambda _, look: looks.append(look), 1)
    assert looks[0].used == Used(0, 4095, 4095)


@pytest.mark.parametrize(("levels", "low", "high"), [(None, 0, 1023), ((0, 511), 0, 511), ("image", 3, 1000)])
def test_the_largest_value_that_a_pgm_declares(tmp_path, levels, low, high):
    values = [3, 200, 511, 1000]
    (tmp_path / "a.pgm").write_bytes(b"P5\n4 1\n1023\n" + np.array(values, ">u2").tobytes())
    assert grays(tmp_path / "a.pgm", levels) == [literal(value, low, high) for value in values]


def test_white_is_zero_also_with_16_bits(tmp_path):
    values = np.array([[0, 30000, 65535]], np.uint16)
    path = tiff(tmp_path / "a.tif", values.astype("<u2").tobytes(), (3, 1), t258=16, t262=0)
    assert grays(path) == [255, literal(35535, 0, 65535), 0]


def test_rotation_and_range_together(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 1000], [2000, 4095]], np.uint16)).save(tmp_path / "a.png", exif=exif)
    image = np.asarray(read_image(tmp_path / "a.png", (0, 4095)))[..., 0]
    assert image.tolist() == [[literal(2000, 0, 4095), 0], [255, literal(1000, 0, 4095)]]


@pytest.mark.parametrize("bad", [(5.0, 5.0), (9.0, 1.0), (0.0, float("inf")), (0.0, float("nan"))])
def test_ranges_that_cannot_be(bad):
    with pytest.raises(ConfigError, match="give two numbers, the lower first"):
        Preprocess(range=bad)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("auto", r"^word: range: .*valid tuple, or: .*'image' or 'percentile' \(got 'auto'\)\.$"),
        (5, r"^word: range: .*valid tuple, or: .*'image' or 'percentile' \(got 5\)\.$"),
        ([1], r"^word: range"),
        ([9, 1], r"^word: preprocess: range=\(9\.0, 1\.0\): give two numbers, the lower first"),
    ],
)
def test_ranges_of_a_recipe_that_cannot_be(given, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(Preprocess, {"range": given}, "word")
