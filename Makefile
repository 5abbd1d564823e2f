# The commands of this project; `make help` lists them. Everything runs in an environment that is made in .venv once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && echo $$p && break; done)
BIN := $(VENV)/bin
# What the program itself needs; an environment that has all the extras has it too.
READY := $(VENV)/.ready$(if $(wildcard $(VENV)/.ready-all),-all)
DATA ?= ../shared/data
OUTPUT ?= training-output

# More threads than cores slow torch down; a test needs few.
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

# Qt's libraries, and a screen for it to draw on where there is none, as Debian names them.
QT_SCREEN := xvfb xauth
QT_PACKAGES := libgl1 libegl1 libopengl0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 \
  libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libgl1-mesa-dri

# The other pairs of napari and Qt that a smoke test runs under: what each has that the environment has not, from folders
# that come before it on Python's path, so that nothing is installed twice.
SMOKE_NAPARI := 0.10.0rc1
SMOKE_PYQT := 6.11.0
SMOKE_PYQT_PARTS := PyQt6-Qt6==6.11.2 PyQt6-sip==13.13.0
NAPARI_ELSE := $(VENV)/else/napari-$(SMOKE_NAPARI)
PYQT_ELSE := $(VENV)/else/PyQt6-$(SMOKE_PYQT)

.PHONY: help run demo screenshots test smoke lint evaluate benchmark train clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What napari needs; the environment with all the extras has it too.
WINDOW := $(VENV)/.ready$(if $(wildcard $(VENV)/.ready-all),-all,-napari)

run: $(WINDOW) | qt ## open napari with a sample and the dock: make run, make run SAMPLE=ct-thorax-abdomen-3mm
	@$(BIN)/python -m napari_medsam2.widgets.start $(if $(SAMPLE),--sample $(SAMPLE))

screenshots: $(VENV)/.ready-all | screen ## play the three uses in a window, photograph every state into docs/images/gui
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} xvfb-run -a -s "-screen 0 1366x768x24" $(BIN)/python -m tests.screens

demo: $(READY) ## segment the sample images, write labels, confidences and pictures into demo-output
	@$(BIN)/python -m napari_medsam2.demo --output demo-output

test: $(VENV)/.ready-all | screen ## ruff, mypy, the smoke test, and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@$(MAKE) --no-print-directory smoke
	$(PYTEST)

# A screen where there is one to be had.
PYTEST = @if command -v xvfb-run >/dev/null; then run="xvfb-run -a"; else run="env QT_QPA_PLATFORM=offscreen"; fi; \
  OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} $$run $(BIN)/python -m pytest

smoke: $(VENV)/.ready-all $(NAPARI_ELSE) $(PYQT_ELSE) | screen ## click, propagate, paint, save, reopen under the other pairs of napari and Qt
	$(call SMOKE,$$($(BIN)/python -c 'import napari; print(napari.__version__)'),PyQt6,$(SMOKE_PYQT),$(PYQT_ELSE))
	$(call SMOKE,$(SMOKE_NAPARI),PySide6,$$($(BIN)/python -c 'import PySide6; print(PySide6.__version__)'),$(NAPARI_ELSE))
	$(call SMOKE,$(SMOKE_NAPARI),PyQt6,$(SMOKE_PYQT),$(NAPARI_ELSE) $(PYQT_ELSE))

# napari's version, the binding, its version, folders. Only warnings about our own code are errors there: what others
# warn of, in versions that they were not released with, is theirs.
define SMOKE
	@export SMOKE_NAPARI="$(1)" SMOKE_QT="$(3)" QT_API=$(shell echo $(2) | tr A-Z a-z); export PYTEST_QT_API=$$QT_API; \
	echo "smoke test: napari $$SMOKE_NAPARI, $(2) $$SMOKE_QT"; \
	run="xvfb-run -a"; command -v xvfb-run >/dev/null || run="env QT_QPA_PLATFORM=offscreen"; \
	PYTHONPATH="$(subst $(SPACE),:,$(strip $(abspath $(4))))$${PYTHONPATH:+:$$PYTHONPATH}" OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} \
	  $$run $(BIN)/python -m pytest -q --disable-warnings -p no:cacheprovider \
	  -o filterwarnings=$$'default\nerror:::napari_medsam2' tests/widgets/test_smoke.py
endef

lint: $(VENV)/.ready-all ## ruff and mypy only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

evaluate: $(READY) ## measure the model on the annotated cases in DATA
	@$(BIN)/napari-medsam2 evaluate $(DATA) --json evaluation.json

benchmark: $(READY) ## seconds a click and a slice; peak memory at 200 and 2,000 slices
	@$(BIN)/python -m benchmarks.speed
	@$(BIN)/python -m benchmarks.memory

train: $(VENV)/.ready-train ## train the embedded model on DATA/train into OUTPUT; again: go on after an interruption
	@OMP_WAIT_POLICY=passive $(BIN)/python -m napari_medsam2.training --data $(DATA)/train --output $(OUTPUT)

clean: ## remove the environment and everything that was made, but not what was trained
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis evaluation.json

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "make: there is no Python 3.11, 3.12 or 3.13 here; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory debian PACKAGES=python3-venv
	$(PYTHON) -m venv $(VENV)

# Without an NVIDIA card the CPU's build of torch is enough, and 3 GB smaller; it is taken where its index answers.
define INSTALL
	@index=""; \
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && $(BIN)/python -c \
	  'import urllib.request as u; u.urlopen(u.Request("https://download.pytorch.org/whl/cpu/torch/", method="HEAD"), timeout=5)' \
	  2>/dev/null; then index="--extra-index-url https://download.pytorch.org/whl/cpu"; fi; \
	set -x; $(BIN)/python -m pip install -q --disable-pip-version-check $$index -c constraints.txt -e '.$(1)'
	@touch $@
endef

$(VENV)/.ready: pyproject.toml constraints.txt napari.yaml | $(VENV)/bin/python
	$(call INSTALL,)

$(VENV)/.ready-napari: pyproject.toml constraints.txt napari.yaml | $(VENV)/bin/python
	$(call INSTALL,[napari])

$(VENV)/.ready-train: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call INSTALL,[train])

$(VENV)/.ready-all: pyproject.toml constraints.txt napari.yaml | $(VENV)/bin/python
	$(call INSTALL,[all$(COMMA)test])

COMMA := ,
SPACE := $(COMMA:,= )

$(NAPARI_ELSE): WANTED := napari==$(SMOKE_NAPARI)
$(PYQT_ELSE): WANTED := PyQt6==$(SMOKE_PYQT) $(SMOKE_PYQT_PARTS)
$(NAPARI_ELSE) $(PYQT_ELSE): | $(VENV)/.ready-all
	@rm -rf $@ $@.part; mkdir -p $(@D)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target $@.part $(WANTED) >$@.log 2>&1 \
	  || { echo "make: $(WANTED) is not to be had from the package index; see $@.log, or set another version in the Makefile" >&2; exit 2; }
	@mv $@.part $@

.PHONY: qt screen debian
qt screen:
	@missing=""; if command -v dpkg-query >/dev/null; then for p in $(QT_PACKAGES) $(if $(filter screen,$@),$(QT_SCREEN)); do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; fi; \
	if [ -n "$$missing" ]; then $(MAKE) --no-print-directory debian PACKAGES="$$missing"; fi

debian:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; \
	  (apt-get install -y -q $(PACKAGES) || (apt-get update -q && apt-get install -y -q $(PACKAGES))) >/dev/null; \
	else echo "make: install these packages first: $(strip $(PACKAGES))" >&2; exit 2; fi
