"""Weights are fetched whole or not at all, from the server that was named, and go on where they stopped."""

import hashlib
import socket

import pytest
from error_codes import raises_code
from file_server import FileServer, serving

from varifocal.inference.published import download
from varifocal.inference.published.download import address_of, cache_folder, fetch

CONTENT = bytes(range(256)) * 1000
NAME = f"vfnet_r50_fpn_1x_coco_20201027-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("family", "file", "expected"),
    [
        ("vfnet", "vfnet_r50_fpn_1x_coco_20201027-38db6f58.pth", "vfnet/vfnet_r50_fpn_1x_coco"),
        (
            "vfnet",
            "vfnet_r50_fpn_mdconv_c3-c5_mstrain_2x_coco_20201027pth-6879c318.pth",
            "vfnet/vfnet_r50_fpn_mdconv_c3-c5_mstrain_2x_coco",
        ),
        ("gfl", "gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth", "gfl/gfl_r50_fpn_1x_coco"),
        ("fcos", "fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth", "fcos/fcos_r50_caffe_fpn_gn-head_1x_coco"),
    ],
)
def test_addresses(family, file, expected):
    assert address_of(family, file) == f"https://download.openmmlab.com/mmdetection/v2.0/{expected}/{file}"


def test_a_plus_in_a_name_is_quoted():
    file = "reppoints_moment_r50_fpn_gn-neck+head_1x_coco_20200329-4b38409a.pth"
    folder = "reppoints/reppoints_moment_r50_fpn_gn-neck%2Bhead_1x_coco"
    assert address_of("reppoints", file).endswith(f"/{folder}/{file.replace('+', '%2B')}")


def test_another_server(monkeypatch):
    monkeypatch.setenv("VARIFOCAL_WEIGHTS_SERVER", "http://mirror/files/")
    assert address_of("vfnet", NAME) == f"http://mirror/files/vfnet/vfnet_r50_fpn_1x_coco/{NAME}"


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(download.sys, "platform", "linux")
    assert cache_folder() == tmp_path / "varifocal"
    monkeypatch.setenv("VARIFOCAL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_file_is_fetched_once(tmp_path):
    steps = []
    with serving(FileServer(CONTENT)) as server:
        path = fetch(f"{server.address}/a/{NAME}", tmp_path / "new", lambda done, total: steps.append((done, total)))
        assert path == tmp_path / "new" / NAME
        assert path.read_bytes() == CONTENT
        assert steps[-1] == (len(CONTENT), len(CONTENT))
        assert left(path.parent) == [NAME]
        fetch(f"{server.address}/a/{NAME}", tmp_path / "new")
        assert server.requests == [None]


def test_a_cut_connection_goes_on_where_it_stopped(tmp_path):
    with serving(FileServer(CONTENT, cuts=[1000, 2000])) as server:
        assert fetch(f"{server.address}/{NAME}", tmp_path).read_bytes() == CONTENT
        assert server.requests == [None, "bytes=1000-", "bytes=3000-"]


def test_a_server_without_ranges_begins_anew(tmp_path):
    with serving(FileServer(CONTENT, cuts=[1000], ranges=False)) as server:
        assert fetch(f"{server.address}/{NAME}", tmp_path).read_bytes() == CONTENT


def test_what_arrived_is_kept_for_the_next_call(tmp_path):
    with serving(FileServer(CONTENT, cuts=[100] * 4)) as server, raises_code("weights-not-fetched") as caught:
        fetch(f"{server.address}/{NAME}", tmp_path)
    assert f"put it at {tmp_path / NAME}" in str(caught.value)
    assert left(tmp_path) == [f".{NAME}.part"]
    with serving(FileServer(CONTENT)) as server:
        assert fetch(f"{server.address}/{NAME}", tmp_path).read_bytes() == CONTENT
        assert server.requests == ["bytes=400-"]


def test_a_whole_part_needs_no_server(tmp_path):
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT)
    assert fetch(f"http://127.0.0.1:9/{NAME}", tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_too_long_begins_anew(tmp_path):
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT + b"more")
    with serving(FileServer(CONTENT)) as server:
        assert fetch(f"{server.address}/{NAME}", tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_is_never_kept(tmp_path):
    with serving(FileServer(CONTENT[:-1] + b"x")) as server, raises_code("weights-hash"):
        fetch(f"{server.address}/{NAME}", tmp_path)
    assert left(tmp_path) == []


def test_a_name_without_a_hash_is_refused(tmp_path):
    with serving(FileServer(CONTENT)) as server, raises_code("weights-hash"):
        fetch(f"{server.address}/a.pth", tmp_path)


@pytest.mark.parametrize("location", ["http://localhost:1/a.pth", "https://127.0.0.1/a.pth", "file:///etc/passwd"])
def test_a_redirect_to_elsewhere_is_not_followed(tmp_path, location):
    server = FileServer(CONTENT, status=302, location=location)
    with serving(server), raises_code("weights-not-fetched") as caught:
        fetch(f"{server.address}/{NAME}", tmp_path)
    assert location in str(caught.value)


def test_a_missing_file_is_not_tried_again(tmp_path):
    with serving(FileServer(CONTENT, status=404)) as server:
        with raises_code("weights-not-fetched") as caught:
            fetch(f"{server.address}/{NAME}", tmp_path)
        assert len(server.requests) == 1
    assert "404" in str(caught.value)


def test_a_server_that_is_down_is_tried_again(tmp_path):
    with serving(FileServer(CONTENT, status=503)) as server, raises_code("weights-not-fetched"):
        fetch(f"{server.address}/{NAME}", tmp_path)
    assert len(server.requests) == download.TRIES


def test_no_network_names_the_address(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with raises_code("weights-not-fetched") as caught:
        fetch(f"http://127.0.0.1:{port}/{NAME}", tmp_path)
    assert f"http://127.0.0.1:{port}/{NAME}" in str(caught.value)


def test_a_full_disk_is_seen_before_it_is_full(tmp_path, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with serving(FileServer(CONTENT)) as server, raises_code("weights-not-fetched") as caught:
        fetch(f"{server.address}/{NAME}", tmp_path)
    assert "the disk has 0 MiB free" in str(caught.value)


def test_a_disk_that_fills_up_keeps_what_arrived(tmp_path, monkeypatch):
    def full(address, part, advance):
        part.write_bytes(CONTENT[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_download", full)
    with raises_code("weights-cache") as caught:
        fetch(f"http://127.0.0.1:9/{NAME}", tmp_path)
    assert "make room" in str(caught.value)
    assert left(tmp_path) == [f".{NAME}.part"]


def test_a_file_that_is_larger_than_any_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1000)
    with serving(FileServer(CONTENT)) as server, raises_code("weights-not-fetched"):
        fetch(f"{server.address}/{NAME}", tmp_path)
