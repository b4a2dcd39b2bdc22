"""Formats that are known and not read are named, with the way out."""

import json

import pytest
from folders import fill, pack, png, refused

COCO = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}]}
PANOPTIC = COCO | {
    "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 1}]}]
}
DARWIN = {
    "version": "2.0",
    "item": {"name": "a.png", "slots": []},
    "annotations": [{"bounding_box": {"x": 1}, "name": "a"}],
}
SCALE = [{"task_id": "1", "params": {"attachment": "a.png"}, "response": {"annotations": [{"label": "a", "left": 1}]}}]
DATUMARO = {"info": {}, "categories": {"label": {}}, "items": [{"id": "a", "annotations": []}]}
LABELBOX = [{"data_row": {"external_id": "a.png"}, "projects": {"p": {"name": "x", "labels": []}}}]
VOTT = {"name": "x", "tags": [], "assets": {"1": {"asset": {"name": "a.png"}, "regions": []}}}
SUPERANNOTATE = {"metadata": {"name": "a.png"}, "instances": [{"type": "bbox", "points": {"x1": 1}}]}
CITYSCAPES = {"imgHeight": 9, "imgWidth": 9, "objects": [{"label": "a", "polygon": [[1, 2]]}]}
CLOUD = {"version": "1.0", "type": "localization", "labels": ["a"], "annotations": {"a.png": []}}
VIA_3 = {
    "project": {"pid": "x"},
    "config": {},
    "attribute": {},
    "file": {},
    "view": {},
    "metadata": {"1_a": {"xy": []}},
}
MMDET = {"metainfo": {"classes": ["a"]}, "data_list": [{"img_path": "a.png", "instances": [{"bbox": [1, 2, 3, 4]}]}]}
ODVG = {"filename": "a.png", "height": 9, "width": 9, "detection": {"instances": [{"bbox": [1, 2, 3, 4], "label": 0}]}}
PALIGEMMA = {"image": "a.png", "prefix": "detect cat", "suffix": "<loc0001> cat"}
LABEL_STUDIO_TASK = {"id": 17, "result": [], "task": {"id": 3, "data": {"image": "a.png"}}}
TRACKING = "0 1 Car 0 0 -1.5 1 2 3 4 1 1 1 1 1 1 1\n"


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train/x.tfrecord", b"\0", ["TFRecord", "COCO"]),
        ("train.json", json.dumps(MMDET), ["MMDetection 3's own JSON", "corners"]),
        ("train.jsonl", json.dumps(ODVG) + "\n", ["ODVG", "COCO"]),
        ("train.csv", "image_id,PredictionString\na,cat 0.9 1 2 3 4\n", ["PredictionString", "a line for each box"]),
        ("train/_classes.csv", "filename,box,cup\na.png,1,0\n", ["classes of whole images"]),
        ("data/train.tfrecord-00000-of-00002", b"\0", ["TFRecord"]),
        ("data.mdb", b"\0", ["LMDB"]),
        ("digitStruct.mat", b"\0", ["MATLAB", "CSV"]),
        ("labels.h5", b"\0", ["HDF5"]),
        ("labels.xlsx", b"PK", ["an Excel workbook", "as CSV"]),
        ("gt/gt_1.txt", "1,2,9,2,9,8,1,8,Hello, you\n1,2,9,2,9,8,1,8,2019\n", ["ICDAR's four corners", "CSV"]),
        ("tasks/17", json.dumps(LABEL_STUDIO_TASK), ["single tasks of Label Studio", "export all"]),
        ("annotations.pkl", b"\0", ["pickle"]),
        ("data-00000-of-00001.arrow", b"\0", ["Hugging Face", "to_parquet"]),
        ("set.ndjson", '{"type": "dataset", "task": "detect"}\n', ["NDJSON", "convert_ndjson_to_yolo"]),
        ("set.ndjson", json.dumps(LABELBOX[0]), ["Labelbox", "panlabel"]),
        ("annotation_train.odgt", "{}", ["CrowdHuman"]),
        ("output.manifest", '{"source-ref": "s3://a.png"}', ["SageMaker", "panlabel"]),
        ("wider_face_train_bbx_gt.txt", "a.png\n1\n1 2 3 4 0 0 0 0 0 0\n", ["WIDER FACE"]),
        ("gt/gt.txt", "1,1,10,20,30,40,1,1,0.9\n", ["MOT", "CVAT"]),
        ("annotations/uav0001.txt", "1,0,10,20,30,40,1,4,0,0\n", ["VisDrone's labels of videos"]),
        ("label_02/0000.txt", TRACKING, ["KITTI's tracking", "first two columns"]),
        ("Label/a.txt", "Traffic light 1.5 2 30 40\ncat 1 2 3 4\n", ["a class and four numbers", "CSV with a header"]),
        ("sequence.0/step0.frame_data.json", json.dumps({"captures": [{"annotations": []}]}), ["Unity's Perception"]),
        ("bounding_boxes.labels", "{}", ["Edge Impulse", "--from edge-impulse --to coco"]),
        ("labels.csv", "TRAIN,gs://b/a.png,cat,0.1,0.1,,,0.3,0.3,,\n", ["AutoML", "panlabel"]),
        ("panoptic.json", json.dumps(PANOPTIC), ["COCO panoptic", "panoptic2detection_coco_format.py"]),
        ("a.json", json.dumps(DARWIN), ["Darwin", "v7-darwin"]),
        ("a.json", json.dumps(SCALE), ["Scale AI"]),
        ("default.json", json.dumps(DATUMARO), ["Datumaro", "datum convert"]),
        ("a.json", json.dumps(LABELBOX), ["Labelbox"]),
        ("x.json", json.dumps(VOTT), ["VoTT", "Pascal VOC or CSV"]),
        ("a.json", json.dumps(SUPERANNOTATE), ["SuperAnnotate"]),
        ("gtFine/train/a_gtFine_polygons.json", json.dumps(CITYSCAPES), ["Cityscapes"]),
        ("_annotations.json", json.dumps(CLOUD), ["IBM Cloud Annotations"]),
        ("a.json", json.dumps({"openlabel": {"frames": {"0": {"objects": {}}}}}), ["OpenLABEL"]),
        ("via.json", json.dumps(VIA_3), ["VIA 3", "version 2"]),
        ("_annotations.train.jsonl", json.dumps(PALIGEMMA), ["prompts (PaliGemma"]),
        ("SegmentationClass/a.png", png(9, 9), ["masks of pixels", "export boxes"]),
        ("train/a_mask.png", png(9, 9), ["masks of pixels"]),
    ],
)
def test_they_are_named(tmp_path, name, content, parts):
    fill(tmp_path, {name: content, "images/a.png": (9, 9)})
    refused(tmp_path, f"{tmp_path}: this looks like ", *parts, code="format-not-read")
    refused(pack(tmp_path / "x.zip", {name: content, "images/a.png": png(9, 9)}), *parts, code="format-not-read")
    if "/" not in name:
        refused(tmp_path / name, f"{tmp_path / name}: this looks like ", *parts, code="format-not-read")


def test_what_is_read_comes_first(tmp_path):
    """Beside labels that are read, others do not matter."""
    yolo = {"data.yaml": "train: images\nnames: [a]", "images/a.png": (9, 9), "labels/a.txt": "0 0.5 0.5 1 1"}
    fill(tmp_path, {**yolo, "cache.pkl": b"x", "x.mat": b"x", "a.json": json.dumps(DARWIN)})
    from varifocal.data.load import recognize

    assert recognize(tmp_path) == "yolo"


def test_a_workbook_beside_a_file_that_is_wrong_does_not_matter(tmp_path):
    fill(tmp_path, {"train.json": "{", "notes.xlsx": b"x"})
    refused(tmp_path, "train.json: this is not valid JSON")
