# make demo   set up and show the whole way on drawn cells   (DATA=folder: on real ones)
# make serve  the same, then open the workstation in a browser with a prepared case
# make test   set up and run the tests
# make check  what CI runs: format, lint, types, tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo
DATA ?=
PORT ?= 8765
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo serve test check format bench weights docs clean

demo: $(VENV)/run
	$(BIN)/cellkin demo --out $(OUT) $(if $(DATA),--data $(DATA))

serve: $(VENV)/run
	$(BIN)/cellkin demo --serve --out $(OUT) --port $(PORT) $(if $(DATA),--data $(DATA))

test: $(VENV)/dev $(VENV)/npm
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(VENV)/dev
	$(BIN)/ruff format --check src tests benchmarks docs tools
	$(BIN)/ruff check src tests benchmarks docs tools
	$(BIN)/mypy
	$(MAKE) test

format: $(VENV)/dev
	$(BIN)/ruff format src tests benchmarks docs tools
	$(BIN)/ruff check --fix src tests benchmarks docs tools

bench: $(VENV)/dev
	for script in benchmarks/*.py; do echo "== $$script" && $(BIN)/python $$script || exit 1; done

# the packaged finder and encoder, taught anew, about an hour of one core; stopped, the same command
# goes on where it was   (DATA=folder, see docs/find.md and docs/encoder.md)
weights: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/finder/train.py $(DATA) weights
	OMP_NUM_THREADS=1 $(BIN)/python tools/encoder/train.py $(DATA) weights

docs: $(VENV)/docs
	$(BIN)/mkdocs build --quiet --strict --site-dir site

$(VENV)/run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cellkin needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 2; }
	@echo "setting up $(VENV) (some minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[web]'
	touch $@

$(VENV)/dev: $(VENV)/run
	$(PIP) -e '.[dev,web]'
	touch $@

# axe-core looks for faults of accessibility in the page tests, which are skipped without it
$(VENV)/npm: $(VENV)/dev
	@npm install --silent --no-audit --no-fund --prefix $@ axe-core@4.14.1 || \
	  { echo "axe-core could not be installed: its test is skipped"; mkdir -p $@; }
	@touch $@

$(VENV)/docs: $(VENV)/run
	$(PIP) -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) site build .pytest_cache .mypy_cache .ruff_cache
