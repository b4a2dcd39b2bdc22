"""From images to detections, with a detector whose boxes are known."""

import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest
import timm
import torch
from error_codes import raises_code
from PIL import Image
from torch import nn

import varifocal as vf
from varifocal.inference.image_inputs import as_image
from varifocal.inference.model import Model, ModelInfo
from varifocal.inference.pipeline import whole
from varifocal.models.vfnet import VFNetConfig
from varifocal.structures import Candidates, Outputs
from varifocal.types import Category, PostProcess, Preprocess, Tiling
from varifocal.utils.errors import DataError

CATEGORIES = (Category(7, "spot"), Category(3, "other"))


class Log(list):
    """Kept by the copy of a detector that prediction makes."""

    def __deepcopy__(self, memo):
        return self


class Spot(nn.Module):
    """Finds the box around what is brighter than the mean, at three scores and in two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches = Log()

    def forward(self, images):
        assert not self.training
        self.batches.append(tuple(images.shape))
        boxes = []
        for image in images:
            y, x = (image[0] > 0).nonzero(as_tuple=True)
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
        return Outputs({"boxes": torch.tensor(boxes).float()}, ((1, 3),))

    def decode(self, outputs, sizes):
        box = outputs.tensors["boxes"][:, None]
        shift = torch.tensor([0.0, 500.0, 900.0]).view(1, 3, 1)
        scores = torch.tensor([[0.9, 0.04], [0.01, 0.5], [0.3, 0.0]]).expand(len(sizes), -1, -1)
        return Candidates(box + shift, scores, (3,))


@pytest.fixture
def model():
    settings = Preprocess(short_side=100, max_long_side=1000)
    return Model(Spot(), ModelInfo("vfnet", VFNetConfig(2), CATEGORIES, settings, PostProcess()))


def spot(width=400, height=250, box=(120, 60, 220, 160)):
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def of_spots(batch):
    return batch._replace(crops=whole([spot()] * len(batch.crops)))


def test_boxes_are_in_pixels_of_the_original_image(model):
    found = model.predict(spot())
    assert model.detector.batches == [(1, 3, 128, 160)]
    assert np.abs(found.boxes[0] - [120, 60, 220, 160]).max() <= 2.6  # one pixel of the resized image is 2.5
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.class_names == ["spot", "other", "spot"]
    assert found.categories == CATEGORIES


def test_a_list_is_one_batch_and_each_image_keeps_its_own_scale(model):
    found = model.predict([spot(), spot(800, 600, (80, 240, 400, 480))])
    assert len(model.detector.batches) == 1
    assert np.abs(found[0].boxes[0] - [120, 60, 220, 160]).max() <= 2.6
    assert np.abs(found[1].boxes[0] - [80, 240, 400, 480]).max() <= 6.1


def test_one_image_gives_one_result_and_a_list_a_list(model):
    assert isinstance(model.predict([spot()]), list)
    assert len(model.predict(spot())) == 3
    assert model.predict([]) == []


def test_paths_arrays_and_images_are_the_same(model, tmp_path):
    image, file = spot(), tmp_path / "a.png"
    image.save(file)
    found = [model.predict(one) for one in (image, np.asarray(image), file, str(file), image.convert("L"))]
    assert all(np.array_equal(one.boxes, found[0].boxes) for one in found)
    mixed = model.predict([image, file])
    assert np.array_equal(mixed[0].boxes, mixed[1].boxes)


@pytest.mark.parametrize("count", [8, 9, 17])
def test_a_long_list_is_run_in_batches_of_eight(model, count):
    images = [spot(box=(10 * i, 60, 10 * i + 100, 160)) for i in range(count)]
    found = model.predict(images)
    assert [batch[0] for batch in model.detector.batches] == {8: [8], 9: [8, 1], 17: [8, 8, 1]}[count]
    assert len(found) == count
    for i, one in enumerate(found):
        assert np.abs(one.boxes[0] - [10 * i, 60, 10 * i + 100, 160]).max() <= 2.6


def test_images_of_a_long_list_are_opened_batch_by_batch(model, tmp_path):
    """So that a folder of any size fits: the tenth is not looked for before the first eight are done."""
    file = tmp_path / "a.png"
    spot().save(file)
    with pytest.raises(DataError, match=r"gone\.png"):
        model.predict([*[file] * 9, tmp_path / "gone.png"])
    assert [batch[0] for batch in model.detector.batches] == [8]


def test_a_image_in_memory_is_turned_by_its_exif_data(model, tmp_path):
    """As one that is read from its file; the caller's image is left as it is."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = spot()
    stored.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        found = model.predict(image)
        assert image.size == (400, 250)
        assert image.getexif()[0x0112] == 6
    assert model.detector.batches == [(1, 3, 160, 128)]
    assert np.abs(found.boxes[0] - [90, 120, 190, 220]).max() <= 2.6  # a quarter turn to the right
    assert np.array_equal(found.boxes, model.predict(tmp_path / "a.png").boxes)
    stored.getexif()[0x0112] = 6
    assert np.array_equal(found.boxes, model.predict(stored).boxes)


