"""The verb bench: its numbers against hand calculations and known times, its pass against Model.predict, its errors."""

import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from varifocal.cli import main, parse
from varifocal.data.images import read_image
from varifocal.inference.model import create_model, load, save
from varifocal.models import DETECTORS
from varifocal.models.backbone import BackboneConfig
from varifocal.models.flops import count_flops
from varifocal.tools.bench import images as images
from varifocal.tools.bench import machine, memory, model, peak, results, run
from varifocal.tools.bench import timers as clock
from varifocal.tools.bench.config import Settings
from varifocal.tools.bench.console import show
from varifocal.tools.bench.images import decode, made_image, read_images
from varifocal.tools.bench.model import Network, find_model, random_model
from varifocal.tools.bench.modules import find_parts, flops_of
from varifocal.tools.bench.results import STAGES, Rates
from varifocal.tools.bench.workload import Workload, one_pass
from varifocal.types import PAPER_TTA, PostProcess, Preprocess, Tiling

SIZE = (64, 96)
TINY = {"backbone": "resnet18", "channels": 32, "num_levels": 3, "num_convs": 1}
RECIPE = """
model: {backbone: {name: resnet18}, channels: 32, num_levels: 3, num_convs: 1}
data: {preprocess: {short_side: 64, max_long_side: 96}}
"""


@pytest.fixture(autouse=True)
def small_peak(monkeypatch):
    """Convolutions that take no time, for the same fraction of a second."""
    monkeypatch.setattr(run, "CONVOLUTIONS", (peak.Convolution(16, 16, 3, 32, 32), peak.Convolution(16, 32, 1, 16, 16)))
    monkeypatch.setattr(peak, "SECONDS", 0.01)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    torch.manual_seed(0)
    save(create_model("vfnet", classes=["cat", "dog"], star_norm="group", **TINY), path)
    return path


def by_hand() -> int:
    """Operations of that network at 64 x 96, two a multiply-add."""
    backbone = 32 * 48 * 64 * 3 * 49
    width, cells = 64, 16 * 24
    backbone += cells * 4 * 9 * width * width
    for _ in range(3):
        cells //= 4
        backbone += cells * 9 * width * (2 * width) + 3 * cells * 9 * (2 * width) ** 2 + cells * width * (2 * width)
        width *= 2
    levels = (8 * 12, 4 * 6, 2 * 3)
    neck = sum(n * (c * 32 + 9 * 32 * 32) for n, c in zip(levels, (128, 256, 512), strict=True))
    # a layer in each tower, one before the first box, two stars, whose norms count nowhere; two classes and twice four
    # distances
    head = sum(levels) * 9 * 32 * (5 * 32 + 2 + 4 + 4)
    return 2 * (backbone + neck + head)


def job_of(a_model, shape, found=None) -> Workload:
    return Workload(
        a_model, model.torch_network(a_model, Settings()), found or [made_image()], shape, torch.device("cpu")
    )


def words(*more):
    return ["--size", "64x96", "--repeats", "1", *map(str, more)]


def refused(capsys, *arguments):
    """The one sentence on stderr of a command that must fail, before anything is measured, with exit code 2."""
    capsys.readouterr()
    try:
        code = main(["bench", *map(str, arguments)])
    except SystemExit as stop:  # what argparse refuses
        code = stop.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("varifocal bench:")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "milliseconds" not in err
    return lines[0]


# what is printed and written


