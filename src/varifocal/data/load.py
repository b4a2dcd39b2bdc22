"""Datasets opened by their path: the format is recognized once, and every split is read from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from varifocal.data.annotations import LazySequence, RawDataset
from varifocal.data.archive import AnyPath, is_archive, open_archive
from varifocal.data.holdout import Subset, holdout_mask
from varifocal.data.options import ReadOptions, Unlabeled, open_images
from varifocal.data.paths import remember_folders
from varifocal.data.readers.columns import with_image_sizes
from varifocal.data.readers.formats import READERS, data_inside, detect_format
from varifocal.data.splits import (
    evaluation_split,
    holdout_split,
    is_to_train,
    meant_by,
    resolve_split,
    training_split,
    validation_split,
)
from varifocal.data.unlisted_images import unread_lists, with_unlisted
from varifocal.data.validate import (
    BoxValidity,
    box_problems,
    meaning_problems,
    raise_first,
    validate_boxes,
    validity_notes,
)
from varifocal.types import Dataset, FileLike, Sample
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import counted

InvalidBoxes = Literal["error", "drop"]
Difficult = Literal["ignore", "train"]
Advance = Callable[[int], None]  # is called with the number of images that are done


def _silent(done: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class DataSource:
    """A data set whose format is known.

    ``path`` is the path as it was typed, ``tree`` the file, folder or archive in which the data set was found.
    ``descriptions`` maps the name of each split to the file or folder that says what is in it.
    """

    path: Path | str
    format: str
    tree: AnyPath
    descriptions: Mapping[str, AnyPath]
    options: ReadOptions

    @property
    def splits(self) -> list[str]:
        """The names of the splits."""
        return list(self.descriptions)

    def read(self, split: str | None = None) -> RawDataset:
        """Read one split as its source has it, with everything that is wrong in its ``problems``.

        ``split`` may be left out if there is only one; "train", "val" and "test" also match names such as "train2017".

        Raises:
            DataError: there is no such split, or its description cannot be read at all.
            ConfigError: the format needs a package that is not installed.
        """
        name, reader = resolve_split(self.path, self.splits, split), READERS[self.format]
        with remember_folders():
            raw = reader.read(self.descriptions[name], self.tree, name, self.options)
            if reader.lists and raw.source.is_file():  # BDD100K may have a folder with a file for each image
                raw = with_unlisted(raw, self.tree, self.options, reader.splits, reader.read)
            raw = _without_objects(raw) if len(self.splits) > 1 else raw
            return replace(raw, notes=(*raw.notes, *self._unread_lists()))

    def _unread_lists(self) -> list[str]:
        """Return a note on lists of splits that the format has no use for; VOC's reader has its own notes on lists."""
        folders = ["", *([] if READERS[self.format].image_sets else ["ImageSets", "ImageSets/Main"])]
        no_lists = self.format == "voc" or not self.tree.is_dir()
        return [] if no_lists else unread_lists(self.tree, folders, self.splits, self.format)

    def load(
        self, split: str | None = None, *, invalid_boxes: InvalidBoxes = "error", difficult: Difficult = "ignore"
    ) -> Dataset:
        """Return the samples of one split; see :func:`load_dataset`."""
        return build_dataset(self.read(split), invalid_boxes=invalid_boxes, difficult=difficult)


def _without_objects(raw: RawDataset) -> RawDataset:
    """Return a split that is one of several, and in which nothing is labeled, as images without objects.

    A split to train on is none of these where all its label files are missing: they are probably elsewhere.
    """
    kinds = ["no-classes", *(["missing-labels"] if raw.format == "yolo" and not is_to_train(raw.split) else [])]
    issue = next((problem for problem in raw.problems if problem.kind in kinds), None)
    if issue is None or not len(raw.images):
        return raw
    images = counted(len(raw.images), "(image counts|images count)")
    text = f"nothing is labeled in the split {raw.split}" if issue.kind == "no-classes" else issue.text
    note = f"{raw.source.name}: {text}; its {images} as without objects."
    return replace(raw, problems=raw.problems.without(issue.kind), notes=(*raw.notes, note))


def open_dataset(
    path: Path | str, *, format: str | None = None, images: str = "", unlabeled: Unlabeled = ""
) -> DataSource:
    """Recognize the format of a data set, or take the one that is named, and find its splits.

    ``images`` and ``unlabeled`` are those of :func:`load_dataset`.

    Raises:
        DataError: there is no such path or folder of images, or nothing in it that is understood.
        ConfigError: the format is unknown.
    """
    tree = _open_path(path)
    with remember_folders():
        if not format:
            tree = data_inside(tree)
            format = detect_format(tree)
        if format not in READERS:
            raise ConfigError(
                f"the format {format!r} is not known; the formats are {', '.join(READERS)}.", code="format-unknown"
            )
        options = ReadOptions(open_images(images, tree), unlabeled)
        return DataSource(path, format, tree, READERS[format].splits(tree), options)


