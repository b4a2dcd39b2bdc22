"""The tables of speed are what their script makes of the results, and the script says what a row says."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load("speed_table")
RESULTS = script.read(script.RESULTS)


def test_the_page_is_what_the_script_makes():
    assert (ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == script.page(RESULTS)


def test_the_readme_is_what_the_script_makes():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.with_table(readme, script.front(RESULTS)) == readme


def test_the_page_on_deploying_is_what_the_script_makes():
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    table = script.runtimes(RESULTS["deploy"], RESULTS["deploy_accuracy"])
    assert script.with_table(page, table, "runtimes") == page
    targets = script.int8_targets(json.loads(script.INT8.read_text(encoding="utf-8")))
    assert script.with_table(page, targets, "int8 targets") == page


def test_int8_targets_by_hand():
    """What was not measured is a dash, not a zero."""
    rows = [
        {"model": "loom", "format": "torch", "target": None, "processor": "here", "AP": 16.96, "confident": 584},
        {"model": "loom", "format": "onnx", "target": "vnni", "processor": "here", "AP": 17.0, "confident": 590},
        {"model": "loom", "format": "onnx", "target": "vnni", "processor": "avx2", "AP": None, "confident": None},
        {"model": "loom", "format": "openvino", "target": "portable", "processor": "avx2", "AP": 0.0, "confident": 0},
    ]
    machine = {"date": "2030-01-02", "cpu": "Abacus", "threads": 1, "gpu": None, "versions": {"python": "3.13"}}
    latency = {"here": {"onnx vnni": 1234.5, "openvino portable": 70.4}, "avx2": {"openvino portable": 99.9}}
    content = {"script": "a.py", "machine": machine, "rows": rows, "latency": latency}
    assert script.int8_targets(content).splitlines() == [
        "| runtime | `--int8-target` | loom: with VNNI | loom: AVX2 only |",
        "|---|---|---|---|",
        "| torch | fp32 | 17.0 / 584 | - |",
        "| ONNX Runtime | vnni | 17.0 / 590 | - |",
        "| OpenVINO | portable | - | 0.0 / 0 |",
        "",
        "Each cell is AP on the validation images / the number of detections with a score above 0.3. *AVX2 only* is "
        "emulated on the processor with VNNI, in QEMU (`-cpu Haswell`), except OpenVINO on loom: "
        "`ONEDNN_MAX_CPU_ISA=AVX2`. No processor without VNNI was available.",
        "",
        "| VFNet-R50, 800x1216 | with VNNI | AVX2 only |",
        "|---|---|---|",
        "| ONNX Runtime, vnni | 1,234 ms | - |",
        "| OpenVINO, portable | 70 ms | 100 ms |",
        "",
        "`a.py`, 2030-01-02, Abacus, 1 thread, python 3.13.",
    ]


def test_runtimes_by_hand(monkeypatch):
    machine = {"date": "2030-01-02", "cpu": "Abacus", "threads": 1, "gpu": None, "versions": {"python": "3.13"}}
    speed = {"torch fp32": 1500.0, "Loom int8": 500.0, "size, loom": 12.4}
    speed = [row(what=what, value=value) for what, value in speed.items()]
    monkeypatch.setattr(script, "RUNTIMES", [("Loom int8", "loom")])
    table = script.runtimes(
        {"script": "a.py", "machine": machine, "rows": speed},
        {"script": "b.py", "machine": machine, "rows": [row(what="AP, Loom int8", value=16.96)]},
    )
    assert table.splitlines()[2:] == [
        "| Loom | int8 | 500 ms | 3.00x as fast | 12 MB | 17.0 |",
        "",
        "Latency and file size: VFNet-R50 at 800x1216, one image (`a.py`, 2030-01-02, Abacus, 1 thread, python 3.13).",
        "AP: the model of `make demo` on its held-out scene (`b.py`, 2030-01-02). "
        "The int8 files were exported with `--int8-target vnni`.",
    ]


def test_make_bench_runs_every_script_that_left_results():
    listed = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()
    assert set(RESULTS) <= set(listed) == set(script.TITLES)
    for name, result in RESULTS.items():
        assert result["script"] == f"benchmarks/{name}.py"
        assert (ROOT / result["script"]).is_file()


@pytest.mark.parametrize("name", RESULTS)
def test_ratio_and_goal_follow_from_the_numbers(name):
    for row in RESULTS[name]["rows"]:
        if row["peer_value"] is not None:
            assert row["ratio"] == pytest.approx(row["value"] / row["peer_value"])
        if row["goal"] is not None:
            measured = row["ratio"] if row["goal"]["of"] == "ratio" else row["value"]
            limit, side = row["goal"]["limit"], row["goal"]["side"]
            assert row["met"] == (measured <= limit if side == "most" else measured >= limit)


def test_stars_with_norms_stand_beside_plain_convolutions_with_norms(monkeypatch):
    """Each kind runs, and a row has its own peer: 5 ms beside 2 and beside 3."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    stars = load("star_conv")
    ran = []

    def medians(calls, rounds):
        ran.extend(calls)
        for call in calls.values():
            call()
        return {"plain": 1.0, "plain, normed": 2.0, "star": 3.0, "star, normed": 5.0}

    monkeypatch.setattr(stars, "medians", medians)
    rows = stars.normed_rows(sizes=[(6, 5), (3, 2)], channels=8)
    assert ran == ["plain", "plain, normed", "star", "star, normed"]
    assert [(one.value, one.peer, one.ratio) for one in rows] == [
        (5.0, "plain pairs with group norm", 2.5),
        (5.0, "pair of stars without", 5 / 3),
    ]


