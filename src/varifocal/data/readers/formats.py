"""The formats that are read, and how a data set of each is recognized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from varifocal.data.annotations import RawDataset
from varifocal.data.archive import SUFFIXES as ARCHIVES
from varifocal.data.archive import AnyPath
from varifocal.data.options import ReadOptions
from varifocal.data.paths import is_folder, list_dir, remember_folders, walk
from varifocal.data.readers.box_texts import DOTA, KITTI, VISDRONE
from varifocal.data.readers.coco import read_coco
from varifocal.data.readers.coco_layout import begins_as_coco, find_coco
from varifocal.data.readers.csv_boxes import SUFFIXES as TABLES
from varifocal.data.readers.csv_boxes import box_tables, find_csv, has_boxes, read_csv, tables_of_images
from varifocal.data.readers.cvat import cvat_files, find_cvat, read_cvat
from varifocal.data.readers.image_folder import find_image_folder, metadata_files, read_image_folder
from varifocal.data.readers.json_lists import CREATEML, find_bdd, read_bdd
from varifocal.data.readers.label_files import SNIFFED, split_of_parts
from varifocal.data.readers.label_studio import exports, find_label_studio, read_label_studio
from varifocal.data.readers.labelme import LABELME
from varifocal.data.readers.parquet import find_parquet, parquet_files, read_parquet
from varifocal.data.readers.sniff import json_kind, table_kind, text_kind
from varifocal.data.readers.supervisely import SUPERVISELY
from varifocal.data.readers.unread import refuse_unread, unread_kind
from varifocal.data.readers.via import VIA
from varifocal.data.readers.voc import read_voc
from varifocal.data.readers.voc_layout import find_voc, has_voc
from varifocal.data.readers.webdataset import find_webdataset, has_samples, read_webdataset, shards_in
from varifocal.data.readers.xml_text import root_tag
from varifocal.data.readers.yolo import read_yolo
from varifocal.data.readers.yolo_find import find_yolo, has_yolo
from varifocal.data.readers.yolo_folders import has_yolo_labels
from varifocal.data.readers.yolo_keras import YOLO_KERAS
from varifocal.utils.errors import DataError
from varifocal.utils.text import short_list


@dataclass(frozen=True)
class Reader:
    """How a format is recognized and read.

    ``splits(path)`` returns the splits of a data set, each with its source, the file or folder to read it from.
    ``read(source, path, split, options)`` reads one. ``evidence(folder)`` returns what in a folder is of the format, ""
    for nothing; where it is None the content of files shows the format. With ``lists`` a file lists the images of a
    split, so that other images may lie beside these. With ``image_sets`` the lists in ``ImageSets`` are read.
    """

    splits: Callable[[AnyPath], dict[str, AnyPath]]
    read: Callable[[AnyPath, AnyPath, str, ReadOptions], RawDataset]
    evidence: Callable[[AnyPath], str] | None = None
    lists: bool = False
    image_sets: bool = False


def _first_of(find: Callable[[AnyPath], Iterable[AnyPath]]) -> Callable[[AnyPath], str]:
    """Return a function that returns the name of the first file that ``find`` finds in a folder, "" for none."""
    return lambda folder: next((file.name for file in find(folder)), "")


def _coco_files(folder: AnyPath) -> Iterator[AnyPath]:
    try:
        files = list(find_coco(folder).values())
    except DataError:
        return
    yield from filter(_is_coco, files[:20])


def _webdataset_evidence(folder: AnyPath) -> str:
    if has_samples(folder):
        return "images with a .json of the same name"
    return _first_of(shards_in)(folder)


READERS = {
    "coco": Reader(find_coco, read_coco, _first_of(_coco_files), lists=True),
    "voc": Reader(find_voc, read_voc, has_voc),
    "yolo": Reader(find_yolo, read_yolo, has_yolo),
    "cvat": Reader(find_cvat, read_cvat, _first_of(cvat_files), lists=True),
    "label-studio": Reader(find_label_studio, read_label_studio, _first_of(exports), lists=True),
    "csv": Reader(find_csv, read_csv, _first_of(box_tables), lists=True),
    "image-folder": Reader(find_image_folder, read_image_folder, _first_of(metadata_files), lists=True),
    "parquet": Reader(find_parquet, read_parquet, _first_of(parquet_files)),
    "webdataset": Reader(find_webdataset, read_webdataset, _webdataset_evidence),
    "bdd100k": Reader(find_bdd, read_bdd, lists=True),
    **{layout.name: Reader(layout.splits, layout.read, lists=True) for layout in (CREATEML, VIA, YOLO_KERAS)},
    **{
        layout.name: Reader(layout.splits, layout.read, image_sets=True)
        for layout in (LABELME, SUPERVISELY, VISDRONE, KITTI, DOTA)
    },
}
_BY_CONTENT = {".json": json_kind, ".txt": text_kind, ".csv": table_kind}
_BY_SUFFIX = {
    **{".json": "coco", ".jsonl": "image-folder", ".parquet": "parquet"},
    **dict.fromkeys((".yaml", ".yml", ".data"), "yolo"),
    **dict.fromkeys(TABLES, "csv"),
}
_MAX_DEPTH = 4  # folders around a data set
_PARTS = frozenset(["annotations", "labels", "ann", "img", "images", "imagesets", "jpegimages", "xmls", "data"])
_INNER = _PARTS - {"data"} | {"train", "val", "valid", "test"}  # names of folders that are hardly a data set
_DOCUMENTS = frozenset(["readme", "license", "licence", "citation", "notes"])
_MAX_FOLDERS = 64  # of a data set that are searched for files whose content shows their format


def _is_coco(file: AnyPath) -> bool:
    return begins_as_coco(file) and json_kind(file) not in ("coco-panoptic", "datumaro")


def detect_format(path: AnyPath) -> str:
    """Return the name of the format of a file or a folder.

    Raises:
        DataError: nothing fits, or more than one format does; the message says what was found.
    """
    if path.is_file():
        return _format_of_file(path)
    found = claims(path)
    if len(found) > 1:
        listed = ", ".join(f"{name} ({evidence})" for name, evidence in found.items())
        text = f"this looks like {listed}; say which is meant with --format, or name its file"
        raise DataError(f"{path}: {text}", code="several-formats")
    return next(iter(found)) if found else _format_of_nothing(path)


def _format_of_nothing(path: AnyPath) -> str:
    """Return the format whose reader has the best message on a folder in which nothing is of a format.

    Raises:
        DataError: there is no such format; the message says what was found.
    """
    has_file = _has_json(path) or bool(tables_of_images(path))
    if not has_file:
        _refuse_several(path)
        _refuse_part(path)
    for kind, evidence in _unread_below(path):
        if kind != "excel" or not has_file:  # a workbook may be about anything
            refuse_unread(path, kind, evidence)
    if has_file:  # with something wrong in a JSON file, or in the columns of a table
        return "coco" if _has_json(path) else "csv"
    if archives := [name for name in list_dir(path)[1] if name.lower().endswith(ARCHIVES)]:
        text = (
            f"this folder is no data set, but has archives: {short_list(archives)}; name the one that is the data set"
        )
        raise DataError(f"{path}: {text}, or unpack them", code="no-data-set")
    raise DataError(
        f"{path}: no data set is recognized; there are {_contents(path)}. Expected are the annotations of "
        f"{', '.join(READERS)}; name their file, or say with --format what it is",
        code="no-data-set",
    )


def _refuse_several(path: AnyPath) -> None:
    """Raise an error that names the folders in a folder that are data sets of their own.

    Raises:
        DataError: there are such folders.
    """
    inner = {name: next(iter(claims(path / name)), "") for name in list_dir(path)[0][:_MAX_FOLDERS]}
    found = [f"{name} ({format})" for name, format in inner.items() if format]
    if found:
        are, name = ("folder in it is one", "it") if len(found) == 1 else ("folders in it are", "one of them")
        text = f"this folder is no data set, but the {are}: {short_list(found)}; name {name}"
        raise DataError(f"{path}: {text}", code="no-data-set")


def _refuse_part(path: AnyPath) -> None:
    """Raise an error that names the data set around a folder, which is called like a part or a split of one.

    Raises:
        DataError: there is such a data set.
    """
    folder = path
    while isinstance(folder, Path) and folder.name.lower() in _INNER:
        folder = folder.parent
        if format := next(iter(claims(folder)), ""):
            text = f"this folder is only a part of the data set (of the format {format}) in {folder}"
            raise DataError(f"{path}: {text}; name that folder", code="no-data-set")


def data_inside(path: AnyPath) -> AnyPath:
    """Return the data set in a folder as unpacked downloads have it: the only folder in it that is one, or the path.

    A folder whose name says which split or which part of a data set it is belongs to the data set around it, if that
    is one.
    """
    folder = path
    for _ in range(_MAX_DEPTH):
        folders = [name for name in list_dir(folder)[0] if name != "__MACOSX"] if is_folder(folder) else []
        if len(folders) != 1 or (not _is_wrapped(folder, folders[0]) and claims(folder)):
            break
        folder = folder / folders[0]
    return folder if folder is not path and claims(folder) else path


def _is_wrapped(folder: AnyPath, inner: str) -> bool:
    """Return whether the only folder in another one is no part of a data set, and only documents lie beside it."""
    is_part = inner.lower() in _PARTS or split_of_parts([inner]) != "all"
    return not is_part and all(map(_is_document, list_dir(folder)[1]))


def _is_document(name: str) -> bool:
    """Return whether a file is only for people to read."""
    return name.lower().endswith((".md", ".pdf", ".html")) or name.partition(".")[0].lower() in _DOCUMENTS


def claims(path: AnyPath) -> dict[str, str]:
    """Return the formats of which there is evidence in a folder, each with that evidence."""
    with remember_folders():
        return _claims(path)


def _claims(path: AnyPath) -> dict[str, str]:
    readers = _candidates(path)
    found = {name: evidence for name, reader in readers.items() if (evidence := _evidence(reader, path))}
    by_content = [name for name, reader in READERS.items() if reader.evidence is None]
    found |= {name: evidence for name, evidence in reversed(list(_by_content(path))) if name in by_content}
    if "dota" in found and "yolo" in found and not has_yolo_labels(path):
        del found["yolo"]  # Roboflow puts a data.yaml beside
    return {name: found[name] for name in READERS if name in found}


def _evidence(reader: Reader, path: AnyPath) -> str:
    try:
        return reader.evidence(path) if reader.evidence is not None else ""
    except DataError as error:
        # several files of a format are evidence, too; which one is meant is decided when it is read
        return str(error)[:80]


def _files_below(path: AnyPath) -> Iterator[AnyPath]:
    """Yield the first files of each suffix in ``_BY_CONTENT`` in each of the first folders."""
    for folder, _, names in islice(walk(path, wide=True), _MAX_FOLDERS):
        for suffix in _BY_CONTENT:
            matching = (folder / name for name in names if name.lower().endswith(suffix))
            yield from islice(matching, SNIFFED)


def _by_content(path: AnyPath) -> Iterator[tuple[str, str]]:
    """Yield format and name of files whose content shows a format."""
    for file in _files_below(path):
        suffix = file.suffix.lower()
        if suffix == ".json" and _is_coco(file):
            continue
        kind = _BY_CONTENT[suffix](file).removesuffix("-image")
        if kind:
            yield kind, f"{file.parent.name}/{file.name}" if str(file.parent) != str(path) else file.name


def _unread_below(path: AnyPath) -> Iterator[tuple[str, str]]:
    """Yield formats that are recognized and not read, each with the name of the file or folder."""
    for folder, _, names in islice(walk(path, wide=True), _MAX_FOLDERS):
        for name in [folder.name, *names[:100]]:
            if kind := unread_kind(folder if name == folder.name else folder / name):
                yield kind, name


def _has_json(path: AnyPath) -> bool:
    return any(name.endswith(".json") for folder in (path, path / "annotations") for name in list_dir(folder)[1])


def _format_of_file(file: AnyPath) -> str:
    suffix = file.suffix.lower()
    kind = "" if suffix == ".json" and _is_coco(file) else _kind_of(file)
    refuse_unread(file, kind)
    if kind in READERS:
        return kind
    if suffix == ".xml":
        return "cvat" if root_tag(file) == "annotations" else "voc"
    if suffix == ".txt" and has_boxes(file):
        return "csv"
    if suffix not in _BY_SUFFIX:
        raise _unknown_suffix(file, suffix)
    return _BY_SUFFIX[suffix]


def _unknown_suffix(file: AnyPath, suffix: str) -> DataError:
    text = f"a file ending in {suffix or 'nothing'} is no data set that is known; name its annotations"
    hint = " (.json, .xml, .yaml, .csv, .jsonl, .parquet, .txt), an archive (.zip, .tar) or its folder"
    if suffix == ".txt":
        text, hint = "this text file has no boxes of a known format", "; name the folder or the data.yaml of the set"
    return DataError(f"{file}: {text}{hint}", code="unknown-suffix")


def _kind_of(file: AnyPath) -> str:
    """Return the format that the content of a file shows, "" for none."""
    sniff = _BY_CONTENT.get(file.suffix.lower())
    return unread_kind(file) or (sniff(file).removesuffix("-image") if sniff is not None else "")


def _contents(folder: AnyPath) -> str:
    """Return what lies in a folder, for a message."""
    folders, files = list_dir(folder)
    counts = Counter(Path(name).suffix.lower() or "without a suffix" for name in files)
    parts = [f"{count} {'file' if count == 1 else 'files'} {suffix}" for suffix, count in counts.most_common(4)]
    if folders:
        parts.append(f"the folders {', '.join(folders[:6])}{', ...' if len(folders) > 6 else ''}")
    return " and ".join(parts) or "no files"


# The suffixes of the files without which nothing in a folder can speak for a format.
_SUFFIXES = {
    "coco": (".json",),
    "voc": (".xml", ".txt"),
    "yolo": (".txt", ".yaml", ".yml", ".data"),
    "cvat": (".xml",),
    "label-studio": (".json", ".csv"),
    "csv": TABLES,
    "image-folder": (".jsonl",),
    "parquet": (".parquet",),
    "webdataset": (".tar", ".json"),
}


def _candidates(path: AnyPath) -> dict[str, Reader]:
    """Return the readers of which a file may be in a folder, by suffix; all of them if it has too many folders."""
    folders = list(islice(walk(path, wide=True), _MAX_FOLDERS + 1))
    if len(folders) > _MAX_FOLDERS:
        return READERS
    found = {name[name.rfind(".") :].lower() for _, _, names in folders for name in names}
    return {name: reader for name, reader in READERS.items() if not found.isdisjoint(_SUFFIXES.get(name, found))}
