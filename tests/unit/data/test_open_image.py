"""Why a file is not opened: each reason in a sentence that says what to do."""

import logging
import os
import threading
import time
import zipfile

import numpy as np
import pytest
from deep_images import HEIC_HEAD, tiff
from error_codes import raises_code
from PIL import Image

from varifocal.data import image_errors, image_scan
from varifocal.data import images as module
from varifocal.data.archive import open_archive
from varifocal.data.image_errors import has_heif
from varifocal.data.image_scan import count_frames, read_size, scan_images
from varifocal.data.images import LIMIT, read_image
from varifocal.utils.errors import DataError


def why(path, read=read_image, **more) -> str:
    with pytest.raises(DataError) as error:
        read(path, **more)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.fixture
def without_heif(monkeypatch):
    """As if no package read HEIC."""

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(image_errors, "import_module", missing)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    has_heif.cache_clear()
    yield
    has_heif.cache_clear()


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "IMG_0001.jpg"])
@pytest.mark.parametrize("read", [read_image, read_size])
def test_heic_names_its_package_whatever_the_file_is_called(tmp_path, without_heif, name, read):
    path = tmp_path / name
    path.write_bytes(HEIC_HEAD + bytes(500))
    assert why(path, read) == (
        'this is a HEIC image, which needs the package pillow-heif; run pip install "varifocal[heif]"'
    )


def test_heic_is_read_where_a_package_does(tmp_path, monkeypatch):
    """A package that reads it as PNG stands for pillow-heif."""

    class Package:
        @staticmethod
        def register_heif_opener():
            from PIL.PngImagePlugin import PngImageFile

            class Heif(PngImageFile):
                format = "HEIF"

                def _open(self):
                    self.fp.seek(len(HEIC_HEAD))
                    super()._open()

            Image.register_open("HEIF", Heif, lambda prefix: prefix[4:12] == b"ftypheic")

    monkeypatch.setattr(image_errors, "import_module", lambda name: Package)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    has_heif.cache_clear()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "a.png")
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC_HEAD + (tmp_path / "a.png").read_bytes())
    assert read_size(path) == (5, 4)
    assert read_image(path).getpixel((4, 3)) == (1, 2, 3)
    path.write_bytes(HEIC_HEAD + b"cut short")
    assert "a HEIC image that is damaged" in why(path)
    has_heif.cache_clear()


