# `make` alone lists the targets. Everything runs from a fresh clone with Go alone; what more a target needs, it says.
GO       ?= go
CACHE    ?= $(CURDIR)/.cache
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
CENTRIFUGO := github.com/centrifugal/centrifugo/v6@v6.9.1
FUZZTIME ?= 10s
SOAK     ?= 10m
SUITE    ?= bench/reports
MODULES  := pkg services bench
# Some of the compression cases: all of them, 12.* 13.*, take more than 20 minutes, most of it in the Python client.
AUTOBAHN ?= 1.* 2.* 3.* 4.* 5.* 6.* 7.* 9.* 10.* 12.1.3 12.1.5 12.1.7 12.1.11 12.2.5 12.3.5 12.4.5 12.5.5 12.5.12 13.1.1 13.1.5 13.2.1 13.4.2 13.5.5 13.6.3 13.7.4
export TICKWIRE_CACHE ?= $(CACHE)

.DEFAULT_GOAL := help
.PHONY: help run build test race kafka postgres autobahn openapi memory sse-clients webhook-verifiers proxies rivals centrifugo fuzz bench bench-html gobench benchstat suite soak smoke chaos lint generate tidy alone ci clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' Makefile

run: build ## start everything on this machine: embedded broker, simulated market, ingest, both edges, alerts
	./bin/tickwire all

build: ## build bin/tickwire
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/tickwire ./services/cmd/tickwire

test: ## all tests that need Go alone; those against real Apache Kafka are `make kafka`
	CGO_ENABLED=0 $(GO) vet work
	CGO_ENABLED=0 $(GO) test -count=1 -short ./pkg/... ./services/...
	CGO_ENABLED=0 $(GO) test -count=1 -short -p 1 ./bench/... # which make load, and so run alone
	@echo 'Skipped here: the tests against real Apache Kafka. They are: make kafka (Java 17 and Maven). On PostgreSQL: make postgres.'

race: ## the same tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -count=1 -short -race ./pkg/... ./services/...
	CGO_ENABLED=1 $(GO) test -count=1 -short -race -p 1 ./bench/...

kafka: ## the tests against real Apache Kafka, and the SBE reference codec (needs Java 17 and Maven; they must not skip)
	TICKWIRE_REQUIRE_JAVA=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 30m -run 'Kafka|Reference' work

postgres: ## the webhook store on PostgreSQL: the same tests as on SQLite, several instances, a paused owner (needs PostgreSQL; they must not skip)
	TICKWIRE_REQUIRE_POSTGRES=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m ./services/webhook/...

autobahn: ## the WebSocket edge against the Autobahn test suite; AUTOBAHN lists the cases (needs Python 2.7; PyPI the first time)
	TICKWIRE_AUTOBAHN='$(AUTOBAHN)' $(GO) test -count=1 -timeout 30m -v -run TestAutobahn ./services/ws

openapi: build ## a running server against its own OpenAPI documents, by Schemathesis (needs Python 3.10 with venv; PyPI the first time)
	CACHE=$(CACHE) bash .ci/openapi

memory: ## what an idle WebSocket connection holds, and that its goroutine fits the smallest stack
	cd services && $(GO) test -count=1 -v -run 'TestMemoryPerConnection' ./ws

sse-clients: ## the streams read by Chromium, curl and clients in three languages while their connections are cut; the browsers' module (needs Chromium, Node 20, Python 3.11, curl; npm and PyPI the first time)
	TICKWIRE_SSE_CLIENTS=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 10m -v ./services/sse/clients

webhook-verifiers: ## our webhooks verified by standardwebhooks, svix, stripe, octokit, slack_sdk and razorpay (needs Node 20 and Python 3.11; npm and PyPI the first time)
	TICKWIRE_WEBHOOK_VERIFIERS=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 10m -v ./services/webhook/verifiers

proxies: ## docs/proxies in nginx and haproxy, as an ordinary user: WebSocket, streams, REST, TLS, HTTP/2 (needs both, curl and Node)
	TICKWIRE_PROXIES=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 5m -v -run TestProxies ./services/all

