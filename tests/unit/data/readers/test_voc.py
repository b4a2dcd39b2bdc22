import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category


def obj(name="cat", corners=(31, 16, 50, 25), more="") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(names, corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>\n"


def xml(*objects: str, name="a.png", size=(100, 50)) -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>\n<filename>{name}</filename>\n{sides}\n{''.join(objects)}</annotation>\n"


def voc(text: str, **more) -> dict:
    return {"Annotations/a.xml": text, "JPEGImages/a.png": (100, 50), **more}


def test_what_is_read(tmp_path):
    objects = obj("dog"), obj("cat", (1, 1, 100, 50), "<difficult>1</difficult>"), obj("dog", (7, 8, 7, 8))
    files = voc(xml(*objects), **{"Annotations/b.xml": xml(name="b.png"), "JPEGImages/b.png": (40, 30)})
    files |= {
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/val.txt": "b\r\n",
        "ImageSets/Main/cat_val.txt": "b -1\n",
    }
    fill(tmp_path, files)
    assert recognize(tmp_path) == "voc"
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "train")
    assert data.categories == (Category(1, "cat"), Category(2, "dog"))
    # pixels count from 1 and the last belongs to the box, so that one pixel has the side 1
    assert found(data) == {"a.png": [("dog", [30, 15, 50, 25]), ("cat", [0, 0, 100, 50]), ("dog", [6, 7, 7, 8])]}
    assert data.samples[0].crowd.tolist() == [False, True, False]  # difficult is neither asked for nor wrong
    raw = read_raw(tmp_path, "train")
    assert raw.boxes.crowd.tolist() == [False, False, False]
    assert raw.boxes.difficult.tolist() == [False, True, False]
    (note,) = [note for note in load_dataset(tmp_path, "val").notes if "nothing is labeled" in note]
    assert note.endswith("nothing is labeled in the split val; its 1 image counts as without objects.")


def test_every_split_of_a_list_that_is_not_there(tmp_path):
    fill(tmp_path, voc(xml(obj()), **{"ImageSets/Main/train.txt": "a\n\nzz\n"}))
    refused(tmp_path, "ImageSets/Main/train.txt: line 3 names 'zz'", "no zz.xml", str(tmp_path / "Annotations"))


@pytest.mark.parametrize(
    ("corners", "box", "zero"),
    [
        (("31.5", "16.25", "50", "25.75"), [30.5, 15.25, 50, 25.75], False),
        ((0, 16, 50, 25), [0, 16, 50, 25], True),
        ((31, "0.5", 50, 25), [31, 0.5, 50, 25], True),
        ((-2, 16, 50, 25), [0, 15, 50, 25], False),
        ((" 31 ", "+16", "5e1", 25), [30, 15, 50, 25], False),
    ],
)
def test_where_pixels_count_from(tmp_path, corners, box, zero):
    fill(tmp_path, voc(xml(obj(), obj("cat", corners))))
    data = load_dataset(tmp_path)
    first = [31, 16, 50, 25] if zero else [30, 15, 50, 25]
    assert found(data) == {"a.png": [("cat", first), ("cat", box)]}
    notes = [note for note in data.notes if "from 0" in note]
    assert len(notes) == zero
    assert all("a.xml line" in note and "object 2" in note for note in notes)


@pytest.mark.parametrize("size", [None, (0, 0), ("x", 3), (100, 50)])
def test_sizes_that_are_not_there_come_from_the_image(tmp_path, size):
    fill(tmp_path, voc(xml(obj("cat", (1, 1, 200, 200)), size=size)))
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", [0, 0, 100, 50])]}


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["Annotations/a.xml", "JPEGImages/a.png"], ["all"]),
        (["annotations/a.xml", "images/a.png"], ["all"]),
        (["train/a.xml", "train/a.png"], ["train"]),
        (["valid/a.xml", "valid/a.png"], ["val"]),
        (["Annotations/train/a.xml", "JPEGImages/train/a.png"], ["train"]),
        (["Annotations/train/a.xml", "JPEGImages/a.png"], ["train"]),
        (["a.xml", "a.png"], ["all"]),
        (["VOC2012/Annotations/a.xml", "VOC2012/JPEGImages/a.png"], ["all"]),
        (["xmls/a.xml", "a.png"], ["all"]),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a", "", "other.jpg"])
def test_layouts(tmp_path, files, splits, name):
    fill(tmp_path, {files[0]: xml(obj(), name=name), files[1]: (100, 50)})
    assert recognize(tmp_path) == "voc"
    assert find_splits(tmp_path) == splits
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", [30, 15, 50, 25])]}


