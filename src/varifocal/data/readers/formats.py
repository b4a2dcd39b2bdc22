"""The formats that are read, and how each is known when it is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from varifocal.data.annotations import RawDataset
from varifocal.data.archive import AnyPath
from varifocal.data.options import ReadOptions
from varifocal.data.paths import is_folder, list_dir, remember_folders, walk
from varifocal.data.readers.box_texts import DOTA, KITTI, VISDRONE
from varifocal.data.readers.coco import read_coco
from varifocal.data.readers.coco_layout import begins_as_coco, find_coco
from varifocal.data.readers.csv_boxes import SUFFIXES as TABLES
from varifocal.data.readers.csv_boxes import box_tables, find_csv, has_boxes, read_csv
from varifocal.data.readers.cvat import cvat_file, find_cvat, read_cvat
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
from varifocal.data.readers.yolo_find import find_yolo, has_yolo, has_yolo_labels
from varifocal.data.readers.yolo_keras import YOLO_KERAS
from varifocal.utils.errors import DataError


@dataclass(frozen=True)
class Reader:
    """One format: the splits of a path, each with the file or folder that says what is in it; the reader of one; and
    what speaks for the format in a folder, "" where nothing does. Without ``seen`` it is the content of files.

    With ``lists`` a file lists the images of a split, so that others may lie beside these."""

    splits: Callable[[AnyPath], dict[str, AnyPath]]
    # what the splits gave, the path itself, the name of the split, and what the user says of the data
    read: Callable[[AnyPath, AnyPath, str, ReadOptions], RawDataset]
    seen: Callable[[AnyPath], str] | None = None
    lists: bool = False


def _coco_seen(folder: AnyPath) -> str:
    try:
        files = list(find_coco(folder).values())
    except DataError:
        return ""
    return next((file.name for file in files[:20] if _is_coco(file)), "")


def _cvat_seen(folder: AnyPath) -> str:
    file = cvat_file(folder)
    return "" if file is None else file.name


def _label_studio_seen(folder: AnyPath) -> str:
    return next((file.name for file in exports(folder)), "")


def _csv_seen(folder: AnyPath) -> str:
    return next((file.name for file in box_tables(folder)), "")


def _image_folder_seen(folder: AnyPath) -> str:
    return next((f"{file.parent.name}/{file.name}" for file in metadata_files(folder)), "")


def _parquet_seen(folder: AnyPath) -> str:
    return next((file.name for file in parquet_files(folder)), "")


def _webdataset_seen(folder: AnyPath) -> str:
    if has_samples(folder):
        return "images with a .json of the same name"
    return next((file.name for file in shards_in(folder)), "")


READERS = {
    "coco": Reader(find_coco, read_coco, _coco_seen, lists=True),
    "voc": Reader(find_voc, read_voc, has_voc),
    "yolo": Reader(find_yolo, read_yolo, has_yolo),
    "cvat": Reader(find_cvat, read_cvat, _cvat_seen, lists=True),
    "label-studio": Reader(find_label_studio, read_label_studio, _label_studio_seen, lists=True),
    "csv": Reader(find_csv, read_csv, _csv_seen, lists=True),
    "image-folder": Reader(find_image_folder, read_image_folder, _image_folder_seen, lists=True),
    "parquet": Reader(find_parquet, read_parquet, _parquet_seen),
    "webdataset": Reader(find_webdataset, read_webdataset, _webdataset_seen),
    "bdd100k": Reader(find_bdd, read_bdd, lists=True),
    **{one.name: Reader(one.splits, one.read, lists=True) for one in (CREATEML, VIA, YOLO_KERAS)},
    **{one.name: Reader(one.splits, one.read) for one in (LABELME, SUPERVISELY, VISDRONE, KITTI, DOTA)},
}
_BY_CONTENT = {".json": json_kind, ".txt": text_kind, ".csv": table_kind}
_DEEP = 4  # folders around a data set
_PARTS = frozenset(["annotations", "labels", "ann", "img", "images", "imagesets", "jpegimages", "xmls", "data"])
_SAID = frozenset(["readme", "license", "licence", "citation", "notes"])
_FOLDERS = 64  # of a data set that are searched for files whose format shows in their content


def _is_coco(file: AnyPath) -> bool:
    return begins_as_coco(file) and json_kind(file) not in ("coco-panoptic", "datumaro")


def detect_format(path: AnyPath) -> str:
    """The name of the format of a file or a folder.

    Raises:
        DataError: nothing fits, or more than one format does; what was seen is said.
    """
    if path.is_file():
        return _of_file(path)
    found = claims(path)
    if len(found) > 1:
        listed = ", ".join(f"{name} ({seen})" for name, seen in found.items())
        raise DataError(f"{path}: this looks like {listed}; say which is meant with --format, or name its file")
    if found:
        return next(iter(found))
    for kind, seen in _unread_below(path):
        refuse_unread(path, kind, seen)
    if any(name.endswith(".json") for folder in (path, path / "annotations") for name in list_dir(folder)[1]):
        return "coco"  # whose reader says best what is wrong with a json
    raise DataError(
        f"{path}: no data set is recognized; there are {_contents(path)}. Expected are the annotations of "
        f"{', '.join(READERS)}; name their file, or say with --format what it is"
    )


def data_inside(path: AnyPath) -> AnyPath:
    """The data set in a folder, as unpacked downloads have it: the only folder in it that is one by itself, or else the
    path as it is. A folder whose name says which split or which part of a data set it is stays where it is, if what is
    around it is a data set, too."""
    folder = path
    for _ in range(_DEEP):
        folders = [name for name in list_dir(folder)[0] if name != "__MACOSX"] if is_folder(folder) else []
        if len(folders) != 1:
            break
        named = folders[0].lower() in _PARTS or split_of_parts(folders) != "all"
        if (named or not all(map(_is_said, list_dir(folder)[1]))) and claims(folder):
            break
        folder = folder / folders[0]
    return folder if folder is not path and claims(folder) else path


def _is_said(name: str) -> bool:
    """Whether a file is only for people to read."""
    return name.lower().endswith((".md", ".pdf", ".html")) or name.partition(".")[0].lower() in _SAID


def claims(path: AnyPath) -> dict[str, str]:
    """The formats that something in a folder speaks for, each with what that is."""
    with remember_folders():
        return _claims(path)


def _claims(path: AnyPath) -> dict[str, str]:
    found = {name: seen for name, reader in _candidates(path).items() if (seen := _seen(reader, path))}
    by_content = [name for name, reader in READERS.items() if reader.seen is None]
    found |= {name: seen for name, seen in reversed(list(_by_content(path))) if name in by_content}
    if "dota" in found and "yolo" in found and not has_yolo_labels(path):
        del found["yolo"]  # Roboflow puts a data.yaml beside
    return {name: found[name] for name in READERS if name in found}


def _seen(reader: Reader, path: AnyPath) -> str:
    try:
        return reader.seen(path) if reader.seen is not None else ""
    except DataError as error:
        # several files of a format also speak for it; which is meant is asked when it is read
        return str(error)[:80]


def _files_below(path: AnyPath) -> Iterator[AnyPath]:
    """Yield the first files, in each of the first folders, of each suffix whose format shows in the content."""
    for folder, _, names in islice(walk(path, wide=True), _FOLDERS):
        for suffix in _BY_CONTENT:
            matching = (folder / name for name in names if name.lower().endswith(suffix))
            yield from islice(matching, SNIFFED)


def _by_content(path: AnyPath) -> Iterator[tuple[str, str]]:
    for file in _files_below(path):
        suffix = file.suffix.lower()
        if suffix == ".json" and _is_coco(file):
            continue
        kind = _BY_CONTENT[suffix](file).removesuffix("-image")
        if kind:
            yield kind, f"{file.parent.name}/{file.name}" if str(file.parent) != str(path) else file.name


def _unread_below(path: AnyPath) -> Iterator[tuple[str, str]]:
    """Yield formats that are not read, recognized by names or content."""
    for folder, _, names in islice(walk(path, wide=True), _FOLDERS):
        for name in [folder.name, *names[:100]]:
            if kind := unread_kind(folder if name == folder.name else folder / name):
                yield kind, name


def _of_file(file: AnyPath) -> str:
    suffix = file.suffix.lower()
    kind = "" if suffix == ".json" and _is_coco(file) else _kind_of(file)
    refuse_unread(file, kind)
    if kind in READERS:
        return kind
    if suffix == ".json":
        return "coco"
    if suffix == ".xml":
        return "cvat" if root_tag(file) == "annotations" else "voc"
    if suffix in (".yaml", ".yml", ".data"):
        return "yolo"
    if suffix in TABLES or (suffix == ".txt" and has_boxes(file)):
        return "csv"
    found = {".jsonl": "image-folder", ".parquet": "parquet"}.get(suffix)
    if found is None:
        raise DataError(
            f"{file}: a file ending in {suffix or 'nothing'} is no data set that is known; name its annotations "
            "(.json, .xml, .yaml, .csv, .jsonl, .parquet, .txt), an archive (.zip, .tar) or its folder"
        )
    return found


def _kind_of(file: AnyPath) -> str:
    look = _BY_CONTENT.get(file.suffix.lower())
    return unread_kind(file) or (look(file).removesuffix("-image") if look is not None else "")


def _contents(folder: AnyPath) -> str:
    """What lies in a folder, for a message."""
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
    folders = list(islice(walk(path, wide=True), _FOLDERS + 1))
    if len(folders) > _FOLDERS:
        return READERS
    found = {name[name.rfind(".") :].lower() for _, _, names in folders for name in names}
    return {name: reader for name, reader in READERS.items() if not found.isdisjoint(_SUFFIXES.get(name, found))}
