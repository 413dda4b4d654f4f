# Everything a person or CI does here. PYTHON may name another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
# The constraints pin torch to one build: a bare requirement may bring gigabytes of CUDA packages along.
INSTALL := $(RUN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-engine test-rest test-memory test-floor storm lint types format bench-train bench-engine bench-engine-quick bench-clip bench-omega \
	bench-remedies bench-remedies-quick golden clean

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, made anew when the requirements change.
$(VENV)/.app: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[app]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[lint]'
	@touch $@ $(VENV)/.app

$(VENV)/.bench: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[bench]'
	@touch $@ $(VENV)/.app

# Train on this machine's own Python library, watch the reach of the gradient, write the report.
demo: $(VENV)/.app
	$(RUN)/unvanish train --epochs 2 --seed 1

# The engine's half compiles kernels, and runs beside the rest, on a thread each: its lines come last.
# In random order, so that no test leans on another: make test SEED=17 runs in the order of that number.
# make test ONLY='-k word' runs some; make test-engine and make test-rest run one half alone.
ENGINE_TESTS := tests/engine tests/nn tests/cells
ifndef SEED
SEED := $(shell date +%s)
endif
PYTEST := $(RUN)/python -m pytest --quiet --randomly-seed=$(SEED) $(ONLY)
test test-engine test-rest: export OMP_NUM_THREADS := 1
test: $(VENV)/.test
	@echo "order of the tests: SEED=$(SEED)"
	@$(PYTEST) $(ENGINE_TESTS) >$(VENV)/engine-tests.txt 2>&1 & engine=$$!; \
	$(PYTEST) $(ENGINE_TESTS:%=--ignore=%); rest=$$?; \
	wait $$engine; engine=$$?; cat $(VENV)/engine-tests.txt; exit $$((rest + engine))

test-engine: $(VENV)/.test
	@echo "order of the tests: SEED=$(SEED)"
	@$(PYTEST) $(ENGINE_TESTS)

test-rest: $(VENV)/.test
	@echo "order of the tests: SEED=$(SEED)"
	@$(PYTEST) $(ENGINE_TESTS:%=--ignore=%)

# The contract on the oldest versions that pyproject.toml allows, in an environment of its own: older torch brings
# gigabytes of CUDA packages, and may warn of what the tests do not know of.
FLOOR := .venv-floor
test-floor:
	$(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/pip install --quiet --disable-pip-version-check pytest hypothesis $$($(PYTHON) -c \
	  'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])' | sed 's/>=/==/g')
	$(FLOOR)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	OMP_NUM_THREADS=1 $(FLOOR)/bin/python -m pytest --quiet $(ONLY) tests/nn tests/engine

# 20,000 steps of training in one process: the memory stays the same. Some minutes.
test-memory: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.train.test_memory

# Kill a small training inside every operation on its files, 200 times, and resume it: about ten minutes.
storm: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.train.storm --kills 200

lint: $(VENV)/.test
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(VENV)/.test
	$(RUN)/mypy

format: $(VENV)/.test
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

# Time `unvanish train` beside a plain PyTorch loop: make bench-train TEXT=input.txt
bench-train: $(VENV)/.app
	$(RUN)/python benchmarks/train_text.py $(TEXT)

# Time the layers beside their peers (torch.nn, eager loops, JAX, torchrecurrent). Wants a quiet machine.
bench-engine: $(VENV)/.bench
	$(RUN)/python benchmarks/engine.py

# The same on small shapes, to see that it works, beside the peers that are there: writes nothing.
bench-engine-quick: $(VENV)/.test
	$(RUN)/python benchmarks/engine.py --quick --threads 1 --table training-torch training-loops inference streaming telemetry

# Time every clip beside torch's own. Wants a quiet machine.
bench-clip: $(VENV)/.test
	$(RUN)/python benchmarks/clip.py

# Time a training step with Ω beside the same without.
bench-omega: $(VENV)/.test
	$(RUN)/python benchmarks/omega.py

# Remedy by cell: the reach before and after training, temporal order solved or not, the cost. About an hour.
bench-remedies: $(VENV)/.test
	$(RUN)/python benchmarks/remedies.py --write

# All three with a few updates and one size, to see that they work: they write nothing.
bench-remedies-quick: $(VENV)/.test
	$(RUN)/python benchmarks/clip.py --quick
	$(RUN)/python benchmarks/omega.py --quick
	$(RUN)/python benchmarks/remedies.py --cells gru --seeds 1 --updates 50 --rounds 3 --out /dev/null

# Keep the texts of three kernels anew, after reading what has changed.
golden: $(VENV)/.test
	$(RUN)/python -m tests.engine.test_golden

clean:
	rm -rf $(VENV) $(FLOOR) .pytest_cache .mypy_cache .ruff_cache .hypothesis
