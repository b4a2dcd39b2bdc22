"""One small data set in every layout and format that docs/data.md names.

The truth is ``TRUTH``: its images, boxes, classes and splits. Each :class:`Layout` writes it as files, and says what of
it the format cannot hold.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from folders import fill, pack, png

from varifocal.data.load import find_splits, load_dataset, recognize
from varifocal.data.splits import normalize_split


class Image(NamedTuple):
    """An image of the truth: its stem, (width, height), and (class, x, y, width, height) of each object, in pixels."""

    stem: str
    size: tuple[int, int]
    objects: tuple[tuple[str, int, int, int, int], ...]

    @property
    def name(self) -> str:
        return f"{self.stem}.png"


CLASSES = ("cat", "owl")
TRUTH = {
    "train": (
        Image("a", (64, 48), (("cat", 10, 20, 30, 5), ("owl", 0, 0, 64, 48))),
        Image("b", (40, 32), (("owl", 5, 6, 20, 20),)),
        Image("empty", (32, 32), ()),
    ),
    "val": (Image("v", (48, 64), (("cat", 8, 16, 24, 32), ("owl", 1, 2, 3, 4))),),
}
Files = dict[str, "str | bytes"]
ALL = {"all": (*TRUTH["train"], *TRUTH["val"])}


@dataclass(frozen=True)
class Layout:
    """``files`` writes the splits that it is given; ``splits`` maps the truth's to those that are read, ``labels`` its
    classes. With ``numbered`` these have no names. Without ``empty`` the format cannot hold images without objects."""

    format: str
    files: Callable[[], Files]
    what: str
    truth: dict[str, tuple[Image, ...]] = field(default_factory=lambda: TRUTH)
    one_class: str = ""
    numbered: bool = False
    empty: bool = True
    packed: bool = True


def images(where: str, truth: dict[str, tuple[Image, ...]] = TRUTH, prefix: str = "") -> Files:
    """The image files, in a folder whose name may have ``{split}`` in it."""
    return {
        f"{where.format(split=split)}{prefix}{one.name}": png(*one.size) for split, all in truth.items() for one in all
    }


def each() -> Iterator[tuple[str, Image]]:
    """Split and image of the truth."""
    yield from ((split, one) for split, all in TRUTH.items() for one in all)


def corners(box: Sequence[int]) -> list[int]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def table(header: str, rows: Iterator[list[Any]] | list[list[Any]]) -> str:
    """A CSV file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


