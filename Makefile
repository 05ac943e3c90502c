# Two commands do everything: `make nightly` (a commit to installable wheels) and `make test`.
#
# `make arm64`, `make arm64-source`, `make cibuildwheel`, `make clients`, `make ray`,
# `make reproducible` and `make test-torch` prove what takes longer.
#
#   BUCKET=s3://name   publish there instead of wheelhouse/bucket (AWS_ENDPOINT_URL is honoured)
#   ALSO="cu128 cu130" CUDA versions that a commit has on request, beside those of each
#   ALLOW_DIRTY=1      build a tree with uncommitted changes, under a version that says so;
#                      such wheels are audited but never published
#   PYTHON=python3.X   the interpreter that builds (3.9 or newer)

PYTHON ?= python3
BUCKET ?= wheelhouse/bucket
VENV   := .venv
RUN    := $(VENV)/bin/python
TOUCH  := $(RUN) -c 'import pathlib, sys; pathlib.Path(sys.argv[1]).touch()'
NIGHTLY := $(RUN) -m ci nightly --bucket '$(BUCKET)' $(if $(ALLOW_DIRTY),--allow-dirty) \
  $(addprefix --also ,$(ALSO))

# A test that hangs ends, and fails (pytest 9), after the time that pyproject.toml has.
PYTEST := $(RUN) -m pytest --numprocesses auto --dist loadfile -o faulthandler_exit_on_timeout=true

# The one torch that the tests are written against.
TORCH := torch==2.13.0

# An environment that another Python made would be gone on with in silence.
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard $(RUN)),)
ifneq ($(shell $(PYTHON) -V),$(shell $(RUN) -V))
$(error $(VENV) was made by $(shell $(RUN) -V), not by $(PYTHON): remove it (rm -rf $(VENV)), or leave PYTHON out)
endif
endif
endif

# pip works in $(VENV) and nowhere else, whatever else it is told to do.
export PIP_USER := 0
unexport PIP_CONSTRAINT PIP_NO_DEPS PIP_PREFIX PIP_ROOT PIP_TARGET PYTHONHOME PYTHONPATH

.PHONY: nightly test arm64 arm64-source site coverage stores ray clients cibuildwheel reproducible test-torch browser gates format lock clean

nightly: $(VENV)/ci.stamp
	$(NIGHTLY)

test: $(VENV)/test.stamp browser gates
	$(NIGHTLY)
	$(if $(ARM64),$(RUN) -m ci test-arm64 --if-possible)
	$(RUN) -m ci install-built
	$(PYTEST)

# The documentation as static files, in build/site.
site: $(VENV)/test.stamp
	$(RUN) -m sphinx -W --keep-going -b html -d build/site-state docs build/site
	@echo 'build/site/index.html'

# The op tests with the wheel for Arm that `make nightly` left, under qemu-user, as Debian packages it;
# `make test ARM64=1` runs them too.
arm64: $(VENV)/ci.stamp
	$(RUN) -m ci test-arm64

# `pip install .` on Arm, by Debian's g++ under the same emulator, and the op tests with the result.
arm64-source: $(VENV)/ci.stamp
	$(RUN) -m ci test-arm64 --source

# Which lines the tests reach, of what `make test` has installed.
coverage: $(VENV)/test.stamp
	$(PYTEST) --cov=vllm --cov=ci --cov-report=term:skip-covered

# The same wheel from PyPA's tool, in a container; the extension has to have the same bits.
cibuildwheel: $(VENV)/ci.stamp
	$(RUN) -m ci cibuildwheel $(if $(PYPA_IMAGE),--pypa-image) $(if $(IF_POSSIBLE),--if-possible)

# This commit built as other users, by other Pythons and in a container, without shared caches.
reproducible: $(VENV)/ci.stamp
	$(RUN) -m ci reproduce --json benchmarks/reproducible.json

# The op tests with one wheel under the oldest and newest torch: gigabytes of downloads.
test-torch: $(VENV)/ci.stamp
	$(RUN) -m ci build
	$(RUN) -m ci test-torch

# The page is tested in a real one, source builds with a real cache. Without root their tests say
# why they were skipped.
browser:
	@command -v ccache >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	  apt-get install -qq -y --no-install-recommends ccache >/dev/null; } || \
	  echo 'ccache could not be installed, as said above: its tests are skipped'
	@command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	  apt-get install -qq -y --no-install-recommends chromium chromium-driver >/dev/null; } || \
	  echo 'no browser could be installed, as said above: its tests are skipped'

# Storages that people run themselves, the real programs. Needs root for apt-get, and npm.
stores: $(VENV)/test.stamp
	apt-get install -qq -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common >/dev/null
	npm install --silent --no-save --prefix build/s3rver s3rver
	PATH="$(CURDIR)/build/s3rver/node_modules/.bin:$$PATH" $(RUN) -m pytest tests/ci/store/test_real_stores.py

# Ranks that Ray starts, of what `make test` has installed: on two network namespaces, and in a
# server. Ray's wheel is 76 MB.
ray: $(VENV)/test.stamp
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/ray.txt
	$(RUN) -m pytest tests/worker/ranks/test_ray.py

# lm_eval evaluates a server, and the same model by transformers: 430 MB installed. Its accelerate
# takes the torch that `make test` has installed, which the lock leaves out: hence --no-deps.
clients: $(VENV)/test.stamp
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/clients.txt
	$(RUN) -m pytest tests/entrypoints/openai/test_lm_eval.py

gates: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PYTHONPATH=python $(VENV)/bin/lint-imports
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs $(VENV)/bin/clang-format --dry-run -Werror
	git ls-files 'csrc/*.cpp' ':!csrc/cpu/x86_64/isa_avx*' ':!csrc/cpu/aarch64' | xargs -P2 -n4 $(VENV)/bin/clang-tidy --quiet

format: $(VENV)/test.stamp
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs $(VENV)/bin/clang-format -i

# Pins the newest versions that the .in files allow, for every Python from 3.9 on; never a torch.
lock: $(VENV)/ci.stamp
	for name in ci test cibuildwheel ray clients; do \
	  $(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.9 --generate-hashes \
	    --no-emit-index-url --no-annotate --custom-compile-command 'make lock' \
	    --override requirements/without-torch.txt requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done

clean:
	rm -rf build $(VENV)

$(VENV)/ci.stamp: requirements/ci.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
	  { echo 'error: $(PYTHON) is older than 3.9; name a newer one: make PYTHON=python3.11 …' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo 'error: $(PYTHON) cannot make virtual environments: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/ci.txt
	@$(TOUCH) $@

$(VENV)/test.stamp: $(VENV)/ci.stamp requirements/test.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(TOUCH) $@
