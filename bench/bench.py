#!/usr/bin/env python3
"""Starts the comparison that a grid wants: bench.py --grid headline|deepbench|flashrnn|all|cpu|models.

cpu runs carousel_bench_cpu (--peer onednn, torch, or both), models torch_models.py, whose peer is
torch. Every other grid runs carousel_bench_gpu; on a machine without a device that is said, and the
CPU's grid runs instead. All other flags go to the program that runs.
"""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NO_DEVICE = 77


def cpu(options, flags):
    peer = ["--peer", options.peer] if options.peer else []
    python = ["--python", options.python] if options.python else []
    return [options.build / "carousel_bench_cpu", *peer, *python, *flags]


def models(options, flags):
    python = options.python or HERE / ".venv" / "bin" / "python"
    return [python, HERE / "torch_models.py", "--carousel", options.build / "carousel", *flags]


def gpu(options, flags):
    peer = ["--peer", options.peer] if options.peer else []
    return [options.build / "carousel_bench_gpu", "--grid", options.grid, *peer, *flags]


def run(command):
    try:
        return subprocess.run(list(map(str, command)), check=False).returncode
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}; --build names the folder of built programs, --python "
                 "a python with torch (bench/setup_torch.sh makes one)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", default="headline",
                        choices=["headline", "deepbench", "flashrnn", "all", "cpu", "models"])
    parser.add_argument("--peer", help="cpu: of onednn,torch; models: torch; else of cudnn,gemm; or none")
    parser.add_argument("--build", default=HERE.parent / "build", type=pathlib.Path)
    parser.add_argument("--python", help="a python that has torch [default: bench/.venv's]")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options, flags = parser.parse_known_args()
    as_json = ["--json"] if options.json else []
    flags += as_json
    if options.grid == "cpu":
        return run(cpu(options, flags))
    if options.grid == "models":
        if options.peer not in (None, "torch"):
            parser.error(f"the peer of models is torch, not {options.peer}")
        return run(models(options, flags))
    command = gpu(options, flags)
    if command[0].exists():
        status = run(command)
        if status != NO_DEVICE:
            return status
    else:
        reason = "carousel_bench_gpu is not built: the build found no CUDA"
        print(json.dumps({"bench": "gpu", "no_device": reason}) if options.json else reason, flush=True)
    print("running the CPU's grid instead", file=sys.stderr, flush=True)
    options.peer = None
    return run(cpu(options, as_json))


if __name__ == "__main__":
    sys.exit(main())
