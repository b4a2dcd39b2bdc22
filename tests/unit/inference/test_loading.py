"""One function finds every model: a run, a file, a published file, or published weights by their name."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from error_codes import raises_code
from file_server import FileServer, serving
from PIL import Image

from varifocal import cli
from varifocal.inference.loading import find_checkpoint, load, load_checkpoint
from varifocal.inference.model import create_model, save
from varifocal.inference.published import download
from varifocal.inference.published.convert import coco_categories, read_published
from varifocal.inference.published.names import FILES, family_of
from varifocal.tools.model_zoo import PUBLISHED
from varifocal.tools.output_paths import export_path
from varifocal.utils.locks import claimed

KEYS = Path(__file__).parents[2] / "reference/data/keys/vfnet_r50.json"
NAME = "vfnet_r50_1x"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The bytes of a published VFNet whose weights are zeros of no extent."""
    state = {name: torch.zeros(()).expand(shape) for name, shape in json.loads(KEYS.read_text()).items()}
    path = tmp_path_factory.mktemp("published") / "vfnet.pth"
    torch.save({"state_dict": state}, path)
    return path.read_bytes()


@pytest.fixture
def cache(published, tmp_path, monkeypatch):
    """An empty cache folder, an empty working directory, and a name whose hash is that of the published bytes."""
    monkeypatch.setitem(FILES, NAME, f"vfnet_r50_fpn_1x_coco-{hashlib.sha256(published).hexdigest()[:8]}.pth")
    monkeypatch.setenv("VARIFOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARIFOCAL_WEIGHTS_SERVER", "http://127.0.0.1:9")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


@pytest.fixture
def server(published, cache, monkeypatch):
    with serving(FileServer(published)) as server:
        monkeypatch.setenv("VARIFOCAL_WEIGHTS_SERVER", server.address)
        yield server


def tiny(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save(create_model("vfnet", backbone="test_resnet", classes=["cat"], channels=32, num_levels=3, num_convs=1), path)
    return path


def test_a_run_stands_for_its_best_weights(tmp_path):
    best = tiny(tmp_path / "run/best.safetensors")
    assert find_checkpoint(tmp_path / "run") == find_checkpoint(str(best)) == best
    assert load(tmp_path / "run").categories == load(best).categories
    assert find_checkpoint(tmp_path) == tmp_path  # refused by whoever reads it
    with raises_code("checkpoint-folder"):
        load(tmp_path)


def test_weights_are_fetched_by_name_once_and_converted(published, server, cache, capsys):
    model = load(NAME)
    notes = capsys.readouterr().err
    assert f"{NAME}: fetching {server.address}/vfnet/vfnet_r50_fpn_1x_coco/{FILES[NAME]} to {cache}" in notes
    assert (model.info.name, model.categories) == ("vfnet", coco_categories())
    expected = read_published(find_checkpoint(NAME)).tensors
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.detector.state_dict().items())
    assert not model.training
    assert server.requests == [None]
    assert [path.name for path in cache.iterdir()] == [FILES[NAME]]
    assert capsys.readouterr().err == ""


def test_a_path_that_exists_wins_over_a_name(server):
    file = tiny(Path(NAME))
    assert find_checkpoint(NAME) == file
    file.unlink()
    best = tiny(Path(NAME, "best.safetensors"))
    assert find_checkpoint(NAME) == best
    best.unlink()
    with raises_code("checkpoint-folder"):
        load(NAME)
    assert server.requests == []


def test_an_unknown_name_lists_the_nearest_and_requests_nothing(server):
    with raises_code("checkpoint-unknown-name") as caught:
        load("vfnet_r50_2x")
    assert "the nearest names are vfnet_r50_1x, vfnet_r50_ms_2x, vfnet_r101_1x (" in str(caught.value)
    with raises_code("checkpoint-unknown-name") as caught:
        load("7")
    assert "nearest" not in str(caught.value)
    for missing in ("vfnet_r50_1x.pth", "runs/vfnet_r50_1x"):
        with raises_code("checkpoint-not-read"):
            load(missing)
    assert server.requests == []


def test_no_network_is_one_sentence_with_the_address_and_the_path(cache, capsys):
    assert cli.main(["info", NAME]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("varifocal info: ")]
    assert f"http://127.0.0.1:9/vfnet/vfnet_r50_fpn_1x_coco/{FILES[NAME]}: cannot be fetched" in error
    assert f"put it at {cache / FILES[NAME]}." in error


def test_a_file_put_into_the_cache_by_hand_needs_no_server(published, cache):
    cache.mkdir()
    (cache / FILES[NAME]).write_bytes(published)
    assert load(NAME).categories == coco_categories()


