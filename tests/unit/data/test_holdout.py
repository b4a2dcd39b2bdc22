import io

import numpy as np
import pytest
from error_codes import raises_code
from folders import fill
from PIL import Image

from varifocal.data.holdout import holdout_mask, similarity_groups, stratified_assign
from varifocal.data.load import load_dataset, load_train_val, open_dataset


def scene(seed: int, brightness: int = 0, size=(64, 48), quality=None) -> bytes:
    """Random blobs, the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image = image.point(lambda value: min(value + brightness, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if quality is None else "JPEG", **({} if quality is None else {"quality": quality}))
    return buffer.getvalue()


def data_of(tmp_path, images: dict[str, bytes], labels: dict[str, str]):
    fill(tmp_path, {f"images/{name}": content for name, content in images.items()})
    fill(tmp_path, {f"labels/{name.rpartition('.')[0]}.txt": labels.get(name, "") for name in images})
    fill(tmp_path, {"data.yaml": "train: images\nnames: [a, b, c]\n"})
    return load_dataset(tmp_path)


def test_what_looks_alike_stays_together(tmp_path):
    images = {f"{i:02}.png": scene(i) for i in range(20)}
    images |= {"03-copy.png": scene(3), "03-bright.png": scene(3, 12), "03-small.jpg": scene(3, 0, (48, 36), 60)}
    images |= {"07-copy.png": scene(7), "19.jpg": scene(19, 0, (64, 48), 75)}
    data = data_of(tmp_path, images, dict.fromkeys(images, "0 0.5 0.5 0.5 0.5"))
    group_of, joined, bad = similarity_groups(data.samples)
    assert not bad
    names = [sample.file.stem[:2] for sample in data.samples]
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            assert (group_of[i] == group_of[j]) == (first == second), (data.samples[i].file, data.samples[j].file)
    assert joined == 4 + 2 + 2
    for seed in range(5):
        training, validation = load_train_val(open_dataset(tmp_path), fraction=0.3, seed=seed)
        held = {sample.file.stem[:2] for sample in validation.samples}
        assert held
        assert not held & {sample.file.stem[:2] for sample in training.samples}
        assert sorted(str(sample.file) for part in (training, validation) for sample in part.samples) == sorted(
            str(sample.file) for sample in data.samples
        )
        assert f"seed {seed} into {len(training.samples)} images to train on" in training.notes[-1]
        assert "8 of them look like another" in training.notes[-1]


def test_the_same_seed_gives_the_same_parts(tmp_path):
    images = {f"{i:02}.png": scene(i) for i in range(30)}
    data_of(tmp_path, images, {name: f"{i % 3} 0.5 0.5 0.5 0.5" for i, name in enumerate(images)})
    source = open_dataset(tmp_path)
    divided = [load_train_val(source, fraction=0.2, seed=seed)[1] for seed in (0, 0, 1)]
    parts = [{sample.file.name for sample in part.samples} for part in divided]
    assert parts[0] == parts[1] != parts[2]
    assert len(parts[0]) == len(parts[2]) == 6


def literal_shares(shows, held):
    """The share of the images of each class that is held out."""
    return [held[shows[:, one]].mean() for one in range(shows.shape[1])]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_each_class_is_in_both_parts_alike(share, seed):
    """Classes from 20 to 4,000 of 5,000 images, in images of several: each within an image or two of its share."""
    rng = np.random.default_rng(seed)
    shows = rng.random((5000, 12)) < np.geomspace(0.004, 0.8, 12)
    shows[:, -1] = ~shows[:, :-1].any(axis=1)
    held = stratified_assign(shows, np.arange(5000), share, seed)
    assert held.mean() == pytest.approx(share, abs=0.01)
    counts = shows.sum(axis=0)
    for share_of_class, count in zip(literal_shares(shows, held), counts, strict=True):
        assert abs(share_of_class - share) * count <= max(2, 0.01 * count)


def test_groups_are_not_torn():
    rng = np.random.default_rng(0)
    shows = rng.random((600, 5)) < [0.02, 0.1, 0.3, 0.5, 0.9]
    shows[:, -1] |= ~shows.any(axis=1)
    group_of = rng.integers(0, 150, 600)
    group_of = np.unique(group_of, return_inverse=True)[1]
    held = stratified_assign(shows, group_of, 0.25, 3)
    for group in range(group_of.max() + 1):
        assert len(set(held[group_of == group].tolist())) == 1
    for share_of_class, count in zip(literal_shares(shows, held), shows.sum(axis=0), strict=True):
        assert abs(share_of_class - 0.25) * count <= 8


def test_a_class_in_one_image_is_trained_on():
    shows = np.zeros((10, 2), bool)
    shows[:, 1] = True
    shows[4] = [True, False]
    for seed in range(5):
        held = stratified_assign(shows, np.arange(10), 0.2, seed)
        assert not held[4]
        assert held.sum() == 2


@pytest.mark.parametrize("share", [0.5, 0.6, 0.9])
def test_a_large_share_leaves_something_to_train_on(share):
    for count in range(2, 9):
        held = stratified_assign(np.ones((count, 1), bool), np.arange(count), share, 0)
        assert 0 < held.sum() < count
    # one class in all, another in a single image, whatever the seed
    shows = np.ones((20, 2), bool)
    shows[:, 1] = np.arange(20) == 7
    for seed in range(10):
        assert not stratified_assign(shows, np.arange(20), share, seed)[7]


def test_small_sets(tmp_path):
    for count, expected in ((2, 1), (3, 1), (4, 1), (10, 2)):
        held = stratified_assign(np.ones((count, 1), bool), np.arange(count), 0.2, 0)
        assert held.sum() == expected
    data = data_of(tmp_path, {"a.png": scene(0), "b.png": scene(0)}, {"a.png": "0 0.5 0.5 0.5 0.5"})
    with raises_code("images-all-alike"):
        holdout_mask(data, 0.2)


def test_what_cannot_be(tmp_path):
    data = data_of(tmp_path, {"a.png": scene(0), "b.png": scene(1)}, {"a.png": "0 0.5 0.5 0.5 0.5"})
    for share in (0, -0.1, 0.95, 1, 20, float("nan")):
        with raises_code("fraction-out-of-range"):
            holdout_mask(data, share)
    for name in ("a.png", "b.png"):
        cut_short(tmp_path / "images" / name)
    with raises_code("image-undecodable"):
        holdout_mask(data, 0.5)


def cut_short(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_what_cannot_be_read_is_left_to_the_training_which_counts_it(tmp_path):
    images = {f"{i:02}.png": scene(i) for i in range(20)}
    data = data_of(tmp_path, images, dict.fromkeys(images, "0 0.5 0.5 0.5 0.5"))
    damaged = {3, 11, 12}
    for i in damaged:
        cut_short(tmp_path / f"images/{i:02}.png")
    for seed in range(5):
        held, note = holdout_mask(data, 0.5, seed)
        assert not held[list(damaged)].any()
        assert held.sum() == 8  # half of the 17 that can be read, with as many to learn from or one more
        assert "; 3 cannot be read and are among those to train on" in note


def test_images_without_boxes_are_split_too(tmp_path):
    images = {f"{i:02}.png": scene(i) for i in range(20)}
    labels = {name: "1 0.5 0.5 0.5 0.5" for name in list(images)[:10]}
    data_of(tmp_path, images, labels)
    _, validation = load_train_val(open_dataset(tmp_path), fraction=0.2)
    assert sorted(len(sample.boxes) for sample in validation.samples) == [0, 0, 1, 1]
    assert [sample.file.name for sample in validation.samples[1:3]] == [
        sample.file.name for sample in list(validation.samples)[1:3]
    ]


def test_difficult_boxes_are_learnt_in_the_first_part_alone(tmp_path):
    node = "<annotation><object><name>a</name><difficult>1</difficult><bndbox><xmin>2</xmin><ymin>2</ymin>"
    node += "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    for i in range(10):
        fill(tmp_path, {f"{i}.png": scene(i), f"{i}.xml": node})
    for difficult, crowd in (("ignore", True), ("train", False)):
        training, validation = load_train_val(open_dataset(tmp_path), fraction=0.2, difficult=difficult)
        assert {bool(sample.crowd[0]) for sample in training.samples} == {crowd}
        assert {bool(sample.crowd[0]) for sample in validation.samples} == {True}
        assert len(training.samples) == 8
