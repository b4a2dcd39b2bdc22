"""Training images out of archives: the same batches as from a folder, whatever reads them."""

import io
import json
import pickle

import numpy as np
import pytest
import torch
from folders import fill, pack
from PIL import Image

from varifocal.data.augment import Augmentation
from varifocal.data.load import load_dataset
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.types import Preprocess

COUNT = 6


def files() -> dict[str, bytes]:
    found = {}
    for i in range(COUNT):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        found[f"{i}.png"] = buffer.getvalue()
        objects = {"bbox": [[i, 2, 10, 12]], "categories": ["ab"[i % 2]]}
        found[f"{i}.json"] = json.dumps({"objects": objects}).encode()
    return found


def in_folder(tmp_path):
    content = files()
    lines = [json.dumps({"file_name": f"{i}.png", **json.loads(content[f"{i}.json"])}) for i in range(COUNT)]
    images = {name: content for name, content in content.items() if name.endswith(".png")}
    return fill(tmp_path / "folder", images | {"metadata.jsonl": "\n".join(lines)})


def in_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    content, rows = files(), []
    for i in range(COUNT):
        objects = json.loads(content[f"{i}.json"])["objects"]
        objects["bbox"] = [list(map(float, box)) for box in objects["bbox"]]
        rows.append({"image": {"bytes": content[f"{i}.png"], "path": f"{i}.png"}, "objects": objects})
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=2)
    return tmp_path / "x.parquet"


SOURCES = {
    "zip": lambda folder: pack(folder / "x.zip", files()),
    "tar": lambda folder: pack(folder / "x.tar", files()),
    "parquet": in_parquet,
}


def batches_of(path, workers, **options) -> list:
    data = TrainDataset(load_dataset(path).samples, Preprocess(scale=1.0), Augmentation(), 0, **options)
    data = pickle.loads(pickle.dumps(data))  # as workers that do not inherit memory get it
    return list(BatchSampler(data, 3).loader(0, 4, workers))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", list(SOURCES))
def test_the_same_batches_as_from_a_folder(tmp_path, source, workers):
    expected = batches_of(in_folder(tmp_path), 0)
    found = batches_of(SOURCES[source](tmp_path), workers)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.images, other.images)
        for mine, theirs in zip(one.targets, other.targets, strict=True):
            assert torch.equal(mine.boxes, theirs.boxes)
            assert torch.equal(mine.labels, theirs.labels)
        assert [name.rpartition("/")[2] for name in one.files] == [name.rpartition("/")[2] for name in other.files]