def coco_json(all: tuple[Image, ...]) -> str:
    images = [
        {"id": i, "file_name": one.name, "width": one.size[0], "height": one.size[1]} for i, one in enumerate(all, 1)
    ]
    boxes = [(i, name, box) for i, one in enumerate(all, 1) for name, *box in one.objects]
    annotations = [
        {
            "id": k,
            "image_id": i,
            "category_id": CLASSES.index(name) + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for k, (i, name, box) in enumerate(boxes, 1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def coco_instances() -> Files:
    files = {f"annotations/instances_{split}2017.json": coco_json(all) for split, all in TRUTH.items()}
    return files | images("{split}2017/")


def coco_roboflow() -> Files:
    folder = {"train": "train", "val": "valid"}
    files = {f"{folder[split]}/_annotations.coco.json": coco_json(all) for split, all in TRUTH.items()}
    return files | {f"{folder[split]}/{one.name}": png(*one.size) for split, one in each()}


def coco_flat() -> Files:
    return {f"{split}.json": coco_json(all) for split, all in TRUTH.items()} | images("images/{split}/")


def coco_fiftyone() -> Files:
    """FiftyOne's COCODetectionDataset, exported split by split."""
    files: Files = {f"{split}/labels.json": coco_json(all) for split, all in TRUTH.items()}
    return files | images("{split}/data/")


def coco_fiftyone_alone() -> Files:
    return {"labels.json": coco_json(ALL["all"])} | images("data/")


def lvis() -> Files:
    """LVIS v1: ``coco_url`` in place of ``file_name``, and lists of images that were looked through for each class."""
    files: Files = {}
    for split, all in TRUTH.items():
        content = json.loads(coco_json(all))
        for image in content["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/{split}2017/{image.pop('file_name')}"
            image |= {"not_exhaustive_category_ids": [], "neg_category_ids": [2]}
        for category in content["categories"]:
            category |= {"synset": f"{category['name']}.n.01", "frequency": "r", "image_count": 2, "def": "a thing"}
        for annotation in content["annotations"]:
            annotation.pop("iscrowd")
        files[f"annotations/lvis_v1_{split}.json"] = json.dumps(content)
    return files | images("{split}2017/")


def voc_xml(one: Image) -> str:
    objects = ""
    for name, x, y, width, height in one.objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + width, y + height), strict=True)
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        objects += f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{one.size[0]}</width><height>{one.size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{one.name}</filename>{size}{objects}</annotation>"


def voc_devkit() -> Files:
    files: Files = {f"Annotations/{one.stem}.xml": voc_xml(one) for _, one in each()}
    for split, all in TRUTH.items():
        files[f"ImageSets/Main/{split}.txt"] = "".join(f"{one.stem}\n" for one in all)
    return files | images("JPEGImages/")


def voc_beside() -> Files:
    folder = {"train": "train", "val": "valid"}
    files: Files = {f"{folder[split]}/{one.stem}.xml": voc_xml(one) for split, one in each()}
    return files | {f"{folder[split]}/{one.name}": png(*one.size) for split, one in each()}


def voc_flat() -> Files:
    """Images and XML files in one folder, as labelImg leaves them."""
    return {f"{one.stem}.xml": voc_xml(one) for _, one in each()} | images("")


def voc_fiftyone() -> Files:
    """FiftyOne's VOCDetectionDataset, exported split by split; it writes whole paths and counts from 1."""
    files: Files = {}
    for split, one in each():
        text = voc_xml(one).replace(f"<filename>{one.name}", f"<folder></folder><filename>{one.name}")
        path = f"<path>/home/me/export/{split}/data/{one.name}</path>"
        files[f"{split}/labels/{one.stem}.xml"] = text.replace("<size>", f"{path}<size>")
    return files | images("{split}/data/")


def yolo_lines(one: Image) -> str:
    lines = []
    for name, x, y, width, height in one.objects:
        shares = (
            (x + width / 2) / one.size[0],
            (y + height / 2) / one.size[1],
            width / one.size[0],
            height / one.size[1],
        )
        lines.append(f"{CLASSES.index(name)} " + " ".join(map(repr, shares)))
    return "\n".join(lines)


def polygon_lines(one: Image) -> str:
    """The corners of each box, as an outline."""
    lines = []
    for name, *box in one.objects:
        x1, y1, x2, y2 = corners(box)
        points = [(x / one.size[0], y / one.size[1]) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        lines.append(f"{CLASSES.index(name)} " + " ".join(repr(value) for point in points for value in point))
    return "\n".join(lines)


def yolo(lines: Callable[[Image], str] = yolo_lines) -> Files:
    files: Files = {f"labels/{split}/{one.stem}.txt": lines(one) for split, one in each()}
    files["data.yaml"] = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: owl}\n"
    return files | images("images/{split}/")


def yolo_roboflow() -> Files:
    folder = {"train": "train", "val": "valid"}
    files: Files = {f"{folder[split]}/labels/{one.stem}.txt": yolo_lines(one) for split, one in each()}
    files["data.yaml"] = (
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['cat', 'owl']\n"
    )
    files["README.roboflow.txt"] = "exported\n"
    return files | {f"{folder[split]}/images/{one.name}": png(*one.size) for split, one in each()}


def yolo_yaml(text: str, *, lists: bool = False) -> Callable[[], Files]:
    """``images/train``, ``labels/train`` and a ``data.yaml`` of this text, with lists of the images if wanted."""

    def files() -> Files:
        found = yolo() | {"data.yaml": text}
        for split, all in TRUTH.items() if lists else ():
            found[f"{split}.txt"] = "".join(f"./images/{split}/{one.name}\n" for one in all)
        return found

    return files


def yolo_several() -> Files:
    """A split of several folders."""
    files: Files = {f"labels/{one.stem}/{one.stem}.txt": yolo_lines(one) for _, one in each()}
    files["data.yaml"] = "train: [images/a, images/b, images/empty]\nval: [images/v]\nnc: 2\nnames: [cat, owl]\n"
    return files | {f"images/{one.stem}/{one.name}": png(*one.size) for _, one in each()}


def darknet() -> Files:
    """``obj.data`` with the names and the lists; labels lie beside the images."""
    files: Files = {f"obj/{one.stem}.txt": yolo_lines(one) for _, one in each()}
    files["obj.data"] = (
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    for split, name in (("train", "train"), ("val", "valid")):
        files[f"{name}.txt"] = "".join(f"data/obj/{one.name}\n" for one in TRUTH[split])
    return files | {"obj.names": "cat\nowl\n"} | images("obj/")


def cvat_yolo() -> Files:
    """CVAT's "YOLO 1.1": a folder and a list for each subset."""
    folder = {"train": ("obj_train_data", "train"), "val": ("obj_valid_data", "valid")}
    files: Files = {f"{folder[split][0]}/{one.stem}.txt": yolo_lines(one) for split, one in each()}
    for split, (place, key) in folder.items():
        files[f"{key}.txt"] = "".join(f"data/{place}/{one.name}\n" for one in TRUTH[split])
    lines = ["classes = 2", "train = data/train.txt", "valid = data/valid.txt", "names = data/obj.names"]
    files |= {"obj.data": "\n".join([*lines, "backup = backup/\n"]), "obj.names": "cat\nowl\n"}
    return files | {f"{folder[split][0]}/{one.name}": png(*one.size) for split, one in each()}


def cvat_ultralytics() -> Files:
    """CVAT's "Ultralytics YOLO Detection": a list for each subset."""
    files = yolo_yaml("train: train.txt\nval: val.txt\nnames:\n  0: cat\n  1: owl\npath: .\n")()
    for split, all in TRUTH.items():
        files[f"{split}.txt"] = "".join(f"data/images/{split}/{one.name}\n" for one in all)
    return files


def yolo_fiftyone() -> Files:
    """FiftyOne's YOLOv5Dataset: one ``dataset.yaml``, the paths of its own machine."""
    text = "names:\n  0: cat\n  1: owl\npath: /home/me/export\ntrain: ./images/train/\nval: ./images/val/\n"
    files = yolo()
    del files["data.yaml"]
    return files | {"dataset.yaml": text}


def yolo_classes() -> Files:
    files: Files = {f"{split}/labels/{one.stem}.txt": yolo_lines(one) for split, one in each()}
    return files | {"classes.txt": "cat\nowl\n"} | images("{split}/images/")


def yolo_keras() -> Files:
    files: Files = {}
    for split, folder in (("train", "train"), ("val", "valid")):
        lines = []
        for one in TRUTH[split]:
            boxes = [",".join(map(str, [*corners(box), CLASSES.index(name)])) for name, *box in one.objects]
            lines.append(" ".join([one.name, *boxes]))
        files |= {f"{folder}/_annotations.txt": "\n".join(lines), f"{folder}/_classes.txt": "cat\nowl\n"}
        files |= {f"{folder}/{one.name}": png(*one.size) for one in TRUTH[split]}
    return files


def cvat() -> Files:
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    entries = ""
    for number, (split, one) in enumerate(each()):
        boxes = ""
        for name, *box in one.objects:
            sides = zip(("xtl", "ytl", "xbr", "ybr"), corners(box), strict=True)
            boxes += f'<box label="{name}" ' + " ".join(f'{side}="{value}"' for side, value in sides) + "/>"
        size = f'width="{one.size[0]}" height="{one.size[1]}"'
        entries += f'<image id="{number}" name="{one.name}" subset="{split}" {size}>{boxes}</image>'
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return {"annotations.xml": f"<annotations>{meta}{entries}</annotations>"} | images("images/")


def percent(one: Image, box: list[int]) -> dict[str, float]:
    x, y, width, height = box
    values = (x / one.size[0], y / one.size[1], width / one.size[0], height / one.size[1])
    return {key: 100 * value for key, value in zip(("x", "y", "width", "height"), values, strict=True)} | {
        "rotation": 0
    }


def _sized(one: Image) -> dict[str, int]:
    return {"original_width": one.size[0], "original_height": one.size[1], "image_rotation": 0}


def label_studio() -> Files:
    tasks = []
    for number, (_, one) in enumerate(each(), 1):
        result = [
            {
                "id": f"r{i}",
                "type": "rectanglelabels",
                "value": percent(one, box) | {"rectanglelabels": [name]},
                **_sized(one),
            }
            for i, (name, *box) in enumerate(one.objects)
        ]
        data = {"image": f"/data/upload/7/0123456{number}-{one.name}"}
        tasks.append({"id": number, "data": data, "annotations": [{"id": number, "result": result}]})
    return {"project-7.json": json.dumps(tasks)} | images("images/")


def label_studio_apart() -> Files:
    """``<Rectangle>`` and ``<Labels>`` apart: a region is two results with one id."""
    tasks = []
    for number, (_, one) in enumerate(each(), 1):
        result: list[Any] = []
        for i, (name, *box) in enumerate(one.objects):
            value = percent(one, box)
            result.append({"id": f"r{i}", "type": "rectangle", "value": value, **_sized(one)})
            result.append({"id": f"r{i}", "type": "labels", "value": value | {"labels": [name]}, **_sized(one)})
        tasks.append({"id": number, "data": {"image": one.name}, "annotations": [{"id": number, "result": result}]})
    return {"project-7.json": json.dumps(tasks)} | images("images/")


def minimal_records() -> list[dict[str, Any]]:
    records = []
    for number, (_, one) in enumerate(each(), 1):
        drawn = [percent(one, box) | {"rectanglelabels": [name]} | _sized(one) for name, *box in one.objects]
        meta = {"annotator": 1, "annotation_id": number, "created_at": "2024-01-01T00:00:00Z", "lead_time": 3.5}
        records.append({"image": f"/data/upload/7/{one.name}", "id": number, "label": drawn} | meta)
    return records


def label_studio_min() -> Files:
    return {"project-7.json": json.dumps(minimal_records())} | images("images/")


def label_studio_csv() -> Files:
    records = minimal_records()
    rows = [
        [json.dumps(value) if isinstance(value, list) else value for value in record.values()] for record in records
    ]
    return {"project-7.csv": table(",".join(records[0]), rows)} | images("images/")


def csv_corners() -> Files:
    rows: list[list[Any]] = []
    for split, one in each():
        rows += [[split, one.name, *corners(box), name] for name, *box in one.objects]
        rows += [] if one.objects else [[split, one.name, "", "", "", "", ""]]
    return {"boxes.csv": table("split,image,xmin,ymin,xmax,ymax,label", rows)} | images("images/{split}/")


def csv_tensorflow() -> Files:
    files: Files = {}
    for split, folder in (("train", "train"), ("val", "valid")):
        rows = [[one.name, *one.size, name, *corners(box)] for one in TRUTH[split] for name, *box in one.objects]
        files[f"{folder}/_annotations.csv"] = table("filename,width,height,class,xmin,ymin,xmax,ymax", rows)
        files |= {f"{folder}/{one.name}": png(*one.size) for one in TRUTH[split]}
    return files


def csv_retinanet() -> Files:
    files: Files = {}
    for split, folder in (("train", "train"), ("val", "valid")):
        rows: list[list[Any]] = []
        for one in TRUTH[split]:
            rows += [[one.name, *corners(box), name] for name, *box in one.objects]
            rows += [] if one.objects else [[one.name, "", "", "", "", ""]]
        files[f"{folder}/_annotations.csv"] = table("", rows)
        files[f"{folder}/_classes.csv"] = "cat,0\nowl,1\n"
        files |= {f"{folder}/{one.name}": png(*one.size) for one in TRUTH[split]}
    return files


def csv_sides() -> Files:
    rows = [[one.stem, *box, name] for _, one in each() for name, *box in one.objects]
    return {"labels.csv": table("image_id,x,y,w,h,class_name", rows)} | images("images/")


def csv_wheat() -> Files:
    rows = [
        [one.stem, *one.size, str([float(side) for side in box]), "usask_1"]
        for _, one in each()
        for _, *box in one.objects
    ]
    return {"boxes.csv": table("image_id,width,height,bbox,source", rows)} | images("images/")


def csv_make_sense() -> Files:
    rows = [[name, *box, one.name, *one.size] for _, one in each() for name, *box in one.objects]
    return {"labels_my-project.csv": table("", rows)} | images("images/")


def open_images() -> Files:
    codes = {"cat": "/m/01yrx", "owl": "/m/09d5_"}
    header = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    )
    files: Files = {"class-descriptions-boxable.csv": table("", [[code, name] for name, code in codes.items()])}
    for split, folder in (("train", "train"), ("val", "validation")):
        rows = [["0000absent", "xclick", codes["cat"], 1, 0, 1, 0, 1, 0, 0, 0, 0, 0]]
        for one in TRUTH[split]:
            for name, *box in one.objects:
                x1, y1, x2, y2 = corners(box)
                shares = [x1 / one.size[0], x2 / one.size[0], y1 / one.size[1], y2 / one.size[1]]
                rows.append([one.stem, "xclick", codes[name], 1, *shares, 0, 0, 0, 0, 0])
        files[f"{folder}-annotations-bbox.csv"] = table(header, rows)
        files |= {f"{folder}/{one.name}": png(*one.size) for one in TRUTH[split]}
    return files


def record(one: Image) -> dict[str, Any]:
    objects = {"bbox": [box for _, *box in one.objects], "categories": [name for name, *_ in one.objects]}
    return {"objects": objects}


def image_folder() -> Files:
    files: Files = {}
    for split, all in TRUTH.items():
        lines = [json.dumps({"file_name": one.name} | record(one)) for one in all]
        files[f"{split}/metadata.jsonl"] = "\n".join(lines) + "\n"
    return files | images("{split}/")


def parquet() -> Files:
    import pyarrow
    import pyarrow.parquet

    files: Files = {}
    for split, all in TRUTH.items():
        rows = [{"image": {"bytes": png(*one.size), "path": one.name}, **record(one)} for one in all]
        kind = pyarrow.struct(
            [("bbox", pyarrow.list_(pyarrow.list_(pyarrow.int64()))), ("categories", pyarrow.list_(pyarrow.string()))]
        )
        image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        buffer = io.BytesIO()
        schema = pyarrow.schema([("image", image), ("objects", kind)])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), buffer)
        files[f"data/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def labelme_json(one: Image, four: bool = False, **more: Any) -> str:
    shapes = []
    for name, *box in one.objects:
        x1, y1, x2, y2 = corners(box)
        points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]] if four else [[x2, y2], [x1, y1]]
        shapes.append({"label": name, "points": points, "group_id": None, "shape_type": "rectangle", "flags": {}})
    size = {"imageHeight": one.size[1], "imageWidth": one.size[0]}
    return json.dumps(
        {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": one.name, "imageData": None, **size, **more}
    )


def labelme() -> Files:
    return {f"{one.stem}.json": labelme_json(one) for _, one in each()} | images("")


def labelme_folders() -> Files:
    """X-AnyLabeling: four corners, labels in a folder of their own, paths of Windows."""
    files: Files = {
        f"labels/{split}/{one.stem}.json": labelme_json(one, True, imagePath=f"..\\..\\images\\{split}\\{one.name}")
        for split, one in each()
    }
    return files | images("images/{split}/")


def createml_json(all: tuple[Image, ...]) -> str:
    found = []
    for one in all:
        annotations = [
            {"label": name, "coordinates": {"x": x + width / 2, "y": y + height / 2, "width": width, "height": height}}
            for name, x, y, width, height in one.objects
        ]
        found.append({"image": one.name, "annotations": annotations})
    return json.dumps(found)


def createml() -> Files:
    folder = {"train": "train", "val": "valid"}
    files: Files = {f"{folder[split]}/_annotations.createml.json": createml_json(all) for split, all in TRUTH.items()}
    return files | {f"{folder[split]}/{one.name}": png(*one.size) for split, one in each()}


def via_json(all: tuple[Image, ...]) -> dict[str, Any]:
    found = {}
    for one in all:
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": x, "y": y, "width": width, "height": height},
                "region_attributes": {"class": name, "note": ""},
            }
            for name, x, y, width, height in one.objects
        ]
        found[f"{one.name}123"] = {"filename": one.name, "size": 123, "regions": regions, "file_attributes": {}}
    return found