def test_gray_of_16_bits_in_memory_is_scaled_by_its_range(model, tmp_path):
    values = np.full((250, 400), 20000, np.uint16)  # clipped to 8 bits it would all be white
    values[60:160, 120:220] = 60000
    deep = Image.fromarray(values)
    deep.save(tmp_path / "deep.png")
    found = [model.predict(one) for one in (deep, tmp_path / "deep.png")]
    assert np.abs(found[0].boxes[0] - [120, 60, 220, 160]).max() <= 2.6
    assert np.array_equal(found[0].boxes, found[1].boxes)


def test_a_image_of_no_known_range_is_a_sentence(model):
    with pytest.raises(DataError, match=r"^image: pixels of type 'F' have no known range; .*name the range with "):
        model.predict(Image.new("F", (40, 30)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 30), np.int64),
        np.zeros((0, 30), np.uint8),
        np.zeros((0, 30, 3), np.uint8),
        np.zeros((40, 0, 3), np.uint8),
        np.zeros((40, 30, 5), np.uint8),
        np.zeros((40, 30), bool),
        np.zeros((3, 40, 30), np.uint8),
        np.zeros((1, 40, 30, 3), np.uint8),
        np.zeros((40, 30, 3), np.float32),
        np.zeros((40, 30, 3), np.int64),
        np.zeros((40, 30, 3), bool),
    ],
)
def test_other_arrays_are_a_sentence(model, array):
    with pytest.raises(DataError) as error:
        model.predict([spot(), array])
    assert str(error.value) == (
        f"image: an array of {array.dtype} and shape {array.shape}; give RGB or RGBA, uint8 or uint16 "
        "[H, W, 3 or 4], or gray values, [H, W] or [H, W, 1] of uint8, 16 or 32 bits or floating point."
    )


def test_arrays_with_alpha_or_an_axis_more_are_the_same_image(model):
    rgb, wanted = np.asarray(spot()), model.predict(spot()).boxes
    gray = np.asarray(spot().convert("L"))
    clear = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    deep = rgb.astype(np.uint16) * 257
    for array in (
        clear,
        gray[..., None],
        deep,
        np.dstack([deep, deep[..., 0]]),
        deep[::-1][::-1],
        np.asfortranarray(deep),
    ):
        assert np.array_equal(model.predict(array).boxes, wanted)
    seen = as_image(deep, (0.0, 257 * 510.0))
    assert np.abs(np.asarray(seen).astype(int) - rgb / 2).max() <= 0.5


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_an_image_without_pixels_is_a_sentence(model, size):
    with pytest.raises(DataError, match=f"{size[0]} x {size[1]}"):
        model.predict(Image.new("RGB", size))


def test_an_image_that_is_closed_is_a_sentence(model, tmp_path):
    spot().save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    with raises_code("image-not-decoded"):
        model.predict(image)


