# What to do with a checkout. Everything but Rust is installed when a target needs it, with apt and as root or through sudo.

PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
DENY := 0.20.2
CARGO_DEB := 3.8.0
ZIG := 0.17.1
ZIGBUILD := 0.24.1

.PHONY: help demo test test-mysql test-galera test-group-replication test-faults test-explorer mysql check bench bench-quick install portable check-portable deb check-deb check-boot \
	build-packages server-packages bench-packages portable-packages manual-packages recipe-packages browser-packages deb-packages chroot-packages boot-packages

help:
	@echo "make demo      build Duly and run the shipped jobs.yaml on SQLite, to a result that can be seen"
	@echo "make test      all tests but those on MySQL; starts a MariaDB of its own"
	@echo "make test-mysql    the tests that need a server, on a MySQL of its own (Debian unstable's, fetched once)"
	@echo "make test-galera   the same on a MariaDB Galera cluster, through three nodes that are all written to"
	@echo "make test-group-replication   the same on three members of a MySQL group, with one primary and with several"
	@echo "make test-faults   load under faults; DULY_FAULT_SEEDS=1-200 says how much of it"
	@echo "make test-explorer sequences of events beside a reference; DULY_EXPLORER_SEQUENCES=100000 says how many"
	@echo "make check     format, lints, documentation, licences and duplicates of dependencies"
	@echo "make bench     how fast it is, beside what it can be measured against; a quarter of an hour"
	@echo "make bench-quick   the same in some minutes, with less of everything"
	@echo "make install   build Duly and put it under PREFIX ($(PREFIX)); DESTDIR is put before that"
	@echo "make portable  one that runs on any Linux with glibc 2.17 or newer; make check-portable tries it in an old Debian"
	@echo "make deb       a package of Debian, in $(TARGET)/debian"
	@echo "make check-deb the same, installed and used in a clean Debian; as root, some minutes"
	@echo "make check-boot the same in one that is booted, run by systemd, upgraded and started again"

demo: build-packages
	cargo build --release --locked
	@sh examples/demo $(TARGET)/release/duly $(TARGET)/demo

test: build-packages server-packages manual-packages recipe-packages browser-packages
	cargo test --locked -- --skip groups:: --skip a_group

# Tests are named after the kind of database: what is called mariadb in there is whatever server is asked for.
test-mysql: build-packages server-packages mysql
	DULY_TEST_SERVER=mysql DULY_TEST_MYSQL_FOLDER="$(abspath $(TARGET))/mysql" cargo test --locked --test integration -- mariadb a_server

# Those of some files alone: GALERA="once:: crash::".
GALERA ?= mariadb
test-galera: build-packages server-packages
	DULY_TEST_SERVER=galera cargo test --locked --test integration -- $(GALERA) a_cluster clusters --skip sqlite

# The same on three members of a MySQL group, with one primary and with all written to; and what a group puts at risk. Those of
# some files alone: GROUP="once:: crash::".
GROUP ?= mariadb
test-group-replication: build-packages server-packages mysql
	export DULY_TEST_MYSQL_FOLDER="$(abspath $(TARGET))/mysql"; \
	cargo test --locked --test integration -- groups:: a_group && \
	for kind in group-single group-multi; do \
		DULY_TEST_SERVER=$$kind cargo test --locked --test integration -- $(GROUP) --skip sqlite --skip groups:: || exit 1; done

# One engine alone: FAULTS=sqlite, a_server (DULY_TEST_SERVER=mysql makes that MySQL) or a_cluster.
FAULTS ?=
test-faults: build-packages server-packages
	cargo test --locked --test integration faults::nothing_is_lost_or_done_twice_on_$(FAULTS) -- --nocapture --test-threads 1

# The program as it is tested, but quicker: in a folder of its own, since the figures of `make bench` need what is released.
test-explorer: build-packages
	CARGO_PROFILE_DEV_OPT_LEVEL=2 cargo test --locked --target-dir "$(TARGET)/explorer" --test integration explorer::what_the -- --nocapture

mysql:
	@sh tests/servers/mysql "$(abspath $(TARGET))/mysql"

check: build-packages
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@PATH="$(abspath $(TARGET))/tools/bin:$$PATH"; export PATH; \
	cargo deny --version >/dev/null 2>&1 || { \
		echo "Installing cargo-deny $(DENY) in $(TARGET)/tools: it checks licences and duplicates of dependencies (takes some minutes)"; \
		cargo install --quiet --locked --root "$(TARGET)/tools" cargo-deny@$(DENY); } || exit 1; \
	echo "cargo deny check licenses bans sources"; \
	cargo deny --locked check licenses bans sources

bench: build-packages server-packages bench-packages
	cargo bench --locked --bench figures

bench-quick: build-packages server-packages bench-packages
	cargo bench --locked --bench figures -- --quick

# Under sudo there may be no cargo: then what was built before is installed.
CARGO := $(shell command -v cargo)
install: $(if $(CARGO),build-packages)
	$(if $(CARGO),cargo build --release --locked,@[ -x $(TARGET)/release/duly ] || { echo "no cargo here and nothing built yet: build with 'make demo' first" >&2; exit 1; })
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/doc/duly"
	install -m 755 $(TARGET)/release/duly "$(DESTDIR)$(PREFIX)/bin/duly"
	install -m 644 jobs.yaml crontab.example LICENSE-MIT LICENSE-APACHE "$(DESTDIR)$(PREFIX)/share/doc/duly"

# zig, which comes as a package of Python, links against the symbols of an old C library.
PORTABLE := $(TARGET)/$(shell uname -m)-unknown-linux-gnu/release/duly
portable: build-packages portable-packages
	@[ -x $(TARGET)/tools/zig/bin/cargo-zigbuild ] || { \
		echo "Installing zig $(ZIG) in $(TARGET)/tools/zig"; python3 -m venv $(TARGET)/tools/zig && \
		$(TARGET)/tools/zig/bin/pip install --quiet ziglang==$(ZIG) cargo-zigbuild==$(ZIGBUILD); }
	PATH="$(abspath $(TARGET))/tools/zig/bin:$$PATH" cargo-zigbuild zigbuild --release --locked \
		--target $(shell uname -m)-unknown-linux-gnu.2.17
	@ls -l $(PORTABLE)

check-portable: portable chroot-packages
	sh contrib/check-portable $(PORTABLE)

