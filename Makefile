# Thin: each target is one command that also works by hand. `make` alone prints this list.

CARGO ?= cargo
SEED ?= 1
FOR ?= 60

.DEFAULT_GOAL := help
.PHONY: run test check tidy deny bench fuzz interop conformance conformance-docs kill abuse service package static coverage mutants console sim docs fmt setup clean help tasks book

run: ## install what is missing, build, and start the sandbox on loopback
	scripts/setup.sh
	$(CARGO) run --release --bin merpati -- serve

test: ## install what the tests need, and run them all
	scripts/setup.sh test
	$(CARGO) test --workspace

check: ## all that must hold before a commit: format, lints, tests, tidy, deny, doc
	scripts/setup.sh check
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p merpati-relay --all-targets --features opentelemetry -- -D warnings
	$(MAKE) test
	$(CARGO) test -p merpati-relay --lib --features opentelemetry -- traces collector
	$(MAKE) tidy
	$(MAKE) deny
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace

tidy: ## the rules of the house that Cargo does not know (also a test)
	$(CARGO) run --quiet -p merpati-xtask -- tidy

deny: ## licences, bans and sources of dependencies, if cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then cargo-deny --offline check bans licenses sources; \
	else echo "deny: skipped, cargo-deny is not installed"; fi

bench: ## the figures that the documentation promises
	scripts/setup.sh
	scripts/bench.sh

fuzz: ## all fuzz targets, for FOR seconds in all (60); TARGET=name: that one alone
	scripts/setup.sh
	scripts/fuzz.sh $(FOR) $(TARGET)

interop: ## against real clients and servers
	scripts/setup.sh test
	scripts/interop.sh

conformance: ## every case of the conformance catalogue, octet by octet
	scripts/setup.sh
	scripts/conformance.sh

conformance-docs: ## the same, and writes docs/conformance.md
	scripts/setup.sh
	scripts/conformance.sh --write

kill: ## kill -9 of relay and next hop, 100 times under load: nothing acknowledged is lost
	scripts/setup.sh
	scripts/kill.sh

abuse: ## 100,000 half-open, slow and hostile connections beside somebody who sends mail
	scripts/setup.sh
	scripts/abuse.sh

service: ## the unit for systemd, and the relay under a service manager
	scripts/setup.sh
	scripts/systemd.sh

package: ## a Debian package, and its life in a fresh Debian (root)
	scripts/setup.sh
	scripts/package-test.sh
	scripts/package.sh

static: ## a binary that needs no other file, and the folder for a container image
	scripts/setup.sh
	scripts/static.sh

coverage: ## the lines of smtp and flow that their tests run; installs cargo-llvm-cov
	scripts/setup.sh
	scripts/coverage.sh

mutants: ## what tests of smtp and flow do not notice, PART of all (0/20); installs cargo-mutants
	scripts/setup.sh
	scripts/mutants.sh $(or $(PART),0/20)

console: ## the crate of the HTTP API
	$(CARGO) build -p merpati-console
	@echo "console: built the JSON API, which \`merpati serve\` includes; it has no pages for a browser yet"

sim: ## one simulator run: make sim SEED=42
	$(CARGO) run --release -p merpati-sim --bin merpati-sim -- --seed $(SEED)

tasks: ## the tasks of docs/tasks.md, command by command, as they stand there
	scripts/setup.sh
	scripts/tasks.sh

book: ## the pages of docs as a book in docs/book; installs mdbook
	command -v mdbook >/dev/null || $(CARGO) install --quiet --locked mdbook
	mdbook build docs

docs: ## write docs/reference from the code, and the crates' own documentation
	$(CARGO) run --quiet -p merpati-xtask -- docs
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace

fmt: ## format all Rust
	$(CARGO) fmt --all

setup: ## install what building and testing need (Debian)
	scripts/setup.sh check
	scripts/setup.sh test

clean: ## remove what was built
	$(CARGO) clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile
