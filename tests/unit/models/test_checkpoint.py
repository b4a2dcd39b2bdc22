"""The checkpoint file: whole or not at all, and a sentence for every file that is not one."""

import errno
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from error_codes import raises_code

import varifocal.models.checkpoint as weights
from varifocal.inference.model import ModelInfo, build, create_model, from_metadata, load, save, to_metadata
from varifocal.models.backbone import BackboneConfig
from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint, read_info, write_checkpoint
from varifocal.models.vfnet import VFNetConfig
from varifocal.types import Category, PostProcess, Preprocess
from varifocal.utils import atomic_write as files
from varifocal.utils.config import to_dict
from varifocal.utils.errors import CheckpointError

INFO = ModelInfo(
    "vfnet",
    VFNetConfig(
        3, BackboneConfig("test_resnet"), channels=32, num_levels=3, num_convs=1, loss="focal", box_weights=(0.1, 0.7)
    ),
    (Category(90, "zebra"), Category(-4, "façade 🏠"), Category(2**40, "apple pie")),
    Preprocess(scale=1.0 / 3.0, mean=(1.5, 2.0, 3.0), size_divisor=64),
    PostProcess(score_threshold=0.1 + 0.2, topk_mode="points"),
    {"train": {"lr": 1e-3}, "note": 'a "quote"\n'},
    {"AP": 0.1 + 0.2, "APs": -1.0},
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build(INFO)


@pytest.fixture
def old(tmp_path):
    """A good file and its bytes."""
    path = tmp_path / "one.safetensors"
    write_checkpoint(path, {"a": torch.arange(1000.0)}, {"kind": "model"})
    return path, path.read_bytes()


def test_save_and_load_give_the_same_model(tmp_path, model):
    path = tmp_path / "new" / "folder" / "model.safetensors"
    save(model, path)
    again = load(path)
    assert again.info == model.info == INFO
    assert not again.training
    state = again.detector.state_dict()
    for name, tensor in model.detector.state_dict().items():
        assert tensor.dtype == state[name].dtype, name
        assert torch.equal(tensor, state[name]), name
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["vfnet", "reppoints"])
def test_a_checkpoint_from_before_a_field_of_the_star_says_the_same(tmp_path, name):
    """Its description has no ``star_norm`` and its weights no norm."""
    torch.manual_seed(0)
    made = create_model(name, backbone="test_resnet", num_classes=3, channels=32, num_levels=3, num_convs=1)
    old = to_metadata(made.info)
    assert old["config"].pop("star_norm") == "none"
    write_checkpoint(tmp_path / "old.safetensors", made.detector.state_dict(), old)
    again = load(tmp_path / "old.safetensors")
    assert again.info.config == made.info.config
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        wanted, found = made(images).tensors, again(images).tensors
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_save_with_metrics_leaves_the_model_as_it_is(tmp_path, model):
    save(model, tmp_path / "m.safetensors", metrics={"AP": 0.5})
    assert load(tmp_path / "m.safetensors").info == replace(INFO, metrics={"AP": 0.5})
    assert model.info.metrics == INFO.metrics


def test_tensors_of_any_layout_and_shape_come_back(tmp_path):
    tensors = {
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "part": torch.arange(20).view(4, 5)[:, 1:3],
        "nothing": torch.zeros(0, 4),
        "number": torch.tensor(7),
        "half": torch.randn(3).bfloat16(),
        "bad numbers": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    path = tmp_path / "t.safetensors"
    write_checkpoint(path, tensors, {"kind": "x"})
    back, info = read_checkpoint(path)
    assert info == {"kind": "x", "format": 2}
    for name, tensor in tensors.items():
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(monkeypatch, old, call):
    path, content = old

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "open":
        monkeypatch.setattr(files, "open", full, raising=False)
    else:
        monkeypatch.setattr(os, call, full)
    with pytest.raises(CheckpointError) as error:
        write_checkpoint(path, {"a": torch.zeros(5)}, {})
    assert str(error.value).startswith(f"{path}: cannot be written (No space left on device)")
    assert "\n" not in str(error.value)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from varifocal.utils.errors import CheckpointError
from varifocal.models.checkpoint import write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_checkpoint(Path(sys.argv[1]), {"a": torch.zeros(1_000_000)}, {})
except CheckpointError as error:
    print(error)
"""


def test_a_write_that_the_system_cuts_short_keeps_the_old_file(old):
    path, content = old
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(f"{path}: cannot be written (File too large)")
    assert done.stderr == ""
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_file_in_place_of_the_folder(old):
    path, content = old
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_checkpoint(path / "model.safetensors", {}, {})
    assert path.read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(old):
    path, content = old
    path.parent.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            write_checkpoint(path, {}, {})
    finally:
        path.parent.chmod(0o700)
    assert path.read_bytes() == content


def test_what_a_killed_write_left_is_used_up(old):
    path, _ = old
    beside = path.with_name(".one.safetensors.part")
    beside.write_bytes(b"half")
    write_checkpoint(path, {"a": torch.zeros(2)}, {})
    assert list(path.parent.iterdir()) == [path]
    assert torch.equal(read_checkpoint(path)[0]["a"], torch.zeros(2))


def test_an_interrupted_write_leaves_nothing(old, monkeypatch):
    path, content = old

    def interrupted(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"a": torch.zeros(2)}, {})
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == content


def test_a_future_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "new.safetensors"
    monkeypatch.setattr(weights, "FORMAT", 3)
    write_checkpoint(path, {}, {"kind": "model"})
    monkeypatch.undo()
    with raises_code("checkpoint-newer"):
        read_info(path)


class Trap:
    """Its unpickling would be seen."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was read",))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_a_pickle_is_refused_unread(tmp_path, kind):
    path = tmp_path / "model.pth"
    if kind == "plain":
        path.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save({"trap": Trap()}, path, _use_new_zipfile_serialization=kind == "zip")
    with raises_code("checkpoint-pickle"):
        load(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(old, share):
    path, content = old
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"one\.safetensors: damaged or not a safetensors file"):
        read_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, foreign, metadata={"format": "pt"})
    with raises_code("checkpoint-not-ours"):
        load(foreign)
    text = tmp_path / "text.safetensors"
    text.write_text("model: vfnet\n")
    with raises_code("checkpoint-damaged"):
        load(text)
    with pytest.raises(CheckpointError, match="No such file"):
        load(tmp_path / "missing.safetensors")
    with raises_code("checkpoint-folder"):
        load(tmp_path)