def via() -> Files:
    files: Files = {f"{split}/via_region_data.json": json.dumps(via_json(all)) for split, all in TRUTH.items()}
    return files | images("{split}/")


def via_project() -> Files:
    project = {
        "_via_settings": {"ui": {}},
        "_via_img_metadata": via_json(ALL["all"]),
        "_via_attributes": {"region": {}},
    }
    return {"via_project.json": json.dumps(project)} | images("")


def via_csv() -> Files:
    rows: list[list[Any]] = []
    for one in via_json(ALL["all"]).values():
        regions = one["regions"]
        cells = [(json.dumps(r["shape_attributes"]), json.dumps(r["region_attributes"])) for r in regions] or [
            ("{}", "{}")
        ]
        rows += [[one["filename"], 123, "{}", len(regions), i, shape, own] for i, (shape, own) in enumerate(cells)]
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    return {"via_region_data.csv": table(header, rows)} | images("")


def bdd_labels(one: Image) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"category": "lane", "poly2d": [{"vertices": [[1, 2], [3, 4]]}]}]
    for name, *box in one.objects:
        sides = dict(zip(("x1", "y1", "x2", "y2"), corners(box), strict=True))
        found.append({"category": name, "attributes": {"occluded": False}, "box2d": sides})
    return found


def bdd100k() -> Files:
    files: Files = {}
    for split, all in TRUTH.items():
        frames = [{"name": one.name, "attributes": {"scene": "city"}, "labels": bdd_labels(one)} for one in all]
        files[f"labels/det_20/det_{split}.json"] = json.dumps(frames)
    return files | images("images/100k/{split}/")


