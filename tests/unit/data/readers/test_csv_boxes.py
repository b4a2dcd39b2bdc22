import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category

HEADER = "image,xmin,ymin,xmax,ymax,label\n"
LINE = "a.png,30,15,50,25,cat\n"
BOX = [30.0, 15.0, 50.0, 25.0]


def write(tmp_path, text: str | bytes, name="boxes.csv"):
    return fill(tmp_path, {name: text, "images/a.png": (100, 50)})


def test_what_is_read(tmp_path):
    write(tmp_path, HEADER + LINE + "a.png,0.5,0,100,50,owl\n\nsub/b.png,,,,,\n")
    fill(tmp_path, {"images/sub/b.png": (40, 30)})
    assert recognize(tmp_path) == recognize(tmp_path / "boxes.csv") == "csv"
    assert find_splits(tmp_path) == ["all"]
    for path in (tmp_path, tmp_path / "boxes.csv"):
        data = load_dataset(path)
        assert data.categories == (Category(1, "cat"), Category(2, "owl"))
        assert found(data) == {"a.png": [("cat", BOX), ("owl", [0.5, 0, 100, 50])], "b.png": []}
        assert data.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "label,ymax,xmax,ymin,xmin,image\ncat,25,50,15,30,a.png\n",
        "Label;Y Max;X_Max;Ymin;X-min;File Name\ncat;25;50;15;30;a.png\n",
        "class\tx1\ty1\tx2\ty2\tpath\ncat\t30\t15\t50\t25\timages/a.png\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,100,50,cat,30,15,50,25\n",
        ",image,xmin,ymin,xmax,ymax,label,score,id\n0,a.png,30,15,50,25,cat,0.5,8\n",
        '"image","xmin","ymin","xmax","ymax","label"\r\n"a.png","30","15","50","25","cat"\r\n',
        "image, xmin, ymin, xmax, ymax, label\na.png, 30, 15, 50, 25, cat\n",
        "image;xmin;ymin;xmax;ymax;label\na.png;30,0;15,00;5e1;25;cat\n",
        'image,xmin,ymin,xmax,ymax,label\na.png,"30,0","15,00",5e1,25,cat\n',
        "a.png,30,15,50,25,cat\n",
        "sep=;\nimage;xmin;ymin;xmax;ymax;label\na.png;30;15;50;25;cat\n",
        '"sep=,"\nimage,xmin,ymin,xmax,ymax,label\na.png,30,15,50,25,cat\n',
        "a.png|30|15|50|25|cat",
        "image,xmin,ymin,xmax,ymax,label\n.\\a.png,30,15,50,25,cat",
        "\n\nimage,xmin,ymin,xmax,ymax,label\n\n  \na.png,30,15,50,25,cat",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_dialects(tmp_path, text, encoding):
    data = load_dataset(write(tmp_path, text.encode(encoding)) / "boxes.csv")
    assert found(data) == {"a.png": [("cat", BOX)]}


