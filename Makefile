# pagein: "make help" lists what can be made. Everything a target needs is installed by hack/deps.sh first, if it is missing.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Programs are static: the same file runs on any distribution, in an initramfs and in a scratch container.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

# Tools built by hack/deps.sh come first; mkfs.ext4 and depmod live where not every user's PATH looks.
export PATH := $(CURDIR)/.tools/bin:$(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := build
.PHONY: build install uninstall demo test soak fuzz lint vmtest bench clean help

PREFIX ?= /usr/local
UNITS  := pageind.service pagein-keeper.service pagein-check.service pagein-check.timer

build: ## static bin/pagein, bin/pageind and bin/pagein-keeper
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/...

install: build ## the programs in $(PREFIX)/bin, their man pages, systemd units, and the helper that mount(8) looks for in /sbin (DESTDIR is obeyed)
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/pagein bin/pageind bin/pagein-keeper
	ln -sf pagein $(DESTDIR)$(PREFIX)/bin/mkfs.pagein
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/*.1
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in $(UNITS); do \
		sed 's,/usr/local/,$(PREFIX)/,' dist/systemd/$$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit; \
	done
	install -d $(DESTDIR)/sbin
	ln -sf $(PREFIX)/bin/pagein $(DESTDIR)/sbin/mount.pagein

uninstall: ## remove what install made, with the same PREFIX and DESTDIR; configuration and data stay
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,pagein pageind pagein-keeper mkfs.pagein) $(DESTDIR)/sbin/mount.pagein \
		$(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard docs/man/*.8))) \
		$(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(wildcard docs/man/*.1))) \
		$(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(UNITS))

demo: ## the main job, end to end, on this machine: convert an image, mount it lazily, use it, compare with a full pull
	@hack/deps.sh demo
	@$(MAKE) --no-print-directory build
	@$(BUILD) -o bin/ ./demo
	@case ' $(DEMOFLAGS) ' in *' -vm'*|*' --vm'*) hack/deps.sh vm;; *) bin/demo -probe 2>/dev/null || hack/deps.sh vm;; esac
	@bin/demo $(DEMOFLAGS)

# How long "make test" runs each fuzz target.
FUZZTIME ?= 20s

test: ## every test: each fuzz target for FUZZTIME, unit, this machine's kernel, and the test kernels in virtual machines
	@hack/deps.sh test
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted, run gofmt -w on:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	cd bench/peers && $(GO) vet ./... # a module of its own
	@fuzzed=0; hack/fuzz.sh $(FUZZTIME) || fuzzed=$$?; \
		echo '$(GO) test -timeout 80m $(TESTFLAGS) ./...'; $(GO) test -timeout 80m $(TESTFLAGS) ./... && exit $$fuzzed # what fuzzing finds must not hide what tests find

fuzz: ## each fuzz target for 10 minutes; the corpus stays in Go's cache, inputs that fail become seeds in testdata (FUZZFLAGS: hack/fuzz.sh)
	@hack/fuzz.sh $(or $(FUZZFLAGS),10m)

# How long "make soak" goes on: 90s, 30m, 24h.
SOAKTIME ?= 30m

soak: ## misfortunes of every kind at random for SOAKTIME, and every byte verified (SOAKFLAGS="-seed N": the same again; bin/soak -h)
	@hack/deps.sh test
	@$(MAKE) --no-print-directory build
	@$(BUILD) -o bin/ ./soak
	@bin/soak -time $(SOAKTIME) $(SOAKFLAGS)

lint: ## golangci-lint with .golangci.yml
	@hack/deps.sh lint
	golangci-lint run ./...

vmtest: ## only the tests in virtual machines, each reported by name
	@hack/deps.sh test
	$(GO) test -v -count=1 -timeout 80m $(TESTFLAGS) ./vmtests

CONTAINERD := github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2

bench: ## the ratios that pagein promises, each measured against something else in the same run
	@hack/deps.sh bench
	@$(MAKE) --no-print-directory build
	@$(BUILD) -o bin/ ./bench ./demo
	@cd bench/peers && $(BUILD) -o ../../bin/bench-peers . && $(BUILD) -tags no_btrfs,no_cri,no_zfs,no_devmapper -o ../../bin $(CONTAINERD) \
		|| { rm -f ../../bin/bench-peers ../../bin/containerd*; echo "bench: the peers cannot be built; what needs them is skipped" >&2; }
	@bin/bench $(BENCHFLAGS)

clean: ## remove what was built here (caches of test kernels stay: see docs/operations.md)
	rm -rf bin .tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
