#!/bin/bash
# Everything that a card should be asked, in order of value: bench/run_on_card.sh OUT [SECONDS] [BUILD]
#
# Probes, the headline (L2 warm and flushed), then the rest of the grid, as far as SECONDS (1500 unless
# given) allow; one file of JSON lines each, whole after every row, and figures where a python with
# matplotlib is at hand. Ends with the status of the first program that failed, after running them all.
# A second call with the same OUT goes on with the rows that are left.
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
whole_lines() { # file: without the beginning of a line that a killed program left
    [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || sed -i '$d' "$1"
}

probed=0
if ! grep -qs '"probe":"end"' "$out/probes.jsonl"; then
    "$build/carousel_probes" > "$out/probes.jsonl"
    probed=$?
    note "probes" $probed
fi
if [ $probed -eq 77 ]; then
    cat "$out/probes.jsonl" >&2
    exit 77
fi
figures=()
[ $probed -ne 0 ] || figures=(--probes "$out/probes.jsonl")

whole_lines "$out/headline.jsonl"
"$build/carousel_bench_gpu" --grid headline --l2 both "${figures[@]}" --json \
    --done "$out/headline.jsonl" --budget-s "$(($(left) * 2 / 3))" >> "$out/headline.jsonl"
note "headline" $?
if [ "$(left)" -gt 30 ]; then
    whole_lines "$out/rest.jsonl"
    "$build/carousel_bench_gpu" --grid all --row '^(?!.* headline)' "${figures[@]}" --json \
        --done "$out/rest.jsonl" --budget-s "$(left)" >> "$out/rest.jsonl"
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