def test_latin_is_noted(tmp_path):
    data = load_dataset(write(tmp_path, (HEADER + LINE).replace("cat", "b\u00eate").encode("latin-1")))
    assert found(data) == {"a.png": [("b\u00eate", BOX)]}
    assert data.notes == ("boxes.csv: 1 file is not UTF-8 and read as Latin-1, first boxes.csv.",)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("a.png,30,15,50,25", ["which has no label", "data.invalid_boxes=drop"]),
        ("a.png,30,15,50,25, ", ["which has no label", "data.invalid_boxes=drop"]),
        ("a.png,30,,50,25,cat", ["has the box 30 nothing 50 25, which holds something", "data.invalid_boxes=drop"]),
        (",30,15,50,25,cat", ["names no image"]),
        ("b.png,30,15,50,25,cat", ["names the image 'b.png', which is not found in", "images"]),
        ("../a.png,30,15,50,25,cat", ["'../a.png', which is not a file inside"]),
        ("/a.png,30,15,50,25,cat", ["'/a.png', which is not a file inside"]),
        ("a.png,30,15,x,25,cat", ["the box 30 15 x 25, which holds something"]),
        ("a.png,30,15,nan,25,cat", ["which holds something"]),
        ("a.png,30,15,inf,25,cat", ["which holds something"]),
        ("a.png,30,15,1_0,25,cat", ["which holds something"]),
        ('a.png,30,15,"5,000",25,cat', ["which holds something"]),
        ("a.png,50,15,50,25,cat", ["[50, 15, 50, 25], which has no area", "'a.png', 100 x 50 pixels"]),
        ("a.png,150,15,180,25,cat", ["lies wholly outside"]),
        ('a.png,30,15,50,25,"cat', ["is not CSV"]),
        ('a.png,30,15,50,25,"cat"x', ["is not CSV"]),
    ],
)
def test_wrong_lines(tmp_path, line, parts):
    write(tmp_path, f"{HEADER}{LINE}{LINE}\n{line}\n")
    refused(tmp_path, f"{tmp_path}/boxes.csv: line ", *parts)
    if parts != ["is not CSV"]:
        refused(tmp_path, f"{tmp_path}/boxes.csv: line 5 ", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("image,xmin,ymin,xmax,label\n", ["no ymax", "found: image, xmin"]),
        ("image,x,y,width,label\n", ["no xmin, ymin, xmax, ymax (found"]),
        ("image,xmin,x1,ymin,xmax,ymax,label\n", ["the columns 'xmin' and 'x1' both mean xmin"]),
        ("one,two,three,four,five,six\n", ["no image"]),
        ("", ["no image"]),
        (HEADER, ["it has no boxes"]),
        (HEADER + "a.png,,,,,\n", ["no box with a class"]),
        (HEADER + f"a.png,1,2,3,4,{'x' * 200_000}\n", ["line 2 is not CSV"]),
    ],
)
def test_wrong_files(tmp_path, text, parts):
    refused(write(tmp_path, text) / "boxes.csv", f"{tmp_path}/boxes.csv: ", *parts)


def test_two_sizes_of_a_image(tmp_path):
    text = "image,xmin,ymin,xmax,ymax,label,width,height\na.png,30,15,50,25,cat,100,50\na.png,30,15,50,25,cat,50,100\n"
    refused(write(tmp_path, text), "line 3 gives the image 'a.png' another size")


@pytest.mark.parametrize("first", ["a", "./a.png", "images/a.png", "images\\a"])
def test_two_names_of_an_image_are_one_image(tmp_path, first):
    """Else the boxes of the one name would be background in the image of the other."""
    for one, other in ((first, "a.png"), ("a.png", first)):
        text = f"{HEADER}{one},30,15,50,25,cat\n{other},0,0,100,50,owl\n{one},,,,,\n"
        data = load_dataset(write(tmp_path, text))
        assert len(data.samples) == 1
        assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])]}
    sized = HEADER.strip() + f",width,height\n{first},30,15,50,25,cat,100,50\na.png,30,15,50,25,cat,50,100\n"
    refused(write(tmp_path, sized), "line 3 gives the image 'a.png' another size")


def test_a_name_without_suffix_that_two_images_have(tmp_path):
    """Nothing says which of them has the boxes."""
    path = write(tmp_path, f"{HEADER}a,30,15,50,25,cat\n")
    fill(tmp_path, {"images/a.jpg": (60, 40)})
    several = "line 2 names the image 'a', which fits several images: images/a.jpg, images/a.png; "
    refused(path, several + "rename one of them, or write the suffix of the one that is meant")


def test_splits(tmp_path):
    line = LINE.strip()
    write(tmp_path, f"split,{HEADER}Train,{line}\nvalid,{line.replace('cat', 'owl')}\ntrain,{line}\n")
    assert find_splits(tmp_path) == ["train", "val"]
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("cat", BOX), ("cat", BOX)]}
    assert found(load_dataset(tmp_path, "val")) == {"a.png": [("owl", BOX)]}
    for name in ("train/_annotations.csv", "valid/_annotations.csv"):
        fill(tmp_path / "roboflow", {name: HEADER + LINE, f"{name[:5]}/a.png": (100, 50)})
    assert find_splits(tmp_path / "roboflow") == ["train", "val"]
    assert found(load_dataset(tmp_path / "roboflow", "val")) == {"a.png": [("cat", BOX)]}
    fill(tmp_path / "flat", {"train.csv": HEADER + LINE, "val.csv": HEADER + LINE, "images/a.png": (100, 50)})
    fill(tmp_path / "flat", {"classes.csv": "cat,0\n"})
    assert find_splits(tmp_path / "flat") == ["train", "val"]


