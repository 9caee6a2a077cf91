# Sourced by the other scripts: makes .venv from requirements.txt with the interpreter $PYTHON (default python3), installs
# the project itself in it, editable, and puts it on the PATH. Uses uv where it can be had, else venv and pip.
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: PYTHON=$PYTHON is not Python 3.11 or newer; set PYTHON to one that is" >&2
  exit 1
fi
# The interpreter itself, not that of an activated environment, which may be about to be made anew.
PYTHON=$("$PYTHON" -c 'import sys; print(sys._base_executable)')
# One environment per Python version, made anew when the version or the pins change.
version=$("$PYTHON" -c 'import platform; print(platform.python_version())')
wanted="$version $(cksum < requirements.txt) $(cksum < pyproject.toml)"
if [ "$(cat .venv/.made-for 2>/dev/null)" != "$wanted" ]; then
  if [ -e .venv ] && [ ! -e .venv/.made-for ]; then
    echo "error: .venv is there but was not made by launch/environment.sh; rename or remove it" >&2
    exit 1
  fi
  echo "making .venv for Python $version (a few minutes where packages must be downloaded)" >&2
  rm -rf .venv
  "$PYTHON" -m venv .venv
  echo unfinished > .venv/.made-for
  .venv/bin/python -m pip install --quiet --disable-pip-version-check uv || echo "no uv to be had: using pip" >&2
  if [ -x .venv/bin/uv ]; then
    .venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements.txt -e .
  else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
  fi
  echo "$wanted" > .venv/.made-for
fi
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH=
