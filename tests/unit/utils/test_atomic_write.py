"""Files that several write at once, and what a killed process left."""

import os
import threading

import pytest

from varifocal.utils import atomic_write as files
from varifocal.utils.atomic_write import atomic_write, atomic_write_all, is_part


def test_two_at_once_are_both_whole(tmp_path, monkeypatch):
    """Both are in the middle of it at the same time; the last one to move is there, whole."""
    path, barrier, fsync = tmp_path / "a.bin", threading.Barrier(2, timeout=20), os.fsync
    names = []

    def together(descriptor):
        fsync(descriptor)
        barrier.wait()
        names.extend(sorted(one.name for one in tmp_path.iterdir()))
        barrier.wait()

    monkeypatch.setattr(os, "fsync", together)
    contents = [b"a" * 100_000, b"b" * 50_000]
    threads = [threading.Thread(target=atomic_write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 2  # each has a name of its own
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_of_one_file(tmp_path):
    path, errors = tmp_path / "a.bin", []

    def work(byte):
        try:
            for _ in range(50):
                atomic_write(path, byte * 3000)
                assert len(set(path.read_bytes())) == 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(byte,)) for byte in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_used_up(tmp_path):
    (tmp_path / ".a.part").write_bytes(b"longer than what is written now")
    atomic_write_all({tmp_path / "a": b"new", tmp_path / "b": b"too"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new", "b": b"too"}
    assert is_part(tmp_path / ".a.part")
    assert not is_part(tmp_path / "a.part")


def test_where_there_are_no_locks_each_has_its_own_name(tmp_path, monkeypatch):
    def unknown(descriptor):
        raise OSError("no locks")

    monkeypatch.setattr(files, "try_lock", unknown)
    (tmp_path / ".a.part").write_bytes(b"of somebody else")
    atomic_write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / ".a.part").read_bytes() == b"of somebody else"


def test_the_rights_are_those_of_any_new_file(tmp_path):
    if os.name != "posix":
        pytest.skip("rights")
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
