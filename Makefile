# make demo and make test set up what they need; everything runs in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint docs bench claims soak clean

demo: $(READY)
	$(BIN)/regraft demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m regraft.evidence.pages --check
	$(BIN)/python -m regraft.recipes.pages --check
	$(BIN)/python -m regraft.report.choosing --check

docs: $(READY)
	$(BIN)/python -m regraft.evidence.pages
	$(BIN)/python -m regraft.recipes.pages
	$(BIN)/python -m regraft.report.choosing

bench: $(READY)
	$(BIN)/python -m benchmarks

claims: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/regraft claims run --jobs 2

soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak --kills 200

# torch first and pinned: another package's plain "torch" would fetch gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[data,dev]'
	touch $(READY)

clean:
	rm -rf .venv regraft-demo regraft-demo-skills .pytest_cache .mypy_cache .ruff_cache
