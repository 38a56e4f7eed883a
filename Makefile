# The README's two commands are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8080
BIN := .venv/bin
PATHS := benchmarks components environments pipelines seatrial serving tests conftest.py

.DEFAULT_GOAL := help
.PHONY: help demo test check format environments lock pipelines manifests kind \
	bench-batch bench-drift bench-rollout bench-serving bench-training system-deps clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

demo: ## from a table to a canary on this machine; KEEP=1 leaves it running, PORT=18080 moves the gateway
	@# Later runs leave the port to the demo, which first ends what a killed one left there.
	@test -x $(BIN)/seatrial || $(PYTHON) environments/build.py check --port $(PORT)
	@$(MAKE) --no-print-directory environments
	@$(BIN)/seatrial demo --port $(PORT) $(if $(filter 1,$(KEEP)),--keep) $(DEMO)

test: ## every check and test; STRICT=1 makes a skip a failure
	@$(PYTHON) environments/build.py check
	@$(PYTHON) environments/build.py build main drift seldon
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone"
	@$(BIN)/python -m pytest -m alone

check: environments ## lint, formatting, types
	@$(BIN)/ruff check $(PATHS)
	@$(BIN)/ruff format --check --quiet $(PATHS)
	@$(BIN)/mypy

format: environments ## let ruff mend what it can
	@$(BIN)/ruff check --fix $(PATHS)
	@$(BIN)/ruff format $(PATHS)

environments: ## build .venv and .venv-drift where their locks changed; the tests add .venv-seldon
	@$(PYTHON) environments/build.py check
	@$(PYTHON) environments/build.py build main drift

lock: ## resolve pyproject.toml anew into environments/*.lock
	@$(PYTHON) environments/build.py lock main drift seldon bench

pipelines: environments ## compile the pipelines to the committed IR
	@$(BIN)/python -m pipelines.compile
	@$(BIN)/python -m pipelines.resources

manifests: environments ## hydrate the overlays into manifests/rendered (needs kubectl)
	@$(BIN)/python -m serving.rollout.hydrate

kind: environments ## bring up kind with KServe and the suite, and run tests/e2e/test_served.py against it; BUNDLE=folder
	@environments/kind/up.sh $(BUNDLE)

bench-drift: environments ## delays and false alarms of drift detectors; writes benchmarks/drift
	@$(PYTHON) environments/build.py build bench
	@$(BIN)/python -m benchmarks.drift
	@$(BIN)/python -m benchmarks.drift.ingest --write
	@$(BIN)/python -m benchmarks.drift.concept --write
	@$(BIN)/python -m benchmarks.drift.memory --write
	@$(BIN)/python -m benchmarks.drift.tee --write

bench-rollout: environments ## wrong decisions of rollout tools, simulated; writes benchmarks/rollout
	@$(BIN)/python -m benchmarks.rollout
	@$(BIN)/python -m benchmarks.rollout.speed
	@$(BIN)/python -m benchmarks.rollout.reaction

bench-batch: environments ## rows a minute of offline inference on one core; writes benchmarks/batch
	@$(BIN)/python -m benchmarks.batch --write

bench-training: environments ## rows/s of training, memory of ingest, real tables; writes benchmarks/training
	@$(BIN)/python -m benchmarks.training --write
	@$(BIN)/python -m benchmarks.training.overhead --write
	@$(BIN)/python -m benchmarks.training.ingest --write
	@$(BIN)/python -m benchmarks.training.tables --data $${SEATRIAL_DATA:-../shared/data} --write

bench-serving: environments ## CPU per request beside the floor and stock KServe; writes benchmarks/serving
	@$(BIN)/python -m benchmarks.serving --write
	@$(BIN)/python -m benchmarks.serving.queue --write
	@$(BIN)/python -m benchmarks.serving.burst --write
	@$(BIN)/python -m benchmarks.serving.rules --write
	@$(BIN)/python -m benchmarks.serving.gpu

system-deps: ## say what the full test suite wants from the system
	@echo "Debian 12:  apt-get install python3.11-venv git make chromium prometheus"
	@echo "kubectl:    1.27 or newer, as your cluster's vendor ships it; only 'kubectl kustomize' is used"

clean: ## remove what was built: environments, runs, caches
	rm -rf .venv .venv-drift .venv-seldon .venv-bench runs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
