"""The digest of a data set, by which a run recognizes its data."""

from __future__ import annotations

import hashlib

from varifocal.types import Dataset


def dataset_digest(data: Dataset) -> str:
    """Return a digest of file names and labels; data sets with the same digest train the same detector."""
    digest = hashlib.sha256()
    for sample in data.samples:
        digest.update(
            f"{sample.image_id} {sample.file.name} {sample.width} {sample.height}".encode(errors="surrogatepass")
        )
        for part in (sample.boxes, sample.labels, sample.crowd):
            digest.update(part.tobytes())
    digest.update(repr(data.categories).encode())
    return digest.hexdigest()
