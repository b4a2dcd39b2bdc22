"""Two hosts, as network namespaces that a cable connects: one is killed, the cable is pulled out, the data differs.

Needs root and Linux's ``ip netns``; skipped where they are missing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import TINY, make_data

from varifocal.recipes.recipe import Recipe, write_recipe
from varifocal.utils.overrides import override

ADDRESSES = ("10.83.7.1", "10.83.7.2")
PORT = 29417
LIMIT = 150.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Two namespaces with an address each; every process in them is killed at the end."""
    names = tuple(f"vf{os.getpid()}{letter}" for letter in "ab")
    if shutil.which("ip") is None:
        pytest.skip("the program ip is not installed")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("link", "set", name, "netns", name)
            for words in (f"addr add {address}/24 dev {name}", f"link set {name} up", "link set lo up"):
                ip("-n", name, *words.split())
    except subprocess.CalledProcessError as error:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        pytest.skip(f"network namespaces cannot be made here ({error.stderr.strip()})")
    yield names
    for name in names:
        found = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
        for process in found.stdout.split():
            os.kill(int(process), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("hosts") / "data", images=16)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Twelve epochs of four steps, each of which is saved."""
    words = [*TINY, "train.epochs=12", "train.val_every_epochs=12", "train.save_every_steps=1"]
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    write_recipe(override(Recipe(), words), file)
    return file


def start(
    hosts: tuple[str, ...], number: int, data: Path, recipe: Path, run: Path, restarts: int = 3, more: str = ""
) -> subprocess.Popen[str]:
    """Start the processes of a host as torchrun does on a cluster."""
    settings = f"is_host={int(number == 0)},join_timeout=100,last_call_timeout=1{more and f',{more}'}"
    words = ["ip", "netns", "exec", hosts[number], sys.executable, "-m", "torch.distributed.run"]
    words += ["--nnodes=2", "--nproc-per-node=1", f"--max-restarts={restarts}", f"--local-addr={ADDRESSES[number]}"]
    words += ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:{PORT}", f"--rdzv-conf={settings}"]
    words += ["-m", "varifocal", "train", str(data), "--recipe", str(recipe), "--out", str(run), "--resume", "auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": hosts[number], "PYTHONUNBUFFERED": "1"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # otherwise the host that is left never tells the new one
    with (run.parent / f"{run.name}-{number}.log").open("a") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, text=True, env=environment, start_new_session=True)


def wait_for_steps(run: Path, steps: int) -> None:
    """Wait until that many steps are logged."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        log = run / "log.jsonl"
        if log.exists() and log.read_text().count('"loss"') >= steps:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {steps} steps in {LIMIT:.0f} s: {logs(run)}")


def logs(run: Path) -> str:
    files = [run.parent / f"{run.name}-{number}.log" for number in (0, 1)]
    return "\n".join(file.read_text()[-3000:] for file in files if file.exists())


def finish(run: Path, processes: list[subprocess.Popen[str]]) -> list[int]:
    codes = []
    for process in processes:
        try:
            codes.append(process.wait(LIMIT))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not finished after {LIMIT:.0f} s: {logs(run)}") from None
    return codes


def kill(process: subprocess.Popen[str]) -> None:
    """End a host without a chance to say so: torchrun and what it started."""
    os.killpg(process.pid, signal.SIGSTOP)
    found = subprocess.run(["pgrep", "-g", str(process.pid)], check=False, capture_output=True, text=True)
    children = [int(one) for one in found.stdout.split()]
    for one in [*children, *descendants(process.pid)]:
        os.kill(one, signal.SIGKILL)
    process.wait()


def descendants(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], check=False, capture_output=True, text=True)
    children = [int(one) for one in found.stdout.split()]
    return [*children, *(one for child in children for one in descendants(child))]


@pytest.fixture(scope="module")
def weights(data, recipe, tmp_path_factory):
    """The weights of an undisturbed run of two processes on this machine."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "varifocal"]
    words += ["train", str(data), "--recipe", str(recipe), "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return load_file(run / "last.safetensors")


def assert_equal(run: Path, weights: dict[str, torch.Tensor]) -> None:
    """Check that the last weights of a run are these, to the last bit."""
    found = load_file(run / "last.safetensors")
    assert found.keys() == weights.keys()
    assert max(float((found[name] - weights[name]).abs().max()) for name in weights) == 0


@pytest.mark.slow
def test_a_host_that_is_killed_comes_back(hosts, data, recipe, tmp_path, weights):
    run = tmp_path / "run"
    soon = "keep_alive_interval=1,keep_alive_max_attempt=3"  # after which a silent host counts as lost
    first, second = (start(hosts, number, data, recipe, run, more=soon) for number in (0, 1))
    wait_for_steps(run, 6)
    kill(second)
    second = start(hosts, 1, data, recipe, run, more=soon)
    assert finish(run, [first, second]) == [0, 0], logs(run)
    assert "resumes at step" in (tmp_path / "run-0.log").read_text()
    assert_equal(run, weights)


@pytest.mark.slow
def test_a_cable_that_is_pulled_out_for_ten_seconds(hosts, data, recipe, tmp_path, weights):
    run = tmp_path / "run"
    both = [start(hosts, number, data, recipe, run) for number in (0, 1)]
    wait_for_steps(run, 6)
    ip("-n", hosts[1], "link", "set", hosts[1], "down")
    time.sleep(10)
    ip("-n", hosts[1], "link", "set", hosts[1], "up")
    assert finish(run, both) == [0, 0], logs(run)
    assert_equal(run, weights)


@pytest.mark.slow
def test_a_host_with_other_data_is_refused(hosts, data, recipe, tmp_path):
    run = tmp_path / "run"
    other = tmp_path / "data"
    shutil.copytree(data, other)
    file = other / "train" / "annotations.json"
    labels = json.loads(file.read_text())
    labels["categories"].append({"id": 99, "name": "cherry"})  # so that the networks have other shapes, too
    labels["annotations"][0]["category_id"] = 99
    file.write_text(json.dumps(labels))
    both = [start(hosts, number, source, recipe, run, restarts=0) for number, source in enumerate((data, other))]
    assert 0 not in finish(run, both)
    assert "process 1 on" in logs(run)
    assert "the training data is 16 images, SHA-256" in logs(run)