def _open_path(path: Path | str) -> AnyPath:
    """Return the file or folder, or the tree of an archive.

    Raises:
        DataError: there is no such path, or the archive cannot be read without unpacking it.
    """
    path = Path(path)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise DataError(
            f"{path}: there is no such file or folder; name the file or the folder of a data set", code="no-such-path"
        )
    return open_archive(path) if is_archive(path) else path


def recognize(path: Path | str) -> str:
    """Return the name of the format of a data set.

    Raises:
        DataError: no format fits, or more than one does.
    """
    with remember_folders():
        return detect_format(data_inside(_open_path(path)))


def find_splits(path: Path | str, *, format: str | None = None) -> list[str]:
    """Return the names of the splits of a data set; raises the errors of :func:`open_dataset`."""
    return open_dataset(path, format=format).splits


def read_raw(
    path: Path | str,
    split: str | None = None,
    *,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
) -> RawDataset:
    """Open a data set and read one split; see :func:`open_dataset` and :meth:`DataSource.read`."""
    return open_dataset(path, format=format, images=images, unlabeled=unlabeled).read(split)


def load_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
    invalid_boxes: InvalidBoxes = "error",
    difficult: Difficult = "ignore",
) -> Dataset:
    """Return the samples of one split, in the order of the source, and the categories.

    ``path`` is a file, folder or archive of a format that is recognized, or of the ``format`` that is named. ``split``
    may be left out if there is only one. ``images`` is the folder of the images, absolute or relative to the data set,
    if it is not the one in which the format keeps them. ``unlabeled`` images, which have no label file or are not
    listed in it, are left out ("skip"), taken as images without objects ("background"), or by default whatever the
    format means by them.

    Boxes become xyxy in pixels, float32, clipped to their image. Boxes that have no area, lie wholly outside or hold a
    number that is not finite stop the load, or are left out with ``invalid_boxes="drop"``. Boxes marked as difficult
    are ignored like crowd regions, or are objects with ``difficult="train"``. ``notes`` counts boxes that were clipped
    by more than one pixel or left out. The header of an image is read only if the source does not give its size;
    ``check_size`` compares sizes when an image is opened.

    Raises:
        DataError: there is no such data set or split; the source is malformed, repeats ids or refers to unknown ones;
            an image is missing or outside the data set; a box is invalid.
        ConfigError: the format is unknown, or needs a package that is not installed.
    """
    source = open_dataset(path, format=format, images=images, unlabeled=unlabeled)
    return source.load(split, invalid_boxes=invalid_boxes, difficult=difficult)


def load_train_val(
    source: DataSource,
    *,
    train: str = "train",
    val: str = "val",
    fraction: float = 0.0,
    seed: int = 0,
    invalid_boxes: InvalidBoxes = "error",
    difficult: Difficult = "ignore",
    progress: Advance = _silent,
) -> tuple[Dataset, Dataset | None]:
    """Return the data to train on and the data to validate on, which is None if there is none.

    ``train`` and ``val`` are the requested splits; :mod:`varifocal.data.splits` decides which ones are taken, and the
    notes of the training data say if validation is not on the requested one. With a ``fraction`` above 0 that fraction
    of the images to train on is held out for validation, drawn by ``seed``; every image is decoded once, and
    ``progress`` is called with the number done. Difficult boxes are always ignored in validation.

    Raises:
        DataError, ConfigError: see :func:`load_dataset`, :func:`varifocal.data.splits.training_split` and
            :func:`varifocal.data.holdout.holdout_mask`; ``fraction`` beside a validation split.
    """
    if fraction:
        split = holdout_split(source.path, source.splits, train, val)
        return _divide(source, split, fraction, seed, invalid_boxes, difficult, progress)
    split = training_split(source.path, source.splits, train)
    validation, note = validation_split(source.path, source.splits, split, val)
    training = source.load(split, invalid_boxes=invalid_boxes, difficult=difficult)
    if note:
        training = replace(training, notes=(*training.notes, f"{source.path}: {note}"))
    return training, None if validation is None else source.load(validation, invalid_boxes=invalid_boxes)


def load_evaluation(
    source: DataSource,
    split: str | None = None,
    *,
    fraction: float | None = None,
    seed: int = 0,
    progress: Advance = _silent,
) -> Dataset:
    """Return the data to evaluate a model on, without invalid boxes: ``split``, or else "val", "test" or the only one.

    With a ``fraction`` it is the images that :func:`load_train_val` holds out for the same fraction and seed.

    Raises:
        DataError, ConfigError: several splits and none of a usual name; otherwise as :func:`load_train_val`.
    """
    if fraction is None:
        return source.load(split or evaluation_split(source.path, source.splits), invalid_boxes="drop")
    split = split or holdout_split(source.path, source.splits)
    return _divide(source, split, fraction, seed, "drop", "ignore", progress)[1]


