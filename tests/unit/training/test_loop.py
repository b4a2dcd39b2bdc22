"""Errors that stop a run, and the files that it writes."""

import errno
import json
import os
import re
import sys
from dataclasses import replace

import pytest
import torch
from error_codes import raises_code
from tiny_data import TINY, make_data

import varifocal.training.log as log_module
import varifocal.training.loop as loop_module
from varifocal.cli import main
from varifocal.evaluation.coco_ap import CocoMetrics, coco_ap
from varifocal.inference.model import load
from varifocal.models.checkpoint import read_checkpoint
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe
from varifocal.training.callbacks import closing_callbacks
from varifocal.training.log import RunLogger
from varifocal.training.loop import summary_metrics, train
from varifocal.training.optim import WeightAverages
from varifocal.training.processes import start_fabric
from varifocal.training.state import read_state
from varifocal.utils.errors import CheckpointError, ConfigError, DataError, TrainingError
from varifocal.utils.overrides import override


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("loop") / "data", images=4)


@pytest.fixture
def job(data, tmp_path):
    return make_tiny(data, tmp_path / "run")


def make_tiny(data, run, *overrides):
    torch.manual_seed(0)
    return build_job(override(Recipe(), [*TINY, "train.epochs=3", "train.save_every_steps=1", *overrides]), data, run)


