"""Where a Pascal VOC data set keeps its files: the XML files of each split, the lists that name them, the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from varifocal.data.archive import AnyPath
from varifocal.data.paths import list_dir, split_lists, walk
from varifocal.data.readers import image_sets
from varifocal.data.readers.image_sets import ImageSets, index_labels, read_lists
from varifocal.data.readers.xml_text import root_tag
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short_list

FOLDERS = ("Annotations", "annotations", "xmls", "labels")
_DEPTH = 3  # levels of folders that are searched


def find_voc(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits: the lists in ``ImageSets/Main``, or folders of XML files called train, val and so on, or all.

    Raises:
        DataError: there are no XML files, or several data sets.
    """
    if path.is_file():
        return {"all": path}
    kits = _kits(path)
    if len(kits) > 1:
        return _splits_of_kits(path, kits)
    folder = kits[0]
    base = _labels_folder(folder) or folder
    splits = _splits_of_lists(folder) or _split_folders(base) or _split_folders(folder) or _deep_split_folders(folder)
    if not splits and not has_xml(base):
        hint = "expected Annotations/ with one for each image"
        raise DataError(f"{path}: there are no XML files of VOC in it; {hint}", code="voc-no-xml")
    return splits or {"all": base}


def _labels_folder(folder: AnyPath) -> AnyPath | None:
    """Return the folder of a data set that is called like folders of XML files, if there is one."""
    return next((folder / name for name in FOLDERS if (folder / name).is_dir()), None)


def _splits_of_lists(folder: AnyPath) -> dict[str, AnyPath]:
    """Return the splits that lists name, each with its first list."""
    lists = lists_of(folder)
    return {} if lists is None else {split: files[0] for split, files in lists.files.items()}


def _split_folders(path: AnyPath) -> dict[str, AnyPath]:
    """Return the folders of XML files in a folder that are called like splits; train1 and train2 keep their names."""
    inner = [path / name for name in list_dir(path)[0] if normalize_split(name) in NAMED and has_xml(path / name)]
    splits = [normalize_split(folder.name) for folder in inner]
    return {
        folder.name if splits.count(split) > 1 else split: folder for folder, split in zip(inner, splits, strict=True)
    }


def _deep_split_folders(path: AnyPath) -> dict[str, AnyPath]:
    """Return the folders of XML files deeper in a folder that are called like splits, if each split has only one."""
    found: dict[str, AnyPath] = {}
    for folder in _below(path):
        split = normalize_split(folder.name)
        if split in NAMED and has_xml(folder) and found.setdefault(split, folder) is not folder:
            return {}
    return found


def _below(path: AnyPath) -> Iterator[AnyPath]:
    """Yield the folders in a folder, those in these, and so on, a few levels deep."""
    level = [path]
    for _ in range(_DEPTH):
        level = [folder / name for folder in level for name in list_dir(folder)[0]]
        yield from level


def _kits(path: AnyPath) -> list[AnyPath]:
    """Return the development kits below a folder, which have ``Annotations``, or else the folder itself.

    Folders called train, val and so on are splits of one and no kits.
    """
    found = (
        [] if (path / FOLDERS[0]).is_dir() else [folder for folder in _below(path) if (folder / FOLDERS[0]).is_dir()]
    )
    return found if found and not any(normalize_split(folder.name) in NAMED for folder in found) else [path]


def _splits_of_kits(path: AnyPath, kits: Sequence[AnyPath]) -> dict[str, AnyPath]:
    """Return the splits of several development kits, as VOC's own are of training and of test images.

    Raises:
        DataError: their lists do not distinguish them.
    """
    found: dict[str, AnyPath] = {}
    for kit in kits:
        splits = _splits_of_lists(kit)
        if not splits or set(splits) & set(found):
            names = short_list(str(other).removeprefix(str(path)).strip("/") for other in kits)
            raise DataError(f"{path}: there are several data sets, {names}; name one", code="voc-several-sets")
        found |= splits
    return found


