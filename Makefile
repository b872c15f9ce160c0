# make run            from a fresh checkout to a running server with a sample stream
# make test           everything CI runs (.ci/run only calls it)
# make bench          what an event, a frame on the wire and a step of the hub cost
# make compare        the same load on other servers, as one table
# make rtc-check      whether the reasons against `rtc` still hold
# make record-ratios  what the load of tests/load_ratio.rs costs from now on
# make fuzz           the fuzzer on every target, FUZZ_SECS each; on one with TARGET=rtmp_chunk
# make setup          what the tests need and this machine lacks

# nextest and cargo-deny live in the tree when the machine has none.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

# Seconds a fuzz target.
FUZZ_SECS ?= 15
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

CONSOLE := src/console/app
CONSOLE_SOURCES := $(shell find $(CONSOLE) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

.PHONY: run test bench compare rtc-check record-ratios fuzz setup console

run:
	tools/setup.sh build
	$(MAKE) --no-print-directory console
	cargo build --release --locked
	target/release/hawker dev

# One profile throughout: the dependencies are built once, and what is tested is what is shipped.
# nextest comes last, so that its summary does.
test: setup console
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --document-private-items
	cargo deny --locked check bans licenses sources
	npm --prefix $(CONSOLE) test
	cargo test --release --locked --doc
	FUZZ_SECS=$(FUZZ_SECS) cargo nextest run --release --locked

bench:
	cargo bench --locked --bench events --bench wire --bench hub

compare:
	tools/compare.sh

rtc-check:
	cargo test --release --locked --manifest-path tools/rtc-check/Cargo.toml -- --show-output

record-ratios:
	HAWKER_RECORD=1 cargo nextest run --release --locked --test load_ratio

# The fuzzer wants flags that only nightly has by right. Without unsafe code there is nothing for a sanitizer to see.
fuzz:
	tools/setup.sh fuzz
	cp Cargo.lock fuzz/Cargo.lock
	RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer none $(TARGET)
	printf '%s\n' $(or $(TARGET),$(FUZZ_TARGETS)) | xargs -P 2 -I @ sh -c '\
		RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none @ -- -max_total_time=$(FUZZ_SECS) -max_len=16384 -verbosity=0 \
		|| { echo "fuzz: @ failed"; exit 255; }'

setup:
	tools/setup.sh

console: $(CONSOLE)/dist/app.js

$(CONSOLE)/dist/app.js: $(CONSOLE_SOURCES) $(CONSOLE)/node_modules/.package-lock.json
	npm --prefix $(CONSOLE) run build
	@touch $@

# npm writes it last.
$(CONSOLE)/node_modules/.package-lock.json: $(CONSOLE)/package-lock.json
	npm --prefix $(CONSOLE) ci --no-audit --no-fund
