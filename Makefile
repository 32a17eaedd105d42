# The commands people type. Each installs what it needs, once, and says so; see CONTRIBUTING.md.

.PHONY: run test bench instructions check

# Builds in release mode and serves on 127.0.0.1:8080.
run:
	@scripts/need rust cc
	cargo build --release --locked
	target/release/tidegate serve

# Everything CI runs as a test: ours, real PostgreSQL and Redis, the official SDKs against a started
# gateway, OpenAI's schema.
test:
	@scripts/need rust cc python node postgres redis
	@scripts/sdk-setup
	@scripts/model-setup
	@scripts/test

# Measures this gateway beside nginx and Envoy in one run; prints a table and writes it to benches/results.
bench:
	@scripts/bench $(ARGS)

# Counts the instructions of fixed requests and holds them to benches/instructions.json.
instructions:
	@scripts/need rust cc python valgrind
	@python3 scripts/instructions.py

# Formatting and lints, without tests.
check:
	@scripts/need rust cc
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