def unused_notes(source: AnyPath) -> list[str]:
    """Return notes on XML files beside the folders of the splits, of which ``source`` is one, or on unused lists."""
    if not source.is_dir():
        return []
    if normalize_split(source.name) in NAMED:
        return _notes_beside_splits(source.parent)
    lists = lists_of(source.parent if source.name in FOLDERS else source)
    return [] if lists is None else lists.unused_notes()


def _notes_beside_splits(parent: AnyPath) -> list[str]:
    """Return notes on the XML files that lie beside the folders of the splits in a folder."""
    folders, files = list_dir(parent)
    others = [name for name in folders if normalize_split(name) not in NAMED and has_xml(parent / name)]
    notes = [f"{parent.name}: the folder {name} has XML files, belongs to no split and is left out." for name in others]
    loose = [name for name in files if name.lower().endswith(".xml") and root_tag(parent / name) == "annotation"]
    if loose:
        text = (
            "XML (file|files) beside the folders of the splits (belongs to no split and is|belong to no split and are)"
        )
        notes.append(f"{parent.name}: {counted(len(loose), text)} left out, first {loose[0]}.")
    return notes


def lists_of(folder: AnyPath) -> ImageSets | None:
    """Return the lists of a data set; None where it has none.

    They are in ``ImageSets/Main`` or ``ImageSets``, or beside the folder of the annotations and called like splits, as
    PaddleDetection has them.
    """
    path = image_sets.lists_folder(folder)
    names = split_lists(folder) if path is None else [name for name in list_dir(path)[1] if name.endswith(".txt")]
    if path is None and (not names or _labels_folder(folder) is None):
        return None
    return read_lists(path or folder, names, xml_stems(xml_path(folder)), "XML")


def base_of(source: AnyPath) -> AnyPath:
    """Return the data set that a list belongs to."""
    folder = source.parent
    if folder.name == "Main" and folder.parent.name == image_sets.FOLDER:
        return folder.parent.parent
    return folder.parent if folder.name == image_sets.FOLDER else folder


def xml_path(base: AnyPath) -> AnyPath:
    """Return the folder of the XML files that lists name."""
    return _labels_folder(base) or base / FOLDERS[0]


def xml_stems(folder: AnyPath) -> dict[str, str]:
    """Return the XML files below a folder, as :func:`~varifocal.data.readers.image_sets.index_labels` has them."""
    return index_labels(
        f"{path}/{name}" if path else name
        for _, path, names in walk(folder)
        for name in names
        if name.lower().endswith(".xml")
    )


def xml_folders(data: AnyPath) -> list[AnyPath]:
    """Return the folders below a data folder in which there are XML files."""
    found = walk(data) if data.is_dir() else []
    return [folder for folder, _, names in found if any(name.lower().endswith(".xml") for name in names)]


def has_xml(folder: AnyPath) -> bool:
    """Return whether the first XML file below a folder is one of VOC."""
    for path, _, names in walk(folder):
        for name in names:
            if name.lower().endswith(".xml"):
                return root_tag(path / name) == "annotation"
    return False


def has_voc(folder: AnyPath) -> str:
    """Return the evidence for VOC in a folder: the folder of its XML files, or that there are some; "" for none."""
    path = next((folder / name for name in FOLDERS[:3] if (folder / name).is_dir()), None)
    if path is not None:
        return path.name if has_xml(path) else ""
    if any((folder / name / "Annotations").is_dir() for name in list_dir(folder)[0]):
        return "Annotations"
    return "XML files" if has_xml(folder) else ""


def image_roots(folder: AnyPath, data: AnyPath) -> list[AnyPath]:
    """Return the folders in which the images of a folder of XML files may lie, the most likely first."""
    above = folder.parent
    roots = [above / "JPEGImages", above / "images", folder]
    if folder.name not in FOLDERS and above.name in FOLDERS:  # Annotations/train beside JPEGImages/train
        beside = above.parent
        roots = [beside / name / folder.name for name in ("JPEGImages", "images")] + [beside / "JPEGImages"] + roots
    return [*roots, above, data if data.is_dir() else data.parent]


def top_of(folder: AnyPath, data: AnyPath) -> AnyPath:
    """Return the data folder of the XML files in ``folder``."""
    if data.is_dir():
        return data
    return folder.parent if folder.name in FOLDERS else folder
