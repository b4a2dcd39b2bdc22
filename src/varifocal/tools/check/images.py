"""What is wrong with images: unreadable, rotated, of another size, there twice, in two splits, without boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varifocal.data.near_duplicates import exact_duplicates, hamming_distance, near_duplicate_groups, perceptual_hash
from varifocal.data.open_image import beyond
from varifocal.data.splits import have_common_images
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.split import Split
from varifocal.tools.check.value_ranges import find_ranges, find_several
from varifocal.types import Levels

ImageIndex = tuple[int, int]  # split, image


def find_in_scans(
    found: Findings, splits: Sequence[Split], scans: Sequence[ScannedImages], levels: Levels | None, most: int
) -> None:
    """All that decoding shows; training reads images of at most ``most`` pixels."""
    for split, scan in zip(splits, scans, strict=True):
        _unreadable(found, split, scan)
        _too_large(found, split, scan, most)
        _wrong_size(found, split, scan)
        find_several(found, split, scan)
    find_ranges(found, splits, scans, levels)
    _copies(found, splits, scans)


def find_without_boxes(found: Findings, split: Split) -> None:
    """Find images without a box of any kind; where an object was refused, that is said already."""
    counts = np.bincount(split.raw.boxes.images, minlength=len(split.raw.images))
    counts[list(split.raw.problems.damaged)] += 1
    text = "has no boxes"
    found.add(
        "no-boxes",
        split.name,
        np.flatnonzero(counts == 0).tolist(),
        lambda image: split.on_image("no-boxes", image, text),
    )


def _unreadable(found: Findings, split: Split, scan: ScannedImages) -> None:
    known = {problem.image for problem in split.raw.problems if problem.kind == "unreadable-image"}
    for kind in ("unreadable-image", "truncated-image"):
        images = [image for image, (its, _) in sorted(scan.errors.items()) if its == kind and image not in known]

        def make(image: int, kind: str = kind) -> Finding:
            return split.on_image(kind, image, scan.errors[image][1])

        found.add(kind, split.name, images, make)


def _too_large(found: Findings, split: Split, scan: ScannedImages, most: int) -> None:
    """Images that are sound and that training would refuse for their number of pixels."""

    def make(image: int) -> Finding:
        width, height = scan.sizes[image].tolist()
        return split.on_image("large-image", image, beyond(f"{width} x {height}", most))

    found.add("large-image", split.name, np.flatnonzero(scan.sizes.prod(axis=1) > most).tolist(), make)


def _wrong_size(found: Findings, split: Split, scan: ScannedImages) -> None:
    recorded = split.raw.images.sizes
    known = (recorded > 0).all(axis=1) & (scan.sizes > 0).all(axis=1)
    differs = known & (recorded != scan.sizes).any(axis=1)
    rotated = differs & (recorded == scan.stored).all(axis=1)

    def rotated_text(image: int) -> Finding:
        width, height = scan.sizes[image].tolist()
        return split.on_image(
            "rotated-image",
            image,
            f"is recorded with {recorded[image, 0]} x {recorded[image, 1]} pixels, its size before the EXIF rotation; "
            f"upright it has {width} x {height}, so rotate the boxes, or remove the rotation from the file",
        )

    def size_text(image: int) -> Finding:
        width, height = scan.sizes[image].tolist()
        return split.on_image(
            "size-differs",
            image,
            f"is recorded with {recorded[image, 0]} x {recorded[image, 1]} pixels and has {width} x {height}",
        )

    def turned_text(image: int) -> Finding:
        return split.on_image(
            "turned-image", image, f"has the EXIF orientation {scan.orientations[image]}; look whether its boxes fit"
        )

    found.add("rotated-image", split.name, np.flatnonzero(rotated).tolist(), rotated_text)
    found.add("size-differs", split.name, np.flatnonzero(differs & ~rotated).tolist(), size_text)
    turned = known & ~differs & (scan.orientations != 1)
    found.add("turned-image", split.name, np.flatnonzero(turned).tolist(), turned_text)


def _copies(found: Findings, splits: Sequence[Split], scans: Sequence[ScannedImages]) -> None:
    """Each image that an earlier one equals or resembles, beside the first of its own split, or else of another."""
    images: list[ImageIndex] = [(i, image) for i, scan in enumerate(scans) for image in range(len(scan.seen))]
    exact = exact_duplicates([digest for scan in scans for digest in scan.digests])
    _add_groups(found, splits, images, exact, ("duplicate-image", "leaked-image"), "has the same bytes as {}")
    seen = np.concatenate([scan.seen for scan in scans])
    for group in exact:
        seen[group[1:]] = False  # what is said of the first holds for its copies
    grays = np.concatenate([scan.grays for scan in scans])
    hashes = perceptual_hash(grays)
    alike = near_duplicate_groups(grays, seen, hashes)
    _add_groups(
        found, splits, images, alike, ("near-duplicate", "near-leak"), "looks nearly the same as {}{}", hashes=hashes
    )


def _add_groups(
    found: Findings,
    splits: Sequence[Split],
    images: Sequence[ImageIndex],
    members: Sequence[Sequence[int]],
    kinds: tuple[str, str],
    sentence: str,
    hashes: np.ndarray | None = None,
) -> None:
    within, across = _pairs(images, members, [split.name for split in splits])
    for kind, pairs in zip(kinds, (within, across), strict=True):
        for i, split in enumerate(splits):
            own = [(a, b) for a, b in pairs if images[a][0] == i]

            def make(pair: tuple[int, int], kind: str = kind, split: Split = split) -> Finding:
                a, b = pair
                other, image = splits[images[b][0]], images[b][1]
                name = other.image_name(image) + (f" of {other.name}" if other is not split else "")
                much = ""
                if hashes is not None:
                    bits = int(hamming_distance(hashes[[a]], hashes[[b]])[0])
                    much = f" ({bits} of 64 bits of their hashes differ)"
                text = sentence.format(name, much)
                return split.on_image(kind, images[a][1], text, other=(other.name, image))

            found.add(kind, split.name, own, make)


def _pairs(
    images: Sequence[ImageIndex], members: Sequence[Sequence[int]], names: Sequence[str]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(image, earlier one) within a split, and the first of a later split with the first of the earliest.

    "trainval" is "train" and "val" together, by the ``names`` of the splits, and leaks into neither.
    """
    within, across = [], []
    for group in members:
        first: dict[int, int] = {}
        for member in group:
            split = images[member][0]
            others = [
                other
                for image_index, other in first.items()
                if not have_common_images(names[image_index], names[split])
            ]
            if split in first:
                within.append((member, first[split]))
            elif others:
                across.append((member, others[0]))
            first.setdefault(split, member)
    return within, across