def test_a_damaged_file_in_the_cache_is_fetched_again(published, server, cache, capsys):
    cache.mkdir()
    (cache / FILES[NAME]).write_bytes(published[:-1] + b"x")
    find_checkpoint(NAME)
    assert f"{cache / FILES[NAME]} is damaged; fetching " in capsys.readouterr().err
    assert (cache / FILES[NAME]).read_bytes() == published
    assert server.requests == [None]


def test_a_damaged_file_stays_until_another_has_arrived(published, cache):
    cache.mkdir()
    (cache / FILES[NAME]).write_bytes(published[:-1] + b"x")
    with raises_code("weights-not-fetched"):
        find_checkpoint(NAME)
    assert (cache / FILES[NAME]).read_bytes() == published[:-1] + b"x"


def test_a_second_process_waits_for_the_first(published, server, cache, monkeypatch):
    file, waiting = cache / FILES[NAME], threading.Event()
    held = threading.Event()

    def first():
        with claimed(file.with_name(f".{file.name}.lock"), "busy"):
            held.set()
            assert waiting.wait(10)
            file.write_bytes(published)

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(10)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: waiting.set() or thread.join(0.01))
    assert find_checkpoint(NAME) == file
    thread.join()
    assert server.requests == []


class Trap:
    """Its unpickling would be seen."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was read",))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_no_code_of_a_published_file_is_run(tmp_path, kind):
    path = tmp_path / "model.pth"
    if kind == "plain":
        path.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save({"trap": Trap()}, path, _use_new_zipfile_serialization=kind == "zip")
    with raises_code("published-unsafe-pickle"):
        load(path)


def test_a_backbone_is_no_detector(tmp_path):
    torch.save({"layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)}, tmp_path / "resnet50.pth")
    with raises_code("published-backbone-only") as caught:
        load(tmp_path / "resnet50.pth")
    assert f"convert-weights {tmp_path / 'resnet50.pth'} --out" in str(caught.value)


def test_a_file_of_another_network_is_one_sentence(tmp_path):
    torch.save({"state_dict": {"model.0.conv.weight": torch.zeros(3)}}, tmp_path / "yolo.pth")
    with raises_code("published-detector-unknown"):
        load(tmp_path / "yolo.pth")


def test_every_name_has_a_hash_an_address_and_a_recipe():
    assert all(re.search(r"-[0-9a-f]{8}\.pth$", file) for file in FILES.values())
    addresses = {download.address_of(family_of(name), file) for name, file in FILES.items()}
    assert len(addresses) == len(FILES) - 1  # one network has a recipe with test-time augmentation, too
    assert {name: found.file for name, found in PUBLISHED.items() if found.file} == FILES


@pytest.mark.parametrize("words", [["--weights", NAME, "photo.png"], [NAME, "photo.png"]])
def test_the_first_minute_needs_no_training(published, cache, words, capsys):
    cache.mkdir()
    (cache / FILES[NAME]).write_bytes(published)
    Image.new("RGB", (64, 48)).save("photo.png")
    assert cli.main(["predict", *words, "--out", "found"]) == 0
    assert "detections in 1 image" in capsys.readouterr().out
    assert Path("found/photo.png").is_file()


@pytest.mark.parametrize("words", [["--weights", NAME], [NAME], []])
def test_predict_without_images(cache, words, capsys):
    assert cli.main(["predict", *words]) == 2
    assert capsys.readouterr().err == "varifocal predict: no images given; use varifocal predict CHECKPOINT IMAGES.\n"


def test_an_export_of_published_weights_goes_to_the_working_directory(published, cache, tmp_path):
    cache.mkdir()
    (cache / FILES[NAME]).write_bytes(published)
    assert export_path(Path(NAME), None, (".onnx",), force=False) == Path(f"{NAME}.onnx")
    assert export_path(Path(NAME), tmp_path, (".onnx",), force=False) == tmp_path / f"{NAME}.onnx"
    tiny(tmp_path / "run/best.safetensors")
    assert export_path(tmp_path / "run", None, (".onnx",), force=False) == tmp_path / "run/best.onnx"


def test_other_commands_take_a_run_and_a_published_file(published, cache, capsys):
    tiny(Path("run/best.safetensors"))
    Path("vfnet.pth").write_bytes(published)
    for name in ("run", "vfnet.pth"):
        assert cli.main(["info", name]) == 0
        assert "vfnet on" in capsys.readouterr().out
    assert cli.main(["average-checkpoints", "run", "run/best.safetensors", "--out", "mean.safetensors"]) == 0
    assert cli.main(["convert-weights", "vfnet.pth", "--out", "vfnet.safetensors"]) == 0
    assert load_checkpoint("vfnet.safetensors").info == load_checkpoint("vfnet.pth").info


def test_finding_a_model_imports_nothing_slow():
    slow = ("torch", "urllib.request", "http.client", "hashlib", "difflib")
    code = f"import sys, varifocal.inference.loading; print([name for name in {slow} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