def test_corners_are_put_in_order(tmp_path):
    data = load_dataset(write(tmp_path, f"{HEADER}a.png,50,15,30,25,cat\na.png,30,25,50,15,cat\n"))
    assert found(data) == {"a.png": [("cat", BOX), ("cat", BOX)]}
    assert data.notes[0].startswith("boxes.csv: 2 boxes were put in order, first that of line 2: ")


def test_places(tmp_path):
    raw = read_raw(write(tmp_path, f"{HEADER}{LINE}\n{LINE}"))
    assert [str(raw.boxes.where(i)) for i in (0, 1)] == ["boxes.csv line 2", "boxes.csv line 4"]


@pytest.mark.parametrize(
    "text",
    [
        "image_id,x,y,w,h,class\na,30,15,20,10,cat\n",
        "image,x,y,width,height,label\na.png,30,15,20,10,cat\n",
        "image,left,top,width,height,label\na.png,30,15,20,10,cat\n",
        "filename,bbox_x,bbox_y,bbox_width,bbox_height,width,height,label\na.png,30,15,20,10,100,50,cat\n",
        "image,x_center,y_center,w,h,label\na.png,40,20,20,10,cat\n",
        'image_id,width,height,bbox,label\na,100,50,"[30.0, 15.0, 20.0, 10.0]",cat\n',
        'image,bbox,label\na.png,"(30, 15, 20, 10)",cat\n',
        "image,bbox,label\na.png,30 15 20 10,cat\n",
        'image,bbox_xyxy,label\na.png,"[30, 15, 50, 25]",cat\n',
        "cat,30,15,20,10,a.png,100,50\n",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\na,cat,3,R9,30,15,50,25\n",
        "image,x_min,y_min,x_max,y_max,category_id\na.png,30,15,50,25,cat\n",
    ],
)
def test_other_ways_to_write_a_box(tmp_path, text):
    data = load_dataset(write(tmp_path, text))
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert data.notes == ()


def test_several_boxes_in_a_cell(tmp_path):
    text = "image_name,BoxesString,domain\na.png,30 15 50 25;0 0 10 10,x\nb.png,no_box,x\n"
    write(tmp_path, text)
    fill(tmp_path, {"images/b.png": (40, 30)})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("object", BOX), ("object", [0, 0, 10, 10])], "b.png": []}
    assert data.notes == (
        "boxes.csv: nothing in it names a class, so that all boxes are of one, called 'object'. "
        "Columns not read: domain.",
    )


def test_a_label_without_a_box_is_an_image_without_objects(tmp_path):
    write(tmp_path, f"{HEADER}{LINE}b.png,,,,,No finding\n")
    fill(tmp_path, {"images/b.png": (40, 30)})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX)], "b.png": []}
    assert data.notes == ("boxes.csv: 1 line has a label and no box, and counts as an image without objects.",)


def test_boxes_without_a_label_can_be_left_out(tmp_path):
    data = load_dataset(write(tmp_path, f"{HEADER}{LINE}a.png,1,2,3,4,\n"), invalid_boxes="drop")
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert data.notes == (
        "boxes.csv: 1 box was left out, first that of line 3: it has no label (the name of its class).",
    )


def test_shares_of_the_image(tmp_path):
    data = load_dataset(write(tmp_path, HEADER + "a.png,0.3,0.3,0.5,0.5,cat\na.png,0,0,1,1,owl\n"))
    assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])]}
    assert data.notes == ("boxes.csv: all boxes lie about 0 to 1 and are taken for fractions of the image.",)


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ('"[30, 15, 20]"', ["line 2", "has the box 30 15 20, which holds something", "data.invalid_boxes=drop"]),
        ('"[30, 15, , 10]"', ["has the box 30 15 10, which"]),
        ('"[30, 15, x, 10]"', ["which holds something"]),
        ('"[30, 15, 0, 10]"', ["no area"]),
    ],
)
def test_wrong_cells(tmp_path, cell, parts):
    refused(write(tmp_path, f"image,bbox,label\na.png,{cell},cat\n"), f"{tmp_path}/boxes.csv: line 2 ", *parts)


