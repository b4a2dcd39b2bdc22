"""Formats that are recognized and not read, with the way to convert them."""

from __future__ import annotations

import re
from typing import NamedTuple

from varifocal.data.archive import AnyPath
from varifocal.data.readers.sniff import json_kind, table_kind, text_kind
from varifocal.utils.errors import DataError


class _Unread(NamedTuple):
    title: str
    hint: str


def _panlabel(name: str) -> str:
    options = f"--from {name} --to coco -i IN -o annotations.json --allow-lossy"
    return f"convert it: pip install panlabel; panlabel convert {options}"


UNREAD = {
    "tfrecord": _Unread("TFRecord", "export it as COCO or Pascal VOC, with the images as files"),
    "lmdb": _Unread("LMDB", "write the images out as files, and their boxes as COCO or CSV"),
    "matlab": _Unread(
        "MATLAB's .mat", "write the boxes as a CSV (image, xmin, ymin, xmax, ymax, label) with writetable"
    ),
    "excel": _Unread(
        "an Excel workbook", "save the sheet as CSV, with the columns image, xmin, ymin, xmax, ymax and label"
    ),
    "hdf5": _Unread("HDF5", "write the images out as files, and their boxes as COCO or CSV"),
    "pickle": _Unread("Python's pickle, which can run code", "write the boxes as COCO or CSV where it was made"),
    "arrow": _Unread("a data set saved by Hugging Face's datasets", "load it and write it with to_parquet"),
    "ndjson": _Unread("Ultralytics' NDJSON", "convert it with ultralytics.data.converter.convert_ndjson_to_yolo"),
    "odgt": _Unread("CrowdHuman's .odgt", "convert it to COCO; each line has gtboxes with a tag and a box"),
    "geojson": _Unread("GeoJSON", "write the boxes in pixels of each image, as COCO or CSV"),
    "wider-face": _Unread("WIDER FACE", _panlabel("wider-face")),
    "mot": _Unread(
        "MOT, or VisDrone's labels of videos", "open it in CVAT (MOT 1.1) and export COCO, or keep single frames"
    ),
    "kitti-tracking": _Unread("KITTI's tracking", "write a file for each frame, without the first two columns"),
    "class-and-box": _Unread(
        "text files of a class and four numbers, which are corners in some programs and x, y, width, height in others",
        "write a CSV with a header that says which (image, xmin, ymin, xmax, ymax, label or image, x, y, w, h, label)",
    ),
    "icdar": _Unread(
        "ICDAR's four corners and a text in each line",
        "write the boxes around the corners as a CSV (image, xmin, ymin, xmax, ymax, label)",
    ),
    "prediction-string": _Unread(
        "Kaggle's PredictionString, a cell with several boxes in an order of its competition",
        "write a line for each box (image, xmin, ymin, xmax, ymax, label)",
    ),
    "automl": _Unread("the CSV of Google's AutoML", _panlabel("automl-vision")),
    "coco-panoptic": _Unread("COCO panoptic", "convert it with panopticapi's panoptic2detection_coco_format.py"),
    "via-3": _Unread("VIA 3", "export COCO there, or label with version 2, whose project is read"),
    "cityscapes": _Unread("Cityscapes", _panlabel("cityscapes")),
    "darwin": _Unread("V7's Darwin JSON", f"export COCO there, or {_panlabel('v7-darwin')}"),
    "scale": _Unread("Scale AI", _panlabel("scale-ai")),
    "datumaro": _Unread("Datumaro", f"export COCO with it (datum convert -f coco), or {_panlabel('datumaro')}"),
    "label-studio-task": _Unread("single tasks of Label Studio", "export all of them there, as JSON"),
    "fiftyone": _Unread("FiftyOne's own JSON", "export a COCODetectionDataset there"),
    "labelbox": _Unread("Labelbox", _panlabel("labelbox")),
    "vott": _Unread("VoTT's JSON", f"export Pascal VOC or CSV there, or {_panlabel('vott-json')}"),
    "superannotate": _Unread("SuperAnnotate", f"export COCO there, or {_panlabel('superannotate')}"),
    "openlabel": _Unread("OpenLABEL", _panlabel("openlabel")),
    "sagemaker": _Unread("a manifest of SageMaker", _panlabel("sagemaker")),
    "cloud-annotations": _Unread("IBM Cloud Annotations", _panlabel("ibm-cloud-annotations")),
    "unity": _Unread("Unity's Perception (SOLO)", _panlabel("unity-perception")),
    "edge-impulse": _Unread("Edge Impulse", _panlabel("edge-impulse")),
    "mmdet3": _Unread(
        "MMDetection 3's own JSON", "write it as COCO, with bbox as [x, y, width, height] instead of corners"
    ),
    "odvg": _Unread("ODVG, lines for Grounding DINO", "export COCO where they were made"),
    "whole-images": _Unread("classes of whole images, without boxes", "export COCO, YOLO or Pascal VOC there"),
    "captions": _Unread("lines of prompts (PaliGemma, Florence-2)", "export COCO where it was made"),
    "masks": _Unread("masks of pixels", "export boxes (COCO, Pascal VOC) where they were made"),
}

# Patterns of the names of files and folders.
_NAMES = (
    (r"\.tfrecords?(-\d+-of-\d+)?$", "tfrecord"),
    (r"^data\.mdb$|\.lmdb$", "lmdb"),
    (r"\.mat$", "matlab"),
    (r"\.xlsx?$", "excel"),
    (r"\.(h5|hdf5)$", "hdf5"),
    (r"\.(pkl|pickle)$", "pickle"),
    (r"\.arrow$", "arrow"),
    (r"\.odgt$", "odgt"),
    (r"\.geojson$", "geojson"),
    (r"\.manifest$", "sagemaker"),
    (r"^_classes\.csv$", "whole-images"),
    (r"^bounding_boxes\.labels$", "edge-impulse"),
    (r"^wider_face_.*\.txt$", "wider-face"),
    (r"^seqinfo\.ini$", "mot"),
    (r"^SegmentationClass$|^SegmentationObject$|_mask\.png$", "masks"),
)


def unread_kind(file: AnyPath) -> str:
    """Return the format of a file or folder that is recognized and not read, "" for all others."""
    kind = next((kind for pattern, kind in _NAMES if re.search(pattern, file.name, re.IGNORECASE)), "")
    suffix = file.suffix.lower()
    if not kind and suffix in (".json", ".jsonl", ".ndjson", ""):  # Label Studio's storages have tasks without suffix
        kind = json_kind(file) or ("ndjson" if suffix == ".ndjson" else "")
    elif not kind and suffix in (".txt", ".csv"):
        kind = text_kind(file) if suffix == ".txt" else table_kind(file)
    return kind if kind in UNREAD else ""


def refuse_unread(path: AnyPath, kind: str, evidence: str = "") -> None:
    """Raise an error that names a format that is not read, and how to convert it.

    Raises:
        DataError: ``kind`` is such a format.
    """
    if kind in UNREAD:
        title, hint = UNREAD[kind]
        where = f" ({evidence})" if evidence else ""
        raise DataError(f"{path}: this looks like {title}{where}, which is not read; {hint}", code="format-not-read")
