"""What stops a run, and what it leaves."""

import errno
import json
import os
from dataclasses import replace

import pytest
import torch
from tiny_data import TINY, make_data

import varifocal.train.log as log_module
from varifocal.config import override
from varifocal.errors import CheckpointError, DataError, TrainingError
from varifocal.models.weights import read_checkpoint
from varifocal.predict import load
from varifocal.recipe import Recipe, make_job
from varifocal.train.log import RunLog
from varifocal.train.loop import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("loop") / "data", pictures=4)


@pytest.fixture
def job(data, tmp_path):
    return make_tiny(data, tmp_path / "run")


def make_tiny(data, run, *overrides):
    torch.manual_seed(0)
    return make_job(override(Recipe(), [*TINY, "train.epochs=3", "train.save_every=1", *overrides]), data, run)


def spoil(job, at_step, term, value):
    """The term of the loss gets that value at that step."""
    original, steps = job.model.detector.loss, [0]

    def loss(*values):
        steps[0] += 1
        terms = original(*values)
        return {**terms, term: terms[term] * value} if steps[0] == at_step else terms

    job.model.detector.loss = loss


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (float("inf"), "inf"), (1e9, "e+0")])
def test_a_bad_loss_stops_and_the_last_checkpoint_is_good(job, value, said):
    spoil(job, 4, "refined", value)
    with pytest.raises(TrainingError, match=r"^step 4: the loss is .*largest term: refined = ") as error:
        train(job)
    assert said in str(error.value)
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
    job = make_tiny(data, tmp_path / "run", f"train.clip={clip}")
    steps = [0]

    def poison(gradient):
        steps[0] += 1
        return gradient * float("nan") if steps[0] == 3 else gradient

    job.model.detector.head.cls.bias.register_hook(poison)
    with pytest.raises(TrainingError, match=r"^step 3: .* is not finite after .*\.png"):
        train(job)
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
    metrics = train(job)
    assert set(metrics) == {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    best = load(job.run / "best.safetensors")
    assert best.info.metrics == metrics
    assert [(c.id, c.name) for c in best.categories] == [(3, "berry"), (17, "apple")]
    assert len(best.predict(job.training.samples[0].file).boxes) >= 0


def test_without_validation_the_last_weights_are_the_best(data, tmp_path):
    job = make_tiny(data, tmp_path / "run", "data.val_split=''")
    assert train(job) == {}
    assert (job.run / "best.safetensors").read_bytes() == (job.run / "last.safetensors").read_bytes()


def test_validation_without_any_box_still_leaves_the_best_weights(job):
    samples = tuple(
        replace(s, boxes=s.boxes[:0], labels=s.labels[:0], crowd=s.crowd[:0]) for s in job.validation.samples
    )
    metrics = train(replace(job, validation=replace(job.validation, samples=samples)))
    assert metrics["AP"] == -1.0
    assert (job.run / "best.safetensors").is_file()


def test_the_logged_loss_is_the_mean_over_the_accumulated_batches(data, tmp_path):
    seen = []
    job = make_tiny(data, tmp_path / "run", "train.accumulate=3")
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


def test_a_bad_picture_is_named_in_one_sentence(tmp_path):
    data = make_data(tmp_path / "data", pictures=4)
    job = make_tiny(data, tmp_path / "run")
    (data / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png: the image does not exist; check the path$"):
        train(job)


def test_nothing_to_resume_from(job):
    with pytest.raises(CheckpointError, match=r"state\.safetensors: cannot be read"):
        train(job, resume=True)


def test_a_log_that_cannot_be_written_stops_in_one_sentence(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunLog(tmp_path, 0, 5, quiet=False, tensorboard=False) as log:
        log.step(0, {"cls": 1.0}, 0.1)
        monkeypatch.setattr(log_module, "open", full, raising=False)
        with pytest.raises(TrainingError, match=r"log\.jsonl: cannot be written \(No space left on device\)"):
            log.step(1, {"cls": 1.0}, 0.1)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_resumed_log_drops_what_is_done_again_and_a_line_cut_off(tmp_path):
    lines = [json.dumps({"step": step}) for step in range(4)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 4, "lo']))
    with RunLog(tmp_path, 2, 9, quiet=False, tensorboard=False):
        pass
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines[:2]


def test_other_processes_write_no_log(tmp_path):
    with RunLog(tmp_path, 0, 9, quiet=True, tensorboard=False) as log:
        log.step(0, {"cls": 1.0}, 0.1)
        log.validation(0, {"AP": 0.1, "AP50": 0.1})
    assert list(tmp_path.iterdir()) == []
