# Every target works on a fresh clone: the environment is made first where it is missing or out of date.
# Small networks run faster on one thread than on two (several times, when the machine is busy).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
# Processes that share the tests: each takes some 1 to 3 GB.
JOBS ?= 2
export MPLBACKEND ?= Agg
# ArviZ 1.x needs Python 3.12 or newer, and what it is tested with needs no torch: an environment of its own.
PYTHON_ARVIZ1 ?= $(shell for python in python3.12 python3.13 python3.14 $$HOME/.pyenv/versions/3.1[2-9]*/bin/python3; \
	do "$$python" -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)
ARVIZ1 := .venv-arviz1

.PHONY: demo test test-slow test-arviz1 lint check mutants bench results format clean

demo: $(INSTALLED)
	@echo "Two real tables, fitted several ways, with short chains: about a minute on two cores. Figures: out/demo"
	$(BIN)/python examples/compare_uncertainty.py --data mcycle geyser --quick --out out/demo

test: $(INSTALLED)
	@echo "The fast tests, in $(JOBS) processes: about seven minutes on two cores"
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

# The bridge and the diagnostics of stored results in ArviZ 1.x, without torch.
test-arviz1: $(ARVIZ1)/.installed
	PYTHONPATH=src $(ARVIZ1)/bin/python -m pytest -q -c tests/arviz1/pytest.ini --confcutdir tests/arviz1 \
		tests/arviz1 tests/inference/arviz/test_arviz.py $(wildcard tests/inference/diagnostics/scoring/test_loo*.py) \
		tests/inference/diagnostics/scoring/test_comparison.py

check: lint test test-slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What `make test` leaves out: tests of minutes, given out one by one, and the examples in docstrings.
test-slow: $(INSTALLED)
	@echo "The slow tests, in $(JOBS) processes: about twenty minutes on two cores"
	$(BIN)/python -m pytest -q -n $(JOBS) --maxschedchunk 1 --durations=15 -m slow tests
	$(BIN)/python -m pytest -q -n $(JOBS) --doctest-modules src/posterity

# Mutation tests: a quarter of an hour on one core. An interrupted run continues where it stopped.
mutants: $(INSTALLED)
	$(BIN)/python tests/mutants/run.py --jobs $(JOBS) --out out/mutants.json

bench: $(INSTALLED)
	@for script in $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# The numbers kept in examples/results: hours on two cores; interrupt and repeat, it goes on where it was.
EXAMPLES := compare_uncertainty inverse_bishop inverse_sine two_dimensional mixture_uncertainty \
	gan_clusters gan_bayesian gan_digits gan_failing dcgan tracking calibration
results: $(INSTALLED)
	$(BIN)/python examples/compare_uncertainty.py --out out/compare_uncertainty --jobs 2
	@for name in $(filter-out compare_uncertainty,$(EXAMPLES)); do \
		$(BIN)/python examples/$$name.py --out out/$$name || exit 1; done
	@for name in $(EXAMPLES); do cp out/$$name/report.json examples/results/$$name.json || exit 1; done

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first: with the pinned CPU build there, nothing later pulls another.
$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "expected Python 3.11 or newer, got " + sys.version'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

$(ARVIZ1)/.installed: pyproject.toml
	@test -n "$(PYTHON_ARVIZ1)" || { echo "expected python3.12 or newer for ArviZ 1.x, found none" >&2; exit 1; }
	test -x $(ARVIZ1)/bin/python || $(PYTHON_ARVIZ1) -m venv $(ARVIZ1)
	$(ARVIZ1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(ARVIZ1)/bin/python -m pip install --quiet --group arviz1
	touch $@

clean:
	rm -rf $(VENV) $(ARVIZ1) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
