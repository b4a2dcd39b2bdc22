"""Images found on disk, and what is said of the files beside them."""

import pytest
from error_codes import raises_code
from PIL import Image

from varifocal.data.image_kinds import SUFFIXES, UNREAD
from varifocal.data.listing import list_images, odd_images, passed_over
from varifocal.utils.errors import DataError


def test_a_folder_without_an_image_says_what_is_in_it(tmp_path):
    for name in ("a.DNG", "b.dng", "notes.txt", "README", ".hidden.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(DataError) as error:
        list_images([str(tmp_path)])
    words = f"{tmp_path}: no image is found there, but 4 other files (.dng: 2, no suffix: 1, .txt: 1); name an image"
    assert str(error.value).startswith(words)


def test_an_empty_folder_has_no_files_to_list(tmp_path):
    with raises_code("no-image-found"):
        list_images([str(tmp_path)])


def test_kinds_that_are_not_read_can_be_asked_for(tmp_path):
    for name in ("a.jpg", "b.psd", "c.heic", "d.JXL", "e.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in list_images([str(tmp_path)])] == ["a.jpg", "c.heic"]
    both = list_images([str(tmp_path)], SUFFIXES | UNREAD)
    assert [file.name for file in both] == ["a.jpg", "b.psd", "c.heic", "d.JXL"]


def test_images_without_a_suffix_are_known_by_their_content(tmp_path):
    """As downloads and files named by a hash are."""
    for name, form in (
        ("3f2a", "JPEG"),
        ("77b0", "PNG"),
        ("90cc", "WEBP"),
        ("a1", "TIFF"),
        ("b2", "BMP"),
        ("c3", "GIF"),
    ):
        Image.new("RGB", (4, 4)).save(tmp_path / name, format=form)
    (tmp_path / "Makefile").write_text("all:")
    (tmp_path / "empty").touch()
    assert [file.name for file in list_images([str(tmp_path)])] == ["3f2a", "77b0", "90cc", "a1", "b2", "c3"]


def test_the_note_counts_by_suffix():
    names = ["a.jpg", "a.txt", "b.DNG", "c.dng", "d.psd"]
    assert passed_over(names, "photos") == [
        "photos: 3 images are left out, of a kind that is not read (.dng: 2, .psd: 1), first b.DNG; convert them to "
        "JPEG, PNG or TIFF."
    ]
    assert passed_over(["a.jpg", "a.jpg.json", "a.txt", "b"], "photos") == []
    assert passed_over(["a.jpg_large", "b.PNG~"], "photos") == [
        "photos: 2 images are left out, with an unknown suffix (.jpg_large: 1, .png~: 1), first a.jpg_large; rename "
        "them."
    ]


def test_images_with_an_unknown_suffix_are_collected(tmp_path):
    for name in ("a.jpg", "b.jpg_large", "c.part", "d.txt"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="JPEG")
    (tmp_path / "e.bin").write_bytes(b"no image")
    (tmp_path / "f.pdf").write_bytes(b"%PDF-1.7")
    odd = []
    assert [file.name for file in list_images([str(tmp_path)], odd=odd)] == ["a.jpg"]
    assert sorted(file.name for file in odd) == ["b.jpg_large", "c.part", "f.pdf"]
    unread, unknown = odd_images(sorted(odd), "photos")
    assert unread.startswith("photos: 1 image is left out, of a kind that is not read (.pdf: 1), first f.pdf; convert")
    assert unknown.startswith("photos: 2 images are left out, with an unknown suffix (.jpg_large: 1, .part: 1)")


def test_an_address_is_said_to_be_one():
    with raises_code("image-url"):
        list_images(["https://example.com/a.jpg"])
