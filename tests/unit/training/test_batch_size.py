"""The largest batch: against the limit itself, and with a memory of known size."""

import pytest
import torch
import yaml
from error_codes import raises_code
from tiny_data import TINY, make_data

from varifocal.cli import main
from varifocal.data.load import load_dataset
from varifocal.recipes.build import build_job, with_batch_size
from varifocal.recipes.recipe import Recipe
from varifocal.recipes.run import resume_run, run_recipe
from varifocal.training import batch_size
from varifocal.training.batch_size import fitting_batch_size, largest_batch
from varifocal.training.measure import bytes_per_image
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

AUTO = (*TINY, "train.epochs=2", "train.batch_size=auto", "train.num_workers=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("batch") / "data", images=6)


@pytest.mark.parametrize("most", [1, 2, 7, 64, 256])
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 8, 17, 31, 100, 255, 1000])
def test_the_largest_that_fits_is_found_with_few_trials(limit, most):
    tried = []

    def fits(count):
        tried.append(count)
        return count <= limit

    found = largest_batch(fits, most)
    best = min(max(limit, 1), most)
    assert best * 7 / 8 <= found <= best
    assert len(tried) == len(set(tried)) <= 12
    assert all(1 < count <= most for count in tried)


@pytest.fixture
def memory(monkeypatch):
    """Memory for that many images of the data; returns the function that sets it."""

    def of(images, job):
        per_image = bytes_per_image(job, batch_size._batch_of(batch_size._largest_example(job), 1, job))
        monkeypatch.setattr(batch_size, "free_memory", lambda: int(per_image * (images + 0.5) / batch_size.USED))

    return of


def make_job(data, folder, *words):
    torch.manual_seed(0)
    return build_job(override(Recipe(), [*TINY, *words]), data, folder / "run")


@pytest.mark.parametrize(("images", "expected"), [(0, 1), (1, 1), (3, 3), (50, 6)])
def test_on_a_cpu_it_is_what_fits_into_half_of_the_memory(data, tmp_path, memory, images, expected):
    job = make_job(data, tmp_path, "data.augment.scale_jitter=[1.0,1.0]", "data.augment.crop=0")
    memory(images, job)
    assert fitting_batch_size(job) == expected


def test_a_run_has_the_number_in_its_recipe_and_resumes_with_it(data, tmp_path, memory, capsys, monkeypatch):
    memory(3, make_job(data, tmp_path))
    run = tmp_path / "run"
    run_recipe(override(Recipe(), AUTO), data, run)
    size = yaml.safe_load((run / "recipe.yaml").read_text())["train"]["batch_size"]
    assert size >= 1
    assert f"batch size {size}: the largest that fits into the memory" in capsys.readouterr().err
    monkeypatch.setattr(batch_size, "free_memory", lambda: 1)
    assert resume_run(data, run, ["train.epochs=3"]) is not None


def test_a_planned_run_takes_it(data, tmp_path, memory, capsys):
    words = ["model.backbone.pretrained=none", "model.channels=16", "train.device=cpu"]
    job = make_job(data, tmp_path)
    memory(500, job)
    assert (
        main(["train", str(data), "--epochs", "1", "--out", str(tmp_path / "run"), *words, "train.batch_size=auto"])
        == 0
    )
    said = capsys.readouterr().err
    size = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["train"]["batch_size"]
    assert f"batch size {size}: the largest that fits" in said


def test_preview_needs_no_number(data, tmp_path):
    assert main(["preview", str(data), "--out", str(tmp_path / "p.png"), *TINY, "train.batch_size=auto"]) == 0


def test_several_processes_need_a_number(data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with raises_code("auto-batch-processes", ConfigError):
        with_batch_size(override(Recipe(), AUTO), (load_dataset(data, "train"), None))


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_what_is_no_batch_size(value):
    with raises_code("config-value", ConfigError):
        override(Recipe(), [f"train.batch_size={value}"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_it_is_tried(data, tmp_path):
    job = make_job(data, tmp_path, "train.device=cuda")
    assert fitting_batch_size(job) == 6
