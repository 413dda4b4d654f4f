# Everything a person or CI does here; `make help` lists it. PYTHON may name another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
# The constraints pin torch to one build: a bare requirement may bring gigabytes of CUDA packages along.
INSTALL := $(RUN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo check test test-fast test-full test-engine test-rest test-memory test-floor storm lint types format bench-train bench-engine \
	bench-engine-quick bench-clip bench-omega bench-remedies bench-remedies-quick bench-prescriptions docs pictures golden kernels release clean

help: ## List what can be made.
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, made anew when the requirements change.
$(VENV)/.app: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[app]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[lint]'
	@touch $@ $(VENV)/.app $(VENV)/.docs

$(VENV)/.docs: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.app

$(VENV)/.bench: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[bench]'
	@touch $@ $(VENV)/.app

$(VENV)/.release: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[release]'
	@touch $@

demo: $(VENV)/.app ## Train on this machine's own Python library, watch the reach of the gradient, write the report.
	$(RUN)/unvanish train --epochs 2 --seed 1

check: $(VENV)/.test ## Run all that CI runs: what needs one core goes side by side, and the tests come last.
	@$(MAKE) --jobs=2 lint types bench-engine-quick bench-remedies-quick
	@$(MAKE) test

# The half that compiles most kernels runs beside the rest, on a thread each: its lines come last. Some of what is
# trained and diagnosed stands there, so that both take as long; nothing that imports scikit-learn, whose OpenMP is another.
# In random order, so that no test leans on another: make test SEED=17 runs in the order of that number.
# make test ONLY='-k word' runs some; make test-engine and make test-rest run one half alone.
ENGINE_TESTS := tests/engine tests/nn tests/cells tests/flow tests/remedies tests/outside \
	tests/diagnosis/test_people.py tests/diagnosis/test_prescribed_code.py tests/diagnosis/test_suite.py tests/export \
	tests/data tests/figures tests/train/test_sharing.py tests/train/test_options.py tests/train/test_storm.py \
	tests/train/test_hostile.py tests/train/questions tests/test_site.py
ifndef SEED
SEED := $(shell date +%s)
endif
PYTEST := $(RUN)/python -m pytest --quiet --randomly-seed=$(SEED) $(ONLY)
test test-fast test-engine test-rest: export OMP_NUM_THREADS := 1
test: $(VENV)/.test ## Run all tests, in two halves side by side: ONLY='-k word' runs some, SEED=17 repeats an order.
	@echo "order of the tests: SEED=$(SEED)"
	@$(PYTEST) $(ENGINE_TESTS) >$(VENV)/engine-tests.txt 2>&1 & engine=$$!; \
	$(PYTEST) $(ENGINE_TESTS:%=--ignore=%); rest=$$?; \
	wait $$engine; engine=$$?; cat $(VENV)/engine-tests.txt; exit $$((rest + engine))

# The language, the plans, the command line; and of each battery over cells the part of one cell.
FAST_TESTS := tests/equations tests/test_house.py tests/engine/test_plan.py tests/engine/test_recognise.py tests/cli/test_commands.py
BATTERIES := tests/cells/test_catalogue.py tests/engine/test_native.py tests/engine/test_backends.py \
	tests/nn/test_sequences.py tests/nn/test_module.py tests/nn/test_reset.py
test-fast: $(VENV)/.test ## Run the tests for work in progress, in a minute or so.
	@$(PYTEST) $(BATTERIES) -k 'lstm and not peephole' >$(VENV)/battery-tests.txt 2>&1 & batteries=$$!; \
	$(PYTEST) $(FAST_TESTS); fast=$$?; \
	wait $$batteries; batteries=$$?; cat $(VENV)/battery-tests.txt; exit $$((fast + batteries))

test-full: export KERNELS := shipped
test-full: export TESTS := whole
test-full: test ## Run all tests whole, with every kernel compiled as users get it: test takes parts of some products.

test-engine: $(VENV)/.test ## Run the half that compiles kernels.
	@echo "order of the tests: SEED=$(SEED)"
	@$(PYTEST) $(ENGINE_TESTS)

test-rest: $(VENV)/.test ## Run the other half.
	@echo "order of the tests: SEED=$(SEED)"
	@$(PYTEST) $(ENGINE_TESTS:%=--ignore=%)

# The contract on the oldest versions that pyproject.toml allows, in an environment of its own: older torch brings
# gigabytes of CUDA packages, and may warn of what the tests do not know of.
FLOOR := .venv-floor
test-floor: ## Run the tests of layers and engine on the oldest versions that are allowed.
	$(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/pip install --quiet --disable-pip-version-check pytest hypothesis expecttest $$($(PYTHON) -c \
	  'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])' | sed 's/>=/==/g')
	$(FLOOR)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	OMP_NUM_THREADS=1 $(FLOOR)/bin/python -m pytest --quiet $(ONLY) tests/nn tests/engine tests/test_torch_internals.py

test-memory: $(VENV)/.test ## Train 20,000 steps in one process: the memory stays the same. Some minutes.
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.train.test_memory

storm: $(VENV)/.test ## Kill a small training inside every operation on its files, 200 times, and resume it. Ten minutes.
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.train.storm --kills 200

PROSE := README.md CONTRIBUTING.md SECURITY.md $(wildcard docs/*.md docs/learn/*.md)
lint: $(VENV)/.test ## Check style and form.
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/codespell
	$(RUN)/proselint check $(PROSE)

types: $(VENV)/.test ## Check the types.
	$(RUN)/mypy

format: $(VENV)/.test ## Mend style and form where a machine can.
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench-train: $(VENV)/.app ## Time `unvanish train` beside a plain PyTorch loop: make bench-train TEXT=input.txt
	$(RUN)/python benchmarks/train_text.py $(TEXT)

bench-engine: $(VENV)/.bench ## Time the layers beside torch.nn, eager loops, JAX, torchrecurrent. Needs a quiet machine.
	$(RUN)/python benchmarks/engine.py

bench-engine-quick: $(VENV)/.test ## See that this works, on small shapes, beside the peers that are there; writes nothing.
	$(RUN)/python benchmarks/engine.py --quick --threads 1 --table training-torch training-loops inference streaming telemetry

bench-clip: $(VENV)/.test ## Time every clip beside torch's own. Needs a quiet machine.
	$(RUN)/python benchmarks/clip.py

bench-omega: $(VENV)/.test ## Time a training step with Ω beside the same without.
	$(RUN)/python benchmarks/omega.py

bench-remedies: $(VENV)/.test ## Remedy by cell: the reach before and after training, what is solved, the cost. An hour.
	$(RUN)/python benchmarks/remedies.py --write

bench-prescriptions: $(VENV)/.test ## Prescriptions as printed: does the cell learn what it could not? Five minutes.
	$(RUN)/python benchmarks/prescriptions.py

bench-remedies-quick: $(VENV)/.test ## See that the last four work, with a few updates and one size; they write nothing.
	$(RUN)/python benchmarks/clip.py --quick
	$(RUN)/python benchmarks/omega.py --quick
	$(RUN)/python benchmarks/remedies.py --cells gru --seeds 1 --updates 50 --rounds 3 --out /dev/null
	$(RUN)/python benchmarks/prescriptions.py --cells RNN --seeds 1 --updates 25 --remedies 1 --out /dev/null

docs: $(VENV)/.docs ## Build the documentation, strictly, into build/site: it opens from there without a network.
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

pictures: $(VENV)/.test ## Draw the pictures of the README again, from what was measured.
	$(RUN)/python docs/pictures/draw.py

golden: $(VENV)/.test ## Keep three kernels, the derivatives of the catalogue and the list of options as they are now.
	$(RUN)/python -m tests.engine.test_golden
	$(RUN)/python -m tests.equations.test_derived
	$(RUN)/python -m tests.cli.test_options

kernels: $(VENV)/.release ## Compile the kernels that a wheel brings, into this clone, for this machine. Some minutes.
	$(RUN)/python release/kernels.py --machine $$(uname -m)

release: $(VENV)/.release ## Make the source archive and the wheels in dist/, and try this machine's in a bare environment.
	$(RUN)/python release/make.py $(RELEASE)

clean: ## Remove the environments and what tools leave behind.
	rm -rf $(VENV) $(FLOOR) dist src/unvanish/engine/native/ready .pytest_cache .mypy_cache .ruff_cache .hypothesis