def test_numbers_and_table(checkpoint, tmp_path, capsys):
    file = tmp_path / "new" / "speed.json"
    assert main(["bench", str(checkpoint), *words("--batch", "1,2", "--output-json", file)]) == 0
    report = json.loads(file.read_text())
    assert set(report) == {
        *("date", "machine", "versions", "settings", "model", "peak", "batches", "operators", "notes"),
    }
    assert report["machine"]["cpu"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["threads"] == torch.get_num_threads()
    assert report["versions"]["torch"] in torch.__version__
    assert report["settings"]["precision"] == "fp32"
    assert report["model"]["gflop"] == pytest.approx(by_hand() / 1e9, rel=1e-12)
    assert report["model"]["multiply_adds"] * 2 == by_hand()
    assert (report["model"]["detector"], report["model"]["classes"]) == ("vfnet", 2)
    assert report["model"]["random_weights"] is False
    assert report["notes"] == []
    assert [result["batch"] for result in report["batches"]] == [1, 2]
    best = report["peak"][0]["gflops_per_second"]
    assert best == max(speed["gflops_per_second"] for speed in report["peak"]) > 0
    for result in report["batches"]:
        check_batch(result, best)
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    for said in ("vfnet on resnet18", "height 64, width 96", "images/s", "of peak", "star convolutions", *STAGES):
        assert said in out


def check_batch(result, best):
    """Of a report of one round, in which a median is the one value and parts add up exactly."""
    steps = result["steps"]
    times = [step["milliseconds"]["median"] for step in steps]
    assert min(times) > 0
    levels = [step["level"] for step in steps]
    assert [step["name"] for step in steps if not step["level"]] == list(STAGES)
    assert [step["name"] for step in steps if step["level"] == 1] == ["backbone", "neck", "head", "rest"]
    assert [step["name"] for step in steps if step["level"] == 2] == [
        *("towers", "star convolutions", "predictors", "rest"),
    ]
    at = {step["name"]: step for step in steps if step["name"] != "rest"}
    whole = result["milliseconds"]
    assert sum(t for t, level in zip(times, levels, strict=True) if level == 0) == pytest.approx(whole["median"])
    inside = [t for t, level in zip(times, levels, strict=True) if level == 2]
    assert sum(inside) == pytest.approx(at["head"]["milliseconds"]["median"])
    network = sum(t for t, level in zip(times, levels, strict=True) if level == 1)
    assert 3 * at["network"]["milliseconds"]["median"] >= max(inside)  # timed in another pass than its parts
    assert network / 3 <= at["network"]["milliseconds"]["median"] <= 3 * network
    assert whole["min"] <= whole["p10"] <= whole["median"] <= whole["p90"]
    assert result["images_per_second"] == pytest.approx(result["batch"] * 1e3 / whole["median"])
    assert result["memory"]["extra"] is None or result["memory"]["extra"] > 0
    assert result["memory"]["allocated"] is None
    assert at["network"]["gflop"] == pytest.approx(result["batch"] * by_hand() / 1e9, rel=1e-12)
    assert sum(at[part]["gflop"] for part in ("backbone", "neck", "head")) == pytest.approx(at["network"]["gflop"])
    for step in at.values():
        if step["gflop"] is not None:
            rate = step["gflop"] / step["milliseconds"]["median"] * 1e3
            assert step["gflops_per_second"] == pytest.approx(rate)
            assert 0 < step["fraction_of_peak"] == pytest.approx(rate / best)
            assert step["fraction_of_peak"] <= 1.5


def test_a_recipe_has_random_weights_and_says_so(tmp_path, capsys):
    recipe = tmp_path / "own.yaml"
    recipe.write_text(RECIPE)
    assert main(["bench", str(recipe), *words("--batch", "2,2")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "random weights detect almost nothing" in out
    assert out.count("median of 1 pass ") == 1  # a batch size that is named twice is measured once


def test_a_trace(checkpoint, tmp_path, capsys):
    trace = tmp_path / "trace.json"
    assert main(["bench", str(checkpoint), *words("--profile", trace)]) == 0
    events = json.loads(trace.read_text())["traceEvents"]
    assert any("conv" in str(event.get("name")) for event in events)
    said = capsys.readouterr()
    rows = said.out.split("operator ")[1].splitlines()[1:]
    assert len(rows) == 10
    assert any("conv" in row for row in rows)
    assert "Kineto" not in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.json"]


def test_the_table_at_80_columns_with_large_numbers(checkpoint):
    report = run.bench(str(checkpoint), Settings(SIZE, (1,), repeats=1))
    slow = results.Spread(123456.7, 123456.7, 123456.7, 123456.7, 7)
    result = replace(report.batches[0], batch=128, milliseconds=slow, memory=results.Memory(54321.0))
    gpu = {**report.machine, "gpu": "NVIDIA H200", "cpu": "Intel(R) Xeon(R) Platinum 8480+"}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(show(replace(report, batches=(result,), machine=gpu)))
    text = console.export_text()
    assert "123456.7" in text
    assert "54321" in text
    assert "…" not in text


# settings


def test_own_preprocessing_sizes_the_images_of_a_checkpoint(checkpoint, tmp_path):
    """640 x 480 becomes 48 x 64 with a shorter side of 48, and is padded to a multiple of 32."""
    own = load(checkpoint)
    own.info = replace(own.info, preprocess=Preprocess(short_side=48, max_long_side=96))
    save(own, tmp_path / "own.safetensors")
    report = run.bench(str(tmp_path / "own.safetensors"), Settings(repeats=1))
    assert (report.model["resized"], report.model["input"]) == ([48, 64], [64, 64])
    assert report.notes == ()


def test_windows_and_views_are_told(checkpoint, tmp_path):
    own = load(checkpoint)
    own.info = replace(own.info, preprocess=Preprocess(scale=0.5), tiling=Tiling(size=128, overlap=32), tta=PAPER_TTA)
    save(own, tmp_path / "own.safetensors")
    report = run.bench(str(tmp_path / "own.safetensors"), Settings(repeats=1))
    assert report.model["resized"] == [64, 64]
    assert "tiles of 128 pixels" in report.notes[0]
    assert "makes 8 passes over" in report.notes[1]


def test_threads_hold_for_the_run_alone(checkpoint):
    before = torch.get_num_threads()
    report = run.bench(str(checkpoint), Settings(SIZE, threads=before + 1, repeats=1))
    assert report.machine["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_half_precision_on_a_cpu(checkpoint, monkeypatch):
    monkeypatch.setattr(run, "lacks_bf16", lambda: True)
    report = run.bench(str(checkpoint), Settings(SIZE, precision="bf16", repeats=1))
    assert "no bf16 arithmetic" in report.notes[0]
    a_model = load(checkpoint)
    outputs = model.torch_network(a_model, Settings(precision="bf16")).call(torch.zeros(1, 3, *SIZE))
    assert outputs.tensors["logits"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("flags", "lacks"),
    [("fpu avx2 avx512f", True), ("fpu avx512_bf16", False), ("amx_bf16 amx_tile", False), ("", True)],
)
def test_what_linux_says_of_bf16(tmp_path, monkeypatch, flags, lacks):
    text = f"processor : 0\nmodel name : Some CPU @ 2: GHz\nflags\t\t: {flags}\n"
    monkeypatch.setattr(machine.Path, "read_text", lambda *_, **__: text)
    assert machine.lacks_bf16() is lacks
    assert machine.cpu_name() == "Some CPU @ 2: GHz"


def test_a_machine_that_says_nothing(monkeypatch):
    monkeypatch.setattr(machine, "_cpu_lines", list)
    assert machine.lacks_bf16() is False
    assert machine.cpu_name()


# images


def test_the_images_of_a_folder(checkpoint, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate([(60, 40), (30, 50), (8, 8)]):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(images, "MOST", 2)
    found, source = read_images(str(tmp_path))
    assert [image.name[-5:] for image in found] == ["0.png", "1.png"]
    assert source.endswith("(the first 2 of 3)")
    for image in found:
        assert decode(image).tobytes() == read_image(tmp_path / image.name).tobytes()
    report = run.bench(str(checkpoint), Settings(SIZE, batches=(3,), repeats=1, images=str(tmp_path)))
    assert report.model["input"] == list(SIZE)


def test_the_made_image_is_like_a_photograph():
    made = made_image()
    image = decode(made)
    assert (image.width, image.height, image.mode) == (640, 480, "RGB")
    assert 30_000 < len(made.data) < 150_000
    assert made == made_image()


# the pass


@pytest.mark.parametrize("name", ["vfnet", "fcos"])
def test_a_pass_finds_what_predict_finds(name):
    torch.manual_seed(1)
    options = TINY if name == "vfnet" else {**TINY, "num_convs": 1}
    a_model = create_model(name, num_classes=3, **options)
    a_model.info = replace(
        a_model.info,
        preprocess=Preprocess(short_side=75, max_long_side=77),
        postprocess=PostProcess(score_threshold=0.0, nms_iou=0.95),
    )
    image = made_image()
    expected = a_model.predict([decode(image)])[0]
    with torch.inference_mode():
        (found,) = one_pass(job_of(a_model, (58, 77)), [image])  # rounded, so the axes differ
    assert len(found) == len(expected) > 10
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_random_weights_are_the_same_and_leave_the_generator_alone(tmp_path):
    recipe = tmp_path / "own.yaml"
    recipe.write_text(RECIPE)
    made = []
    for seed in (7, 8):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        made.append(random_model(str(recipe)))
        assert torch.equal(state, torch.get_rng_state())
    one, two = made
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert len(one.categories) == 80


# times, memory, peak


def test_percentiles():
    found = results.spread([40.0, 10.0, 20.0, 30.0, 50.0])
    assert (found.median, found.min, found.repeats) == (30.0, 10.0, 5)
    assert (found.p10, found.p90) == (pytest.approx(14.0), pytest.approx(46.0))


class Sleeper(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, value):
        time.sleep(self.seconds)
        return value


class Sleepers(nn.Module):
    """Twice ten milliseconds in a, thirty in b, and ten in neither."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.unused = Sleeper(0.01), Sleeper(0.03), Sleeper(1)

    def forward(self, value):
        time.sleep(0.01)
        return self.a(self.b(self.a(value)))


def test_times_of_parts():
    network = Sleepers()
    with clock.PartClock(network, ["", "a", "b", "unused"], torch.device("cpu")) as watched:
        network(torch.zeros(1))
    times = watched.times()
    assert times["a"] >= 20
    assert times["b"] >= 30
    assert times["unused"] == 0
    assert times[""] >= times["a"] + times["b"] + 10
    assert times["a"] < times[""] - 39  # what is not its own is not counted
    network(torch.zeros(1))
    assert watched.times() == times  # no longer watched


def test_laps():
    watch = clock.StageClock(torch.device("cpu"))
    time.sleep(0.02)
    watch.lap("one")
    watch.lap("two")
    assert watch.laps["one"] >= 20 > watch.laps["two"]


def test_memory():
    """64 MiB that are written and let go inside the call; what was let go before does not hide them."""
    del_me = [torch.ones(2**18) for _ in range(256)]  # 1 MiB each, which the C library keeps for itself
    del del_me
    found = clock.peak_memory(lambda: [torch.ones(2**18) for _ in range(64)], torch.device("cpu"))
    if found.extra is None:
        pytest.skip("this system does not tell")
    assert 63 <= found.extra <= 72
    assert found.allocated is None


def test_memory_where_linux_does_not_tell(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(memory.Path, "write_text", refuse)
    assert clock.peak_memory(lambda: None, torch.device("cpu")) == results.Memory(None)


def test_peak():
    convolution = peak.Convolution(16, 32, 3, 10, 20)
    assert convolution.flops == 2 * 16 * 32 * 9 * 200
    assert str(convolution) == "3x3 16->32 on 10x20"
    done = []
    found = peak.measure_peak(
        torch.device("cpu"), torch.float32, [1, 2], [convolution, peak.Convolution(4, 4, 1, 5, 5)], done.append
    )
    assert done == [1, 2, 3, 4]
    rates = [speed.gflops_per_second for speed in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    assert {(speed.convolution, speed.batch) for speed in found} == {
        (name, batch) for name in ("3x3 16->32 on 10x20", "1x1 4->4 on 5x5") for batch in (1, 2)
    }


def test_rates():
    """2e9 operations in half a second are 4 GFLOP/s, half of a peak of 8."""
    step = Rates({}, 8.0).step("x", 1, [400.0, 500.0, 600.0], 2 * 10**9)
    assert (step.gflop, step.gflops_per_second, step.fraction_of_peak) == (2.0, 4.0, 0.5)
    assert Rates({}, 8.0).step("x", 1, [1.0], 0).gflop is None


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_is_cut_into_parts_that_miss_nothing(name):
    detector, config = DETECTORS[name]
    with torch.device("meta"):
        network = detector(config(num_classes=3, backbone=BackboneConfig(name="resnet18"), channels=32)).eval()
        counted = count_flops(network, (256, 256))
    parts = find_parts(network)
    outer = [part for part in parts if not part.within]
    assert [part.name for part in outer] == ["backbone", "neck", "head"]
    assert sum(flops_of(part, counted) for part in outer) == counted[""]
    inner = [part for part in parts if part.within]
    assert sum(flops_of(part, counted) for part in inner) == counted["head"]
    assert all(flops_of(part, counted) for part in inner)
    stars = [] if name not in ("vfnet", "reppoints") else ["star convolutions"]
    assert [part.name for part in inner] == ["towers", *stars, "predictors"]


# what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "800"], "'800' is not height x width"),
        (["--size", "0x64"], "'0x64' is not height x width"),
        (["--size=-8x64"], "'-8x64' is not height x width"),
        (["--size", "64x96x3"], "'64x96x3' is not height x width"),
        (["--batch", "0"], "'0' is not a whole number above 0"),
        (["--batch", "1,,2"], "'' is not a whole number above 0"),
        (["--batch", "two"], "'two' is not a whole number above 0"),
        (["--threads", "0"], "'0' is not a whole number above 0"),
        (["--repeats", "-1"], "'-1' is not a whole number above 0"),
        (["--seconds", "nan"], "'nan' is not a number of seconds above 0"),
        (["--seconds", "0"], "'0' is not a number of seconds above 0"),
        (["--seconds", "1", "--repeats", "1"], "not allowed with"),
        (["--precision", "fp16"], "precision fp16 needs a GPU"),
        (["--precision", "fp64"], "invalid choice: 'fp64'"),
        (["--runtime", "onnx"], "invalid choice: 'onnx'"),
        (["--device", "nonsense"], "--device nonsense: not available here"),
        (["--device", "meta"], "--device meta: only cpu and cuda can be measured"),
        (["--images", "nowhere"], "nowhere: no image is found there"),
        (["--images", "bad.jpg"], "bad.jpg: this is not an image"),
        (["--output-json", "folder"], "folder: is a folder"),
        (["--profile", "file/trace.json"], "file: cannot be written"),
        (["--output-json", "x.json", "--profile", "./x.json"], "x.json: is named by both --output-json and --profile"),
        (["key=value"], "key=value: neither a checkpoint nor a recipe"),
    ],
    ids=" ".join,
)
def test_wishes_that_cannot_be_met(checkpoint, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    monkeypatch.setattr(run, "measure_batch", lambda *_: pytest.fail("the work was begun"))
    own = [] if arguments == ["key=value"] else [checkpoint]
    assert said in refused(capsys, *own, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jpg", "file", "folder"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vfnet_r51_1x", "neither a checkpoint nor a recipe; the recipes are atss_r50_1x, "),
        ("gone.safetensors", "gone.safetensors: cannot be read"),
        ("some/where", "some/where: cannot be read"),
        ("gone.yaml", "recipe 'gone.yaml': not found"),
        ("text.bin", "text.bin: damaged or not a safetensors file"),
        ("pickle.pth", "pickle.pth: not a detector that this version converts"),
        ("bad.yaml", "there is no 'color' here"),
    ],
)
def test_models_that_are_none(tmp_path, monkeypatch, capsys, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.bin").write_text("hello" * 9)
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pth")
    (tmp_path / "bad.yaml").write_text("color: red")
    assert said in refused(capsys, name)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_what_does_not_fit_into_memory(checkpoint, monkeypatch, capsys, error):
    if str(error).endswith("allocate"):
        error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    def full(*_):
        raise error

    monkeypatch.setitem(run.RUNTIMES, "torch", lambda *_: Network(full, None))
    assert "--batch 3: 3 x 64 x 96 pixels do not fit" in refused(capsys, checkpoint, *words("--batch", 3))
    monkeypatch.setattr(run, "measure_peak", full)
    assert "--batch 3: 3 x 64 x 96 pixels do not fit" in refused(capsys, checkpoint, *words("--batch", 3))


def test_another_failure_keeps_its_traceback(checkpoint, monkeypatch):
    def broken(batch):
        raise RuntimeError("a defect")

    monkeypatch.setitem(run.RUNTIMES, "torch", lambda *_: Network(broken, None))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["bench", str(checkpoint), *words()])


def test_a_runtime_without_parts(checkpoint, monkeypatch):
    """What is no torch module has no parts; everything else is there."""

    def whole(a_model, settings):
        return Network(model.torch_network(a_model, settings).call, None)

    monkeypatch.setitem(run.RUNTIMES, "torch", whole)
    report = run.bench(str(checkpoint), Settings(SIZE, repeats=1))
    assert [step.name for step in report.batches[0].steps] == list(STAGES)


def test_the_names_of_models(checkpoint):
    assert find_model(str(checkpoint))[1] is False
    assert find_model("trees")[1] is True


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda(checkpoint, precision):
    report = run.bench(str(checkpoint), Settings(SIZE, (2,), precision, "cuda", repeats=2))
    (result,) = report.batches
    assert report.machine["gpu"]
    assert result.memory.allocated > result.memory.extra > 0
    assert all(step.milliseconds.median > 0 for step in result.steps)
    assert report.settings["tf32"] == (precision == "fp32" and torch.backends.cudnn.allow_tf32)


def test_large_images_are_timed_with_a_higher_limit(tmp_path, monkeypatch):
    """Pillow's own limit, which it has for the whole process, is not in the way."""
    path = tmp_path / "large.png"
    Image.new("RGB", (40, 10), (7, 8, 9)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setenv("VARIFOCAL_MAX_PIXELS", "400")
    (one,), _ = read_images(str(path))
    assert decode(one).size == (40, 10)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("words", [["bench", "--images", "."], ["export", "a.safetensors", "--images", "."]])
def test_verbs_that_name_the_limit_take_it(words):
    options, _ = parse([*words, "--max-pixels", "5"])
    assert options.max_pixels == 5
