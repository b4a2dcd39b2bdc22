"""What names of images stand for: each kind of source, in order, each image once, and what cannot be."""

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from error_codes import raises_code
from PIL import Image
from videos import make_video

from varifocal.data.images import read_image
from varifocal.inference.sources import MISSING, has_vanished, list_source
from varifocal.utils.errors import DataError


def png(value):
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, name in enumerate(names):
            content = png(i) if name.endswith(".png") else b"{}"
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def values(source):
    """The gray value of each image: the files can be read, and by it they can be told apart."""
    return [read_image(item.file).getpixel((0, 0))[0] for item in source.items]


def keys(source):
    return [item.key for item in source.items]


def test_a_folder_of_tar_shards_in_the_order_of_the_shards_and_of_their_content(tmp_path):
    write_tar(tmp_path / "in" / "b.tar", ["2.png", "2.json", "1.png"])
    write_tar(tmp_path / "in" / "a.tar", ["x/9.png", "x/9.json", "__MACOSX/._9.png"])
    source = list_source([str(tmp_path / "in")])
    assert keys(source) == ["0/a.tar/x/9.png", "0/b.tar/2.png", "0/b.tar/1.png"]
    assert values(source) == [0, 0, 2]
    assert keys(list_source([str(tmp_path / "in" / "*.tar")])) == keys(source)
    assert keys(list_source([str(tmp_path / "in" / "b.tar")])) == ["0/b.tar/2.png", "0/b.tar/1.png"]


def test_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("d/1.png", png(11))
        archive.writestr("readme.txt", "x")
    source = list_source([str(tmp_path / "a.zip")])
    assert keys(source) == ["0/a.zip/d/1.png"]
    assert values(source) == [11]


@pytest.mark.parametrize("named", ["struct", "column", "none"])
def test_parquet_needs_no_labels(tmp_path, named):
    contents = [png(value) for value in (5, 6, 7)]
    if named == "struct":
        columns = {"image": [{"bytes": content, "path": "same.png"} for content in contents]}
    else:
        columns = {"image": contents} | ({"file_name": ["a.png", "b.png", "c.png"]} if named == "column" else {})
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "p.parquet", row_group_size=2)
    source = list_source([str(tmp_path / "p.parquet")])
    assert values(source) == [5, 6, 7]  # also those of equal names
    names = {"struct": ["same.png"] * 3, "column": ["a.png", "b.png", "c.png"], "none": ["0-0", "0-1", "1-0"]}
    assert [item.file.name for item in source.items] == names[named]
    assert len(set(keys(source))) == 3


def test_a_list_is_relative_to_itself(tmp_path):
    for value, name in ((1, "a b.png"), (2, "sub/c.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(value))
    absolute = tmp_path / "a b.png"
    (tmp_path / "list.txt").write_text(f"\ufeffsub/c.png\r\n\n{absolute}\n", encoding="utf-8")
    source = list_source([str(tmp_path / "list.txt")])
    assert values(source) == [2, 1]
    assert keys(source) == ["0/sub/c.png", f"0/{absolute}"]


def test_images_and_videos_in_one_folder(tmp_path):
    (tmp_path / "b.png").write_bytes(png(1))
    make_video(tmp_path / "a.mp4")
    assert keys(list_source([str(tmp_path)])) == ["0/a.mp4", "0/b.png"]


def test_each_file_once(tmp_path):
    (tmp_path / "b.png").write_bytes(png(1))
    source = list_source([str(tmp_path), str(tmp_path / "b.png"), str(tmp_path / "*.png")])
    assert keys(source) == ["0/b.png"]


def test_archives_beside_images_are_named_in_a_note(tmp_path):
    (tmp_path / "b.png").write_bytes(png(1))
    write_tar(tmp_path / "a.tar", ["1.png"])
    source = list_source([str(tmp_path)])
    assert keys(source) == ["0/b.png"]
    assert "1 archive is left out beside 1 image, first a.tar" in source.notes[0]


def test_the_digest_sees_names_sizes_and_order(tmp_path):
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(png(1))
    names = [str(file) for file in files]
    first = list_source(names).digest()
    assert list_source(names).digest() == first
    assert list_source(names[::-1]).digest() != first
    files[1].write_bytes(png(1) + b"x")
    assert list_source(names).digest() != first


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "image-list-empty"),
        (b"\n \n", "image-list-empty"),
        (b"\xff\xfe\xff", "image-list-not-text"),
        (b"no.png", "image-list-all-missing"),
        (b"a\0b", "image-list-all-missing"),
    ],
)
def test_lists_that_cannot_be(tmp_path, content, code):
    (tmp_path / "list.txt").write_bytes(content)
    with raises_code(code, DataError) as raised:
        list_source([str(tmp_path / "list.txt")])
    assert "list.txt" in str(raised.value)


def test_containers_without_images(tmp_path):
    write_tar(tmp_path / "a.tar", ["1.json"])
    with raises_code("container-without-images", DataError):
        list_source([str(tmp_path / "a.tar")])
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "p.parquet")
    with raises_code("parquet-no-images", DataError):
        list_source([str(tmp_path / "p.parquet")])
    with raises_code("no-image-found", DataError):
        list_source([str(tmp_path / "none")])


def test_paths_below_a_source_are_the_keys(tmp_path, monkeypatch):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.png").write_bytes(png(1))
    monkeypatch.chdir(tmp_path)
    for name in ("in", str(tmp_path / "in"), "in/", "./in"):
        assert keys(list_source([name])) == ["0/deep/a.png"]
    assert keys(list_source([str(Path("in", "**", "*.png"))])) == ["0/deep/a.png"]


def test_a_missing_file_of_a_list_is_an_item(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "list.txt").write_text("a.png\nno.png\n")
    items = list_source([str(tmp_path / "list.txt")]).items
    assert [item.size for item in items] == [len(png(1)), MISSING]
    assert [has_vanished(item) for item in items] == [False, False]
    (tmp_path / "a.png").unlink()
    assert [has_vanished(item) for item in items] == [True, False]


def test_a_vanished_archive_is_noticed(tmp_path):
    (item,) = list_source([str(write_tar(tmp_path / "a.tar", ["1.png"]))]).items
    assert not has_vanished(item)
    (tmp_path / "a.tar").unlink()
    assert has_vanished(item)


def test_a_glob_of_archives_and_images_is_both(tmp_path):
    (tmp_path / "in[1]").mkdir()
    (tmp_path / "in[1]" / "b.png").write_bytes(png(1))
    write_tar(tmp_path / "in[1]" / "a.tar", ["1.png"])
    write_tar(tmp_path / "in[1]" / "._a.tar", ["1.png"])
    assert keys(list_source([str(tmp_path / "in[1]" / "*")])) == ["0/a.tar/1.png", "0/b.png"]


def test_videos_in_an_archive_are_named_in_a_note(tmp_path):
    write_tar(tmp_path / "a.tar", ["1.png", "2.mp4"])
    source = list_source([str(tmp_path / "a.tar")])
    assert keys(source) == ["0/a.tar/1.png"]
    assert "1 video is left out" in source.notes[0]
