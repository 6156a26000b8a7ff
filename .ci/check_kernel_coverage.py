#!/usr/bin/env python3
"""Fails if a __global__ function of kernels/cuda was launched by no test on the SIMT executor.

    CAROUSEL_SIMT_COVERAGE=FILE carousel_simt_tests ...     # appends "<address> <launch name>" lines
    check_kernel_coverage.py carousel_simt_tests FILE...

The addresses are those of kernel instantiations in the program, which nm names: a kernel counts as
launched if any of its instantiations was. Kernels of one name in two sources fail, too: they could
not be told apart.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

KERNEL_NAMESPACE = "carousel::cuda_simt::"
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^()]*(?:\([^()]*\)[^()]*)*\)\s*)?"
                    r"(\w+)\s*\(")


def kernels_of(source):
    text = source.read_text(encoding="utf-8")
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    return set(KERNEL.findall(text))


def symbols_of(program):
    """Address -> demangled name of every function of the program."""
    listing = subprocess.run(["nm", "--demangle", "--defined-only", program], check=True,
                             capture_output=True, text=True).stdout
    symbols, start = {}, 0
    for line in listing.splitlines():
        address, kind, name = line.split(" ", 2)
        if name == "__executable_start":
            start = int(address, 16)
        elif kind in "tTwW":
            symbols.setdefault(int(address, 16), []).append(name)
    return {address - start: names for address, names in symbols.items()}


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    program, logs = sys.argv[1], sys.argv[2:]
    symbols = symbols_of(program)
    launched = set()
    for log in logs:
        for line in pathlib.Path(log).read_text(encoding="utf-8").splitlines():
            for name in symbols.get(int(line.split()[0], 16), []):
                if KERNEL_NAMESPACE in name:
                    launched.update(re.findall(r"\w+", name))
    sources = sorted((ROOT / "kernels/cuda").glob("*.cu*"))
    missing, total, home = [], 0, {}
    for source in sources:
        for kernel in sorted(kernels_of(source)):
            total += 1
            if home.setdefault(kernel, source) != source:
                missing.append(f"{kernel} stands in {home[kernel].name} and in {source.name}")
            if kernel not in launched:
                missing.append(f"{source.relative_to(ROOT)}: {kernel} is launched by no SIMT test")
    for line in missing:
        print(line)
    print(f"kernel coverage: {total - len(missing)} of {total} kernels launched")
    return 1 if missing or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
