#!/usr/bin/env bash
# Runs lint, types and the default tests in the project's own environment. PYTHON picks the interpreter (default
# python3); further arguments go to pytest: bash launch/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
ruff check .
ruff format --check .
mypy
python -m pytest "$@"