@pytest.mark.parametrize(
    "name",
    [
        "https://example.com/a.jpg",
        Path("https://example.com/a.jpg"),
        "s3://b/a.jpg",
        "rtsp://1.2.3.4/x",
        "file:///a.jpg",
    ],
)
def test_an_address_is_said_to_be_one(model, name):
    with pytest.raises(DataError, match="is a URL, which is not downloaded; download the image and name its file"):
        model.predict(name)


def test_an_image_in_an_address_is_not_shown_whole(model):
    with pytest.raises(DataError, match="is a URL") as error:
        model.predict("data:image/png;base64," + "A" * 5000)
    assert len(str(error.value)) < 200


class BytesPath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fsencode(self.path)


def test_a_path_of_bytes_is_a_path(model, tmp_path):
    spot().save(tmp_path / "a.png")
    assert np.array_equal(model.predict(BytesPath(tmp_path / "a.png")).boxes, model.predict(spot()).boxes)


@pytest.mark.parametrize(
    "limits",
    [{"max_detections": -3}, {"max_detections": 0}, {"score_threshold": -0.1}, {"score_threshold": 2},
     {"score_threshold": float("nan")}],
)  # fmt: skip
def test_limits_that_cannot_be_are_a_sentence(model, limits):
    (name,) = limits
    with raises_code(name.replace("_", "-") + "-range"):
        model.predict(spot(), **limits)


def test_gray_arrays_are_taken_by_the_models_range(model):
    values = np.full((250, 400), 1000, np.float32)
    values[60:160, 120:220] = 3000
    model.info = replace(model.info, preprocess=replace(model.info.preprocess, range=(1000.0, 3000.0)))
    wanted = model.predict(spot()).boxes
    for kind in (np.int16, np.uint16, np.int32, np.uint32, np.float16, np.float32, np.float64):
        assert np.array_equal(model.predict(values.astype(kind)).boxes, wanted)
    assert np.array_equal(model.predict(np.asarray(spot().convert("L"))).boxes, wanted)


