#!/bin/bash
# Makes the virtual environment that report.py runs in: bench/setup_report.sh [DIR]
# DIR is bench/.venv unless given, the one of setup_torch.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/.venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --upgrade matplotlib
"$venv/bin/python" -c 'import matplotlib; print("matplotlib", matplotlib.__version__, "in", "'"$venv"'")'
