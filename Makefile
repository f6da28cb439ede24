# Every target works on a fresh clone: the environment is made first where it is missing or out of date.
# Small networks run faster on one thread than on two (several times, when the machine is busy).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# PyPI's build for Linux brings CUDA along: 5 GB for each environment.
TORCH ?= torch==2.13.0
export OMP_NUM_THREADS ?= 1
# Processes that share the tests: each takes some 1 to 3 GB.
JOBS ?= 2
export MPLBACKEND ?= Agg
# The executable of a version of Python ("3.12"), from the path or from pyenv; empty where there is none.
comma := ,
python = $(shell for it in python$(1) $$HOME/.pyenv/versions/$(1).*/bin/python3; do "$$it" -c \
	'import sys; print(sys.executable) if sys.version_info[:2] == ($(subst .,$(comma),$(1))) else exit(1)' 2>/dev/null && break; done)
# Every supported Python but that of .venv, and those of them that this machine has.
OTHERS := $(filter-out $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'),3.11 3.12 3.13)
AT_HAND := $(strip $(foreach version,$(OTHERS),$(if $(call python,$(version)),$(version))))
# The oldest dependencies are installed on the oldest Python: newer ones have no wheels of them.
OLDEST := .venv-oldest
PYTHON_OLDEST := $(call python,3.11)
# ArviZ 1.x, which needs Python 3.12 or newer, without torch.
ARVIZ1 := .venv-arviz1
PYTHON_ARVIZ1 ?= $(firstword $(call python,3.13) $(call python,3.12))

.PHONY: demo test test-slow test-arviz1 test-oldest test-newest install-newest install-arviz1 \
	$(OTHERS:%=test-%) wheel lint docs check check-all mutants \
	bench results format clean

demo: $(INSTALLED)
	@echo "Two real tables, fitted several ways, with short chains: about a minute on two cores. Figures: out/demo"
	$(BIN)/python examples/compare_uncertainty.py --data mcycle geyser --quick --out out/demo

test: $(INSTALLED)
	@echo "The fast tests, in $(JOBS) processes: about six minutes on two cores"
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

# The fast tests on another Python, as `make test-3.13`; pip takes ArviZ 1.x there.
$(AT_HAND:%=test-%): test-%: .venv-%/.installed
	@echo "The fast tests on Python $*, in $(JOBS) processes"
	.venv-$*/bin/python -m pytest -q -n $(JOBS) -m "not slow"

$(patsubst %,test-%,$(filter-out $(AT_HAND),$(OTHERS))): test-%:
	@echo "SKIPPED: make $@, found no python$*"

test-newest: $(if $(AT_HAND),test-$(lastword $(AT_HAND)))
	@$(if $(AT_HAND),,echo "SKIPPED: make $@, found no Python of $(OTHERS)")

# The environments of these two alone.
install-newest: $(if $(AT_HAND),.venv-$(lastword $(AT_HAND))/.installed)
install-arviz1: $(if $(PYTHON_ARVIZ1),$(ARVIZ1)/.installed)

# The fast tests with the oldest version of each dependency that pyproject.toml allows. Old packages warn of newer ones:
# warnings are no errors here.
test-oldest: $(if $(PYTHON_OLDEST),$(OLDEST)/.installed)
ifneq ($(PYTHON_OLDEST),)
	@echo "The fast tests with the oldest dependencies, in $(JOBS) processes"
	$(OLDEST)/bin/python -m pytest -q -n $(JOBS) -m "not slow" -o filterwarnings=default \
		-W ignore::posterity.inference.convergence.ConvergenceWarning
else
	@echo "SKIPPED: make $@, found no python3.11"
endif

# The wheel, built once, in a fresh environment of each Python that has been tested.
wheel: $(INSTALLED)
	.ci/wheel $(VENV) $(if $(AT_HAND),$$(ls -d $(AT_HAND:%=.venv-%) 2>/dev/null))

# The bridge and the diagnostics of stored results in ArviZ 1.x, without torch.
test-arviz1: $(if $(PYTHON_ARVIZ1),$(ARVIZ1)/.installed)
ifneq ($(PYTHON_ARVIZ1),)
	PYTHONPATH=src $(ARVIZ1)/bin/python -m pytest -q -c tests/arviz1/pytest.ini --confcutdir tests/arviz1 \
		tests/arviz1 tests/inference/arviz $(wildcard tests/inference/diagnostics/scoring/test_loo*.py) \
		tests/inference/diagnostics/scoring/test_comparison.py
else
	@echo "SKIPPED: make $@, found no python3.12 or python3.13"
endif

check: lint docs test test-slow

# Every Python, and both ends of the range of dependencies: an hour and a half on two cores.
check-all: check $(OTHERS:%=test-%) test-oldest test-arviz1 wheel

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in out/site; every warning is an error, a dead link too. To read it while writing: .venv/bin/mkdocs serve
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The site is in out/site: python -m http.server -d out/site"

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

# The numbers kept in examples/results: hours on two cores. After an interrupt, repeat it: it continues from the finished
# fits of the same commit, never from those of other code.
EXAMPLES := bnn_regression compare_uncertainty inverse_bishop inverse_sine two_dimensional mixture_uncertainty \
	gan_clusters gan_bayesian gan_digits gan_failing dcgan tracking calibration world_model \
	gan_mistakes gan_stacked super_resolution translation showers faces
results: $(INSTALLED)
	@set -e; out=out/results-$$(git rev-parse --short HEAD); \
	$(BIN)/python examples/compare_uncertainty.py --out $$out/compare_uncertainty --jobs 2; \
	for name in $(filter-out compare_uncertainty,$(EXAMPLES)); do \
		$(BIN)/python examples/$$name.py --out $$out/$$name; done; \
	for name in $(EXAMPLES); do cp $$out/$$name/report.json examples/results/$$name.json; done

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first: with the pinned build there, nothing later pulls another.
define install
$(1)/bin/python -m pip install --quiet --upgrade pip
$(1)/bin/python -m pip install --quiet $(TORCH)
$(1)/bin/python -m pip install --quiet -e '.[dev]'
touch $(1)/.installed
endef

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "expected Python 3.11 or newer, got " + sys.version'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call install,$(VENV))

$(AT_HAND:%=.venv-%/.installed): .venv-%/.installed: pyproject.toml
	test -x $(@D)/bin/python || $(call python,$*) -m venv $(@D)
	$(call install,$(@D))

# "torch>=2.8" becomes "torch==2.8", and so on.
AS_OLDEST := import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*(line.replace(">=", "==") for line in project["dependencies"]), sep="\n")
$(OLDEST)/.installed: pyproject.toml
	test -x $(OLDEST)/bin/python || $(PYTHON_OLDEST) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -c '$(AS_OLDEST)' >$(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt -e '.[test]'
	touch $@

$(ARVIZ1)/.installed: pyproject.toml
	test -x $(ARVIZ1)/bin/python || $(PYTHON_ARVIZ1) -m venv $(ARVIZ1)
	$(ARVIZ1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(ARVIZ1)/bin/python -m pip install --quiet --group arviz1
	touch $@

clean:
	rm -rf $(VENV) .venv-* build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
