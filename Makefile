# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1 MLFLOW_DISABLE_TELEMETRY := true
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PEERS_DAY := 2026-11-20
BACKUP ?= backups/$(shell date -u +%Y-%m-%dT%H%M%SZ)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/lock.txt

.PHONY: help install repro collect register retrain promote rollback challenger serve score test test-heavy test-stack docs docs-serve docs-linkcheck backup restore format lock space demo simulate drift-report bench-model bench-gate bench-pipeline bench-million bench-serve bench-drift bench-drift-peers bench-scale bench-synthesis clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-18s %s\n", $$1, $$2}'

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or later is needed, {sys.executable} is {sys.version.split()[0]}")'
	$(PYTHON) -m venv .venv

.venv/pipeline: requirements/pipeline.txt requirements/lock.txt | .venv/bin/python
	@echo "Installing the locked versions (some minutes the first time)"
	$(PIP_INSTALL) -r requirements/pipeline.txt
	@touch $@

.venv/dev: requirements/dev.txt .venv/pipeline
	$(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

install: .venv/pipeline ## make .venv with the locked versions that the pipeline needs

repro: .venv/pipeline ## run the pipeline: from patients to a registered model
	@python -c 'from heart.dataset import reader; from heart.errors import main_of; main_of(reader.input_files)'
	dvc repro
	@$(MAKE) --no-print-directory register
	@python -m heart.registry.summary

collect: .venv/pipeline .venv/serve ## write the outcomes of the prediction log to data/production/labelled.csv
	@python -m monitoring.retraining.collect

register: .venv/pipeline ## publish the model to MLflow unless the registry already holds it
	@python -m stages.register

retrain: .venv/pipeline .venv/serve ## learn from new outcomes; TRIGGER=TEXT says why, FORCE=1 though there are few
	@python -m monitoring.retraining.run $${TRIGGER:+--trigger "$$TRIGGER"} $${FORCE:+--force} || [ $$? = 75 ]

promote: .venv/pipeline ## make VERSION=n the champion, if it passed its gate
	@python -m heart.registry.promote "$(VERSION)"

rollback: .venv/pipeline ## give the previous champion its place back
	@python -m heart.registry.promote --rollback

challenger: .venv/pipeline ## have the service score with VERSION=n too, unseen; without a VERSION no more
	@python -m heart.registry.promote $(if $(VERSION),--challenger "$(VERSION)",--no-challenger)

.venv/serve: requirements/serve.txt requirements/lock.txt | .venv/bin/python
	$(PIP_INSTALL) -r requirements/serve.txt
	@touch $@

serve: .venv/serve ## serve the champion: page, API and metrics on http://127.0.0.1:8000
	python -m serve

.venv/score: requirements/score.txt .venv/serve
	$(PIP_INSTALL) -r requirements/score.txt
	@touch $@

.venv/spark: requirements/spark.txt .venv/score
	$(PIP_INSTALL) -r requirements/spark.txt
	@touch $@

score: .venv/score ## score tables: make score IN=patients.csv OUT=scores.csv (docs/batch_scoring.md)
	python -m serve.batch "$(IN)" "$(OUT)" $(ARGS)

ROWS ?= 500
SHIFT ?= none
RATE ?= 50
OUTCOMES ?= 0
URL ?= http://127.0.0.1:8000

simulate: .venv/serve ## send made-up patients to a running service: ROWS=500 SHIFT=none|older|... RATE=50 OUTCOMES=0 URL=...
	@python -m monitoring.simulate --rows $(ROWS) --shift $(SHIFT) --rate $(RATE) --outcomes $(OUTCOMES) --url $(URL)

drift-report: .venv/serve ## the drift of the last patients as one HTML file, reports/drift.html, and in MLflow
	@python -m monitoring.report

demo: .venv/pipeline .venv/serve ## all of it in some minutes: pipeline, drift, alert, retraining, gate, rollback
	@python -m examples.demo

test: .venv/dev ## format, lint, import rules, strict types, generated files and tests: all that must pass
	ruff format --check .
	ruff check .
	lint-imports
	mypy
	python -m docs.generate --check
	pytest -n 2 -m "not heavy and not stack"

test-heavy: .venv/dev .venv/spark ## the proofs that take longer
	pytest -m heavy

test-stack: .venv/dev ## build both images, run the stack and drive it; needs a Docker engine
	pytest -m stack tests/stack

.venv/docs: requirements/docs.txt .venv/score
	$(PIP_INSTALL) -r requirements/docs.txt
	@touch $@

SPHINX := python -m sphinx -W --keep-going -n -q docs

docs: .venv/docs ## build the documentation into docs/_build/html; a warning is an error
	python -m docs.generate
	rm -rf docs/library
	$(SPHINX) docs/_build/html

docs-serve: docs ## show the documentation on http://127.0.0.1:8080
	python -m http.server 8080 --bind 127.0.0.1 --directory docs/_build/html

docs-linkcheck: .venv/docs ## check the links of the documentation to other sites (needs the network)
	$(SPHINX) docs/_build/linkcheck -b linkcheck

backup: ## save the running stack's databases and buckets (BACKUP=FOLDER)
	@COMPOSE="$(COMPOSE)" deploy/backup.sh "$(BACKUP)"

restore: ## put them back, of BACKUP=FOLDER, and start the stack
	@COMPOSE="$(COMPOSE)" deploy/restore.sh "$(BACKUP)"

space: .venv/serve ## write the folder of a Hugging Face Space, with the champion in it (docs/deployment.md)
	@python -m deploy.space.build

format: .venv/dev ## format the code and mend what the linter can
	ruff format .
	ruff check --fix .

lock: .venv/dev ## choose all versions anew and write requirements/lock.txt
	$(BIN)/python -m pip install --quiet uv
	@{ head -1 requirements/lock.txt; uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url \
	  $(filter-out requirements/lock.txt,$(wildcard requirements/*.txt)); } > requirements/lock.new
	@mv requirements/lock.new requirements/lock.txt

bench-model: .venv/pipeline ## nested cross-validation beside plain models, into benchmarks/model.json
	python -m benchmarks.model

bench-gate: .venv/pipeline ## which challengers the gate refuses: good ones, other patients', shuffled outcomes
	python -m benchmarks.gate

bench-pipeline: .venv/pipeline ## the time of each stage, the share inside the fits, and the cost of no change
	python -m benchmarks.pipeline

bench-million: .venv/dev ## the pipeline on a million made-up patients: seconds and memory of each stage
	python -m benchmarks.million

bench-serve: .venv/dev .venv-peers/bentoml ## the service beside an endpoint that does nothing, `mlflow models serve` and BentoML
	python -m benchmarks.serve

bench-drift: .venv/pipeline ## the drift check's false alarms and delays beside the usual rules, and its cost
	python -m benchmarks.drift

bench-scale: .venv/dev .venv/spark ## scoring and drift of 10^6 to 10^8 rows, here and by Spark
	python -m benchmarks.scale

# A peer in an environment of its own, in the versions of one day, which are apart from the lock's. One that
# cannot be installed leaves the reason there; UV_TORCH_BACKEND=cpu spares sdv gigabytes on Linux.
.venv-peers/%: benchmarks/peers/%.txt
	@echo "Installing $*"
	@rm -rf $@
	@$(PYTHON) -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check uv
	@if $@/bin/uv pip install --quiet --python $@/bin/python --exclude-newer $(PEERS_DAY) -r $< 2> $@.txt; \
	  then rm $@.txt; else mv $@.txt $@/not-installed.txt; fi
	@touch $@

bench-drift-peers: .venv/pipeline .venv-peers/evidently .venv-peers/nannyml .venv-peers/alibi_detect ## the drift check beside evidently, nannyml and alibi-detect
	python -m benchmarks.drift_peers

bench-synthesis: .venv/pipeline .venv-peers/sdv ## synthetic patients of five methods: their worth, and how far from copies
	python -m benchmarks.synthesis

clean: ## remove what the stages made; the cache, the registry and .venv stay
	rm -rf data/*.csv models/*.json models/*.joblib models/*.onnx models/*.pkl plots dvc_plots
