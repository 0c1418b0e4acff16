# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1 MLFLOW_DISABLE_TELEMETRY := true
# The locked versions, each file checked by its hash.
INSTALL := $(BIN)/python requirements/install.py

# What may be given on the command line or in the environment. It is text: recipes read it from the
# environment, as "$$VERSION", since of $(VERSION) the shell would parse what is in it; and $(value) keeps
# Make from expanding it, so that not even $(shell ...) in it is run.
GIVEN := A ARGS B BACKUP BY COMPOSE EPSILON FORCE ID IDS IN MODEL OUT OUTCOMES PEERS_DAY PYTHON RATE REASON RECEIVER ROWS SENDER SHIFT SINCE TRIGGER UNTIL URL VERSION
PYTHON ?= python3
PEERS_DAY := 2026-11-20
ROWS ?= 500
SHIFT ?= none
RATE ?= 50
OUTCOMES ?= 0
URL ?= http://127.0.0.1:8000
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)

.PHONY: help install repro plots compare mlflow check-data validate collect withdraw release-outcomes erase register retrain retraining-status promote approve governance sign rollback challenger serve score synthetic-data test test-integration test-heavy test-security test-stack docs docs-serve docs-linkcheck secrets backup restore format lock audit sbom pin space demo simulate drift-report bench-model bench-gate bench-pipeline bench-million bench-serve bench-drift bench-drift-peers bench-label-free bench-scale bench-synthesis clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-18s %s\n", $$1, $$2}'

.venv/bin/python:
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or later is needed, {sys.executable} is {sys.version.split()[0]}")'
	"$$PYTHON" -m venv .venv

.venv/pipeline: requirements/pipeline.txt requirements/lock.txt | .venv/bin/python
	@echo "Installing the locked versions"
	$(INSTALL) pipeline
	@touch $@

.venv/dev: requirements/dev.txt .venv/pipeline
	$(INSTALL) dev
	@touch $@

install: .venv/pipeline ## create .venv with the locked packages of the pipeline

repro: .venv/pipeline ## run the pipeline, register the model, print the figures
	@python -c 'from heart import files; from heart.errors import run_main; run_main(files.input_files)'
	python -m dvc repro
	@$(MAKE) --no-print-directory register
	@python -m heart.registry.summary

plots: .venv/pipeline ## draw the plots into reports/plots.html; A=REVISION B=REVISION draws both
	@set -f; python -m heart.web.plots $${A:+"$$A"} $${B:+"$$B"}

compare: .venv/pipeline ## is B better than A, on the same patients? A, B: revision, experiment, workspace, version:3
	@python -m heart.registry.compare $$ARGS -- "$${A:?is missing: make compare A=REVISION B=REVISION}" "$${B:?is missing: make compare A=REVISION B=REVISION}"

# Without the second option, artifacts of experiments that the page creates would lie in ./mlartifacts.
mlflow: .venv/pipeline ## the registry's page on http://127.0.0.1:5000/#/models/heart-disease
	mlflow ui --backend-store-uri sqlite:///registry/mlflow.db --default-artifact-root "file://$(CURDIR)/registry/artifacts"

collect: .venv/pipeline .venv/serve ## write the recorded outcomes to data/production/labelled.csv
	@python -m monitoring.retraining.collect

withdraw: .venv/serve ## withdraw the outcomes that a token sent: make withdraw SENDER=name SINCE=time UNTIL=time URL=...
	@python -m monitoring.withdraw --url="$$URL" $${SINCE:+--since="$$SINCE"} $${UNTIL:+--until="$$UNTIL"} -- "$${SENDER:?is missing: make withdraw SENDER=name}"

register: .venv/pipeline ## publish the model to MLflow unless it is registered already
	@python -m stages.register

release-outcomes: .venv/pipeline ## say that quarantined outcomes are right: make release-outcomes SENDER=name REASON=text SINCE=time UNTIL=time BY=name
	@python -m monitoring.retraining.quarantine --reason="$${REASON:?is missing: make release-outcomes SENDER=name REASON=text}" $${SINCE:+--since="$$SINCE"} $${UNTIL:+--until="$$UNTIL"} $${BY:+--by="$$BY"} -- "$${SENDER:?is missing: make release-outcomes SENDER=name REASON=text}"

erase: .venv/pipeline .venv/serve ## erase a patient from log, labelled rows, derived files and cache: ID=prediction_id, or IDS=FILE
	@python -m monitoring.retraining.erase $${IDS:+--ids="$$IDS"} -- $${ID:+"$$ID"}

retrain: .venv/pipeline .venv/serve ## retrain on recorded outcomes; TRIGGER=TEXT is the reason, FORCE=1 ignores their number
	@python -m monitoring.retraining.run $${TRIGGER:+--trigger="$$TRIGGER"} $${FORCE:+--force} || [ $$? = 75 ]

retraining-status: .venv/pipeline ## show the receiver's last alert, running or last retraining, and cool-down (RECEIVER=address)
	@python -m monitoring.retraining.status $${RECEIVER:+--url="$$RECEIVER"}

