# Everything a newcomer needs: `make demo`. What is fetched goes to .tools, which git ignores.

VERSION := $(shell deploy/release/version.sh)
TESTFLAGS ?=

# Tests of these packages run models, which take the whole machine.
HEAVY := cmd/inceptor model model/infer savedmodel
HEAVYFLAGS ?=
# Most of the others wait for brokers.
LIGHTFLAGS ?=
# Tests that the race detector would slow down, or that count allocations, and their packages.
NORACE := Allocates|Bombs|FastDecode|ResizeEquals|TestPhotos|TestZoo|TestInt8(Accuracy|LayerErrors|Random)
NORACE_PACKAGES = $(shell grep -rlE --include='*_test.go' '^func \w*($(NORACE))' cmd internal model savedmodel service | xargs -n 1 dirname | sort -u)

# Modules of their own, with what only tests need.
NESTED := testenv/browser testenv/monitoring testenv/deploy

.PHONY: help demo build test nightly lint bench release archive images setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# By MODEL and WEIGHTS: what setup.sh brings, and the model's name and directory.
demo__         := demo inception savedmodel/inception
demo_things_   := things efficientnet .tools/efficientnet
demo__imagenet := imagenet inception .tools/inception-imagenet
DEMO = $(demo_$(MODEL)_$(WEIGHTS))

demo: ## photos classified through an embedded Kafka broker (MODEL=things: names objects; WEIGHTS=imagenet: too, needs internet; BROWSER=1: opens the page; ONCE=1: ends by itself; DEMOFLAGS=-v: shows the log)
	@$(if $(DEMO),,$(error make demo takes MODEL=things or WEIGHTS=imagenet or none of the two))testenv/setup.sh $(word 1,$(DEMO))
	@[ -x bin/inceptor ] || echo "build bin/inceptor, which takes a minute the first time" >&2
	@$(MAKE) --no-print-directory --silent build
	@bin/inceptor demo --model.name $(word 2,$(DEMO)) --model.dir $(word 3,$(DEMO)) --photos .tools/photos \
		$(if $(ONCE),--once) $(if $(BROWSER),--browser) $(DEMOFLAGS)

build: ## bin/inceptor
	go build -ldflags "-X main.version=$(VERSION)" -o bin/inceptor ./cmd/inceptor

test: ## all tests, with the real model and a real broker (TESTFLAGS=… for go test, HEAVYFLAGS=… for its heavy packages, LIGHTFLAGS=… for the others)
	@testenv/setup.sh test
	@PYTHONPATH=savedmodel/inception:savedmodel/efficientnet .tools/venv/bin/python -B -m unittest export_test convert_test >&2
	@failed=0; \
	try() { echo "$$*" >&2; "$$@" || failed=1; }; \
	try go test -race -count=1 -timeout 30m $(TESTFLAGS) $(HEAVYFLAGS) $(addprefix ./,$(HEAVY)); \
	try go test -race -count=1 -timeout 30m $(TESTFLAGS) $(LIGHTFLAGS) $$(go list ./... | grep -vxF $(patsubst %,-e inceptor/%,$(HEAVY))); \
	try go test -count=1 -run '$(NORACE)' $(TESTFLAGS) $(addprefix ./,$(NORACE_PACKAGES)); \
	for module in $(NESTED); do try go -C $$module test -count=1 -timeout 15m $(TESTFLAGS) ./...; done; \
	exit $$failed

nightly: ## what takes longer: every mutant of the corpus, int8 on 460 pictures, every model of the zoo without optimization too, a record that hangs the model, 3 GB of records in memory, a cluster in full, the Inception found to run in int8, 60 rounds of faults, the release twice and installed on a bare system, both container images, a group that grows and shrinks, arm64 in emulation
	@testenv/setup.sh nightly
	INCEPTOR_MUTANTS=all go test ./model/infer -run 'TestMutants$$' -count=1 -v -timeout 1h
	go test ./savedmodel ./model/infer -run 'TestInt8(RandomInception|Accuracy)$$' -count=1 -v -nightly -timeout 1h
	go test ./model/zoo -run 'TestZoo(Int8)?$$' -count=1 -nightly -timeout 1h
	go test ./cmd/inceptor -run 'TestVersionHangs$$' -count=1 -v -nightly
	go test ./cmd/inceptor -run 'TestCluster$$' -count=1 -v -nightly -timeout 1h
	go test ./cmd/inceptor -run 'TestPrecisionFromTheStream$$' -count=1 -v -nightly -timeout 1h
	go test -p 1 ./service/stream/kafkago ./service/stream/franz -run 'TestMemory$$' -count=1 -v -nightly
	go test ./cmd/inceptor -run 'TestFaults$$' -count=1 -v -faults.seed 1 -faults.rounds 60 -faults.franz -timeout 90m
	go test ./cmd/inceptor -run 'TestScaling$$' -count=1 -v -nightly
	$(MAKE) release
	deploy/release/test.sh
	$(MAKE) images
	testenv/arm64.sh --full

lint: ## gofmt, go vet, golangci-lint
	@testenv/setup.sh lint
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt these: $$unformatted" >&2; exit 1; fi
	go vet ./...
	.tools/bin/golangci-lint run ./...
	for module in $(NESTED); do go -C $$module vet ./... && (cd $$module && ../../.tools/bin/golangci-lint run ./...) || exit 1; done

bench: ## images per second, latency and memory, against the bare C API (also: go run ./bench/services, swap, remote, freeze, soak)
	@testenv/setup.sh test
	go run ./bench

release: build ## archives, deb and rpm for amd64 and arm64, checksums and SBOM: bin/release
	deploy/release/make.sh

archive: build ## only the archive for amd64, little compressed: bin/archive
	deploy/release/make.sh amd64

# Which images. The one for GPUs takes 32 GB of disk while it is built.
IMAGES ?= cpu gpu

images: ## container images, built with docker or podman, tried with a broker, and weighed (IMAGES=cpu: one)
	@testenv/setup.sh test
	testenv/images.sh $(IMAGES)

setup: ## fetches what all of the above need, once
	@testenv/setup.sh

clean: ## removes what was built; what was fetched stays in .tools
	rm -rf bin
