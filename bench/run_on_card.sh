#!/bin/bash
# Everything that a card should be asked, in order of value: bench/run_on_card.sh OUT [SECONDS] [BUILD]
#
# Probes, the headline (L2 warm and flushed), then the rest of the grid, as far as SECONDS (1500 unless
# given) allow; one file of JSON lines each, whole after every row, and figures where a python with
# matplotlib is at hand. Ends with the status of the first program that failed, after running them all.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: run_on_card.sh OUT [SECONDS] [BUILD]}
seconds=${2:-1500}
build=${3:-$here/../build}
mkdir -p "$out"
status=0
begin=$(date +%s)

left() {
    local rest=$((seconds - ($(date +%s) - begin)))
    echo $((rest > 3 ? rest : 3)) # 0 would be no limit
}
note() { # what, status
    echo "$1: status $2, $(left) s left" >&2
    [ "$2" -eq 0 ] || [ "$status" -ne 0 ] || status=$2
}

"$build/carousel_probes" > "$out/probes.jsonl"
probed=$?
note "probes" $probed
if [ $probed -eq 77 ]; then
    cat "$out/probes.jsonl" >&2
    exit 77
fi
figures=()
[ $probed -ne 0 ] || figures=(--probes "$out/probes.jsonl")

"$build/carousel_bench_gpu" --grid headline --l2 both "${figures[@]}" --json \
    --budget-s "$(($(left) * 2 / 3))" > "$out/headline.jsonl"
note "headline" $?
if [ "$(left)" -gt 30 ]; then
    "$build/carousel_bench_gpu" --grid all --row '^(?!.* headline)' "${figures[@]}" --json \
        --budget-s "$(left)" > "$out/rest.jsonl"
    note "rest of the grid" $?
fi
for python in "$here/.venv/bin/python" python3; do
    if "$python" -c 'import matplotlib' 2> /dev/null; then
        results=("$out/headline.jsonl")
        [ ! -s "$out/rest.jsonl" ] || results+=("$out/rest.jsonl")
        "$python" "$here/report.py" --out "$out" "${results[@]}"
        note "figures" $?
        break
    fi
done
exit $status
