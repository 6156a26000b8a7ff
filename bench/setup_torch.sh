#!/bin/bash
# Makes the virtual environment that carousel_bench_cpu --peer torch and torch_models.py use:
# bench/setup_torch.sh [DIR]
# DIR is bench/.venv unless given. What people install today is downloaded: several GB.
set -euo pipefail
case "${1:-}" in -*) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;; esac
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/.venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --upgrade torch numpy
"$venv/bin/python" -c 'import torch; print("torch", torch.__version__, "in", "'"$venv"'")'
