# `make` alone lists what there is.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help up test test-browser simulate chaos bench screenshots lint format lock migrate env clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
# More words for the program behind a target: make test ARGS="-k sweep -x"
ARGS ?=
# Tests mostly wait, for processes and for time: several files at once.
PARALLEL ?= --numprocesses 4 --dist loadfile

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(RUNTIME) ## Run the whole product here; Ctrl-C stops it
	@exec $(BIN)/python -m evergrant up

test: $(DEV) ## Run every test but the browser's (ARGS="-k sweep" picks some)
	@exec $(BIN)/python -m pytest -m "not browser" $(PARALLEL) $(ARGS)

test-browser: $(DEV) ## Run the tests that drive a real Chromium
	@exec $(BIN)/python -m pytest -m browser $(ARGS)

simulate: $(DEV) ## Play many schedules of the refresh protocol in virtual time (ARGS="--schedules 100000")
	@exec $(BIN)/python -m tests.simulation $(ARGS)

chaos: $(DEV) ## Break everything under a running product (ARGS="--owners 200 --seconds 600 --database postgresql")
	@exec $(BIN)/python -m tests.chaos $(ARGS)

bench: $(DEV) ## Measure what Evergrant costs, into bench/RESULTS.md (ARGS="refresh sweep" picks some)
	@exec $(BIN)/python -m bench $(ARGS)

screenshots: $(DEV) ## Take pictures of each page in each state from a running product (ARGS=folder)
	@PYTHONPATH=. $(BIN)/python docs/screenshots.py $(ARGS)

lint: $(DEV) ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports

format: $(DEV) ## Put the code into its style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url
lock: $(DEV) ## Recompile both locks from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(COMPILE) $(ARGS) pyproject.toml -o requirements.txt
	@$(COMPILE) $(ARGS) pyproject.toml --group dev --constraint requirements.txt -o requirements-dev.txt

migrate: $(RUNTIME) ## Bring the database to the newest schema (`make up` does it by itself)
	@$(BIN)/python -m evergrant migrate

env: ## Write .env with fresh secrets, for docker compose; an existing one is left alone
	@$(PYTHON) -m evergrant.dotenv

clean: ## Remove .venv and all caches; ./var, which holds the owners' grants, stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
	@if [ -e var ]; then echo "./var stays: it holds the owners' grants. Remove it yourself to lose them."; fi

# --- the virtual environment: made once, brought up to date when a lock changed --------------------------

# Says the number of packages on one line while pip works, and everything that pip said if it fails.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-input --require-hashes --no-deps -r
define install
	@echo "Installing the packages of $(1) into $(VENV)."
	@{ $(INSTALL) $(1) 2>&1; echo "exit $$?"; } | tee $(VENV)/pip.log | \
	  awk -v tty="$$([ -t 2 ] && echo 1)" '/^Collecting/ && tty {n++; printf "\r  %d packages fetched", n > "/dev/stderr"} \
	    /^Installing collected/ {if (tty) printf "\r"; printf "  unpacking  \n" > "/dev/stderr"}'
	@[ "$$(tail -1 $(VENV)/pip.log)" = "exit 0" ] || { cat $(VENV)/pip.log >&2; exit 1; }
endef

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Evergrant needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -1)." \
	    "Name a newer one: make PYTHON=/path/to/python3.13" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' can't make virtual environments. Install its venv module" \
	    "(Debian: apt install python3-venv), or name another: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(BIN)/evergrant: evergrant/evergrant.sh | $(VENV)/pyvenv.cfg
	@install -m 755 $< $@

$(RUNTIME): requirements.txt | $(BIN)/evergrant
	$(call install,requirements.txt)
	@touch $@

$(DEV): requirements-dev.txt | $(BIN)/evergrant
	$(call install,requirements-dev.txt)
	@touch $@ $(RUNTIME)
