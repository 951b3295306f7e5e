# Sourced by the other scripts: a virtual environment with the project and everything it needs, made once.
# PYTHON chooses the interpreter (3.11 or newer), SPIKEPORT_VENV the folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
VENV=${SPIKEPORT_VENV:-$PWD/.venv}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "spikeport needs Python 3.11 or newer; $PYTHON is $("$PYTHON" --version). Set PYTHON=/path/to/python3.11" >&2
  exit 1
}
want=$(cat pyproject.toml constraints.txt | cksum)
if [ ! -f "$VENV/.spikeport" ] || [ "$(cat "$VENV/.spikeport")" != "$want" ]; then
  echo "setting up $VENV (a few minutes and about 6 GB the first time, most of it torch)"
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
  echo "$want" >"$VENV/.spikeport"
fi
PATH="$VENV/bin:$PATH"
