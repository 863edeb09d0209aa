# Two environments, each set up at first use and renewed when setup.py or constraints.txt change (tools/setup_venv.py):
#   .venv-demo  lean runtime without torch        .venv  everything, for tests and training
# PYTHON=/path/to/python3 names the interpreter; an environment of another one is made anew.

IN_DEMO = @PYTHON="$(PYTHON)" tools/in_venv demo --
IN_TEST = @PYTHON="$(PYTHON)" tools/in_venv test --

# Tests that run at the same time: one more than cores, since the tests of a running node mostly wait. More than four
# would want the memory of a large machine.
JOBS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))

.PHONY: help demo test lint bench gpu clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'A new environment gets the Python that PYTHON=... names, else the first found of 3.11, 3.12, 3.13, 3.10, 3.14.'

demo: ## real footage through the real node; results in demo_output/ (DEMO_ARGS="..." goes to demo/run_demo.py)
	$(IN_DEMO) python demo/run_demo.py --out demo_output $(DEMO_ARGS)

test: lint ## lint and all tests, JOBS at once (PYTEST_ARGS="..." goes to pytest)
	$(IN_TEST) python -m pytest -n $(JOBS) $(PYTEST_ARGS)

lint: ## ruff, mypy and the import layers
	$(IN_TEST) ruff check .
	$(IN_TEST) ruff format --check .
	$(IN_TEST) mypy
	$(IN_TEST) lint-imports

bench: ## list the benchmarks; run one with .venv/bin/python benchmarks/ROOM/NAME.py
	@for script in $$(grep -l __main__ benchmarks/*.py benchmarks/*/*.py); do \
	    printf '  %-45s %s\n' "$$script" "$$(sed -n '1s/^"""//p' "$$script" | sed 's/"""$$//')"; \
	done

# With the PyTorch for CUDA that is there, since such a machine may have no network to set up an environment.
gpu: ## on a machine with an NVIDIA GPU: all that only one can show, 25 minutes (GPU_ARGS="--dry": tiny, on the CPU)
	@$(or $(PYTHON),$(wildcard .venv/bin/python),python3) tools/gpu_day.py $(GPU_ARGS)

clean: ## remove build results, caches and demo_output/; the environments stay (remove .venv, .venv-demo by hand)
	rm -rf build install log demo_output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
