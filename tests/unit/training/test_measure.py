"""What a step and a validation cost, on tiny data: nothing is written, and the numbers are those of the job."""

import time

import torch
from tiny_data import TINY, make_data

from varifocal.data.loader import collate
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe
from varifocal.training import measure
from varifocal.training.loop import build_train_dataset
from varifocal.training.measure import bytes_per_image, measure_costs
from varifocal.utils.overrides import override


def make_job(folder, *words):
    data = make_data(folder / "data", images=4)
    torch.manual_seed(0)
    return build_job(override(Recipe(), [*TINY, *words]), data, folder / "run")


def test_costs_are_the_seconds_of_a_step_and_of_a_validation(tmp_path, monkeypatch):
    job = make_job(tmp_path)
    slow = measure.Stepper.step

    def step(self, number, batches, lr):
        time.sleep(0.5 if number < measure.WARM_UP else 0.05)
        return slow(self, number, batches, lr)

    monkeypatch.setattr(measure.Stepper, "step", step)
    monkeypatch.setattr(type(job.model), "predict", lambda self, image: time.sleep(0.1))
    costs = measure_costs(job, 0.0)
    assert 0.05 < costs.step < 0.5
    assert 0.2 <= costs.validation < 0.4
    assert costs.batches == 2
    assert not job.run.exists()


def test_the_bytes_of_an_image_grow_with_its_pixels(tmp_path):
    def needed(crop):
        job = make_job(tmp_path / f"{crop}", f"data.augment.crop={crop}", "data.augment.scale_jitter=[1.0, 1.0]")
        data = build_train_dataset(job)
        return bytes_per_image(job, collate([data[(0, 0, 0)]], 32))

    small, large = needed(32), needed(64)
    assert small > 3 * 32 * 32 * 4
    assert 2.5 < large / small < 4.5
