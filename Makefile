# `sam build` runs this, with ARTIFACTS_DIR set, because of BuildMethod in template.yaml.
# Both defaults are the template's; whoever changes a parameter there says so here too:
#   make-variables in the environment: PYTHON=python3.12 ARCHITECTURE=x86_64 sam build
PYTHON ?= python3.11
ARCHITECTURE ?= arm64

.PHONY: build-ControlPlaneFunction
build-ControlPlaneFunction:
	$(PYTHON) deploy/package_function.py "$(ARTIFACTS_DIR)" $(ARCHITECTURE)