promote: .venv/pipeline ## make VERSION=n the champion, if it passed the promotion gate
	@python -m heart.registry.promote -- "$${VERSION:?is missing: make promote VERSION=n}"

approve: .venv/pipeline ## record that a person approves VERSION=n (BY=name): later versions are compared with it too
	@python -m heart.registry.promote --approve="$${VERSION:?is missing: make approve VERSION=n}" $${BY:+--by="$$BY"}

governance: .venv/pipeline ## write model cards, checklists, data set and lineage of the version into reports/governance
	@python -m heart.registry.governance

sign: .venv/pipeline ## sign VERSION=n with the key in the file SIGNING_KEY, after a change of the key
	@python -m heart.registry.promote --sign="$${VERSION:?is missing: make sign VERSION=n}"

rollback: .venv/pipeline ## make the previous version the champion again
	@python -m heart.registry.promote --rollback

challenger: .venv/pipeline ## score with VERSION=n in shadow; without VERSION, stop
	@if [ -n "$$VERSION" ]; then python -m heart.registry.promote --challenger="$$VERSION"; \
	  else python -m heart.registry.promote --no-challenger; fi

.venv/serve: requirements/serve.txt requirements/lock.txt | .venv/bin/python
	$(INSTALL) serve
	@touch $@

serve: .venv/serve ## serve the champion: web page, API and metrics on http://127.0.0.1:8000
	python -m serve

.venv/score: requirements/score.txt .venv/serve
	$(INSTALL) score
	@touch $@

.venv/spark: requirements/spark.txt .venv/score
	$(INSTALL) spark
	@touch $@

check-data: .venv/pipeline ## report on a file of patients: make check-data IN=file (docs/data_formats.md)
	@set -f; python -m monitoring.check_data $$ARGS -- "$${IN:?is missing: make check-data IN=file}"

synthetic-data: .venv/pipeline ## write synthetic patients to hand on: ROWS=n OUT=file MODEL=dp|ctgan|tvae EPSILON=n, FORCE=1 overwrites
	@python -m heart.synthesis.share --rows="$$ROWS" $${OUT:+--out="$$OUT"} $${MODEL:+--model="$$MODEL"} $${EPSILON:+--epsilon="$$EPSILON"} $${FORCE:+--force}

validate: .venv/pipeline .venv/serve ## how well the champion, or VERSION=n, fits labelled patients of another place: IN=labelled.csv
	@set -f; python -m monitoring.validate $${VERSION:+--version="$$VERSION"} $$ARGS -- "$${IN:?is missing: make validate IN=labelled.csv}"

score: .venv/score ## batch scoring: make score IN=patients.csv OUT=scores.csv (docs/batch_scoring.md)
	@set -f; python -m serve.batch $$ARGS -- "$${IN:?is missing: make score IN=patients.csv OUT=scores.csv}" $${OUT:+"$$OUT"}

simulate: .venv/serve ## send simulated patients to a running service: ROWS=500 SHIFT=none|older|... RATE=50 OUTCOMES=0 URL=...
	@python -m monitoring.simulate --rows="$$ROWS" --shift="$$SHIFT" --rate="$$RATE" --outcomes="$$OUTCOMES" --url="$$URL"

drift-report: .venv/serve ## write the drift of the last patients to reports/drift.html, and to MLflow
	@python -m monitoring.report

demo: .venv/pipeline .venv/serve ## the whole loop in some minutes, with a report: drift, outcomes, alert, retraining, new champion, rollback
	@python -m examples.demo

test: .venv/dev ## format, lint, import rules, strict types, generated files and the fast tests
	ruff format --check .
	ruff check .
	lint-imports
	mypy
	python -m docs.generate --check
	pytest -n 2

# A file's tests run in one process, so that it starts its servers once.
test-integration: .venv/dev .venv-tools ## the tests with real databases, browsers, servers and pipelines
	pytest -n 2 --dist loadfile --no-loadscope-reorder -m "integration and not heavy and not stack"

test-heavy: .venv/dev .venv/spark ## the tests that take longer
	pytest -m heavy

test-security: .venv/dev ## attacks and faults alone, with what each one measured, for docs/security.md
	pytest -m "security and not stack" --security-figures=benchmarks/security.json
	python -m docs.generate

test-stack: .venv/dev ## build both images and test the stack; needs a Docker engine
	pytest -m stack tests/stack

.venv/docs: requirements/docs.txt .venv/score
	$(INSTALL) docs
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

# Compose as Docker's plugin, or the program that it was before.
FIND_COMPOSE := COMPOSE="$${COMPOSE:-$$(docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)}"

secrets: ## write .env with a random value for every secret of the stack; what is set stays
	@"$$PYTHON" -m deploy.make_secrets

backup: ## back up the databases and buckets of the running stack (BACKUP=FOLDER)
	@$(FIND_COMPOSE) deploy/backup.sh "$${BACKUP:-backups/$$(date -u +%Y-%m-%dT%H%M%SZ)}"

restore: ## restore BACKUP=FOLDER and start the stack
	@$(FIND_COMPOSE) deploy/restore.sh "$${BACKUP:?is missing: make restore BACKUP=FOLDER}"

