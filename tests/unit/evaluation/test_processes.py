"""Evaluation by several processes: the numbers of one process, to the last digit, and an end if one of them dies."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from error_codes import raises_code
from tiny_data import make_data
from torch.distributed import HashStore

from varifocal.cli import main
from varifocal.evaluation import processes
from varifocal.evaluation.processes import Processes
from varifocal.inference.model import create_model, save
from varifocal.types import Category, Detections
from varifocal.utils.errors import DataError

CATEGORIES = (Category(7, "a"), Category(3, "b"))


def detections(count, seed):
    rng = np.random.default_rng(seed)
    boxes, scores = rng.random((count, 4), np.float32), rng.random(count, np.float32)
    return Detections(boxes, scores, rng.integers(0, 2, count), CATEGORIES)


@pytest.mark.parametrize("images", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_results_come_back_in_the_order_of_the_images(images, world, monkeypatch):
    monkeypatch.setattr(processes, "_CHUNK", 100)  # several values a process
    found = [detections(i % 4, i) for i in range(images)]
    store, results = HashStore(), {}

    def one(rank):
        results[rank] = Processes(rank, world).collect(store, found[rank::world])

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(results[rank] is None for rank in range(1, world))
    for got, expected in zip(results[0], found, strict=True):
        for name in ("boxes", "scores", "labels"):
            values = getattr(got, name)
            assert values.dtype == getattr(expected, name).dtype
            np.testing.assert_array_equal(values, getattr(expected, name))


def test_a_process_that_died_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(processes, "SILENCE", 0.3)
    store = HashStore()
    store.set("alive/1", "1")
    with raises_code("process-silent", DataError):
        Processes(0, 2).collect(store, [])


def test_a_slow_process_is_waited_for(monkeypatch):
    monkeypatch.setattr(processes, "SILENCE", 0.4)
    monkeypatch.setattr(processes, "BEAT", 0.05)
    store, ended = HashStore(), threading.Event()
    beat = threading.Thread(target=processes._beat, args=(store, "alive/1", ended))
    beat.start()
    late = threading.Timer(1.2, lambda: Processes(1, 2).collect(store, [detections(2, 0)]))
    late.start()
    merged = Processes(0, 2).collect(store, [detections(1, 1)])
    ended.set()
    beat.join()
    assert [len(one) for one in merged] == [1, 2]


@pytest.mark.slow
def test_torchrun_measures_what_one_process_does(tmp_path, capsys):
    """Five images for three processes, and the same detections from ``predict`` in shards."""
    data = make_data(tmp_path / "data", images=5)
    torch.manual_seed(0)
    small = {"backbone": "test_resnet", "channels": 16, "num_levels": 3, "num_convs": 1}
    model = create_model("vfnet", classes=["apple", "berry"], **small)
    postprocess = replace(model.info.postprocess, score_threshold=0.0, max_detections=20)
    model.info = replace(model.info, postprocess=postprocess)
    file = tmp_path / "model.safetensors"
    save(model, file)
    words = ["eval", str(file), str(data), "--split", "train", "--device", "cpu", "--output-json"]
    assert main([*words, str(tmp_path / "one.json")]) == 0
    assert json.loads((tmp_path / "one.json").read_text())["AR100"] > 0
    table = capsys.readouterr().out
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "-m", "varifocal"]
    done = subprocess.run(
        [*launcher, *words, str(tmp_path / "three.json")], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "three.json").read_text()) == json.loads((tmp_path / "one.json").read_text())
    assert done.stdout == table  # once, and not by each process
    images = str(data / "train")
    assert main(["predict", str(file), images, "--device", "cpu", "--output", str(tmp_path / "one.jsonl")]) == 0
    done = subprocess.run(
        [*launcher, "predict", str(file), images, "--output", str(tmp_path / "out")],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert main(["merge", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "detections.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