def row(**other):
    plain = {"what": "thing", "value": 2.0, "unit": "ms", "goal": None, "peer": "", "peer_value": None, "note": ""}
    return {**plain, "ratio": None, "met": None, **other}


def test_a_page_by_hand(tmp_path):
    versions = {"python": "3.13", "torch": "3.0"}
    machine = {"date": "2030-01-02", "cpu": "Abacus", "threads": 1, "gpu": None, "versions": versions}
    late = {
        "goal": {"limit": 1.0, "of": "ratio", "side": "most"},
        "peer": "other",
        "peer_value": 0.0125,
        "ratio": 1.6,
        "met": False,
        "note": "why it is late",
    }
    many = {"goal": {"limit": 5.0, "of": "value", "side": "least"}, "unit": "images", "value": 12345.6, "met": True}
    slow = [row(what=what, value=0.02, **(late | {"unit": "s"})) for what in ("late", "later")]
    rows = [*slow, row(what="many", **many), row()]
    (tmp_path / "a_thing.json").write_text(json.dumps({"script": "benchmarks/a.py", "machine": machine, "rows": rows}))
    assert script.page(script.read(tmp_path)).removeprefix(script.HEAD).splitlines() == [
        "",
        "## a_thing",
        "",
        "`benchmarks/a.py`, 2030-01-02, Abacus, 1 thread, python 3.13, torch 3.0.",
        "",
        "| what | measured | peer or floor | ratio | goal | met |",
        "|---|---|---|---|---|---|",
        "| late | 20 ms | other: 12.5 ms | 1.6x | at most 1x | **no** |",
        "| later | 20 ms | other: 12.5 ms | 1.6x | at most 1x | **no** |",
        "| many | 12,346 images | - | - | at least 5 images | yes |",
        "| thing | 2 ms | - | - | - | - |",
        "",
        "- **late; later miss their goals**: why it is late.",
    ]


def test_known_scripts_come_first_in_their_order(tmp_path):
    for name in ("other", "import_time", "star_conv"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert list(script.read(tmp_path)) == ["star_conv", "import_time", "other"]
