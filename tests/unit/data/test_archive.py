import io
import json
import pickle
import struct
import tarfile
import zipfile

import pytest
from error_codes import raises_code
from folders import fill, found, pack, png, refused

from varifocal.data.archive import open_archive
from varifocal.data.image_scan import read_size
from varifocal.data.images import read_image
from varifocal.data.load import load_dataset, recognize

RED = png(100, 50, (255, 0, 0))
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 15, 20, 10]}],
    "categories": [{"id": 1, "name": "cat"}],
}
BOX = [30.0, 15.0, 50.0, 25.0]
SETS = {
    "coco": {"train.json": json.dumps(COCO), "images/a.png": RED},
    "yolo": {"data.yaml": "train: images\nnames: [cat]", "images/a.png": RED, "labels/a.txt": "0 0.4 0.4 0.2 0.2"},
    "voc": {
        "Annotations/a.xml": "<annotation><filename>a.png</filename><object><name>cat</name><bndbox><xmin>31</xmin>"
        "<ymin>16</ymin><xmax>50</xmax><ymax>25</ymax></bndbox></object></annotation>",
        "JPEGImages/a.png": RED,
    },
    "csv": {"boxes.csv": "image,xmin,ymin,xmax,ymax,label\na.png,30,15,50,25,cat", "a.png": RED},
    "cvat": {
        "annotations.xml": '<annotations><image name="a.png"><box label="cat" xtl="30" ytl="15" xbr="50" ybr="25"/>'
        "</image></annotations>",
        "images/a.png": RED,
    },
    "label-studio": {
        "e.json": '[{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "rectanglelabels", "value": '
        '{"x": 30, "y": 30, "width": 20, "height": 20, "rectanglelabels": ["cat"]}}]}]}]',
        "a.png": RED,
    },
    "image-folder": {
        "metadata.jsonl": '{"file_name": "a.png", "objects": {"bbox": [[30, 15, 20, 10]], "categories": ["cat"]}}',
        "a.png": RED,
    },
    "webdataset": {"a.json": '{"objects": {"bbox": [[30, 15, 20, 10]], "categories": ["cat"]}}', "a.png": RED},
}