def spoil(job, at_step, term, value):
    """Multiply the term of the loss by ``value`` at that step."""
    original, steps = job.model.detector.loss, [0]

    def loss(*values):
        steps[0] += 1
        terms = original(*values)
        return {**terms, term: terms[term] * value} if steps[0] == at_step else terms

    job.model.detector.loss = loss


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "nan"), (float("inf"), "inf"), (1e9, "e+0")])
def test_a_bad_loss_stops_and_the_last_checkpoint_is_good(job, value, message):
    spoil(job, 4, "refined", value)
    with raises_code("loss-not-finite", TrainingError) as error:
        train(job)
    assert str(error.value).startswith("step 4: ")
    assert "largest term: refined = " in str(error.value)
    assert message in str(error.value)
    assert ".png" in str(error.value)
    assert "\n" not in str(error.value)
    tensors, info = read_checkpoint(job.run / "state.safetensors")
    assert info["place"]["step"] == 3
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    again = replace(job, model=make_tiny(job.training.source.parents[1], job.run).model)
    train(again, resume=True)
    steps = [json.loads(line)["step"] for line in (job.run / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(6))


@pytest.mark.parametrize("clip", [0.0, 10.0])
def test_a_bad_gradient_never_reaches_a_checkpoint(data, tmp_path, clip):
    job = make_tiny(data, tmp_path / "run", f"train.clip_grad_norm={clip}")
    steps = [0]

    def poison(gradient):
        steps[0] += 1
        return gradient * float("nan") if steps[0] == 3 else gradient

    job.model.detector.head.cls.bias.register_hook(poison)
    with raises_code("weight-not-finite", TrainingError) as error:
        train(job)
    assert re.match(r"step 3: .*\.png", str(error.value))
    for name in ("state", "last", "best"):
        tensors, _ = read_checkpoint(job.run / f"{name}.safetensors")
        assert all(tensor.isfinite().all() for tensor in tensors.values()), name


def test_norm_eval_holds_from_the_first_step(job):
    norms = {n: b.clone() for n, b in job.model.detector.named_buffers() if n.endswith("running_mean")}
    assert norms
    train(job)
    for name, buffer in job.model.detector.named_buffers():
        if name in norms:
            assert torch.equal(buffer, norms[name]), name


def test_a_run_leaves_loadable_weights_with_their_metrics(job):
    metrics = train(job).metrics
    assert set(metrics) == {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    best = load(job.run / "best.safetensors")
    assert best.info.metrics == metrics
    assert [(c.id, c.name) for c in best.categories] == [(3, "berry"), (17, "apple")]
    found = best.predict(job.training.samples[0].file, score_threshold=0.0)
    assert 0 < len(found) <= 100
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [96, 80, 96, 80]).all()
    assert set(found.labels.tolist()) <= {0, 1}
    last = load(job.run / "last.safetensors")  # the metrics are those of the weights
    again = coco_ap(
        job.validation.samples, job.validation.categories, [last.predict(s.file) for s in job.validation.samples]
    )
    assert summary_metrics(again) == pytest.approx(last.info.metrics)


def test_without_validation_the_last_weights_are_the_best(data, tmp_path):
    job = make_tiny(data, tmp_path / "run", "data.val_split=''")
    assert train(job).metrics == {}
    assert (job.run / "best.safetensors").read_bytes() == (job.run / "last.safetensors").read_bytes()


def test_validation_without_any_box_still_leaves_the_best_weights(job):
    samples = tuple(
        replace(s, boxes=s.boxes[:0], labels=s.labels[:0], crowd=s.crowd[:0], areas=s.areas[:0])
        for s in job.validation.samples
    )
    metrics = train(replace(job, validation=replace(job.validation, samples=samples))).metrics
    assert metrics["AP"] == -1.0
    assert (job.run / "best.safetensors").is_file()


def test_the_average_of_the_last_epochs_is_what_is_left(data, tmp_path, monkeypatch):
    """One epoch of two steps, then three whose final weights are averaged: after steps 4, 6 and 8."""
    job = make_tiny(data, tmp_path / "run", "train.epochs=1", "train.swa_epochs=3", "train.lr=0.02")
    after, update = [], WeightAverages.update

    def record(self, *, ends_swa_epoch):
        after.append({name: t.double().clone() for name, t in self.detector.state_dict().items()})
        update(self, ends_swa_epoch=ends_swa_epoch)

    monkeypatch.setattr(WeightAverages, "update", record)
    train(job)
    assert len(after) == 8
    last, _ = read_checkpoint(job.run / "last.safetensors")
    moved = 0
    for name, tensor in last.items():
        mean = (after[3][name] + after[5][name] + after[7][name]) / 3
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-6, atol=1e-7)
        moved += int(not torch.equal(mean, after[7][name]))
    assert moved > 20
    lines = [json.loads(line) for line in (job.run / "log.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[2:] == pytest.approx([0.02, (0.02 + 0.0002) / 2] * 3)
    assert [line["step"] for line in lines if "validation" in line] == [1, 3, 5, 7]


def test_a_rate_that_goes_with_the_batch_is_told(data, tmp_path, capsys):
    train(make_tiny(data, tmp_path / "run", "train.epochs=1", "train.base_batch_size=16", "data.val_split="))
    assert "train.lr=0.01 is for 16 images per step; scaled to 0.0025" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["lr"] == pytest.approx(0.0025)
    train(make_tiny(data, tmp_path / "other", "train.epochs=1", "train.base_batch_size=4", "data.val_split="))
    assert "images a step" not in capsys.readouterr().err


def test_the_logged_loss_is_the_mean_over_the_accumulated_batches(data, tmp_path):
    seen = []
    job = make_tiny(data, tmp_path / "run", "train.accumulate_grad_batches=3")
    original = job.model.detector.loss

    def loss(*values):
        terms = original(*values)
        seen.append(sum(term.item() for term in terms.values()))
        return terms

    job.model.detector.loss = loss
    train(job)
    lines = [json.loads(line) for line in (job.run / "log.jsonl").read_text().splitlines()]
    logged = [line["loss"] for line in lines if "loss" in line]
    assert len(seen) == 3 * len(logged) == 6
    assert logged == pytest.approx([sum(seen[:3]) / 3, sum(seen[3:]) / 3])


def test_a_bad_image_is_named_in_one_sentence(tmp_path):
    data = make_data(tmp_path / "data", images=4)
    job = make_tiny(data, tmp_path / "run")
    (data / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        train(job)


def cut_short(file):
    """Truncate the image to half its bytes; return a function that restores it."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return lambda: file.write_bytes(content)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_bad_validation_image_does_not_cost_the_steps_before_it(tmp_path, epochs):
    """The run stops after its first epoch; once the image is fixed, it resumes and misses no validation."""
    data = make_data(tmp_path / "data", images=4)
    restore = cut_short(data / "val" / "1.png")
    job = make_tiny(data, tmp_path / "run", f"train.epochs={epochs}")
    with pytest.raises(DataError, match=r"val/1\.png") as error:
        train(job)
    assert "\n" not in str(error.value)
    tensors, info = read_checkpoint(job.run / "state.safetensors")
    assert info["place"]["step"] == 2
    assert tensors
    assert not (job.run / "best.safetensors").exists()
    with pytest.raises(DataError, match=r"val/1\.png"):
        train(make_tiny(data, job.run, f"train.epochs={epochs}"), resume=True)
    restore()
    metrics = train(make_tiny(data, job.run, f"train.epochs={epochs}"), resume=True).metrics
    whole = make_tiny(data, tmp_path / "whole", f"train.epochs={epochs}")
    assert metrics == train(whole).metrics
    for name in ("state", "last", "best"):
        file = f"{name}.safetensors"
        assert (job.run / file).read_bytes() == (whole.run / file).read_bytes(), name
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (job.run, whole.run)]
    measured = [[line for line in log if "validation" in line] for log in logs]
    assert measured[0] == measured[1]
    assert len(measured[0]) == epochs


def test_a_bad_validation_image_leaves_the_last_state_that_was_due(tmp_path):
    data = make_data(tmp_path / "data", images=4)
    cut_short(data / "val" / "0.png")
    job = make_tiny(data, tmp_path / "run", "train.epochs=6", "train.val_every_epochs=3", "train.save_every_steps=4")
    with pytest.raises(DataError, match=r"val/0\.png"):
        train(job)
    assert read_checkpoint(job.run / "state.safetensors")[1]["place"]["step"] == 4


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is such a device")
@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["train.device=cuda"], "no-cuda-device"),
        (["train.device=mps"], "no-mps-device"),
        (["train.precision=fp16"], "fp16-on-cpu"),
    ],
)
def test_a_device_that_is_not_there(data, tmp_path, overrides, code):
    job = make_tiny(data, tmp_path / "run", "train.device=auto", *overrides)
    with raises_code(code, ConfigError):
        train(job)
    assert not job.run.exists()


def test_training_in_bf16(data, tmp_path):
    job = make_tiny(data, tmp_path / "run", "train.precision=bf16", "train.epochs=1", "data.val_split=")
    train(job)
    tensors, _ = read_checkpoint(job.run / "last.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_memory_is_measured_where_there_is_no_resource_module(monkeypatch):
    """Windows has no such module, so nothing may import it at module level."""
    if not torch.cuda.is_available():
        assert log_module.memory_mb() > 10
    assert not hasattr(log_module, "resource")
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert log_module.memory_mb() == 0.0


def test_tensorboard_gets_every_number_once_even_of_a_resumed_run(data, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    job = make_tiny(data, tmp_path / "run")
    spoil(job, 3, "refined", float("nan"))
    with pytest.raises(TrainingError), closing_callbacks([], ["tensorboard"]) as trackers:
        train(replace(job, callbacks=trackers))
    with closing_callbacks([], ["tensorboard"]) as trackers:
        train(replace(make_tiny(data, job.run), callbacks=trackers), resume=True)
    assert list((job.run / "tensorboard").glob("events.out.tfevents.*"))
    board = events.EventAccumulator(str(job.run / "tensorboard"))
    board.Reload()
    lines = [json.loads(line) for line in (job.run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    for name in ("loss", "cls", "initial", "refined", "lr"):
        found = [(event.step, event.value) for event in board.Scalars(f"train/{name}")]
        assert found == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in steps], name
    measured = [line for line in lines if "validation" in line]
    assert [event.step for event in board.Scalars("validation/AP")] == [line["step"] for line in measured] != []


def test_nothing_to_resume_from(job):
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        train(job, resume=True)


def test_a_log_that_cannot_be_written_stops_in_one_sentence(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = RunLogger()
    log.on_start(tmp_path, {}, 0, 5)
    log.on_step(0, {"cls": 1.0})
    monkeypatch.setattr(log_module, "open", full, raising=False)
    with raises_code("log-unwritable", TrainingError) as error:
        log.on_step(1, {"cls": 1.0})
    log.close()
    assert "log.jsonl: cannot be written (No space left on device)" in str(error.value)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_resumed_log_drops_what_is_done_again_and_a_line_cut_off(tmp_path):
    lines = [json.dumps({"step": step}) for step in range(4)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 4, "lo']))
    log = RunLogger()
    log.on_start(tmp_path, {}, 2, 9)
    log.close()
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines[:2]


class Recorder:
    """Some methods of a callback; the others may be missing."""

    def __init__(self, run, fails=()):
        self.run, self.fails, self.calls = run, fails, []

    def on_start(self, *values):
        self._record("on_start", *values)

    def on_step(self, *values):
        self._record("on_step", *values)

    def on_validation(self, *values):
        self._record("on_validation", *values, (self.run / "best.safetensors").is_file())

    def _record(self, name, *values):
        self.calls.append((name, *values))
        if (name, values[0]) in self.fails:
            raise ValueError("mine")


def test_a_callback_gets_what_the_log_gets(data, tmp_path):
    job = make_tiny(data, tmp_path / "run", "train.epochs=2")
    recorder = Recorder(job.run)
    train(replace(job, callbacks=(recorder,)))
    lines = [json.loads(line) for line in (job.run / "log.jsonl").read_text().splitlines()]
    logged = []
    for line in lines:
        if "validation" in line:
            logged.append(("on_validation", line["step"], line["validation"], True))
        else:
            values = {key: line[key] for key in line if key not in ("step", "memory_mb", "seconds")}
            logged.append(("on_step", line["step"], values))
    assert recorder.calls == [("on_start", job.run, job.model.info.recipe, 0, 4), *logged]
    assert {"loss", "lr", "cls"} <= recorder.calls[1][2].keys()
    assert recorder.calls[1][2]["loss"] == sum(v for k, v in recorder.calls[1][2].items() if k not in ("loss", "lr"))


@pytest.mark.parametrize(("fails", "left"), [(("on_step", 2), 2), (("on_validation", 1), 2)])
def test_a_failing_callback_costs_no_more_than_a_step(data, tmp_path, fails, left):
    """The run resumes, and ends as one without the failure."""
    job = make_tiny(data, tmp_path / "run", "train.epochs=4")
    with pytest.raises(ValueError, match="mine"):
        train(replace(job, callbacks=(Recorder(job.run, [fails]),)))
    assert read_checkpoint(job.run / "state.safetensors")[1]["place"]["step"] == left
    train(make_tiny(data, job.run, "train.epochs=4"), resume=True)
    whole = make_tiny(data, tmp_path / "whole", "train.epochs=4")
    train(whole)
    for name in ("state", "last", "best"):
        file = f"{name}.safetensors"
        assert (job.run / file).read_bytes() == (whole.run / file).read_bytes(), name
    logs = [(run / "log.jsonl").read_text().splitlines() for run in (job.run, whole.run)]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1]


def test_other_processes_call_nothing_and_write_no_log(job, monkeypatch):
    class Other:
        """The Fabric of a process that is not the first."""

        is_global_zero = False

        def __init__(self, fabric):
            self.fabric = fabric

        def __getattr__(self, name):
            return getattr(self.fabric, name)

    monkeypatch.setattr(loop_module, "start_fabric", lambda config: Other(start_fabric(config)))
    recorder = Recorder(job.run)
    train(replace(job, callbacks=(recorder,)))
    assert recorder.calls == []
    assert not job.run.exists()


def test_a_run_stops_early_when_validations_do_not_become_better(data, tmp_path, monkeypatch, capsys):
    """AP 0.1, 0.3, 0.2, 0.3: the third and the fourth are not better than the second; an epoch has two steps."""
    real, values = loop_module.validate, iter([0.1, 0.3, 0.2, 0.3, 0.9])

    def validate(*arguments):
        return replace(real(*arguments), AP=next(values))

    monkeypatch.setattr(loop_module, "validate", validate)
    job = make_tiny(data, tmp_path / "run", "train.epochs=9", "train.patience=2", "train.save_every_steps=100")
    train(job)
    state = read_state(job.run)
    assert (state.step, state.since_best, state.best) == (8, 2, 0.3)
    assert load(job.run / "best.safetensors").info.metrics["AP"] == 0.3
    assert "stopped after step 8: the last 2 validations were not better" in capsys.readouterr().err
    train(job, resume=True)  # as after a crash before the evaluation: nothing more is trained
    assert read_state(job.run).step == 8
    assert next(values) == 0.9


def test_patience_in_a_folder(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop_module, "validate", lambda *_: coco_of(0.5))
    run = tmp_path / "run"
    words = [*TINY, "train.epochs=6", "train.patience=2"]
    assert (
        main(
            [
                "train",
                str(data),
                "--recipe",
                "vfnet_r50_1x",
                "--out",
                str(run),
                *words,
                "model.backbone.pretrained=none",
            ]
        )
        == 0
    )
    assert read_state(run).step == 6
    assert main(["train", "--resume", str(run)]) == 0
    error = capsys.readouterr().err
    assert "stopped early after 6 of 12 steps" in error
    assert "train.patience=0" in error
    assert main(["train", "--resume", str(run), "train.patience=0"]) == 0
    assert read_state(run).step == 12


def coco_of(ap):
    return CocoMetrics(ap, *[0.0] * 11, {})


@pytest.mark.parametrize("parts", [["backbone"], ["neck", "head"], ["backbone", "neck"]], ids=str)
def test_frozen_parts_keep_their_weights(data, tmp_path, parts):
    words = [f"train.freeze=[{','.join(parts)}]", "model.backbone.norm_eval=false", "model.backbone.frozen_stages=0"]
    job = make_tiny(data, tmp_path / "run", *words)
    before = {name: value.clone() for name, value in job.model.detector.state_dict().items()}
    train(job)
    changed = {
        name.partition(".")[0]
        for name, value in before.items()
        if not torch.equal(job.model.detector.state_dict()[name], value)
    }
    assert changed == {"backbone", "neck", "head"} - set(parts)


def test_something_must_be_trained(data, tmp_path):
    with raises_code("nothing-to-train", ConfigError):
        make_tiny(data, tmp_path / "run", "train.freeze=[backbone,neck,head]")
    with raises_code("config-value", ConfigError):
        make_tiny(data, tmp_path / "run", "train.freeze=[neckk]")
