#!/usr/bin/env python3
"""Checks that the objects compiled per instruction set share no function.

    check_isa_symbols.py BUILD_DIR

The linker keeps one copy of a weak (inline, template) function. If an AVX-512 object defined one,
that copy could serve the whole program, and a machine without AVX-512 would die on it. So no
kernels/cpu/isa_*.o may define a weak or unique symbol, and no strong one twice.
"""

import collections
import pathlib
import subprocess
import sys

# The personality routine's reference: data, the same in every object that can unwind.
HARMLESS = {"DW.ref.__gxx_personality_v0"}
WEAK_TYPES = set("VvWwu")


def defined_symbols(obj):
    listing = subprocess.run(["nm", "--defined-only", str(obj)], check=True, capture_output=True,
                             text=True).stdout
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) == 3:
            yield fields[1], fields[2]


def main():
    if len(sys.argv) != 2:
        print("usage: check_isa_symbols.py BUILD_DIR", file=sys.stderr)
        return 2
    objects = sorted(pathlib.Path(sys.argv[1]).glob("**/kernels/cpu/isa_*.o"))
    if not objects:
        print(f"no kernels/cpu/isa_*.o under {sys.argv[1]}: build carousel_objects first")
        return 1
    offences = 0
    owners = collections.defaultdict(list)
    for obj in objects:
        for kind, name in defined_symbols(obj):
            if kind in WEAK_TYPES and name not in HARMLESS:
                offences += 1
                readable = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout
                print(f"{obj.name}: weak symbol {readable.strip() or name}")
            elif kind.isupper() and name not in HARMLESS:
                owners[name].append(obj.name)
    for name, holders in owners.items():
        if len(holders) > 1:
            offences += 1
            print(f"{', '.join(holders)}: all define {name}")
    print(f"instruction sets: {len(objects)} objects, {offences} shared symbols")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