def png_bytes(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_bytes_and_opened_files_are_read_as_a_file_is(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    spot().save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    wanted = model.predict(tmp_path / "a.png").boxes
    buffer = io.BytesIO(content)
    with open(tmp_path / "a.png", "rb") as file, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(content)  # and left at its end, as uploads are
        given = [content, bytearray(content), memoryview(content), buffer, buffer, file, spooled]
        for one in given:
            assert np.array_equal(model.predict(one).boxes, wanted)
        listed = model.predict([*given, tmp_path / "a.png", PurePath(tmp_path / "a.png")])
    assert len(listed) == 9
    assert all(np.array_equal(one.boxes, wanted) for one in listed)


def test_what_is_wrong_with_bytes_is_a_sentence(model, tmp_path):
    with pytest.raises(DataError, match=r"^image: the image is empty \(0 bytes\); "):
        model.predict(b"")
    with pytest.raises(DataError, match=r"^image: this is not an image of a known format"):
        model.predict([b"hello"])
    with pytest.raises(DataError, match=r"^image: the image is damaged or cut short"):
        model.predict(png_bytes(spot())[:200])
    (tmp_path / "a.png").write_bytes(b"hello")
    with open(tmp_path / "a.png", "rb") as file, pytest.raises(DataError, match=r"a\.png: this is not an image"):
        model.predict(file)


class Upload:
    """A file of a web framework, whose read has to be awaited."""

    async def read(self):
        return b""


def text_file(path):
    path.write_text("hello")
    return open(path, encoding="utf-8")


def test_anything_else_is_a_sentence_that_says_what_may_be_given(model, tmp_path):
    odd = [None, 5, 2.5, True, {"a": 1}, {spot}, object(), torch.zeros(3, 4, 4), (one for one in [spot()])]
    for one in odd:
        for given in (one, [spot(), one]):
            with pytest.raises(DataError, match=type(one).__name__) as error:
                model.predict(given)
            assert error.value.code == "image-type"
            assert "\n" not in str(error.value)
    with raises_code("image-file-async"):
        model.predict(Upload())
    file = text_file(tmp_path / "a.txt")
    with raises_code("image-file-text"):
        model.predict(file)
    file.close()
    with raises_code("image-file-not-read"):
        model.predict(file)


def test_the_range_travels_with_a_checkpoint(tmp_path):
    made = vf.create_model("vfnet", backbone="resnet18", num_classes=1, channels=32, num_levels=3, num_convs=1)
    for levels in ((0.0, 4095.0), "image", None):
        made.info = replace(made.info, preprocess=replace(made.info.preprocess, range=levels))
        vf.save(made, tmp_path / "m.safetensors")
        assert vf.load(tmp_path / "m.safetensors").info.preprocess.range == levels


def test_each_images_own_range_is_that_of_the_whole_image_in_every_window(model):
    """Not that of a window, in which the brightest pixel would be white."""
    values = np.zeros((40, 80), np.uint16)
    values[10:20, 10:20], values[10:20, 60:70] = 300, 2000
    seen = []
    candidates = model.candidates
    model.candidates = lambda batch: seen.extend(batch.images) or candidates(of_spots(batch))
    model.info = replace(
        model.info, tiling=Tiling(40, 0), preprocess=replace(model.info.preprocess, range="image", scale=1.0)
    )
    model.predict(values)
    assert [np.asarray(window).max() for window in seen] == [round(300 * 255 / 2000), 255]


def test_turned_images_are_cut_into_windows_upright(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 30)).save(tmp_path / "a.jpg", exif=exif)  # upright 30 wide and 90 high
    seen = []
    candidates = model.candidates
    model.candidates = lambda batch: seen.extend(image.size for image in batch.images) or candidates(of_spots(batch))
    model.info = replace(model.info, tiling=Tiling(30, 0))
    model.predict(tmp_path / "a.jpg")
    assert seen == [(30, 30)] * 3


def test_views_of_arrays_are_taken(model):
    pixels = np.asarray(spot())
    assert np.array_equal(model.predict(pixels[:, ::-1][:, ::-1]).boxes, model.predict(pixels).boxes)


@pytest.mark.parametrize(
    ("given", "asked"), [({}, False), ({"pretrained": False}, False), ({"pretrained": True}, True)]
)
def test_create_asks_for_weights_only_when_told_to(monkeypatch, given, asked):
    seen, build = [], timm.create_model

    def record(name, **settings):
        seen.append(settings.pop("pretrained"))
        return build(name, **settings)

    monkeypatch.setattr(timm, "create_model", record)
    model = vf.create_model(
        "vfnet", backbone="resnet18", num_classes=2, channels=32, num_levels=3, num_convs=1, **given
    )
    assert seen == [asked]
    assert model.info.config.backbone.pretrained == ("timm" if asked else "none")
    assert not model.training


@pytest.mark.parametrize(
    ("backbone", "mean", "std"),
    [
        ("resnet18", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ("test_resnet", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    ],
)
def test_create_takes_the_pixel_statistics_of_the_backbone(backbone, mean, std):
    model = vf.create_model("vfnet", backbone=backbone, classes=["a"], channels=32, num_levels=3, num_convs=1)
    assert (model.info.preprocess.mean, model.info.preprocess.std) == (mean, std)
    assert model.info.preprocess == Preprocess(mean=mean, std=std)


@pytest.mark.parametrize("name", ["resnet50.nonsense", "nonsense"])
def test_create_refuses_an_unknown_backbone(name):
    with raises_code("backbone-unknown"):
        vf.create_model("vfnet", backbone=name, num_classes=2)


def test_save_and_load_take_text(tmp_path):
    model = vf.create_model("vfnet", backbone="test_resnet", classes=["a"], channels=32, num_levels=3, num_convs=1)
    vf.save(model, f"{tmp_path}/new/m.safetensors", metrics={"AP": 0.5})
    assert vf.load(f"{tmp_path}/new/m.safetensors").info.metrics == {"AP": 0.5}
    vf.save(model, tmp_path / "p.safetensors")
    assert vf.load(tmp_path / "p.safetensors").info == model.info


def test_thresholds_of_the_call_and_of_the_model(model):
    assert model.predict(spot(), score_threshold=0.4).scores.tolist() == pytest.approx([0.9, 0.5])
    assert len(model.predict(spot(), score_threshold=0.95)) == 0
    assert model.predict(spot(), max_detections=1).scores.tolist() == pytest.approx([0.9])
    assert len(model.predict(spot(), score_threshold=0.0)) == 5
    assert model.info.postprocess == PostProcess()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(model, training):
    model.train(training)
    model.predict(spot())
    assert model.training == model.detector.training == training


def test_the_mode_is_put_back_after_an_error(model):
    model.train()
    model.detector.forward = lambda images: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model.predict(spot())
    assert model.detector.training


def test_a_missing_image_is_a_sentence(model):
    with pytest.raises(DataError, match=r"nowhere\.png: the image does not exist"):
        model.predict(Path("nowhere.png"))


def test_a_tiled_model_reads_windows_and_merges_them(model):
    """The spot lies in all four windows of 250 x 250, each seen at its own place."""
    model.info = replace(model.info, tiling=Tiling(250, 150))
    found = model.predict(spot(350, 350, (110, 120, 200, 220)))
    assert model.detector.batches == [(4, 3, 128, 128)]
    best = found.boxes[found.scores > 0.8]
    assert len(best) == 1
    assert np.abs(best[0] - [110, 120, 200, 220]).max() <= 2.6
    assert len(model.predict(spot(350, 350, (110, 120, 200, 220)), max_detections=2)) == 2


def test_tiling_survives_the_checkpoint(tmp_path):
    made = vf.create_model("vfnet", backbone="resnet18", num_classes=1, channels=32, num_convs=1)
    made.info = replace(made.info, tiling=Tiling(64, 16))
    vf.save(made, tmp_path / "m.safetensors")
    assert vf.load(tmp_path / "m.safetensors").info.tiling == Tiling(64, 16)


def test_a_threshold_moves_no_box():
    """Of averaged boxes too: those below it have their say."""

    class Two(Spot):
        def decode(self, outputs, sizes):
            boxes = torch.tensor([[[0.0, 0.0, 40.0, 40.0], [4.0, 0.0, 44.0, 40.0]]]).expand(len(sizes), -1, -1)
            return Candidates(boxes, torch.tensor([[0.8, 0.0], [0.2, 0.0]]).expand(len(sizes), -1, -1), (2,))

    settings = Preprocess(scale=1.0)
    made = Model(Two(), ModelInfo("vfnet", VFNetConfig(2), CATEGORIES, settings, PostProcess(nms_iou=0.95)))
    made.info = replace(made.info, tiling=Tiling(100, 50, vote=0.5))
    found = made.predict(spot(100, 100, (10, 10, 50, 50)))
    assert found.boxes[:, 0].tolist() == pytest.approx([0.8, 0.8])
    few = made.predict(spot(100, 100, (10, 10, 50, 50)), score_threshold=0.5)
    assert few.boxes.tolist() == found.boxes[:1].tolist()


def test_a_threshold_that_is_asked_for_holds_for_the_final_scores(model):
    """The spot's scores 0.9, 0.5, 0.3 with a centerness of a half: nothing above 0.45 is left."""
    decode = model.detector.decode
    model.detector.decode = lambda outputs, sizes: decode(outputs, sizes)._replace(quality=torch.full((1, 3), 0.5))
    assert model.predict(spot()).scores.tolist() == pytest.approx([0.45, 0.25, 0.15])
    assert model.predict(spot(), score_threshold=0.2).scores.tolist() == pytest.approx([0.45, 0.25])
