# The only entry, for people and for CI. Every target installs what is missing first, says so, and is quick when nothing is.
.PHONY: help setup demo test check soak bench mutants
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## install what is missing (Debian and npm packages, Node 24), generate code
	@./scripts/setup.sh

demo: setup ## raise a playground of three regions and launch examples/chat on it
	@./scripts/demo.sh

test: setup ## run every test and print where the time went
	@./scripts/test.sh

check: setup ## types, lint, imports: no test that needs an engine
	@./scripts/check.sh

soak: setup ## the long runs
	@./scripts/soak.sh

bench: setup ## side-by-side benchmarks; writes bench/results/
	@./scripts/bench.sh

mutants: setup ## plant known bugs and see that the simulator catches each
	@./scripts/mutants.sh
