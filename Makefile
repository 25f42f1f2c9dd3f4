# Bellhop: every target says what it does. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The race detector needs a C compiler; without one the tests run without it.
RACE := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && echo -race)
FETCH := sh test/tools/fetch

# Packages whose tests run real programs; SHORT=1 leaves them out, and says so.
REAL := ./envoy/... ./test/...

.PHONY: help build image demo test test-kubernetes check lint fuzz bench bench-server bench-envoy chaos tools tidy

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/bellhop
	@mkdir -p bin
	go build -trimpath -o bin/bellhop ./cmd/bellhop

PLATFORM ?= linux/$(shell go env GOARCH)
image: ## Build the image bellhop:dev into bin/image, and load it where docker or podman runs (PLATFORM=linux/arm64)
	@cd deploy/image && GOOS= GOARCH= go run . --source ../.. --out ../../bin/image --platform $(PLATFORM) \
		--revision "$$(git describe --always --dirty --abbrev=40 --exclude '*')"
	@for engine in docker podman; do \
		if $$engine info >/dev/null 2>&1; then $$engine load -i bin/image/bellhop-$(subst /,-,$(PLATFORM)).tar; fi; \
	done

demo: build ## Run the whole path and show what everybody saw (KEEP=1: leave it running)
	@go build -o bin/demo ./test/demo
	@envoy=$$($(FETCH) envoy) && vmcp=$$($(FETCH) vmcp) && \
	exec bin/demo --bellhop bin/bellhop --envoy "$$envoy" --vmcp "$$vmcp" $(if $(KEEP),--keep)

test: ## Run all tests on real Envoy, vMCP and MCP (SHORT=1: only what needs no other program)
ifdef SHORT
	go test $(RACE) $$(go list ./... | grep -v -E '^bellhop/test/(e2e|stack|vmcp|demo|redistest|chaos|envoytest)$$') -short
	@echo "NOT RUN (SHORT=1): test/e2e, test/stack, test/vmcp, test/demo, test/redistest, test/chaos, test/envoytest, and the tests of envoy/ that start Envoy. Run: make test"
else
	@export ENVOY_BIN VMCP_BIN REDIS_BIN VALKEY_BIN; \
	ENVOY_BIN=$$($(FETCH) envoy) && VMCP_BIN=$$($(FETCH) vmcp) && REDIS_BIN=$$($(FETCH) redis) && VALKEY_BIN=$$($(FETCH) valkey) && \
	go test $(RACE) -count 1 -timeout 20m -p 2 ./...
endif

test-kubernetes: ## Hold deploy/ against the types of Kubernetes, ToolHive and others, and against the binary
	cd test/kubernetes && go vet . && go test -timeout 20m .
	cd deploy/image && go vet . && go test -timeout 20m .

test-istio: build ## Let Istio's own pilot render our manifests, and run the end-to-end tests on what it makes (4–8 minutes to build, once)
	@mkdir -p bin
	cd test/istio && go test ./... && go build -o ../../bin/istio-render ./render
	cd test/istio/oldest && go vet . && go test .
	@export ENVOY_BIN VMCP_BIN CONFIGURE; ENVOY_BIN=$$($(FETCH) envoy) && VMCP_BIN=$$($(FETCH) vmcp) && \
	for set_up in sidecar central mesh gateway; do \
		echo "end to end, on Istio's $$set_up configuration"; \
		CONFIGURE="$(CURDIR)/bin/istio-render $$set_up" go test $(RACE) -count 1 -timeout 20m ./test/e2e || exit 1; \
	done

check: lint test ## Run the linter and all tests, and see that nothing in the tree has changed
	go mod tidy -diff
	@git diff --exit-code --stat

lint: ## Run golangci-lint
	@lint=$$($(FETCH) golangci-lint) && "$$lint" run ./...

FUZZTIME ?= 1m
fuzz: ## Run each fuzz target for FUZZTIME (default 1m)
	@for target in $$(git grep -ho '^func Fuzz[A-Za-z]*' -- '*_test.go' | sed 's/func //'); do \
		package=$$(dirname $$(git grep -l "^func $$target(" -- '*_test.go')); \
		echo "$$target in $$package for $(FUZZTIME)"; \
		go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "./$$package" || exit 1; \
	done

bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./policy ./processor/...

CAPTURES ?= 0
bench-server: build ## Compare the server's CPU per call with a do-nothing server's (CAPTURES=1000000: with a full store)
	@go build -o bin/bench ./test/bench && exec bin/bench --bellhop bin/bellhop --captures $(CAPTURES)

bench-envoy: ## Run the benchmarks that go through Envoy
	@export ENVOY_BIN VMCP_BIN; ENVOY_BIN=$$($(FETCH) envoy) && VMCP_BIN=$$($(FETCH) vmcp) && \
	go test -run '^$$' -bench . -benchtime 2s ./test/e2e

LENGTH ?= 1m
chaos: build ## Kill, restart and slow down a fleet under load, and write what clients notice into test/README.md (LENGTH=1m of each)
	@go build -o bin/chaos ./test/chaos
	@envoy=$$($(FETCH) envoy) && vmcp=$$($(FETCH) vmcp) && redis=$$($(FETCH) redis) && \
	exec bin/chaos --bellhop bin/bellhop --envoy "$$envoy" --vmcp "$$vmcp" --redis "$$redis" --length $(LENGTH) --write test/README.md

tools: ## Fetch the pinned tools into the cache: Envoy, vMCP, Redis, Valkey, golangci-lint
	@for tool in envoy vmcp redis valkey golangci-lint; do $(FETCH) $$tool || exit 1; done

tidy: ## Format the code and tidy go.mod
	gofmt -w .
	go mod tidy
