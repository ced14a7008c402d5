# Everything a newcomer needs: `make demo`. What is fetched goes to .tools, which git ignores.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TESTFLAGS ?=

.PHONY: help demo build test nightly lint bench setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## photos classified through an embedded Kafka broker (ONCE=1: ends by itself)
	@testenv/setup.sh demo
	@$(MAKE) --no-print-directory build
	@bin/inceptor demo --model.dir savedmodel/inception --photos .tools/photos $(if $(ONCE),--once)

build: ## bin/inceptor
	go build -ldflags "-X main.version=$(VERSION)" -o bin/inceptor ./cmd/inceptor

test: ## all tests, with the real model and a real broker (TESTFLAGS=… for go test)
	@testenv/setup.sh test
	@.tools/venv/bin/python -B -m unittest discover --start-directory savedmodel/inception --pattern '*_test.py' >&2
	go test -race -count=1 -timeout 30m $(TESTFLAGS) ./...
	go test -count=1 -run 'Allocates|Bombs|FastDecode|ResizeEquals|TestPhotos|TestZoo' $(TESTFLAGS) ./model/... ./service ./cmd/inceptor

nightly: ## what takes longer: every mutant of the corpus, every model of the zoo without optimization too, a record that hangs the model, 3 GB of records in memory, a cluster in full, 60 rounds of faults
	@testenv/setup.sh nightly
	INCEPTOR_MUTANTS=all go test ./model -run 'TestMutants$$' -count=1 -v -timeout 1h
	go test ./model/zoo -run 'TestZoo$$' -count=1 -nightly
	go test ./cmd/inceptor -run 'TestVersionHangs$$' -count=1 -v -nightly
	go test ./cmd/inceptor -run 'TestCluster$$' -count=1 -v -nightly -timeout 1h
	go test -p 1 ./service/stream/kafkago ./service/stream/franz -run 'TestMemory$$' -count=1 -v -nightly
	go test ./cmd/inceptor -run 'TestFaults$$' -count=1 -v -faults.seed 1 -faults.rounds 60 -faults.franz -timeout 90m

lint: ## gofmt, go vet, golangci-lint
	@testenv/setup.sh lint
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt these: $$unformatted" >&2; exit 1; fi
	go vet ./...
	.tools/bin/golangci-lint run ./...

bench: ## images per second, latency and memory, against the bare C API (also: go run ./bench/services, swap, remote, freeze, soak)
	@testenv/setup.sh test
	go run ./bench

setup: ## fetches what all of the above need, once
	@testenv/setup.sh

clean: ## removes what was built; what was fetched stays in .tools
	rm -rf bin
