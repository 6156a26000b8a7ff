#!/usr/bin/env python3
"""Cost of a recurrent layer on the CPU against T, N, H and L: time and peak memory, with a fit.

Each point is one process (`carousel bench rnn --json`), whose peak of resident memory the system
tells; the peak of a run of one step with one unit is what any run needs, and is taken off. A curve's
fit is the power p of cost ~ x^p by least squares in logarithms, over all points and over the last
three: 1 is linear. Recurrent products make time grow with H^2.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys

import lines

HERE = pathlib.Path(__file__).resolve().parent
AXES = {
    "T": {"flag": "--seq-len", "values": [100, 300, 1000, 3000, 10000, 30000, 100000]},
    "N": {"flag": "--batch", "values": [1, 4, 16, 64, 256, 1024]},
    "H": {"flag": "--hidden", "values": [64, 128, 256, 512, 1024, 2048]},
    "L": {"flag": "--layers", "values": [1, 2, 4, 8, 16]},
}
# Small where another axis is long: 100,000 steps of H 64 with N 4 save 0.6 GB for backward.
BASE = {"T": {"T": None, "N": 4, "H": 64, "L": 1}, "N": {"T": 64, "N": None, "H": 256, "L": 1},
        "H": {"T": 32, "N": 16, "H": None, "L": 1}, "L": {"T": 64, "N": 16, "H": 256, "L": None}}


def measure(options, sizes, mode):
    """(median ms, peak bytes) of one process."""
    command = [str(options.carousel), "bench", "rnn", "--cell", options.cell, "--device", "cpu",
               "--mode", mode, "--threads", str(options.threads), "--repeat", "3",
               "--min-time-ms", str(options.time_ms), "--json"]
    for axis, value in sizes.items():
        command += [AXES[axis]["flag"], str(value)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}; --build names the folder of built programs")
    text = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return json.loads(text)["median_ms"], usage.ru_maxrss * 1024


def power(xs, ys):
    """Slope of log y over log x by least squares; None where a cost is not above zero."""
    pairs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys) if y > 0]
    if len(pairs) < 2:
        return None
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    return round(sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread, 3)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=HERE.parent / "build", type=pathlib.Path)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--axes", default="T,N,H,L")
    parser.add_argument("--modes", default="infer,train")
    parser.add_argument("--most", type=int, default=10**9, help="leave out values above this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--time-ms", type=float, default=200.0, help="for each point, at least")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args()
    options.carousel = options.build / "carousel"
    unknown = [axis for axis in options.axes.split(",") if axis not in AXES]
    if unknown:
        parser.error(f"--axes: {unknown[0]} is none of {', '.join(AXES)}")
    return options


def main():
    options = parse()
    _, empty = measure(options, {"T": 1, "N": 1, "H": 1, "L": 1}, "train")

    def show(line, text):
        print(json.dumps(line) if options.json else text, flush=True)

    show({"about": "cost curves", "cell": options.cell, "threads": options.threads,
          "cpu": lines.processor_name(), "commit": lines.source_commit(), "date": lines.utc_now(),
          "empty_bytes": empty},
         f"{options.cell}, {options.threads} threads, {lines.processor_name()}; a process that does "
         f"nothing needs {empty / 2**20:.0f} MiB, which is taken off")
    for axis in options.axes.split(","):
        values = [value for value in AXES[axis]["values"] if value <= options.most]
        for mode in options.modes.split(","):
            times, bytes_used = [], []
            for value in values:
                sizes = {**BASE[axis], axis: value}
                ms, peak = measure(options, sizes, mode)
                times.append(ms)
                bytes_used.append(peak - empty)
                show({"curve": axis, "mode": mode, "cell": options.cell, **sizes, "ms": ms,
                      "peak_bytes": peak - empty},
                     f"{mode:6} {axis} {value:>7}  {ms:12.4g} ms  {(peak - empty) / 2**20:10.1f} MiB")
            fit = {"fit": axis, "mode": mode, "cell": options.cell,
                   "time_power": power(values, times), "memory_power": power(values, bytes_used),
                   "time_power_of_last": power(values[-3:], times[-3:]),
                   "memory_power_of_last": power(values[-3:], bytes_used[-3:])}
            show(fit, f"{mode:6} time ~ {axis}^{fit['time_power']} (last three "
                      f"{fit['time_power_of_last']}), memory ~ {axis}^{fit['memory_power']} "
                      f"(last three {fit['memory_power_of_last']})\n")


if __name__ == "__main__":
    main()
