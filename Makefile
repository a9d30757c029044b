# SPDX-License-Identifier: GPL-2.0-only
#
# demo and test do all their own set-up on a fresh Debian 12; see tests/setup.

KERNEL = 6.1
PYTHON = .venv/bin/python
# A CI job may take ninety minutes; what there was no time for is named in the table at the end.
MINUTES = $(if $(CI),70)

# depmod and the like, which a user's PATH may lack.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.PHONY: help demo test unit fuzz lint kernel bench soak clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "Variables: KERNEL=$(KERNEL) (or 5.10, 6.12, newest), ARGS='options of the tool', HOST=1, PEER=pwru, MINUTES=60"

demo: ## trace docker0 here, or in a guest if this kernel cannot; ARGS='-c 12', KERNEL=6.12
	@tests/setup trace guest
	@KERNEL=$(KERNEL) demo/run $(ARGS)

test: ## lint, unit, harness, the kernel tests on four kernels; ALL=1: each on each; HOST=1: on this host
	@tests/setup trace guest test lint
	@$(PYTHON) -m tests.vm.suite $(if $(HOST),--host) $(if $(ALL),--all) $(if $(MINUTES),--minutes $(MINUTES))

unit: ## the unit tests alone; ARGS='-k wire'
	@tests/setup test
	@$(PYTHON) -m pytest tests/unit -q $(ARGS)

fuzz: ## ten minutes of made-up traces and promises for what reads them; ARGS="--seconds 60 CORPUS"
	@tests/setup test
	@$(PYTHON) -c 'import atheris' 2>/dev/null || $(PYTHON) -m pip install --quiet 'atheris>=2.3'
	@$(PYTHON) -m tests.fuzz $(ARGS)

lint: ## check the sources
	@tests/setup lint
	@tests/lint

kernel: ## the kernel tests on one kernel; KERNEL=6.12, ARGS='-k ping', ALL=1: the slow ones too, HOST=1
	@tests/setup trace guest test
	@SKBTRACE_REQUIRE=kernel $(if $(HOST),,$(PYTHON) -m tests.vm run --kernel $(KERNEL) --nics --) \
		$(PYTHON) -m pytest tests/kernel -v $(if $(ALL),,-m 'not slow') $(ARGS)

bench: ## measure in a guest; KERNEL=6.12, PEER=pwru: compare with it; ARGS='--bulk 10': bulk TCP
	@tests/setup trace guest test
	@$(PYTHON) -m tests.bench --kernel $(KERNEL) $(if $(PEER),--peer $(PEER)) $(ARGS)

soak: ## ten minutes of flood on each kernel, containers coming and going; ARGS="--kernel 6.1 --seconds 60"
	@tests/setup trace guest test
	@$(PYTHON) -m tests.soak $(ARGS)

clean: ## remove what the above have made here; the kernels stay in the cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
