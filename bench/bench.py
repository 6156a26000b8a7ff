#!/usr/bin/env python3
"""Starts the comparison that a grid wants: bench.py --grid headline|deepbench|flashrnn|all|cpu [flags].

cpu runs carousel_bench_cpu (--peer onednn, the default) or torch_rnn.py (--peer torch). Every other
grid runs carousel_bench_gpu; on a machine without a device that is said, and the CPU part runs
instead. All other flags go to the program that runs.
"""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NO_DEVICE = 77


def cpu(options, flags):
    if options.peer == "torch":
        return [options.python, HERE / "torch_rnn.py", "--carousel", options.build / "carousel", *flags]
    return [options.build / "carousel_bench_cpu", *flags]


def run(command):
    try:
        return subprocess.run(list(map(str, command)), check=False).returncode
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}; build it, or name its folder with --build")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", default="headline",
                        choices=["headline", "deepbench", "flashrnn", "all", "cpu"])
    parser.add_argument("--peer", help="cpu: onednn or torch; else of cudnn,gemm, or none")
    parser.add_argument("--build", default=HERE.parent / "build", type=pathlib.Path)
    parser.add_argument("--python", default=HERE / ".venv" / "bin" / "python",
                        help="a python that has torch")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options, flags = parser.parse_known_args()
    flags += ["--json"] if options.json else []
    if options.grid == "cpu":
        if options.peer not in (None, "onednn", "torch"):
            parser.error(f"--peer of the CPU's grid is onednn or torch, not {options.peer}")
        return run(cpu(options, flags))
    peer = ["--peer", options.peer] if options.peer else []
    gpu = options.build / "carousel_bench_gpu"
    if not gpu.exists():
        reason = "carousel_bench_gpu is not built: the build found no CUDA"
        print(json.dumps({"bench": "gpu", "no_device": reason}) if options.json else reason, flush=True)
    else:
        status = run([gpu, "--grid", options.grid, *peer, *flags])
        if status != NO_DEVICE:
            return status
    options.peer = None
    print("running the CPU part instead", file=sys.stderr, flush=True)
    return run(cpu(options, ["--json"] if options.json else []))


if __name__ == "__main__":
    sys.exit(main())