def test_heic_with_the_package_itself(tmp_path):
    """Whole and cut short; decoding small, as check does, has to find the damage too."""
    package = pytest.importorskip("pillow_heif")
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 1), dtype=np.uint8).repeat(3, axis=2)
    heif = package.from_bytes("RGB", (128, 96), noise.tobytes())
    heif.save(tmp_path / "a.heic", quality=100)
    assert np.abs(np.asarray(read_image(tmp_path / "a.heic")).astype(int) - noise).mean() < 3
    assert read_size(tmp_path / "a.heic") == (128, 96)
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "b.heic").write_bytes(content[: len(content) // 2])
    assert "damaged" in why(tmp_path / "b.heic")
    looks = {}
    scan_images([tmp_path / "a.heic", tmp_path / "b.heic"], looks.__setitem__, 1)
    assert looks[0].error is None
    assert looks[1].error is not None


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("a.jxl", b"\xff\x0a\x00\x00", "a JPEG XL image, which is not read; convert it to JPEG, PNG or TIFF"),
        ("a.png", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "a JPEG XL image"),
        ("a.psd", b"8BPS\x00\x01", "a Photoshop file"),
        ("a.svg", b'<?xml version="1.0"?>\n<svg width="3">', "an SVG drawing"),
        ("a.dcm", bytes(128) + b"DICM", "a DICOM file"),
        ("a.exr", b"\x76\x2f\x31\x01\x02", "an OpenEXR image"),
        ("a.cr3", b"\x00\x00\x00\x18ftypcrx \x00", "a raw file of a camera"),
        ("a.raf", b"FUJIFILMCCD-RAW 0201", "a raw file of a camera"),
        ("a.nef", b"\x12\x34", "a raw file of a camera"),
        ("a.pdf", b"%PDF-1.7", "a PDF document"),
        ("a.npy", b"\x93NUMPY\x01\x00", "a NumPy array"),
        ("a.zip", b"PK\x03\x04" + bytes(90), "this is an archive and not an image; unpack it and name the folder"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS and not the image; run git"),
        ("b.jpg", b"\n<!DOCTYPE html>\n<html>", "a web page and not the image; download"),
        ("a.jpg", b"hello", "not an image of a known format"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(tmp_path, name, head, words):
    path = tmp_path / name
    path.write_bytes(head)
    assert words in why(path)


def test_a_raw_file_is_not_taken_for_the_small_preview_in_it(tmp_path):
    path = tmp_path / "DSC_0001.NEF"
    Image.new("RGB", (16, 12)).save(path, format="TIFF")
    assert "a raw file of a camera" in why(path)
    assert "a raw file of a camera" in why(path, read_size)
    Image.new("RGB", (16, 12)).save(path, format="JPEG")  # only its name is wrong
    assert read_size(path) == (16, 12)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (
            {"t258": (8,) * 5, "t277": 5},
            "5 bands of 8-bit numbers, which is not read; save three bands of it as an RGB",
        ),
        ({"t258": (16,) * 4, "t277": 4}, "4 bands of 16-bit numbers"),
        ({"t258": 64, "t339": 3}, "1 band of 64-bit floating-point numbers, which is not read; save it as 16-bit gray"),
        ({"t258": 16, "t339": 3}, "1 band of 16-bit floating-point numbers"),
        ({"t259": 34887}, "a TIFF with the compression 34887, which is not read; save it uncompressed"),
    ],
)
def test_a_sound_tiff_that_pillow_has_no_mode_for_is_not_called_damaged(tmp_path, tags, words):
    path = tiff(tmp_path / "a.tif", bytes(400), (4, 3), **tags)
    assert words in why(path)
    assert "damaged" not in why(path)


def test_what_pillow_logs_is_not_printed_beside_the_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert "8 bands of 8-bit numbers" in why(tiff(tmp_path / "a.tif", bytes(96), (4, 3), t258=(8,) * 8, t277=8))
    assert capsys.readouterr().err == ""


def test_an_empty_file_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.jpg", b"")
        archive.writestr("x/b.jpg", b"hello")
    folder = open_archive(tmp_path / "a.zip")
    assert "empty (0 bytes)" in why((folder / "a.jpg").member())


def test_a_decoder_that_pillow_lacks_is_no_damage(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def load(self):
        raise OSError("decoder jpeg2k not available")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    text = why(tmp_path / "a.png")
    assert "Pillow is built without the decoder of this image" in text
    assert "damaged" not in text


@pytest.fixture
def small_limits(monkeypatch):
    """200 pixels, and 400 for what is cut into windows; Pillow's own limit is 100, which it doubles."""
    monkeypatch.setattr(module, "MAX_PIXELS", 200)
    monkeypatch.setattr(module, "MAX_LARGE", 400)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


def save(path, size):
    Image.new("RGB", size, (7, 8, 9)).save(path)
    return path


def test_a_large_image_may_be_read_in_windows(tmp_path, small_limits):
    fits, large, huge = (save(tmp_path / f"{width}.png", (width, 10)) for width in (20, 40, 41))
    assert read_image(fits).size == (20, 10)
    text = why(large)
    assert "above the limit of 200; read it in tiles with --tile (in training with data.augment.crop), or raise" in text
    assert "--max-pixels N or the environment variable VARIFOCAL_MAX_PIXELS" in text
    assert read_image(large, large=True).getpixel((39, 9)) == (7, 8, 9)
    assert read_size(large) == (40, 10)
    text = why(huge, large=True)
    assert "above the limit of 400; raise the limit with --max-pixels N" in text
    assert "limit of 400" in why(huge, read_size)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_environment_raises_and_lowers_both_limits(tmp_path, small_limits, monkeypatch):
    path = save(tmp_path / "a.png", (50, 10))
    monkeypatch.setenv(LIMIT, "500")
    assert read_image(path).size == read_image(path, large=True).size == (50, 10)
    monkeypatch.setenv(LIMIT, "499")
    assert "limit of 499" in why(path)
    assert "limit of 499" in why(path, large=True)
    for bad in ("many", "0", "-5", "1e9"):
        monkeypatch.setenv(LIMIT, bad)
        with raises_code("max-pixels-not-a-number"):
            read_image(path)


def test_pillows_limit_comes_back_after_threads(tmp_path, small_limits):
    """It belongs to the whole process: the first that ends must not take it from the others."""
    path = save(tmp_path / "a.png", (40, 10))
    failed = []

    def work():
        for _ in range(30):
            try:
                read_image(path, large=True)
            except DataError as error:
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    # filters of warnings are not ours to test with threads, which have races in Python itself
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert Image.MAX_IMAGE_PIXELS == 100


def test_all_images_of_a_check_are_within_the_limit(tmp_path, small_limits):
    path = save(tmp_path / "a.png", (40, 10))
    looks = []
    scan_images([path], lambda _, look: looks.append(look), 2, large=False)
    scan_images([path], lambda _, look: looks.append(look), 2, large=True)
    assert "limit of 200" in str(looks[0].error)
    assert looks[1].error is None


def test_of_images_that_take_much_memory_one_is_decoded_at_a_time(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{i}.png", (40, 10)) for i in range(6)]
    at_once, most, lock, gray = [0], [0], threading.Lock(), image_scan._small_gray

    def watched(*given):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        return gray(*given)

    monkeypatch.setattr(image_scan, "_small_gray", watched)
    for alone, expected in ((39, 1), (400, 3)):
        monkeypatch.setattr(image_scan, "_ALONE", alone)
        most[0] = 0
        scan_images(paths, lambda _, look: None, 3)
        assert most[0] == expected


FRAMES = [Image.new("RGB", (8, 6), (40 * i, 0, 0)) for i in range(3)]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_frames_and_pages_are_counted(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:])
    assert count_frames(path) == 3
    FRAMES[0].save(path)
    assert count_frames(path) == 1


def test_a_damaged_second_frame_is_no_reason_to_refuse_the_first(tmp_path):
    path = tmp_path / "a.gif"
    FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:2])
    content = path.read_bytes()
    looks = []
    for place in range(content.rindex(b"\x21\xf9"), len(content)):  # within the second frame
        for value in (0x21, 0x2C, 0x3B, 0xFF):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            assert read_image(path).size == (8, 6)
            assert count_frames(path) >= 1
            scan_images([path], lambda _, look: looks.append(look), 1)
    assert all(look.error is None for look in looks)


def test_smaller_copies_and_masks_in_a_tiff_are_no_pages(tmp_path):
    import tifffile

    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((32, 32), np.uint8))
        for kind in (1, 1, 2):  # reduced, reduced, page
            file.write(np.zeros((16, 16), np.uint8), subfiletype=kind)
        file.write(np.zeros((16, 16), bool), subfiletype=4)  # mask
    assert count_frames(tmp_path / "a.tif") == 2