def scalabel() -> Files:
    frames = [
        {"name": one.name, "size": {"width": one.size[0], "height": one.size[1]}, "labels": bdd_labels(one)}
        for one in ALL["all"]
    ]
    return {"labels.json": json.dumps({"frames": frames, "config": {}})} | images("images/")


def bdd_images() -> Files:
    files: Files = {
        f"labels/100k/{split}/{one.stem}.json": json.dumps(
            {"name": one.stem, "frames": [{"timestamp": 10000, "objects": bdd_labels(one)}], "attributes": {}}
        )
        for split, one in each()
    }
    return files | images("images/100k/{split}/")


def supervisely() -> Files:
    files: Files = {
        "meta.json": json.dumps({"classes": [{"title": name, "shape": "rectangle"} for name in CLASSES], "tags": []})
    }
    for split, one in each():
        objects = []
        for name, *box in one.objects:
            x1, y1, x2, y2 = corners(box)
            points = {"exterior": [[x1, y1], [x2 - 1, y2 - 1]], "interior": []}
            objects.append({"classTitle": name, "geometryType": "rectangle", "tags": [], "points": points})
        size = {"width": one.size[0], "height": one.size[1]}
        files[f"{split}/ann/{one.name}.json"] = json.dumps(
            {"description": "", "tags": [], "size": size, "objects": objects}
        )
    return files | images("{split}/img/")


