# make demo · test · test-slow · cuml · test-repeat · test-jitter · explore · soak · lint · docs · lock · clean
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiled byte code makes the first import of numba and scikit-learn ten times shorter.
unexport PYTHONDONTWRITEBYTECODE
export UV_LINK_MODE := copy

.PHONY: demo test test-slow vllm cuml test-repeat test-jitter explore soak lint docs lock clean browser

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Exact versions with checksums, then the package itself, whose build makes the viewer.
$(VENV)/.base: $(BIN)/uv requirements/base.lock pyproject.toml hatch_build.py
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/base.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.lock
	touch $@

# Torch is in no lock: on Linux the registries have a CUDA build of several gigabytes. Where pip would take a build for
# processors the slow tests get it, and what is compared with it; elsewhere they are skipped, with the reason.
$(VENV)/.torch: $(VENV)/.dev requirements/torch.txt
	@if $(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --dry-run --no-deps --report - torch==2.13.0 | grep -qE '(\+|%2B)cpu'; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt; \
	else echo 'No torch for processors here: the tests that need it are skipped.'; fi
	touch $@

# vLLM and cuML pin packages that the tests have otherwise. What cannot be had leaves no stamp but the reason, which the
# skipped tests say, and is tried again by the next make.
$(VENV)/.vllm $(VENV)/.cuml: $(VENV)/.%: requirements/%.lock tests/make_environment.py | $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python -m tests.make_environment $*

vllm: $(VENV)/.vllm ## an environment with vLLM for test-slow, where there is a torch for processors: 3 GB
cuml: $(VENV)/.cuml ## an environment with cuML for test-slow, which is skipped without: 5 GB, no GPU

demo: $(VENV)/.base ## the bundled corpus, from parquet to a page
	$(BIN)/latentscale run demo --out maps/demo --set publish.title='Debian packages'

browser: ## Chromium for the tests of the page, from Debian
	@if [ -z "$$LATENTSCALE_CHROMIUM" ] && \
	    ! command -v chromium-headless-shell chromium chromium-browser google-chrome >/dev/null; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    $$(apt-cache show chromium-headless-shell >/dev/null 2>&1 && echo chromium-headless-shell || echo chromium) \
	    fonts-inter fonts-dejavu-core; \
	fi

# Four processes on two processors: half of the time is waiting. What they share, and which file starts first:
# tests/schedule.py.
SIDE_BY_SIDE := -n 4

test: $(VENV)/.dev browser lint ## everything that a change must pass
	$(BIN)/pytest -q -m "not slow" $(SIDE_BY_SIDE)

test-slow: $(VENV)/.torch vllm browser ## many kills, Ray, large pages, encoders in torch, vLLM; says what it skips
	$(BIN)/pytest -q -m slow -n 2 -rs

test-repeat: $(VENV)/.dev browser ## the fast suite ten times, two at once; the report is benchmarks/results/test_repeat.json
	PYTHONPATH=. $(BIN)/python tests/repeat.py

# Eight processes: most of their time is waiting.
test-jitter: $(VENV)/.dev browser ## the fast suite where threads and processes start late at random: finds what assumes an order
	PYTHONPATH=tests/jitter $(BIN)/pytest -q -m "not slow" -n 8

explore: $(VENV)/.dev browser ## the property tests with examples that no run had
	$(BIN)/pytest -q -m hypothesis --hypothesis-profile explore $(SIDE_BY_SIDE)

# Kills of run and update in all; those of earlier calls count, so that it resumes where it stopped.
SOAK_KILLS ?= 1000
soak: $(VENV)/.dev ## a thousand kills over disk, Swift and moto; the report so far is benchmarks/results/soak.json
	PYTHONPATH=. $(BIN)/python tests/faults/soak.py --kills $(SOAK_KILLS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(VENV)/.dev ## the reference of the Python API, from its docstrings
	PYTHONPATH=. $(BIN)/python docs/build_reference.py site/api

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
  --no-emit-find-links
lock: $(BIN)/uv ## new versions; the files hold names, versions and checksums, no address
	$(COMPILE) pyproject.toml -o requirements/base.lock
	$(COMPILE) --extra dev --extra ray pyproject.toml -o requirements/dev.lock
	$(COMPILE) --extra ray --extra s3 --extra onnx --extra endpoint pyproject.toml -o requirements/image-cpu.lock
	$(COMPILE) --extra ray --extra s3 --extra gpu --extra torch --extra endpoint pyproject.toml \
	  -o requirements/image-gpu.lock
	$(COMPILE) --extra ray --extra s3 --extra endpoint pyproject.toml cluster_configs/images/vllm.in \
	  -o requirements/image-vllm.lock
	$(COMPILE) -c requirements/image-cpu.lock cluster_configs/images/aws.in -o requirements/image-aws.lock
	$(COMPILE) cluster_configs/images/build.in -o requirements/image-build.lock
	$(COMPILE) --excludes requirements/vllm.excludes --extra endpoint pyproject.toml requirements/vllm.in \
	  -o requirements/vllm.lock
	$(COMPILE) pyproject.toml requirements/cuml.in -o requirements/cuml.lock
	! grep -n '://' requirements/*.lock

clean:
	rm -rf $(VENV) maps dist site latentscale/viewer/static latentscale/viewer/web/node_modules
