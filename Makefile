# Everything a newcomer needs: "make demo" to see it work, "make check" before a change is sent.
# Settings: PYTHON (the interpreter of .venv, 3.10 or newer), ARGS (passed on), WORKERS (processes of
# the tests, about 4 GB each), THREADS (of torch in each of them) and ISA (avx2 or sse: what of the processor the tests'
# libraries may use, see docs/processors.md).

PYTHON ?= python3
WORKERS ?= 2
THREADS ?= 1
BIN := .venv/bin
ISA_avx2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Haswell
ISA_sse := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Prescott
DIST := --dist loadfile --no-loadscope-reorder
LIMIT = $(if $(ISA),$(or $(ISA_$(ISA)),$(error ISA=$(ISA): there is no such limit; use ISA=avx2 or ISA=sse)))
FAST := tests/test_layers.py $(wildcard tests/unit/test_*.py) \
  $(addprefix tests/unit/,analysis assign cli data evaluation inference models utils) \
  $(addprefix --ignore=tests/unit/,models/published models/test_backbone.py models/test_optimize.py \
    models/test_small_maps.py models/test_checkpoint.py inference/test_model_tiled.py inference/test_video.py \
    inference/test_boxes_numpy.py data/test_fuzz.py data/test_layouts.py data/test_augment.py data/test_mosaic.py \
    data/test_convert.py data/test_load.py data/test_archive_training.py data/readers/test_json_stream.py)
BENCHMARKS := star_conv network assignment postprocess training_step data_loading sources throughput ray_throughput coco_evaluation import_time deploy deploy_accuracy

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check bench clean

help:  ## Show these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-9s  %s\n", $$1, $$2 }'

demo: .venv/demo.stamp  ## Train, evaluate and draw on the embedded images: make demo ARGS="--help"
	$(BIN)/varifocal demo $(ARGS)

test: .venv/dev.stamp  ## Run the tests: make test ARGS="-k atss"
	$(LIMIT) OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) $(DIST) $(ARGS)

test-fast: .venv/dev.stamp  ## Run what needs no training and no export, in a minute and a half
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) $(DIST) -m "not slow" $(FAST) $(ARGS)

check: .venv/dev.stamp  ## Format, lint, types, tests: what a change has to pass
	OMP_NUM_THREADS=$(THREADS) WORKERS=$(WORKERS) scripts/check

bench: .venv/dev.stamp  ## Measure speed on a quiet machine and write docs/speed.md (some minutes)
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/speed_table.py

clean:  ## Remove the environment, caches and builds; runs/ stays
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/%.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[$*]"
	touch $@