VISDRONE = {"cat": "car", "owl": "bus"}


def visdrone() -> Files:
    numbers = {"cat": 4, "owl": 9}
    files: Files = {}
    for split, one in each():
        folder = f"VisDrone2019-DET-{split}"
        lines = [",".join(map(str, [*box, 1, numbers[name], 0, 0])) for name, *box in one.objects]
        files[f"{folder}/annotations/{one.stem}.txt"] = "\n".join(lines)
        files[f"{folder}/images/{one.name}"] = png(*one.size)
    return files


def kitti_lines(one: Image) -> str:
    space = "-1 -1 -1 -1000 -1000 -1000 -10"
    return "\n".join(
        f"{name} 0.00 0 -10 {' '.join(f'{side:.2f}' for side in corners(box))} {space}" for name, *box in one.objects
    )


def kitti() -> Files:
    files: Files = {f"training/label_2/{one.stem}.txt": kitti_lines(one) for _, one in each()}
    files |= {f"ImageSets/{split}.txt": "".join(f"{one.stem}\n" for one in all) for split, all in TRUTH.items()}
    # the right camera and the test set have images of the same names
    return files | images("training/image_2/") | images("training/image_3/") | {"testing/image_2/a.png": png(9, 9)}


def kitti_folders() -> Files:
    return {f"{split}/labels/{one.stem}.txt": kitti_lines(one) for split, one in each()} | images("{split}/images/")