def test_a_file_by_itself(tmp_path):
    fill(tmp_path, voc(xml(obj())))
    assert recognize(tmp_path / "Annotations/a.xml") == "voc"
    assert found(load_dataset(tmp_path / "Annotations/a.xml")) == {"a.png": [("cat", [30, 15, 50, 25])]}


@pytest.mark.parametrize(
    ("corners", "shown"),
    [((50, 16, 31, 25), [30, 15, 50, 25]), ((31, 25, 50, 16), [30, 15, 50, 25]), ((50, 25, 31, 16), [30, 15, 50, 25])],
)
def test_a_box_that_was_drawn_from_right_to_left(tmp_path, corners, shown):
    fill(tmp_path, voc(xml(obj(corners=(7, 8, 7, 8)), obj(corners=corners))))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", [6, 7, 7, 8]), ("cat", shown)]}
    assert data.notes == (
        "Annotations: 1 box was put in order, first that of a.xml line 5 (object 2): "
        "it is written from right to left or from bottom to top.",
    )


def test_pixels_count_from_zero_whatever_the_order_of_the_corners(tmp_path):
    fill(tmp_path, voc(xml(obj(corners=(50, 16, 0, 25)))))
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", [0, 16, 50, 25])]}


def test_several_kits(tmp_path):
    fill(tmp_path, {f"VOC{year}/Annotations/a.xml": xml() for year in (2007, 2012)})
    refused(tmp_path, "VOC2007, VOC2012", code="voc-several-sets")


@pytest.mark.parametrize(
    ("node", "parts"),
    [
        ("<object></object>", ["has no box;", "data.invalid_boxes=drop"]),
        (obj(name=" "), ["the box [31, 16, 50, 25], which has no label", "data.invalid_boxes=drop"]),
        ("<object><name>cat</name></object>", ["has no box;", "data.invalid_boxes=drop"]),
        (
            "<object><name>cat</name><bndbox><xmin>3</xmin></bndbox></object>",
            ["the box 3 nothing nothing nothing, which"],
        ),
        (obj(more="<difficult>2</difficult>"), ["has the difficult '2'", "0 or 1"]),
        (obj(corners=(31, 16, "x", 25)), ["has the box 31 16 x 25, which holds something that is not a finite"]),
        (obj(corners=(31, 16, "nan", 25)), ["not a finite"]),
        (obj(corners=(131, 16, 150, 25)), ["[131, 16, 150, 25], which lies wholly outside"]),
    ],
)
def test_wrong_objects(tmp_path, node, parts):
    fill(tmp_path, voc(xml(obj(), node)))
    refused(tmp_path, f"{tmp_path}/Annotations/a.xml: line 5 (object 2) ", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<annotation><a></annotation>", ["not valid XML at line 1 column 18", "mismatched tag"]),
        ("<annotation>\n<filename>a.png", ["not valid XML at line 2"]),
        ("<annotation>\x00</annotation>", ["not valid XML"]),
        ("<other/>", ["this is <other>"]),
        ('<!DOCTYPE x [<!ENTITY a "b">]>\n<annotation>&a;</annotation>', ["document type", "DOCTYPE"]),
        (xml(obj()).encode("utf-16")[:-1], ["is not UTF-16"]),
        ('<?xml version="1.0" encoding="no-such"?>\n' + xml(obj()), ["no-such"]),
        ('<?xml version="1.0" encoding="ascii"?>\n<annotation>\u00e9</annotation>', ["ascii"]),
    ],
)
def test_wrong_files(tmp_path, text, parts):
    # the second, so that the folder is recognized
    files = voc(xml(obj()), **{"Annotations/b.xml": text, "JPEGImages/b.png": (10, 10)})
    message = refused(fill(tmp_path, files), f"{tmp_path}/Annotations/b.xml: ")
    for part in parts:
        assert part in message


def test_an_entity_bomb_is_refused_at_once(tmp_path):
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 30))
    bomb = f'<!DOCTYPE b [<!ENTITY l0 "ha">{levels}]><annotation>&l29;</annotation>'
    for content in (bomb, bomb.encode("utf-16")):
        refused(fill(tmp_path, voc(content)), "document type", format="voc")


def test_missing_and_double_images(tmp_path):
    fill(tmp_path, voc(xml(obj()), **{"Annotations/b.xml": xml(name="a.png")}))
    refused(tmp_path, "Annotations/b.xml: is of the image a.png, of which a.xml is, too")
    fill(tmp_path, {"Annotations/b.xml": xml(name="b.png")})
    refused(
        tmp_path, "Annotations/b.xml: has the filename 'b.png', which is not found in", str(tmp_path / "JPEGImages")
    )


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "utf-8"),
        ("", "utf-8-sig"),
        ("", "utf-16"),
        ("", "latin-1"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>\n', "latin-1"),
        ('<?xml version="1.0" encoding="gb2312"?>\n', "gb2312"),
        ('<?xml version="1.0" encoding="UTF-16"?>\n', "utf-16"),
    ],
)
def test_encodings(tmp_path, head, encoding):
    name = "\u732b" if encoding == "gb2312" else "b\u00eate"
    fill(tmp_path, voc((head + xml(obj(name))).replace("\n", "\r\n").encode(encoding)))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [(name, [30, 15, 50, 25])]}
    assert ["Latin-1" in note for note in data.notes] == [True] * (not head and encoding == "latin-1")