space: .venv/serve ## write the folder of a Hugging Face Space with the champion (docs/deployment.md)
	@python -m deploy.space.build

format: .venv/dev ## format the code and fix what the linter can
	ruff format .
	ruff check --fix .

# pip-audit and cyclonedx-py have an environment of their own, so that they change nothing of what they look at; the
# generator of clients, because it needs an older typer than Gradio.
.venv-tools: requirements/tools/lock.txt
	@rm -rf $@
	@"$$PYTHON" -m venv $@
	@$@/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes -r $<
	@touch $@

RESOLVE = .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --no-header --no-annotate --no-emit-index-url --generate-hashes
HEAD_OF = head -1 requirements/$(1) > requirements/$(1).new

# What makes the hashes of torch's CPU builds is PyTorch's own index.
lock: .venv/pipeline ## resolve all versions again and write the lock and its hashes (needs the network)
	@$(call HEAD_OF,hashes/packages.txt)
	@$(RESOLVE) $(filter-out requirements/lock.txt,$(wildcard requirements/*.txt)) >> requirements/hashes/packages.txt.new
	@$(call HEAD_OF,lock.txt)
	@sed -e 1d -e '/^ /d' -e 's/ \\$$//' requirements/hashes/packages.txt.new >> requirements/lock.txt.new
	@$(call HEAD_OF,hashes/torch_cpu.txt)
	@set -o pipefail; grep '^torch==' requirements/lock.txt.new | $(RESOLVE) --no-deps --default-index https://download.pytorch.org/whl/cpu - \
	  | sed -e '/^torch==/s/+cpu.* \\/ \\/' >> requirements/hashes/torch_cpu.txt.new
	@$(call HEAD_OF,tools/lock.txt)
	@$(RESOLVE) requirements/tools/tools.txt >> requirements/tools/lock.txt.new
	@for file in lock.txt hashes/packages.txt hashes/torch_cpu.txt tools/lock.txt; do \
	  mv requirements/$$file.new requirements/$$file; done

audit: .venv-tools ## look up known vulnerabilities of the locked packages (needs the network)
	@.venv-tools/bin/pip-audit --disable-pip --require-hashes --requirement requirements/hashes/packages.txt \
	  $$(sed -nE 's/^([A-Z]+-\S+) .*/--ignore-vuln=\1/p' requirements/tools/ignored_vulnerabilities.txt)

sbom: .venv-tools ## write sbom.json, the locked packages with their hashes (CycloneDX)
	@.venv-tools/bin/cyclonedx-py requirements requirements/hashes/packages.txt --pyproject pyproject.toml \
	  --output-reproducible --output-format JSON --output-file sbom.json

pin: ## pin the images to the digests that their tags have now (needs Docker and the network)
	@python3 deploy/pin_images.py

bench-model: .venv/pipeline ## nested cross-validation beside plain models
	python -m benchmarks.model

bench-gate: .venv/pipeline ## which challengers the promotion gate rejects: good ones, other patients, shuffled outcomes
	python -m benchmarks.gate

bench-pipeline: .venv/pipeline ## time of each stage, share of the fits, cost of no change
	python -m benchmarks.pipeline

bench-million: .venv/dev ## the pipeline on a million simulated patients: seconds and memory of each stage
	python -m benchmarks.million

bench-serve: .venv/dev .venv-peers/bentoml ## the service beside a constant endpoint, `mlflow models serve` and BentoML
	python -m benchmarks.serve

bench-drift: .venv/pipeline ## false alarms and delays of the drift check beside usual rules, and its cost
	python -m benchmarks.drift

bench-scale: .venv/dev .venv/spark ## batch scoring and drift counts of 10^6 to 10^8 rows, local and with Spark
	python -m benchmarks.scale

# A peer has an environment of its own, with the package versions of one day instead of the lock's. If it cannot be
# installed, the reason is written there. UV_TORCH_BACKEND=cpu saves gigabytes for sdv on Linux.
.venv-peers/%: benchmarks/peers/%.txt
	@echo "Installing $*"
	@rm -rf $@
	@"$$PYTHON" -m venv $@
	@if .venv/bin/uv pip install --quiet --python $@/bin/python --exclude-newer "$$PEERS_DAY" -r $< 2> $@.txt; \
	  then rm $@.txt; else mv $@.txt $@/not-installed.txt; fi
	@touch $@

bench-drift-peers: .venv/pipeline .venv-peers/evidently .venv-peers/nannyml .venv-peers/alibi_detect ## the drift check beside evidently, nannyml and alibi-detect
	python -m benchmarks.drift_peers

bench-label-free: .venv/pipeline .venv-peers/nannyml ## performance estimated without outcomes, on simulated shifts, beside nannyml
	python -m benchmarks.label_free

bench-synthesis: .venv/pipeline .venv-peers/sdv ## synthetic rows of six methods: utility, and what they reveal of the patients
	python -m benchmarks.synthesis
	python -m benchmarks.private_synthesis

clean: ## remove the outputs of the stages; cache, registry and .venv stay
	rm -rf data/*.csv models/*.json models/*.onnx plots dvc_plots