def dota_lines(one: Image) -> str:
    lines = []
    for name, *box in one.objects:
        x1, y1, x2, y2 = corners(box)
        lines.append(f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {name} 0")
    return "\n".join(lines)


def dota() -> Files:
    head = "imagesource:GoogleEarth\ngsd:0.25\n"
    files: Files = {f"{split}/labelTxt-v1.0/labelTxt/{one.stem}.txt": head + dota_lines(one) for split, one in each()}
    return files | images("{split}/images/")


def dota_roboflow() -> Files:
    """Roboflow's oriented boxes: the lines of DOTA beside a ``data.yaml``."""
    folder = {"train": "train", "val": "valid"}
    files: Files = {f"{folder[split]}/labelTxt/{one.stem}.txt": dota_lines(one) for split, one in each()}
    files["data.yaml"] = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'owl']\n"
    return files | {f"{folder[split]}/images/{one.name}": png(*one.size) for split, one in each()}


def webdataset() -> Files:
    files: Files = {}
    for split, all in TRUTH.items():
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for one in all:
                for name, content in (
                    (one.name, png(*one.size)),
                    (f"{one.stem}.json", json.dumps(record(one)).encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        files[f"{split}-000000.tar"] = buffer.getvalue()
    return files


LAYOUTS = {
    "coco-instances": Layout("coco", coco_instances, "annotations/instances_train2017.json, train2017/"),
    "coco-roboflow": Layout("coco", coco_roboflow, "train/_annotations.coco.json beside the images"),
    "coco-flat": Layout("coco", coco_flat, "train.json, images/train/"),
    "coco-fiftyone": Layout("coco", coco_fiftyone, "train/labels.json, train/data/ (FiftyOne)"),
    "coco-fiftyone-alone": Layout("coco", coco_fiftyone_alone, "labels.json, data/ (FiftyOne)", ALL),
    "lvis": Layout("coco", lvis, "annotations/lvis_v1_train.json with coco_url, train2017/"),
    "voc-devkit": Layout("voc", voc_devkit, "Annotations/, JPEGImages/, ImageSets/Main/"),
    "voc-beside": Layout("voc", voc_beside, "train/ with XML beside the images (Roboflow)"),
    "voc-flat": Layout("voc", voc_flat, "XML and images in one folder", ALL),
    "voc-fiftyone": Layout("voc", voc_fiftyone, "train/labels/, train/data/ (FiftyOne)"),
    "yolo": Layout("yolo", yolo, "data.yaml, images/train/, labels/train/"),
    "yolo-outlines": Layout("yolo", lambda: yolo(polygon_lines), "the same with outlines or oriented boxes"),
    "yolo-roboflow": Layout("yolo", yolo_roboflow, "data.yaml with ../train/images, train/images/, train/labels/"),
    "yolo-lists": Layout(
        "yolo",
        yolo_yaml("train: train.txt\nval: val.txt\nnames: [cat, owl]\n", lists=True),
        "data.yaml with lists of images",
    ),
    "yolo-several": Layout("yolo", yolo_several, "data.yaml with several folders for a split"),
    "yolo-nc": Layout(
        "yolo",
        yolo_yaml("path: ../datasets/mine\ntrain: images/train\nval: images/val\nnc: 2\n"),
        "data.yaml with nc alone; path of another machine",
        numbered=True,
    ),
    "yolo-absolute": Layout(
        "yolo",
        yolo_yaml("train: /content/mine/images/train\nval: C:\\set\\images\\val\nnames: [cat, owl]\n"),
        "data.yaml with absolute paths of another machine",
    ),
    "yolo-fiftyone": Layout("yolo", yolo_fiftyone, "dataset.yaml with path, images/train/, labels/train/ (FiftyOne)"),
    "darknet": Layout("yolo", darknet, "obj.data, obj.names, train.txt with data/obj/a.png, obj/ (Darknet)"),
    "cvat-yolo": Layout("yolo", cvat_yolo, "obj.data, obj_train_data/, train.txt (CVAT's YOLO 1.1)"),
    "cvat-ultralytics": Layout("yolo", cvat_ultralytics, "data.yaml, train.txt (CVAT's Ultralytics YOLO)"),
    "yolo-classes": Layout("yolo", yolo_classes, "classes.txt, train/images/, train/labels/"),
    "yolo-keras": Layout(
        "yolo-keras", yolo_keras, "train/_annotations.txt, train/_classes.txt (Roboflow, YOLOv3 and v4)"
    ),
    "cvat": Layout("cvat", cvat, "annotations.xml with subsets, images/"),
    "label-studio": Layout("label-studio", label_studio, "JSON, images/", ALL),
    "label-studio-apart": Layout("label-studio", label_studio_apart, "JSON of Rectangle and Labels apart", ALL),
    "label-studio-min": Layout("label-studio", label_studio_min, "JSON-MIN", ALL),
    "label-studio-csv": Layout("label-studio", label_studio_csv, "CSV", ALL),
    "csv-corners": Layout("csv", csv_corners, "a table with corners and a column split"),
    "csv-tensorflow": Layout("csv", csv_tensorflow, "train/_annotations.csv (Roboflow's TensorFlow)", empty=False),
    "csv-retinanet": Layout("csv", csv_retinanet, "train/_annotations.csv without a header (RetinaNet)"),
    "csv-sides": Layout("csv", csv_sides, "columns x, y, w, h; images without suffix (Kaggle)", ALL, empty=False),
    "csv-wheat": Layout("csv", csv_wheat, "a column bbox, no classes (Global Wheat)", ALL, "object", empty=False),
    "csv-make-sense": Layout("csv", csv_make_sense, "makesense.ai, without a header", ALL, empty=False),
    "open-images": Layout(
        "csv", open_images, "train-annotations-bbox.csv, class-descriptions-boxable.csv, train/", empty=False
    ),
    "image-folder": Layout("image-folder", image_folder, "train/metadata.jsonl"),
    "parquet": Layout("parquet", parquet, "data/train-00000-of-00001.parquet", packed=False),
    "webdataset": Layout("webdataset", webdataset, "train-000000.tar", packed=False),
    "labelme": Layout("labelme", labelme, "JSON beside the images", ALL),
    "labelme-folders": Layout("labelme", labelme_folders, "labels/train/, images/train/ (X-AnyLabeling)"),
    "createml": Layout("createml", createml, "train/_annotations.createml.json (Roboflow)"),
    "via": Layout("via", via, "train/via_region_data.json"),
    "via-project": Layout("via", via_project, "a project of VIA 2", ALL),
    "via-csv": Layout("via", via_csv, "VIA's CSV", ALL),
    "bdd100k": Layout("bdd100k", bdd100k, "labels/det_20/det_train.json, images/100k/train/"),
    "scalabel": Layout("bdd100k", scalabel, "a JSON with frames, images/", ALL),
    "bdd100k-images": Layout("bdd100k", bdd_images, "labels/100k/train/, a JSON for each image"),
    "supervisely": Layout("supervisely", supervisely, "meta.json, train/img/, train/ann/"),
    "visdrone": Layout("visdrone", visdrone, "VisDrone2019-DET-train/annotations/, .../images/"),
    "kitti": Layout("kitti", kitti, "training/label_2/, training/image_2/, ImageSets/"),
    "kitti-folders": Layout("kitti", kitti_folders, "train/labels/, train/images/"),
    "dota": Layout("dota", dota, "train/labelTxt-v1.0/, train/images/"),
    "dota-roboflow": Layout("dota", dota_roboflow, "data.yaml, train/labelTxt/, train/images/ (oriented boxes)"),
}


def expected(layout: Layout) -> dict[str, dict[str, list[tuple[str, list[float]]]]]:
    """Split -> file name -> class and corners of each object, as the layout holds them."""
    found: dict[str, dict[str, list[tuple[str, list[float]]]]] = {}
    names = VISDRONE if layout.format == "visdrone" else {}
    names = {"cat": "class_0", "owl": "class_1"} if layout.numbered else names
    for split, all in layout.truth.items():
        found[split] = {
            one.name: sorted(
                (layout.one_class or names.get(name, name), [float(side) for side in corners(box)])
                for name, *box in one.objects
            )
            for one in all
            if one.objects or layout.empty
        }
    return found


def read(path: Path) -> tuple[str, dict[str, dict[str, list[tuple[str, list[float]]]]]]:
    """The format of a data set as it is recognized, and what is read of it."""
    found = {}
    for split in find_splits(path):
        data = load_dataset(path, split)
        found[normalize_split(split)] = {
            sample.file.name: sorted(
                (data.categories[label].name, [round(side, 3) for side in box])
                for label, box in zip(sample.labels.tolist(), sample.boxes.tolist(), strict=True)
            )
            for sample in data.samples
        }
    return recognize(path), found


def try_layout(layout: Layout, root: Path, packed: bool = False) -> str:
    """Write a layout below an empty folder and read it; what is wrong with what was read, "" for nothing."""
    files = layout.files()
    path = pack(root / "data.zip", files) if packed else fill(root / "data", dict(files))
    format, found = read(path)
    if format != layout.format:
        return f"recognized as {format}"
    return "" if found == expected(layout) else f"read {found} in place of {expected(layout)}"