@pytest.mark.parametrize("name", ["set.zip", "set.tar"])
@pytest.mark.parametrize("top", ["", "deep/set/"])
@pytest.mark.parametrize("kind", list(SETS))
def test_every_format_is_read_in_place(tmp_path, name, top, kind):
    path = pack(tmp_path / name, {top + inner: content for inner, content in SETS[kind].items()})
    assert recognize(path) == kind
    data = load_dataset(path)
    assert found(data) == {"a.png": [("cat", BOX)]}
    (sample,) = pickle.loads(pickle.dumps(data)).samples
    assert str(sample.file).startswith(f"{path}/{top}")
    assert sample.file == data.samples[0].file
    assert len({sample.file, data.samples[0].file}) == 1
    assert read_image(sample.file).getpixel((99, 49)) == (255, 0, 0)
    assert read_size(sample.file) == (100, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("kind", list(SETS))
def test_unpacked_they_are_the_same(tmp_path, kind):
    if kind == "webdataset":
        return
    assert found(load_dataset(fill(tmp_path, SETS[kind]))) == {"a.png": [("cat", BOX)]}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_reading_anywhere(tmp_path, method, suffix):
    """Against a file of the same bytes."""
    content = bytes(range(256)) * 1000 + b"end"
    file = open_archive(pack(tmp_path / f"x{suffix}", {"a": b"before", "b": content, "c": b""}, method)) / "b"
    with file.open("rb") as stream, io.BytesIO(content) as expected:
        for seek, whence, length in (
            (0, 0, 5),
            (-3, 2, 10),
            (100_000, 0, 70_000),
            (-7, 1, 7),
            (10, 0, 0),
            (9**9, 0, 4),
        ):
            assert stream.seek(seek, whence) == expected.seek(seek, whence)
            assert stream.read(length) == expected.read(length)
            assert stream.tell() == expected.tell()
        with pytest.raises(OSError, match="before the beginning"):
            stream.seek(-1)
    assert file.read_bytes() == content
    assert (file.parent / "c").read_bytes() == b""


def test_paths(tmp_path):
    root = open_archive(pack(tmp_path / "x.zip", {"a/b/c.txt": "1", "a/d.txt": "2", "e.txt": "3"}))
    assert (str(root), root.name, root.parent == root) == (f"{tmp_path}/x.zip", "x.zip", True)
    inner = root / "a" / "./b//c.txt"
    assert (inner.name, inner.stem, inner.suffix, str(inner)) == ("c.txt", "c", ".txt", f"{tmp_path}/x.zip/a/b/c.txt")
    assert [inner.is_file(), inner.is_dir(), inner.parent.is_dir(), (root / "z").exists()] == [True, False, True, False]
    assert sorted(root.iterdir()) == [root / "a", root / "e.txt"]
    assert inner == root / "a/b/c.txt"
    assert inner != root / "a/d.txt"
    with pytest.raises(FileNotFoundError):
        (root / "a").open()


NAMES = ["../a.txt", "/a.txt", "a/../../b.txt", "C:/a.txt", "..\\a.txt"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_leave_are_refused(tmp_path, suffix, name):
    path = pack(tmp_path / f"x{suffix}", {"a.txt": "", name: ""})
    refused(path, str(path), code="archive-unsafe-name")


def entry(name="a.txt", kind=tarfile.REGTYPE, content=b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", len(content)
    return info.tobuf() + content + bytes(-len(content) % 512)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_not_followed(tmp_path, kind):
    (tmp_path / "x.tar").write_bytes(entry("a.txt") + entry("b.txt", kind) + bytes(1024))
    assert [path.name for path in open_archive(tmp_path / "x.tar").iterdir()] == ["a.txt"]


def test_a_link_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("a.txt", "")
    assert [path.name for path in open_archive(tmp_path / "x.zip").iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("content", "part", "code"),
    [
        (entry("p", tarfile.FIFOTYPE) + bytes(1024), "'p'", "archive-not-a-file"),
        (entry("p", tarfile.CHRTYPE) + bytes(1024), "'p'", "archive-not-a-file"),
        (entry() + entry() + bytes(1024), "'a.txt'", "archive-duplicate-name"),
        (entry("a") + entry("a/b") + bytes(1024), "'a'", "archive-name-clash"),
        (entry("a", content=b"x" * 600)[:700], "'a'", "archive-truncated"),
        (entry("a", content=b"x" * 600), "at byte 1536", "archive-truncated"),
        (entry() + b"garbage" * 200, "at byte 512", "archive-truncated"),
        (b"garbage" * 200, "", "archive-corrupt"),
        (b"", "", "archive-corrupt"),
    ],
)
def test_wrong_tars(tmp_path, content, part, code):
    (tmp_path / "x.tar").write_bytes(content)
    refused(tmp_path / "x.tar", f"{tmp_path}/x.tar: ", part, code=code)


def test_wrong_zips(tmp_path):
    path = pack(tmp_path / "x.zip", {"a.txt": "a" * 1000, "b.txt": "b" * 1000})
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-5]):
        path.write_bytes(content)
        refused(path, str(path), code="archive-corrupt")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "2")
    refused(path, "'a.txt'", code="archive-duplicate-name")
    pack(path, {"a.txt": "a" * 1000}, zipfile.ZIP_LZMA)
    refused(path, "'a.txt'", code="archive-compression")
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(encrypted)
    refused(path, "'a.txt'", code="archive-encrypted")


def test_a_bomb_is_refused_without_unpacking_it(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.txt", "w") as file:
        for _ in range(70):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    refused(path, "'a.txt'", code="archive-bomb")


def test_overlapping_files_are_refused(tmp_path):
    """Two entries of the directory that share one content, as in the bombs of D. Fifield (2019)."""
    path = pack(tmp_path / "x.zip", {"a.txt": "a" * 1000, "b.txt": "b" * 1000})
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content[second + 42 : second + 46] = bytes(4)
    path.write_bytes(content)
    refused(path, "overlaps another file", code="archive-bomb")


def test_a_size_that_lies_is_seen_when_read(tmp_path):
    path = pack(tmp_path / "x.zip", {"a.txt": "a" * 1000})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for size in (10, 2000):
        content[directory + 24 : directory + 28] = struct.pack("<I", size)
        path.write_bytes(content)
        file = open_archive(path) / "a.txt"
        # never more than was announced
        with pytest.raises(OSError, match="its checksum differs" if size < 1000 else "cut short"):
            file.read_bytes()


def test_an_archive_that_changes(tmp_path):
    path = pack(tmp_path / "x.zip", SETS["coco"])
    (sample,) = load_dataset(path).samples
    path.write_bytes(b"x" * 1000)
    for read in (read_image, read_size):
        with raises_code("image-undecodable"):
            read(sample.file)
    path.unlink()
    with raises_code("image-undecodable"):
        read_image(sample.file)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.7z", "x.rar", "x.tar.zst"])
def test_what_can_only_be_read_from_the_beginning(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path / name, code="archive-kind")
