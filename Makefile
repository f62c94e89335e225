# Two commands matter: `make demo` and `make test`. Both do all set-up themselves.
SHELL        := /bin/bash
.DEFAULT_GOAL := help

GO           ?= go
BIN          := bin
VERSION      := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# kubectl and the API server tell their version from component-base.
KUBE_VERSION := v$(shell sed -n 's/^\tk8s.io\/component-base v0/1/p' go.mod)
LDFLAGS      := -s -w -X padis.io/padis/cmd/padis/version.Version=$(VERSION) -X main.version=$(VERSION) \
                -X k8s.io/component-base/version.gitVersion=$(KUBE_VERSION) -X k8s.io/component-base/version.gitMajor=1 \
                -X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBE_VERSION)))
SEEDS        ?= 2000
RUNS         ?= 10
FUZZTIME     ?= 20s
TORTURE      ?= 300
CYCLES       ?= 100000

export CGO_ENABLED := 0

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: setup
setup: ## Install the Debian packages that build and tests need
	@.ci/setup

.PHONY: build
build: ## Build the binaries into bin/
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/padis ./cmd/padis-executor ./cmd/padis-mesos ./examples/shop ./tests/kubectl

.PHONY: generate
generate: setup ## Generate code from proto and from the Go types
	@.ci/generate

.PHONY: test
test: setup build ## Everything: unit, property, fuzz seeds, real kernels, end to end, simulation
	@.ci/test $(SEEDS)

.PHONY: check
check: setup ## gofmt, vet, staticcheck, generated code in sync, architecture, vulnerabilities
	@.ci/check

.PHONY: demo
demo: setup build ## Three embedded hosts, examples, failures and healing, a VIP behind a router; each step verified
	@$(GO) run ./tests/demo

.PHONY: sim
sim: ## Simulate SEEDS=n random histories of faults
	@$(GO) run ./tests/sim/cmd/padis-sim -seeds $(SEEDS)

.PHONY: bench-elastic
bench-elastic: setup build ## 8 to 50 instances, ten times; idle cost; executor's size
	@$(GO) run ./tests/bench/elastic -runs $(RUNS)

.PHONY: bench-start
bench-start: setup build ## Starts of containers beside ctr, 16 at a time; executor with 100 containers; output (root)
	@$(GO) run ./tests/bench/start

.PHONY: bench-attach
bench-attach: ## Attaches with durable leases beside CNI's plugins, 16 at a time; a pool of 65,536 (root)
	@.ci/setup bench-attach
	@$(GO) build -o $(BIN)/bench-attach ./tests/bench/attach && $(BIN)/bench-attach

.PHONY: soak-attach
soak-attach: setup ## CYCLES=n attaches while processes are killed; DIR=d to go on with an earlier run (root)
	@$(GO) build -o $(BIN)/soak-attach ./tests/soak && $(BIN)/soak-attach -cycles $(CYCLES) $(if $(DIR),-dir $(DIR))

.PHONY: bench-replay
bench-replay: ## 1,000,000 flows through 100 changes of real servers and the death of a director: how many move
	@$(GO) run ./tests/bench/replay

.PHONY: bench-lb
bench-lb: setup ## What directors on tcx and XDP cost per packet; BASELINE_OBJ=other.o is measured beside (root)
	@$(GO) run ./tests/bench/lb -baseline '$(BASELINE_OBJ)' -baseline-program '$(BASELINE_PROGRAM)'

.PHONY: test-lb-churn
test-lb-churn: setup build ## 2,000 connections while directors and real servers come and go for SECONDS (120), behind BIRD and FRR (root)
	@$(GO) build -o $(BIN)/lbchurn ./tests/lbchurn/run && $(BIN)/lbchurn -quiet -seconds $(or $(SECONDS),120)

.PHONY: soak-lb
soak-lb: setup build ## The same for SECONDS (3600) (root)
	@$(GO) build -o $(BIN)/lbchurn ./tests/lbchurn/run && $(BIN)/lbchurn -quiet -seconds $(or $(SECONDS),3600)

.PHONY: bench-failover
bench-failover: setup build ## What is lost when directors are killed, drained, or die in silence; 1,000 VIPs on one (root)
	@$(GO) build -o $(BIN)/bench-failover ./tests/bench/failover && $(BIN)/bench-failover

.PHONY: bench-endpoints
bench-endpoints: setup build ## How long a change of a real server takes to all directors, the whole control plane included (root)
	@PADIS_BIN=$(CURDIR)/$(BIN) $(GO) run ./tests/bench/endpoints

.PHONY: bench-converge
bench-converge: ## How fast what a repository declares is applied and kept in force, and what 50,000 objects cost
	@$(GO) build -o $(BIN)/bench-converge ./tests/bench/converge && $(BIN)/bench-converge

.PHONY: torture
torture: setup build ## Kill executors, containerds and agents at random for TORTURE seconds (root)
	@PADIS_BIN=$(CURDIR)/$(BIN) PADIS_TORTURE_SECONDS=$(TORTURE) $(GO) test -count=1 -timeout 0 -v -run TestTorture ./tests/e2e

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZTIME each
	@.ci/fuzz $(FUZZTIME)

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)
