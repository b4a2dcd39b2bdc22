"""Findings about images: unreadable, rotated, of another size, duplicate, in two splits, without boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from varifocal.data.images import beyond
from varifocal.data.near_duplicates import exact_duplicates, hamming_distance, near_duplicate_groups, perceptual_hash
from varifocal.data.splits import have_common_images
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.split import Split
from varifocal.tools.check.value_ranges import add_multi_image_files, add_value_ranges
from varifocal.types import Levels

ImageIndex = tuple[int, int]  # split, image


def add_image_findings(
    findings: Findings, splits: Sequence[Split], scans: Sequence[ScannedImages], levels: Levels | None, most: int
) -> None:
    """Add everything that decoding shows; training reads images of at most ``most`` pixels."""
    for split, scan in zip(splits, scans, strict=True):
        _add_unreadable(findings, split, scan)
        _add_sizes(findings, split, scan, most)
        add_multi_image_files(findings, split, scan)
    add_value_ranges(findings, splits, scans, levels)
    _add_copies(findings, splits, scans)


def add_images_without_boxes(findings: Findings, split: Split) -> None:
    """Add images without a box of any kind, unless an object of theirs was refused, which is reported itself."""
    counts = np.bincount(split.raw.boxes.images, minlength=len(split.raw.images))
    counts[list(split.raw.problems.damaged)] += 1
    split.add_images(findings, "no-boxes", counts == 0, lambda _: "has no boxes")


def _add_unreadable(findings: Findings, split: Split, scan: ScannedImages) -> None:
    known = {issue.image for issue in split.raw.problems if issue.kind == "unreadable-image"}
    for kind in ("unreadable-image", "truncated-image"):
        texts = {i: text for i, (own, text) in scan.errors.items() if own == kind and i not in known}
        split.add_texts(findings, kind, texts)


def _add_sizes(findings: Findings, split: Split, scan: ScannedImages, most: int) -> None:
    recorded = split.raw.images.sizes
    known = (recorded > 0).all(axis=1) & (scan.sizes > 0).all(axis=1)
    differs = known & (recorded != scan.sizes).any(axis=1)
    rotated = differs & (recorded == scan.stored).all(axis=1)

    def is_recorded(i: int) -> str:
        return f"is recorded with {recorded[i, 0]} x {recorded[i, 1]} pixels"

    def size(i: int) -> str:
        return f"{scan.sizes[i, 0]} x {scan.sizes[i, 1]}"

    def upright(i: int) -> str:
        return (
            f"{is_recorded(i)}, its size before the EXIF rotation; upright it has {size(i)}, so rotate the boxes, or "
            "remove the rotation from the file"
        )

    def exchanged(i: int) -> str:
        return ": width and height are exchanged" if (recorded[i] == scan.sizes[i, ::-1]).all() else ""

    def orientation(i: int) -> str:
        return f"has the EXIF orientation {scan.orientations[i]}; check that its boxes fit"

    add = partial(split.add_images, findings)
    add("large-image", scan.sizes.prod(axis=1) > most, lambda i: beyond(size(i), most))
    add("rotated-image", rotated, upright)
    add("size-differs", differs & ~rotated, lambda i: f"{is_recorded(i)}, but has {size(i)}{exchanged(i)}")
    add("turned-image", known & ~differs & (scan.orientations != 1), orientation)


def _add_copies(findings: Findings, splits: Sequence[Split], scans: Sequence[ScannedImages]) -> None:
    """Add each image that repeats or resembles an earlier one: the first of its own split, or else of another."""
    images: list[ImageIndex] = [(i, image) for i, scan in enumerate(scans) for image in range(len(scan.seen))]
    exact = exact_duplicates([digest for scan in scans for digest in scan.digests])
    seen = np.concatenate([scan.seen for scan in scans])
    for group in exact:
        seen[group[1:]] = False  # a finding on the first holds for its copies
    grays = np.concatenate([scan.grays for scan in scans])
    hashes = perceptual_hash(grays)

    def resembles(name: str, a: int, b: int) -> str:
        bits = int(hamming_distance(hashes[[a]], hashes[[b]])[0])
        return f"looks nearly the same as {name} ({bits} of 64 bits of their hashes differ)"

    add = partial(_add_groups, findings, splits, images)
    add(exact, ("duplicate-image", "leaked-image"), lambda name, *_: f"has the same bytes as {name}")
    add(near_duplicate_groups(grays, seen, hashes), ("near-duplicate", "near-leak"), resembles)


def _add_groups(
    findings: Findings,
    splits: Sequence[Split],
    images: Sequence[ImageIndex],
    groups: Sequence[Sequence[int]],
    kinds: tuple[str, str],
    text: Callable[[str, int, int], str],
) -> None:
    """Add findings of the first kind within a split and of the second between splits.

    ``text`` is called with the name of the earlier image and the indices of both.
    """
    for kind, pairs in zip(kinds, _pairs(images, groups, [split.name for split in splits]), strict=True):

        def make(pair: tuple[int, int], kind: str = kind) -> Finding:
            (own, image), (other, earlier) = images[pair[0]], images[pair[1]]
            name = splits[other].image_name(earlier) + (f" of {splits[other].name}" if other != own else "")
            return splits[own].on_image(kind, image, text(name, *pair), other=(splits[other].name, earlier))

        for i, split in enumerate(splits):
            findings.add_many((kind, split.name), [pair for pair in pairs if images[pair[0]][0] == i], make)


def _pairs(
    images: Sequence[ImageIndex], members: Sequence[Sequence[int]], names: Sequence[str]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return pairs (image, earlier one) within a split, and of the first images of a later and the earliest split.

    The split "trainval" is "train" and "val" together, by the ``names`` of the splits, and leaks into neither.
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
