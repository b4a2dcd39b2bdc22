"""Compare reading training images from tar, zip and Parquet with reading them from a folder, in shuffled order.

    python benchmarks/sources.py

500 JPEGs of 640 x 480 (those of ``data_loading.py``, repeated) are opened and decoded in one process and one thread, in
the same random order from each source, with the files in the cache. Parquet is in row groups of 100 and of 10: an
image is read with its group.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from data_loading import make_images
from harness import Row, medians, write
from varifocal.data.images import read_image
from varifocal.inference.sources import list_source
from varifocal.types import FileLike

IMAGES = 500
FOLDER = "from a folder"


def write_sources(folder: Path) -> dict[str, Path]:
    """Write the images to a folder, archives and Parquet files, and return these by their names in the table."""
    originals = make_images(folder)
    contents = [originals[i % len(originals)].read_bytes() for i in range(IMAGES)]
    (folder / "images").mkdir()
    for i, content in enumerate(contents):
        (folder / "images" / f"{i:04d}.jpg").write_bytes(content)
    with tarfile.open(folder / "images.tar", "w") as archive, zipfile.ZipFile(folder / "images.zip", "w") as packed:
        for i, content in enumerate(contents):
            info = tarfile.TarInfo(f"{i:04d}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            packed.writestr(f"{i:04d}.jpg", content)
    table = pyarrow.table({"image": contents})
    found = {FOLDER: folder / "images", "from tar": folder / "images.tar", "from zip": folder / "images.zip"}
    for rows in (10, 100):
        file = found[f"from Parquet, {rows} images a row group"] = folder / f"{rows}.parquet"
        pyarrow.parquet.write_table(table, file, row_group_size=rows)
    return found


def read(files: Sequence[FileLike], order: Sequence[int]) -> None:
    """Open and decode the images in this order."""
    for i in order:
        read_image(files[i])


def main() -> None:
    """Measure and write the rows."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    order = np.random.default_rng(0).permutation(IMAGES).tolist()
    with tempfile.TemporaryDirectory() as name:
        sources = write_sources(Path(name))
        files = {label: [item.file for item in list_source([str(source)]).items] for label, source in sources.items()}
        calls = {label: lambda label=label: read(files[label], order) for label in sources}
        times = {label: time / IMAGES for label, time in medians(calls, rounds=5, warmup=1).items()}
    peer = times.pop(FOLDER)
    write(
        "sources", [Row(f"images {label}", time, "ms per image", None, FOLDER, peer) for label, time in times.items()]
    )


if __name__ == "__main__":
    main()
