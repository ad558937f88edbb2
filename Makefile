# Two commands for a fresh machine: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := 1
ENGINE ?= $(shell command -v docker || echo podman)
COMPOSE ?= $(if $(findstring docker,$(ENGINE)),docker compose,podman-compose)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
VERBS := test_boundaries.py test_cli.py test_new.py test_stages.py test_lineage.py data/test_prepare.py test_report.py \
	test_export.py test_predict.py test_services.py

.PHONY: demo test ui images kubeflow step service remote up down light lint types clean
.DEFAULT_GOAL := demo

demo: $(VENV)/ready          ## materialise the whole demo study through Dagster and print its table
	@python -m orchestration.study

test: $(VENV)/ready          ## every test
	@tests/install
	@python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder

ui: $(VENV)/ready            ## the Dagster UI on 127.0.0.1:3000
	@python -m orchestration.ui

lint: $(VENV)/ready
	@ruff check . && ruff format --check .

types: $(VENV)/ready
	@mypy

light: .venv-light/ready     ## every verb of stcln alone, without Dagster and DVC
	@.venv-light/bin/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder -m "not orchestration" $(addprefix tests/,$(VERBS))

images: step service         ## the images stcln-step and stcln-service of this checkout

step service remote:         # BUILD: more words for docker, such as --build-arg BASE=...; podman needs telling its format
	@BUILDAH_FORMAT=docker $(ENGINE) build --file infra/docker/Dockerfile --target $@ $(BUILD) --tag stcln-$@:$(VERSION) .

up: service                  ## Dagster as a service in containers, behind a password; STCLN_WORKSPACE names its workspace
	@ENGINE="$(ENGINE)" COMPOSE="$(COMPOSE)" infra/up

down:                        ## end it; what it stored stays
	@COMPOSE="$(COMPOSE)" infra/down

$(VENV)/ready: pyproject.toml constraints.txt
	@echo "Setting up $(VENV): a few minutes, once."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[orchestration,dev,services]'
	@touch $@

kubeflow: $(VENV)/ready .venv-kfp/ready    ## the study of STCLN_WORKSPACE as a Kubeflow pipeline: pipeline.yaml
	@PYTHONPATH=$(CURDIR) python infra/kubeflow/graph.py "$${STCLN_WORKSPACE:?name a workspace of its own}" > .kubeflow.json
	@.venv-kfp/bin/python infra/kubeflow/pipeline.py .kubeflow.json pipeline.yaml && rm .kubeflow.json

.venv-kfp/ready: infra/kubeflow/requirements.txt
	@$(PYTHON) -m venv .venv-kfp
	@.venv-kfp/bin/python -m pip install --quiet --requirement $<
	@touch $@

.venv-light/ready: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-light
	@.venv-light/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:                       ## forget results and caches, keep the environments
	@rm -rf data models reports .stcln .dagster .dvc/cache .dvc/tmp dvc.lock champion.dvc champions.yaml
