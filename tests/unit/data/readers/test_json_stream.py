import json

import pytest
from error_codes import raises_code
from hypothesis import given, settings
from hypothesis import strategies as st

from varifocal.data.readers import json_stream
from varifocal.data.readers.json_stream import Count, read_object
from varifocal.utils.errors import DataError

LISTS = ("images", "annotations")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
keys = st.sampled_from([*LISTS, "info", "", "}", "x"])


def read(path, lists=LISTS) -> dict:
    """What the stream gives, put together again."""
    joined: dict = {}

    def take(key, first, records):
        assert records
        assert len(joined.setdefault(key, [])) == first
        joined[key] += records

    found = read_object(path, lists, take)
    for key, value in found.items():
        if isinstance(value, Count):
            assert len(joined.get(key, [])) == value
            found[key] = joined.get(key, [])
    return found


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
@pytest.mark.parametrize("indent", [None, 1])
@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(keys, values | st.lists(values, max_size=9), max_size=4))
def test_the_same_as_at_once(tmp_path_factory, content, block, indent):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=indent is None), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_BLOCK", block)
        patch.setattr(json_stream, "_RECORDS", 3)
        found = read(path)
    if list(content) == [""]:
        assert found == content
    else:
        assert found == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", [1, 5, 1 << 22])
@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 120), insert=st.text(alphabet='{}[],:"0 \n\\e-', max_size=3), length=st.integers(0, 3))
def test_damage_is_found_where_json_finds_it(tmp_path_factory, cut, insert, length, block):
    text = '{"info": {"a": [1, -2.5e3]},\n "images": [{"id": 1}, {"id": "x\\n"},\n  3], "annotations": [],\n"z": null}'
    text = text[:cut] + insert + text[cut + length :]
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(text, encoding="utf-8")
    try:
        content, line = json.loads(text), 0
    except json.JSONDecodeError as error:
        content, line = None, error.lineno
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_BLOCK", block)
        try:
            found, message = read(path), ""
        except DataError as error:
            found, message = None, str(error)
    if line:
        assert f"at line {line} " in message
    elif not message:
        assert found == (content if isinstance(content, dict) else {"": content})
    else:
        assert "is there twice" in message


def test_many_records_come_in_runs(tmp_path, monkeypatch):
    records = [{"id": i, "bbox": [i, 0.5], "segmentation": {"size": [1, 2], "counts": "},{"}} for i in range(5000)]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": records, "images": [1, 2]}))
    monkeypatch.setattr(json_stream, "_BLOCK", 10_000)
    runs = []
    read_object(tmp_path / "a.json", LISTS, lambda key, first, records: runs.append((key, first, records)))
    assert [record for key, _, run in runs if key == "annotations" for record in run] == records
    assert [run for key, _, run in runs if key == "images"] == [[1, 2]]
    assert max(len(run) for _, _, run in runs) < 1000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("block", [1, 2, 3, 1 << 20])
def test_encodings(tmp_path, monkeypatch, encoding, block):
    content = {"images": ["b\u00eate", "\U0001f989" * 5, "\u732b"], "info": "\u00e9"}
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    assert read(tmp_path / "a.json") == content


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_the_byte_that_is_no_text(tmp_path, monkeypatch, block):
    (tmp_path / "a.json").write_bytes(b'{"images": ["\xc3\xa9 \xe9"]}')
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    with raises_code("json-encoding") as error:
        read(tmp_path / "a.json")
    assert "byte 16 " in str(error.value)


def test_sections_that_are_there_twice(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [1], "images": [2]}')
    with raises_code("json-duplicate-key"):
        read(tmp_path / "a.json")


def test_the_collector_is_as_it_was(tmp_path):
    import gc

    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError):
        read(tmp_path / "a.json")
    assert gc.isenabled()
