# quell: everything a fresh machine with Python 3.11+, git and make needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.8

.PHONY: help setup ivory test reference soak bench pages lint format lock clean

help:                ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(READY)      ## a virtual environment with pinned, hashed dependencies and quell itself

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --requirement requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src
	@touch $(READY)

ivory: $(READY)      ## simulate, analyse and report one IVORY trial: out/ivory/report.html
	$(BIN)/quell run ivory --out out/ivory

test: $(READY)       ## every test but the slow ones, in under 10 minutes on two cores
	$(BIN)/python -m pytest -n auto -m "not slow" --doctest-modules tests src

reference: $(READY)  ## the slow tests as well
	$(BIN)/python -m pytest -n auto --doctest-modules tests src

soak: $(READY)       ## hours: rank statistics of the calibration over 100 synthetic studies; resumes
	$(BIN)/python -m tools.calibration_ranks out/ranks 100

bench: $(READY)      ## measured speeds, as ratios against peers in one run
	$(BIN)/python -m benchmarks

pages: $(READY)      ## remake the generated pages: the model, its sensitivity, the evidence, the analyses, the exam, credibility
	$(BIN)/python -m tools.sensitivity
	$(BIN)/python -m tools.model_page
	$(BIN)/python -m tools.evidence_page
	$(BIN)/python -m tools.analyses_page
	$(BIN)/python -m tools.exam_page
	$(BIN)/python -m tools.credibility_page

lint: $(READY)       ## style and types
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks tools
	$(BIN)/ruff format src tests benchmarks tools

lock: $(READY)       ## remake requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra develop --generate-hashes \
	    --no-emit-index-url --no-header pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache
