# The door to the project. `make help` lists what it opens.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests of clusters wait more than they work, so there is one more at a time than there are cores.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
# The tests start Trow hundreds of times; without compiled modules each start, and pytest itself, compiles them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help serve test test-fast test-fast-newest coverage lint format bench reference site image image-lock release lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment for everything, from the locked list. A machine whose Python lacks venv gets it from apt.
$(STAMP): requirements.lock pyproject.toml
	@echo "preparing $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Trow needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); apt-get install -y python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

serve: $(STAMP) ## run the registry on http://127.0.0.1:8000 with data in ./data
	@exec $(BIN)/trow serve --data-dir ./data $(ARGS)

test: $(STAMP) ## install what the tests need and run all of them
	@$(BIN)/python -m tests.tools.install
	@$(BIN)/python -m deploy.image fetch
	@$(BIN)/python -m tests.tools.alone $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests $(ARGS)

test-fast: $(STAMP) ## the tests for every edit, a minute or two: what is not slow, and few cases of each
	@$(BIN)/pytest -n auto --dist loadfile -q --fast --durations 5 --durations-min 1 \
		tests/unit tests/contract tests/http tests/arch $(ARGS)

test-fast-newest: $(STAMP) ## the same on the newest Python of this machine, in an environment of its own
	@python="$$($(BIN)/python -m tests.tools.newest)" && \
		$(MAKE) test-fast PYTHON="$$python" VENV=".venv-$${python##*/}"

coverage: $(STAMP) ## which lines and branches the tests run that need Python only; details in htmlcov/
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n auto --dist loadfile -q tests/unit tests/contract tests/http tests/arch $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage html --quiet
	@$(BIN)/coverage report --skip-covered

lint: $(STAMP) ## style, types, layers, dependencies
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/deptry src

format: $(STAMP) ## write the style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure against the peers, side by side; writes docs/benchmarks.md
	@$(BIN)/python -m tests.tools.install --bench
	@$(BIN)/python -m bench $(ARGS)

reference: $(STAMP) ## write what is generated: the reference, the schema of the chart, the quick install
	@$(BIN)/python -m tests.tools.reference
	@$(BIN)/python -m deploy.helm
	@$(BIN)/python -m deploy.quick_install

site: $(STAMP) ## build the site of docs/ in build/site, offline; a warning is an error
	@rm -rf build/site
	@$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --doctree-dir build/doctrees docs build/site $(ARGS)
	@echo "open build/site/index.html; build/site/external-links.txt has the links that lead elsewhere"

recording: $(STAMP) ## follow the tutorial in a real cluster, and draw what happens there
	@PYTHONPATH=tests:. $(BIN)/python -m tools.recording

image: $(STAMP) ## build the container images as OCI layouts in dist/image and dist/node-agent-image
	@rm -rf dist/image dist/node-agent-image
	@$(BIN)/python -m deploy.image build $(ARGS)
	@$(BIN)/python -m deploy.image build --image trow-node-agent --output dist/node-agent-image $(ARGS)

release: $(STAMP) ## build all that is published of this version, in dist/release
	@$(BIN)/python -m deploy.release build $(ARGS)

lock: $(STAMP) ## renew the lists of locked packages of Python
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
		--group dev --group build pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
		--constraint requirements.lock --extra postgres --extra s3 pyproject.toml --output-file deploy/image/requirements.lock

image-lock: $(STAMP) ## renew the list of Debian's packages in the image
	@$(BIN)/python -m deploy.image lock

clean: ## remove the environment and caches
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* htmlcov build