def test_the_state_of_a_run_is_no_model(tmp_path):
    path = tmp_path / "state.safetensors"
    write_checkpoint(path, {}, {"kind": "state", "place": {}})
    with raises_code("checkpoint-kind-unknown"):
        load(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", '"text"', "{}", '{"format": null}', '{"format": "new"}', '{"format": [1]}'],
)
def test_a_damaged_description_is_refused(tmp_path, text):
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata={weights.KEY: text})
    for read in (read_info, read_checkpoint, load):
        with raises_code("checkpoint-description-damaged"):
            read(path)


DAMAGES = [
    lambda d: d.pop("config"),
    lambda d: d.pop("categories"),
    lambda d: d.pop("preprocess"),
    lambda d: d.pop("postprocess"),
    lambda d: d.pop("recipe"),
    lambda d: d.update(config=3),
    lambda d: d["config"].update(width="wide"),
    lambda d: d["config"].update(of_the_future=1),
    lambda d: d["config"].update(star_norm="layer"),
    lambda d: d.update(categories=3),
    lambda d: d.update(categories=[1, 2, 3]),
    lambda d: d.update(categories=[["x", "a"], [2, "b"], [3, "c"]]),
    lambda d: d["preprocess"].update(mean=[1.0]),
    lambda d: d["postprocess"].update(topk_mode="none"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_description_that_does_not_fit_is_one_sentence(damage):
    description = json.loads(json.dumps(to_metadata(INFO)))
    damage(description)
    with pytest.raises(CheckpointError, match=r"^m: .* varifocal \d") as error:
        from_metadata(description, "m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("detector", [None, "yolo", ["vfnet"], {"a": 1}, 3])
def test_an_unknown_detector_is_refused(detector):
    with raises_code("checkpoint-kind-unknown"):
        from_metadata({**to_metadata(INFO), "detector": detector}, "m")
    description = to_metadata(INFO)
    del description["detector"]
    with raises_code("checkpoint-kind-unknown"):
        from_metadata(description, "m")


def test_another_number_of_classes_is_refused(tmp_path, model):
    path = tmp_path / "m.safetensors"
    save(model, path)
    tensors, _ = read_checkpoint(path)
    fewer = build(replace(INFO, config=replace(INFO.config, num_classes=2), categories=INFO.categories[:2]))
    with pytest.raises(
        CheckpointError, match=r"head\.cls\.bias is \[3\] but the model needs \[2\]; the number of classes"
    ):
        load_state_dict_strict(fewer.detector, tensors, path)


def test_missing_and_unknown_weights_are_named(model):
    state = dict(model.detector.state_dict())
    state["new.weight"] = state.pop("head.cls.bias")
    with pytest.raises(CheckpointError, match=r"1 weights missing \(first: \['head.cls.bias'\]\), 1 unknown"):
        load_state_dict_strict(model.detector, state, "x")


def test_the_description_is_plain_json(tmp_path, model):
    save(model, tmp_path / "m.safetensors")
    info = read_info(tmp_path / "m.safetensors")
    assert info["config"] == to_dict(INFO.config)
    assert info["categories"] == [[90, "zebra"], [-4, "façade 🏠"], [2**40, "apple pie"]]
