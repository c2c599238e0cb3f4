# make run      set everything up; show this host's containers, or a bundled captured host where there are none
# make test     set everything up; run the tests (with NSINSPECT_LIVE=1 also those on real engines and kernels)
# make check    formatting, lint, types
# make generate write what is made from the program: schema, reference pages, README help, goldens
# make matrix   boot the guests and write down which engine and which privilege was proved there (as root, some minutes)
# make bench    the benchmarks (as root)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := tests/fixtures/hosts/docker-hybrid

.PHONY: run test check generate matrix bench clean

run: $(READY)
	@if $(BIN)/nsinspect list --json | grep -q '"init"'; then \
		$(BIN)/nsinspect list; \
	else \
		echo "No containers on this host: this is a captured one, bundled in $(DEMO)."; \
		$(BIN)/nsinspect --root $(DEMO) list; \
		echo; \
		$(BIN)/nsinspect --root $(DEMO) show web; \
	fi

test: $(READY)
	$(BIN)/python -m pytest

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
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/collect.py
	$(BIN)/python benchmarks/scrape.py
	$(BIN)/python benchmarks/record.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Debian and Ubuntu ship Python without what makes virtual environments; say what to install, or install it as root.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq python3-venv; \
		else echo "python3-venv is needed: sudo apt-get install python3-venv" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	touch $@
