# make run      set everything up; show this host's containers, or a bundled captured host where there are none
# make test     set everything up; run the tests (with NSINSPECT_LIVE=1 also those on real engines and kernels)
# make test-minimum, make test-newest    the fast tier with the oldest and the newest libraries that pyproject.toml allows
# make check    formatting, lint, types
# make generate write what is made from the program: schema, reference pages, README help, goldens
# make matrix   boot the guests and write down which engine and which privilege was proved there (as root, some minutes)
# make bench    measure beside the floor and peers, write docs/performance.md (as root, about 15 minutes);
#               BENCH=--quick: about 3, BENCH=--whole: more than an hour, BENCH=--check: judge ratios, write nothing
# make lock     pin the newest of everything in requirements-dev.lock
# make dist     the sdist, the wheel and its bill of materials, in dist
# make fuzz     every reader of hostile bytes under atheris, FUZZ_SECONDS (20) each; see docs/fuzzing.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
FUZZ_READY := $(VENV)/ready-to-fuzz
LOCK := requirements-dev.lock
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := tests/fixtures/hosts/docker-hybrid

.PHONY: run test test-minimum test-newest check generate matrix bench fuzz lock dist clean

run: $(READY)
	@if $(BIN)/nsinspect list --json | grep -q '"init"'; then \
		$(BIN)/nsinspect list; \
	else \
		echo "No containers on this host: this is a captured one, bundled in $(DEMO)."; \
		$(BIN)/nsinspect --root $(DEMO) list; \
		echo; \
		$(BIN)/nsinspect --root $(DEMO) show web; \
	fi

# The fast tier takes all processors; what asks real engines and kernels has the machine for itself.
test: $(READY)
	$(BIN)/python -m pytest -m "not live" --numprocesses auto --maxprocesses 4 --dist worksteal
	@if [ "$$NSINSPECT_LIVE" = 1 ]; then $(BIN)/python -m pytest -m live; fi

# The bill of materials is of what is locked, which these are not.
test-minimum: CHOICE := --resolution lowest-direct
test-minimum: OLD_OR_NEW := 3.11
test-newest: OLD_OR_NEW := $(PYTHON)
test-minimum test-newest: test-%: $(READY)
	$(BIN)/uv venv --quiet --clear --python $(OLD_OR_NEW) $(VENV)-$*
	$(BIN)/uv pip install --quiet --python $(VENV)-$* $(CHOICE) --editable . --group test
	$(VENV)-$*/bin/python -m pytest --ignore tests/test_dist.py $(TESTS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

generate: $(READY)
	$(BIN)/python tools/generate.py

matrix: $(READY)
	NSINSPECT_LIVE=1 NSINSPECT_MATRIX=tests/live/matrix.json NSINSPECT_READABILITY=tests/live/readability.json \
		$(BIN)/python -m pytest tests/live/test_engines_systemd.py tests/live/test_readability.py
	$(BIN)/python tools/generate.py

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH)

# A pin without wheels for a Python and machine that the README speaks of is found here, not by whoever has these.
lock: $(READY)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-strip-extras \
		--group dev --custom-compile-command "make lock" --output-file $(LOCK) pyproject.toml
	@for python in 3.11 3.12 3.13 3.14; do for machine in x86_64 aarch64; do \
		$(BIN)/uv pip install --quiet --dry-run --target $(VENV)/elsewhere --no-deps --require-hashes --only-binary :all: \
			--python-version $$python --python-platform $$machine-manylinux_2_28 -r $(LOCK) || exit 1; \
	done; done

dist: $(READY)
	$(BIN)/python tools/dist.py

fuzz: $(FUZZ_READY)
	$(BIN)/python -m fuzz

clean:
	rm -rf $(VENV) $(VENV)-minimum $(VENV)-newest dist .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Apart, because atheris has no wheels for some of the machines that everything else is developed on.
$(FUZZ_READY): $(READY)
	$(PIP) --only-binary :all: --group fuzz
	touch $@

# Debian and Ubuntu ship Python without what makes virtual environments; say what to install, or install it as root.
$(READY): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq python3-venv; \
		else echo "python3-venv is needed: sudo apt-get install python3-venv" >&2; exit 1; fi
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes --only-binary :all: -r $(LOCK)
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@