def test_a_loop_of_links(tmp_path):
    fill(tmp_path, {"train/a.xml": xml(obj()), "train/a.png": (100, 50)})
    (tmp_path / "train/again").symlink_to(tmp_path, target_is_directory=True)
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", [30, 15, 50, 25])]}


def test_images_without_xml_are_counted(tmp_path):
    fill(tmp_path, voc(xml(obj()), **{"JPEGImages/b.png": (9, 9), "JPEGImages/c.png": (9, 9), "JPEGImages/x.txt": ""}))
    data = load_dataset(tmp_path)
    assert len(data.samples) == 1
    assert data.notes == (
        "Annotations: 2 images have no XML and are left out, first b.png; "
        "--unlabeled background takes them as images without objects.",
    )
    fill(tmp_path, {"JPEGImages/d.nef": "x"})
    kinds, left = load_dataset(tmp_path).notes
    assert left == data.notes[0]
    assert kinds.startswith("Annotations: 1 image is left out, of a kind that is not read (.nef: 1), first d.nef;")
    fill(tmp_path, {"ImageSets/Main/train.txt": "a"})
    assert load_dataset(tmp_path).notes == ()


def test_an_xml_of_an_image_that_is_not_read_does_not_call_it_missing(tmp_path):
    fill(tmp_path, {"Annotations/a.xml": xml(obj(), name="a.psd"), "JPEGImages/a.psd": b"8BPS"})
    raw = read_raw(tmp_path)
    assert [problem.kind for problem in raw.problems] == []
    assert raw.images.files[0] == tmp_path / "JPEGImages" / "a.psd"


def test_the_jpg_of_a_heic_is_the_image_of_an_xml_without_a_suffix(tmp_path):
    files = {"Annotations/a.xml": xml(obj(), name="a"), "JPEGImages/a.heic": "x", "JPEGImages/a.jpg": (100, 50)}
    assert found(load_dataset(fill(tmp_path, files))) == {"a.jpg": [("cat", [30, 15, 50, 25])]}


@pytest.mark.parametrize("wrong", ["<object><name>cat</name></object>", obj(name="")])
def test_an_object_without_box_or_name_can_be_left_out(tmp_path, wrong):
    fill(tmp_path, {"a.png": (100, 50), "a.xml": xml(wrong, obj())})
    data = load_dataset(tmp_path, invalid_boxes="drop")
    assert found(data) == {"a.png": [("cat", [30, 15, 50, 25])]}
    assert ": 1 box was left out, first that of a.xml line 4 (object 1)" in data.notes[0], data.notes


def test_sides_in_capitals(tmp_path):
    """As Open Images calls them."""
    sides = "<XMin>3</XMin><YMin>3</YMin><XMax>6</XMax><YMax>6</YMax>"
    for box, message in ((sides, ""), ("<left>3</left>", "has no box"), ("<xmin>3</xmin>", "has the box 3 nothing")):
        node = f"<annotation><object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
        fill(tmp_path, {"a.png": (20, 20), "a.xml": node})
        if message:
            refused(tmp_path, message)
        else:
            assert found(load_dataset(tmp_path)) == {"a.png": [("cat", [2.0, 2.0, 6.0, 6.0])]}


def test_decimal_commas(tmp_path):
    fill(tmp_path, voc(xml(obj(corners=("2,5", "2", "6,25", "7")))))
    data = load_dataset(tmp_path)
    assert data.samples[0].boxes.tolist() == [[1.5, 1, 6.25, 7]]
    assert any("1 box has numbers with decimal commas." in note for note in data.notes)
    fill(tmp_path, voc(xml(obj(corners=("2", "2", "1,234", "7")))))  # may be 1234
    refused(tmp_path, "2 2 1,234 7")


def test_objects_marked_as_deleted_are_left_out(tmp_path):
    """The first LabelMe keeps them in its files."""
    objects = obj(more="<deleted>0</deleted>") + obj("dog", more="<deleted>1</deleted>")
    fill(tmp_path, {"a.xml": f"<annotation><filename>a.png</filename>{objects}</annotation>", "a.png": (100, 50)})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", [30, 15, 50, 25])]}
    assert [note.partition(": ")[2] for note in data.notes] == ["1 object marked as deleted was left out."]