def test_what_a_telephone_puts_beside_its_photograph_is_no_page(tmp_path):
    FRAMES[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=FRAMES[1:2])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2
    assert count_frames(tmp_path / "a.jpg") == 1


def test_a_look_counts_frames_and_values(tmp_path):
    FRAMES[0].save(tmp_path / "a.gif", save_all=True, append_images=FRAMES[1:])
    Image.fromarray(np.array([[30, 900], [500, 4000]], np.uint16)).save(tmp_path / "b.png")
    Image.new("F", (4, 3), 0.5).save(tmp_path / "c.tif")
    looks = {}
    files = [tmp_path / name for name in ("a.gif", "b.png", "c.tif")]
    scan_images(files, looks.__setitem__, 2, levels=None)
    assert [looks[i].frames for i in range(3)] == [3, 1, 1]
    assert looks[0].used is None
    assert (looks[1].used.low, looks[1].used.high, looks[1].used.top) == (30, 4000, 65535)
    assert "no known range" in str(looks[2].error)
    assert looks[2].gray is not None
    scan_images(files, looks.__setitem__, 2)
    assert [looks[i].error for i in range(3)] == [None] * 3


@pytest.mark.parametrize(("mode", "value", "wanted"), [("La", (60, 128), 119), ("RGBa", (60, 60, 60, 128), 119)])
def test_colors_multiplied_by_their_alpha_are_divided_by_it(tmp_path, mode, value, wanted):
    from varifocal.data.images import to_upright_rgb

    assert to_upright_rgb(Image.new(mode, (2, 2), value), "a").getpixel((0, 0)) == (wanted,) * 3


def test_cielab(tmp_path):
    """The lightness of white is 100 of 100; that of a middle gray about 53."""
    import tifffile

    lab = np.zeros((1, 2, 3), np.uint8)
    lab[0, :, 0] = 255, round(53.585 * 2.55)
    tifffile.imwrite(tmp_path / "a.tif", lab, photometric="cielab")
    pixels = np.asarray(read_image(tmp_path / "a.tif")).astype(int)
    assert np.abs(pixels[0] - [[255] * 3, [128] * 3]).max() <= 2


def test_a_png_called_jpg_and_a_suffix_in_capitals(tmp_path):
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "A.JPG", format="PNG")
    assert read_image(tmp_path / "A.JPG").getpixel((0, 0)) == (1, 2, 3)
    assert os.path.exists(tmp_path / "A.JPG")