# The manual and the completions are made by the program itself.
deb: build-packages deb-packages
	cargo build --release --locked
	rm -rf $(TARGET)/release/package
	$(TARGET)/release/duly man --folder $(TARGET)/release/package/man && gzip -9n $(TARGET)/release/package/man/*
	$(TARGET)/release/duly completions bash > $(TARGET)/release/package/duly.bash
	$(TARGET)/release/duly completions zsh > $(TARGET)/release/package/_duly
	$(TARGET)/release/duly completions fish > $(TARGET)/release/package/duly.fish
	@PATH="$(abspath $(TARGET))/tools/bin:$$PATH"; export PATH; \
	cargo deb --version >/dev/null 2>&1 || { \
		echo "Installing cargo-deb $(CARGO_DEB) in $(TARGET)/tools (takes some minutes)"; \
		cargo install --quiet --locked --root "$(TARGET)/tools" cargo-deb@$(CARGO_DEB); } || exit 1; \
	mkdir -p $(TARGET)/debian; \
	cargo deb --quiet --no-build --no-strip --locked --output $(TARGET)/debian/duly.deb && ls -l $(TARGET)/debian/duly.deb

check-deb: deb chroot-packages
	sh contrib/debian/check $(TARGET)/debian/duly.deb

check-boot: deb chroot-packages boot-packages
	sh contrib/debian/check-boot $(TARGET)/debian/duly.deb

# $(call installed,what for,how to see that it is there,packages,packages to try if there are none of these names)
define installed
@{ $(2); } >/dev/null 2>&1 || { \
	command -v apt-get >/dev/null || { echo "$(1) needs what Debian calls $(3); please install it" >&2; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "Installing $(3), which $(1) needs"; \
	install="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"; \
	$$sudo apt-get update -qq && { $$install $(3) >/dev/null || $$install $(4) >/dev/null; } && { $(2); } >/dev/null 2>&1 || \
		{ echo "$(3): not installed; see above" >&2; exit 1; }; }
endef

# SQLite and the cryptography are in part C.
build-packages:
	$(call installed,building Duly,cc --version,gcc libc6-dev,gcc libc6-dev)

# The bare server, which starts no service and makes no user, and the client's programs that it is set up with; where they have
# no packages of their own, the whole server. openssl makes the certificates of the tests. And what makes servers a cluster, and
# sets a process's clock wrong.
server-packages:
	$(call installed,testing Duly,PATH="$$PATH:/usr/sbin:/usr/libexec"; command -v mariadbd && command -v mariadb-install-db && command -v my_print_defaults && command -v openssl && command -v setpriv,mariadb-server-core mariadb-client-core openssl util-linux,mariadb-server openssl util-linux)
	$(call installed,testing Duly,ls /usr/lib/galera/libgalera_smm.so /usr/lib/*/faketime/libfaketime.so.1,galera-4 libfaketime,galera-4 faketime)
	$(call installed,testing the units of Duly,command -v systemd-analyze && command -v unshare && command -v script,systemd util-linux bsdutils,systemd bsdutils)

# A browser without a screen, and what drives it, for the web page.
browser-packages:
	$(call installed,testing the web page,command -v chromedriver && command -v chromium,chromium chromium-driver,chromium-browser chromium-chromedriver)

# What Duly is measured against, C with its client library among it, and GNU time for memory.
bench-packages:
	$(call installed,measuring Duly,command -v time parallel tsp && pkg-config --exists libmariadb && ruby -e 'require "mysql2"; require "delayed_job_active_record"',time parallel task-spooler pkg-config libmariadb-dev ruby-delayed-job-active-record ruby-mysql2,time parallel task-spooler pkgconf libmariadb-dev ruby-delayed-job-active-record ruby-mysql2)

# What shows manual pages, which the tests ask for its opinion of ours.
manual-packages:
	$(call installed,testing the manual,command -v groff,groff-base,groff)

# The languages that the recipes are in, each with its client of MySQL; and what they call. A node that is there already is
# kept, wherever it is from; Debian's module of its client needs none of Debian's own.
recipe-packages:
	$(call installed,testing the recipes,php -r 'exit(extension_loaded("pdo_mysql") ? 0 : 1);' && /usr/bin/python3 -c 'import pymysql' && ruby -e 'require "mysql2"' && NODE_PATH=/usr/share/nodejs node -e 'require("mysql")' && go version && [ -d /usr/share/gocode/src/github.com/go-sql-driver/mysql ] && command -v mariadb-dump && command -v curl,php-cli php-mysql python3-pymysql ruby ruby-mysql2 node-mysql golang-go golang-github-go-sql-driver-mysql-dev mariadb-client curl ca-certificates,php-cli php-mysql python3-pymysql ruby ruby-mysql2 nodejs node-mysql golang-go golang-github-go-sql-driver-mysql-dev mariadb-client curl)

portable-packages:
	$(call installed,building for other systems,python3 -c 'import ensurepip',python3-venv,python3-venv)

# dpkg-shlibdeps finds out which libraries the program needs.
deb-packages:
	$(call installed,making a package,command -v dpkg-shlibdeps,dpkg-dev,dpkg-dev)

chroot-packages:
	$(call installed,trying the package,PATH="$$PATH:/usr/sbin"; command -v debootstrap,debootstrap,debootstrap)

boot-packages:
	$(call installed,booting a Debian,systemd-nspawn --version,systemd-container,systemd-container)
