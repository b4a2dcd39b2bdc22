import io
import json
import pickle

import pytest
from error_codes import raises_code
from folders import found, png, refused

from varifocal.data.images import read_image
from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

BOX = [30.0, 15.0, 50.0, 25.0]
RED = png(100, 50, (255, 0, 0))


def row(content=RED, boxes=((30, 15, 20, 10),), categories=(1,), path="a.png", **more) -> dict:
    objects = {"bbox": [list(map(float, box)) for box in boxes], "category": list(categories)}
    return {"image": {"bytes": content, "path": path}, "objects": objects} | more


def write(path, rows, names=None, **options):
    table = pa.Table.from_pylist(rows)
    if names is not None:
        feature = {
            "bbox": {"feature": {"dtype": "float32"}},
            "category": {"feature": {"names": names, "_type": "ClassLabel"}},
        }
        info = {"info": {"features": {"image": {"_type": "Image"}, "objects": feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


def test_what_is_read(tmp_path):
    rows = [row(), row(png(40, 30), [], [], "sub/b.png"), row(png(20, 10, (0, 0, 255)), [(1, 2, 3, 4)], [0], "c.png")]
    file = write(
        tmp_path / "data/train-00000-of-00001-0123456789abcdef.parquet", rows, ["cat", "owl"], row_group_size=2
    )
    assert recognize(tmp_path) == recognize(file) == "parquet"
    assert find_splits(tmp_path) == ["train"]
    for path in (tmp_path, tmp_path / "data", file):
        data = load_dataset(path, "train")
        assert data.categories == (Category(0, "cat"), Category(1, "owl"))
        assert found(data) == {"a.png": [("owl", BOX)], "b.png": [], "c.png": [("cat", [1, 2, 4, 6])]}
        assert [(sample.width, sample.height) for sample in data.samples] == [(100, 50), (40, 30), (20, 10)]
    assert read_image(data.samples[0].file).getpixel((0, 0)) == (255, 0, 0)
    last = pickle.loads(pickle.dumps(data.samples[2].file))
    assert last == data.samples[2].file
    assert read_image(last).getpixel((0, 0)) == (0, 0, 255)
    assert str(last) == f"{file}/c.png"


def test_plain_bytes_and_class_names(tmp_path):
    rows = [
        {"image": RED, "objects": [{"bbox": [30.0, 15.0, 20.0, 10.0], "category": "cat"}], "width": 100, "height": 50}
    ]
    data = load_dataset(write(tmp_path / "x.parquet", rows))
    assert found(data) == {"row 0": [("cat", BOX)]}
    assert read_image(data.samples[0].file).size == (100, 50)


def test_several_files_and_splits(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / f"{name}.parquet", [row(path=f"{name}.png")], ["cat", "owl"])
    assert find_splits(tmp_path) == ["train", "val"]
    assert list(found(load_dataset(tmp_path, "train"))) == ["train-00000-of-00002.png", "train-00001-of-00002.png"]
    raw = read_raw(tmp_path, "train")
    assert [str(raw.boxes.where(index)) for index in (0, 1)] == [
        "train-00000-of-00002.parquet row 0 objects[0]",
        "train-00001-of-00002.parquet row 1 objects[0]",
    ]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([row(categories=[2])], ["row 0 objects[0] has the class 2, which is not in names (0 cat, 1 owl)", "from 1"]),
        ([row(categories=[-1])], ["has the class -1"]),
        ([row(categories=[])], ["row 0 has the bbox", "the same length"]),
        ([row(b"nothing")], ["/a.png: this is not an image"]),
        ([row(None), row()], ["/a.png: ", "no image"]),
        ([row(), row(boxes=[(1, 2, 0, 4)])], ["row 1 objects[0] ('a.png', 100 x 50 pixels) has the bbox [1, 2, 0, 4]"]),
        ([{"image": "x", "objects": []}], ["the column image holds string"]),
        ([{"image": {"path": "x"}, "objects": []}], ["holds no bytes (found: path)"]),
        ([{"image": RED}], ["there is no column objects (found: image)"]),
        ([{"pic": RED, "objects": []}], ["there is no column with images (found: pic, objects)"]),
    ],
)
def test_wrong_content(tmp_path, rows, parts):
    refused(write(tmp_path / "x.parquet", rows, ["cat", "owl"]), str(tmp_path / "x.parquet"), *parts)


def test_damaged_files(tmp_path):
    file = write(tmp_path / "x.parquet", [row()])
    whole = file.read_bytes()
    for content in (b"", b"PAR1", whole[:-20], whole[:20] + whole[40:]):
        file.write_bytes(content)
        refused(file, str(file), "download it again")


def test_damage_behind_a_good_footer(tmp_path):
    buffer = io.BytesIO()
    rows = [row(path=f"{i}.png", boxes=[(i, 1, 2, 3)]) for i in range(20)]
    parquet.write_table(pa.Table.from_pylist(rows), buffer, compression="zstd")
    content = bytearray(buffer.getvalue())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = bytes(len(content) - footer - 4)
    (tmp_path / "x.parquet").write_bytes(content)
    refused(tmp_path / "x.parquet", str(tmp_path / "x.parquet"))


def test_without_pyarrow(tmp_path, monkeypatch):
    from varifocal.utils.errors import ConfigError

    file = write(tmp_path / "x.parquet", [row()])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with raises_code("parquet-no-pyarrow", ConfigError):
        load_dataset(file)
