"""One process at a time: who is refused, and what a dead process leaves."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from varifocal.utils import locks
from varifocal.utils.errors import ConfigError
from varifocal.utils.locks import LOCK, claimed, claimed_file, claimed_folder

HOLD = """
import os, sys, time
from pathlib import Path
from varifocal.utils.locks import claimed_folder
with claimed_folder(Path(sys.argv[1])):
    child = os.fork() if len(sys.argv) > 2 else -1
    if child <= 0:  # the child says who it is, so that it has come to be when this is read
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@contextmanager
def killed_holder(folder, *fork):
    """While the block runs a process holds the folder, and then is killed; gives its child, if it is to ``fork``."""
    command = [sys.executable, "-c", HOLD, str(folder), *fork]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def refused(folder):
    with pytest.raises(ConfigError) as error, claimed_folder(folder):
        pytest.fail("entered")
    return str(error.value)


def test_another_process_is_refused_and_a_dead_one_blocks_nobody(tmp_path):
    with killed_holder(tmp_path):
        assert refused(tmp_path) == (
            f"{tmp_path}: another process is writing to this folder; wait until it ends, or choose another --out."
        )
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]  # nobody was there to remove it
    with claimed_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_outlives_the_holder_holds_nothing(tmp_path):
    """As a process that loads images does for some seconds."""
    child = 0
    try:
        with killed_holder(tmp_path, "fork") as child:
            refused(tmp_path)
        os.kill(child, 0)  # it is still there
        with claimed_folder(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_another_thread_is_refused(tmp_path):
    refused = []

    def other():
        try:
            with claimed_file(tmp_path / "a.onnx"):
                refused.append(None)
        except ConfigError as error:
            refused.append(str(error))

    with claimed_file(tmp_path / "a.onnx"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with claimed_file(tmp_path / "b.onnx"):  # another file of the folder
            pass
    assert refused == [
        f"{tmp_path / 'a.onnx'}: another process is writing it; wait until it ends, or choose another path."
    ]
    assert list(tmp_path.iterdir()) == []


def test_many_in_turn_never_hold_it_together(tmp_path):
    """Each removes the file that the next one may already have opened."""
    inside, seen, done = [0], [], []

    def work():
        while len(done) < 60:
            try:
                with claimed(tmp_path / "lock", "taken"):
                    inside[0] += 1
                    seen.append(inside[0])
                    time.sleep(0)
                    inside[0] -= 1
                    done.append(1)
            except ConfigError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {1}


def test_a_folder_that_was_made_goes_away_if_it_stays_empty(tmp_path):
    with pytest.raises(ZeroDivisionError), claimed_folder(tmp_path / "a" / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "run").exists()
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with claimed_folder(tmp_path / name):
            (tmp_path / "new").mkdir(exist_ok=True)
            (tmp_path / "new" / "x").touch()
    assert (tmp_path / "mine").is_dir()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    words = r"file: cannot be written \(.*\); choose another folder\.$"
    with pytest.raises(ConfigError, match=words), claimed_file(tmp_path / "file" / "out"):
        pytest.fail("entered")


@pytest.fixture
def no_locks(monkeypatch):
    def unknown(descriptor):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(locks, "try_lock", unknown)


@pytest.mark.usefixtures("no_locks")
def test_where_the_file_system_knows_no_locks(tmp_path):
    mark = tmp_path / f"{LOCK}-of"
    with claimed_folder(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [mark.name]
        assert refused(tmp_path).endswith(f"or choose another --out. If there is none, remove {mark}.")
    assert list(tmp_path.iterdir()) == []
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for text, free in ((f"{dead.pid} {locks.socket.gethostname()}", True), (f"{dead.pid} elsewhere", False)):
        mark.write_text(text)
        if free:
            with claimed_folder(tmp_path):
                pass
        else:
            refused(tmp_path)
    assert mark.read_text().endswith("elsewhere")


def test_only_the_lock_is_asked_for(tmp_path, monkeypatch):
    """What goes wrong otherwise is told as it is."""

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(locks, "try_lock", fail)
    assert "cannot be written" in refused(tmp_path)