OPEN = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"


def test_open_images(tmp_path):
    rows = "a,xclick,/m/01,1,0.3,0.5,0.3,0.5,0,0,0,0,0\na,xclick,/m/02,1,0,1,0,1,0,0,1,0,0\n"
    absent = "0001,xclick,/m/01,1,0,1,0,1,0,0,0,0,0\n"
    fill(tmp_path, {"train-annotations-bbox.csv": OPEN + rows + absent, "train/a.png": (100, 50)})
    fill(tmp_path, {"validation-annotations-bbox.csv": OPEN + absent})
    fill(tmp_path, {"class-descriptions-boxable.csv": "/m/01,Cat\n/m/02,Owl\n"})
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "train")
    assert found(data) == {"a.png": [("Cat", BOX), ("Owl", [0, 0, 100, 50])]}
    assert data.samples[0].crowd.tolist() == [False, True]
    assert "train-annotations-bbox.csv: 1 image is named but missing, and left out, first '0001'." in data.notes
    refused(tmp_path, "the image that it names is not there", split="val")


def test_open_images_as_fiftyone_keeps_them(tmp_path):
    row = "a,xclick,/m/01,1,0.3,0.5,0.3,0.5,0,0,0,0,0\n"
    fill(tmp_path, {"train/labels/detections.csv": OPEN + row, "train/data/a.png": (100, 50)})
    fill(tmp_path, {"train/metadata/classes.csv": "/m/01,Cat\n"})
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("Cat", BOX)]}


@pytest.mark.parametrize("name", [r"C:\Users\me\x.jpg", r"..\x.jpg"])
def test_a_windows_path_is_shown_as_it_is_written(tmp_path, name):
    path = write(tmp_path, f"image,bbox,label\n{name},30 15 20 10,cat\n")
    refused(path, f"names the image '{name}', ")
    path = write(tmp_path, f"image,bbox,label\n{name},30 15 0 10,cat\n")
    fill(tmp_path, {"x.jpg": (100, 50)})
    refused(path, f"line 2 ('{name}', 100 x 50 pixels) has the box")


@pytest.mark.parametrize("format", [None, "csv"])
def test_a_folder_with_a_table_that_has_no_box_names_the_missing_columns(tmp_path, format):
    write(tmp_path, "Image Name;x;y;label\na.png;1;2;cat\n", "train.csv")
    refused(tmp_path, f"{tmp_path / 'train.csv'}: the header has no xmin, ymin, xmax, ymax (found", format=format)


def test_classes_without_a_header_may_be_called_like_columns(tmp_path):
    """SKU-110K has the class "object" and the size of the image behind it."""
    write(tmp_path, "a.png,30,15,50,25,object,100,50\na.png,1,2,3,4,label,100,50\n")
    assert found(load_dataset(tmp_path)) == {"a.png": [("object", BOX), ("label", [1, 2, 3, 4])]}


@pytest.mark.parametrize("word", ["NaN", "nan", "NA", "null", "None"])
def test_a_line_without_numbers_is_an_image_without_objects(tmp_path, word):
    write(tmp_path, HEADER + LINE + f"b.png,{word},{word},{word},{word},\n")
    fill(tmp_path, {"images/b.png": (40, 30), "t.csv": f'image,bbox\na.png,"[1,2,3,4]"\nb.png,{word}\n'})
    assert found(load_dataset(tmp_path / "boxes.csv")) == {"a.png": [("cat", BOX)], "b.png": []}
    assert found(load_dataset(tmp_path / "t.csv")) == {"a.png": [("object", [1, 2, 4, 6])], "b.png": []}
    write(tmp_path, HEADER + LINE + f"a.png,{word},1,2,3,cat\n")
    refused(tmp_path / "boxes.csv", "line 3", f"has the box {word} 1 2 3")