def _divide(
    source: DataSource,
    split: str,
    fraction: float,
    seed: int,
    invalid_boxes: InvalidBoxes,
    difficult: Difficult,
    progress: Advance,
) -> tuple[Dataset, Dataset]:
    """Return the images of a split that are trained on, and those that are held out."""
    raw = source.read(split)
    data = build_dataset(raw, invalid_boxes=invalid_boxes)
    held, note = holdout_mask(data, fraction, seed, progress)
    whole = data if difficult == "ignore" else build_dataset(raw, invalid_boxes=invalid_boxes, difficult=difficult)
    training = Subset(whole.samples, np.flatnonzero(~held))
    validation = Subset(data.samples, np.flatnonzero(held))
    return replace(whole, samples=training, notes=(*whole.notes, note)), replace(data, samples=validation, notes=())


def load_split(path: Path | str, role: Literal["train", "val"], option: str) -> Dataset:
    """Return the data set ``DATA``, or one split of it if the path is ``DATA/split``, without invalid boxes.

    Without a split it is the one to train on or the one to evaluate, by ``role``. ``option`` is the command line option
    that named the path, for messages.

    Raises:
        DataError: there are several splits and none of a usual name; otherwise as :func:`load_dataset`.
    """
    path = Path(path)
    try:
        source = open_dataset(path)
    except DataError:
        data = _load_split_of_parent(path)
        if data is None:
            raise
        return data
    choose = training_split if role == "train" else evaluation_split
    return source.load(choose(path, source.splits, option=f"{option} {path}/"), invalid_boxes="drop")


def _load_split_of_parent(path: Path) -> Dataset | None:
    """Return the split of the data set around a path that has the path's name; None if there is none."""
    try:
        source = open_dataset(path.parent)
    except DataError:
        return None
    names = meant_by(path.name, source.splits)
    return source.load(names[0], invalid_boxes="drop") if names else None


def build_dataset(
    raw: RawDataset, *, invalid_boxes: InvalidBoxes = "error", difficult: Difficult = "ignore"
) -> Dataset:
    """Return the samples of a split that was read; sizes that the source does not give are read from the images.

    Raises:
        DataError: the split has a problem, or an invalid box unless these are dropped.
    """
    if invalid_boxes not in ("error", "drop"):
        raise ValueError(f"invalid_boxes is 'error' or 'drop', not {invalid_boxes!r}")
    raise_first(raw.problems)
    raw = with_image_sizes(raw)
    raise_first(raw.problems)
    validity = validate_boxes(raw)
    if invalid_boxes == "error":
        raise_first(meaning_problems(raw, validity), ", or take such boxes as written with data.invalid_boxes=drop")
        raise_first(box_problems(raw, validity), ", or leave such boxes out with data.invalid_boxes=drop")
    # VOC's difficult objects need not be detected and are not wrong if they are, like COCO's crowds
    ignored = raw.boxes.crowd | raw.boxes.difficult if difficult == "ignore" else raw.boxes.crowd
    notes = (*raw.notes, *validity_notes(raw, validity))
    return Dataset(_group_by_image(raw, validity, ignored), raw.categories, raw.source, notes, raw.ids)


def _group_by_image(raw: RawDataset, validity: BoxValidity, ignored: Bool[np.ndarray, "N"]) -> Samples:
    kept = np.flatnonzero(validity.good)
    order = kept[np.argsort(raw.boxes.images[kept], kind="stable")]
    counts = np.bincount(raw.boxes.images[order], minlength=len(raw.images))
    boxes = validity.boxes[order]
    given = raw.boxes.areas[order]
    width, height = (boxes[:, side + 2].astype(np.float64) - boxes[:, side] for side in (0, 1))
    areas = np.where(np.isfinite(given) & (given > 0), given, width * height)
    return Samples(
        raw.images.files,
        raw.images.ids,
        raw.images.sizes,
        np.concatenate([[0], np.cumsum(counts)]),
        boxes,
        raw.boxes.labels[order],
        ignored[order],
        areas,
    )


@dataclass(frozen=True, eq=False)
class Samples(LazySequence[Sample]):
    """Samples made from columns when they are read; the boxes of image i are ``starts[i]`` to ``starts[i + 1]``.

    A million samples as objects take gigabytes, and long to hand to a worker process.
    """

    files: Sequence[FileLike | None]
    ids: Int64[np.ndarray, "M"]
    sizes: Int64[np.ndarray, "M 2"]
    starts: Int64[np.ndarray, "M+1"]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, "N"]
    crowd: Bool[np.ndarray, "N"]
    areas: Float[np.ndarray, "N"]

    def item(self, index: int) -> Sample:
        """Make the sample of one image."""
        file = self.files[index]
        assert file is not None, "a missing image is a problem, which build_dataset raises"
        part = slice(int(self.starts[index]), int(self.starts[index + 1]))
        width, height = self.sizes[index].tolist()
        columns = (column[part] for column in (self.boxes, self.labels, self.crowd, self.areas))
        return Sample(file, int(self.ids[index]), width, height, *columns)

    def __len__(self) -> int:
        return len(self.ids)