rivals: ## the load on other servers: a real nats-server, and nginx with nchan (needs nats-server, nginx and libnginx-mod-nchan; they must not skip)
	TICKWIRE_RIVALS=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 5m -v -run 'NATS|Nchan' ./bench/rivals

centrifugo: ## the same on a real Centrifugo, built into CACHE (the Go module proxy and some minutes the first time)
	GOBIN=$(CACHE)/bin GOWORK=off CGO_ENABLED=0 $(GO) install $(CENTRIFUGO)
	TICKWIRE_CENTRIFUGO=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 5m -v -run Centrifugo ./bench/rivals

fuzz: ## every fuzz target for FUZZTIME (default 10s) each
	FUZZTIME=$(FUZZTIME) GO=$(GO) bash .ci/fuzz

bench: ## a short run of each of our measurements, with goals: both edges under load beside a raw write loop, memory, slow clients, storms; then all of it through Kafka (6 minutes)
	$(GO) run ./bench/cmd/tickwire-bench suite --quick

suite: ## the same at full length; reports go to SUITE (default bench/reports), and what they say to bench/RESULTS.md (30 minutes)
	$(GO) build -o bin/tickwire-bench ./bench/cmd/tickwire-bench
	./bin/tickwire-bench suite --dir $(SUITE)
	./bin/tickwire-bench results $(SUITE) > bench/RESULTS.md

soak: ## 100 clients on 50 topics each verify every book at every message, SOAK long (default 10m)
	$(GO) run ./bench/cmd/tickwire-bench soak --duration $(SOAK)

bench-html: ## the reports' pages in Chromium without network: all plots drawn, nothing asked for, no error (needs Chromium; it must not skip)
	TICKWIRE_CHROMIUM=1 CGO_ENABLED=0 $(GO) test -count=1 -timeout 5m -v -run TestHTML ./bench/report

gobench: ## every Go benchmark, once
	$(GO) test -run '^$$' -bench . -benchmem work

benchstat: ## Go benchmarks of this tree against revision BASE (default HEAD), in turns, by benchstat; PKG, BENCH, COUNT, BENCHTIME choose
	GO=$(GO) bash .ci/benchstat

smoke: ## every scenario of tickwire-bench in a short run, in which nothing may be missed
	GO=$(GO) bash .ci/smoke

chaos: ## the long programme: on real Kafka 50 kills, 20 takeovers, broker loss; of alerts 100 kills, 20 paused owners (needs Java 17, Maven, PostgreSQL; about 7 minutes)
	TICKWIRE_REQUIRE_JAVA=1 TICKWIRE_CHAOS_KILLS=50 TICKWIRE_CHAOS_TAKEOVERS=20 CGO_ENABLED=0 $(GO) test -count=1 -timeout 80m -v -run 'Chaos' ./services/all/...
	TICKWIRE_REQUIRE_POSTGRES=1 TICKWIRE_CHAOS_KILLS=100 TICKWIRE_CHAOS_TAKEOVERS=20 CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m -v -run 'TestKilledBetweenSteps|TestPostgresZombie' ./services/webhook

lint: ## gofumpt, staticcheck, gosec and others by golangci-lint
	@bad=0; for m in $(MODULES); do (cd $$m && $(GO) run $(LINT) run --config ../.golangci.yml ./...) || bad=1; done; exit $$bad

generate: ## rewrite golden files, the examples in the docs, and what sqlc makes of the webhook store's queries
	cd services && CGO_ENABLED=0 $(GO) generate ./webhook/store
	$(GO) test -count=1 ./pkg/wire/... -update
	$(GO) test -count=1 -run TestExamples ./services/sse -update
	$(GO) test -count=1 -run TestAlertExamples ./services/webhook -update
	$(GO) test -count=1 -run TestExamples ./services/webhook/rule -update
	$(GO) test -count=1 -short ./bench/report -update

tidy: ## go work sync, then go mod tidy in every module
	$(GO) work sync
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) mod tidy); done

alone: ## each module by itself, without the workspace, and its go.mod tidy
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) vet ./... && GOWORK=off $(GO) mod tidy -diff); done

ci: ## what CI runs
	bash .ci/run

clean: ## remove what the targets above made
	rm -rf bin $(CACHE)
