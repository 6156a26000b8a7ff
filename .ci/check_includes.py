#!/usr/bin/env python3
"""Checks who includes whom: the folder is the layer, and the arrows point one way.

    api -> spec -> plan -> backend -> kernels/{cpu,cuda} -> kernels/cell
    cli -> train -> nn -> (the public headers), with data and io at their side

Prints one line per offence and exits with status 1 if there is any.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".hpp", ".cpp", ".h", ".c", ".cu", ".cuh"}

# Folder -> folders of this repository that its files may include, besides itself. The longest
# folder that contains a file is the one that rules it.
KERNELS = ["kernels", "kernels/cell"]
ALLOWED = {
    "include/carousel": [],
    "kernels/cell": [],
    "kernels": ["include/carousel", "kernels/cell"],
    "kernels/cpu": ["include/carousel", "src/util"] + KERNELS,
    "kernels/cuda": ["include/carousel", "src/util"] + KERNELS,
    "src/util": ["include/carousel"],
    # The executor reads the plan's steps and slices, which are plain values; plan/ in turn must not
    # know who runs it, so the arrow between the two still points one way.
    "src/backend": ["include/carousel", "src/util", "src/plan", "src/backend/cpu",
                    "src/backend/cuda", "kernels/cpu", "kernels/cuda"] + KERNELS,
    "src/backend/cpu": ["include/carousel", "src/util", "src/plan", "src/backend",
                        "kernels/cpu"] + KERNELS,
    "src/backend/cuda": ["include/carousel", "src/util", "src/plan", "src/backend",
                         "kernels/cuda"] + KERNELS,
    # Launch geometry decides how much scratch a plan needs.
    "src/plan": ["include/carousel", "src/util", "kernels/cuda"] + KERNELS,
    "src/spec": ["include/carousel", "src/util", "src/plan", "kernels/cell"],
    "src/api": ["include/carousel", "src/util", "src/spec", "src/plan", "src/backend",
                "src/backend/cpu", "src/backend/cuda"],
    "src/io": ["include/carousel", "src/util"],
    "src/data": ["include/carousel", "src/util", "src/io"],
    # The training layer has operations of its own; they run behind the same device interface.
    "src/nn": ["include/carousel", "src/util", "src/backend"] + KERNELS,
    "src/train": ["include/carousel", "src/util", "src/nn", "src/data", "src/io", "src/backend",
                  "kernels/cell"],
    # `doctor` reports what the backends found.
    "src/cli": ["include/carousel", "src/util", "src/train", "src/nn", "src/data", "src/io",
                "src/backend/cpu", "src/backend/cuda"],
    "examples": ["include/carousel"],
    "tests/consumer": ["include/carousel"],
    # The oracle shares nothing with what it judges.
    "tests/reference": ["include/carousel"],
}
# These stand outside the flow: they may reach everything.
UNRULED = ["tests", "bench"]

# Other people's headers -> the only folders that may include them.
CONFINED = [
    (r"(cuda|cublas|curand|cooperative_groups|nvtx3/|cub/|thrust/|cuda/|nccl|nvml)",
     ["kernels/cuda", "src/backend/cuda", "bench/tests/cudnn", "tests/cudart", "tests/gpu",
      "tests/simt"]),
    (r"cudnn", ["bench", "tests/gpu"]),
    (r"(torch|ATen|c10|Torch)[/.]", []),
    (r"CLI/", ["src/cli"]),
    (r"nlohmann/", ["src/io", "src/train", "src/cli", "bench", "tests"]),
    (r"(dnnl|oneapi/dnnl)", ["src/backend/cpu", "src/cli", "bench", "tests"]),
    (r"(gtest|gmock)/", ["tests", "bench/tests"]),
]
STANDARD_ONLY = ["kernels/cell"]
# Where a kernel source meets its stand-ins when the C++ compiler reads it (CAROUSEL_SIMT).
STAND_INS = {"kernels/cuda/device.cuh": "simt/device_shim.hpp",
             "kernels/cuda/ptx.cuh": "simt/ptx_twin.hpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def inside(path, folder):
    return path == folder or path.startswith(folder + "/")


def ruling_folder(path, folders):
    matches = [folder for folder in folders if inside(path, folder)]
    return max(matches, key=len) if matches else None


def resolve(target, source):
    """The repository's file that `target` means when `source` includes it, or None."""
    for base in ["", "include", "tests"] if inside(source, "tests") else ["", "include"]:
        if (ROOT / base / target).is_file():
            return (pathlib.PurePosixPath(base) / target).as_posix()
    sibling = pathlib.PurePosixPath(source).parent / target
    return sibling.as_posix() if (ROOT / sibling).is_file() else None


def offences_of_include(source, bracket, target):
    if STAND_INS.get(source) == target:
        return
    repository_file = resolve(target, source)
    if repository_file is None:
        if bracket == '"':
            yield f'"{target}" is not a file of this repository; write <{target}> if it is foreign'
        if any(inside(source, folder) for folder in STANDARD_ONLY) and re.search(r"[./]", target):
            yield f"<{target}>: this folder includes only the standard library"
        for pattern, homes in CONFINED:
            if re.match(pattern, target) and not any(inside(source, home) for home in homes):
                yield f"<{target}> may be included only in: {', '.join(homes) or 'no folder'}"
        return
    if bracket == "<" and not inside(source, "tests/consumer") and not inside(source, "examples"):
        yield f'<{target}> is a file of this repository; write "{target}"'
    if any(inside(source, folder) for folder in UNRULED) and ruling_folder(source, ALLOWED) is None:
        return
    rule = ruling_folder(source, ALLOWED)
    home = ruling_folder(repository_file, list(ALLOWED) + UNRULED)
    if rule is None:
        yield "this folder has no include rule; add it to .ci/check_includes.py"
    elif home != rule and home not in ALLOWED[rule]:
        yield f'"{target}": {rule} may include only {", ".join([rule] + ALLOWED[rule])}'


def offences_of_file(source):
    text = (ROOT / source).read_text(encoding="utf-8")
    if source.endswith((".hpp", ".cuh")) and "#pragma once" not in text:
        yield 1, "a header begins with #pragma once"
    for number, line in enumerate(text.splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            for offence in offences_of_include(source, match.group(1), match.group(2)):
                yield number, offence


def main():
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others",
                              "--exclude-standard"],
                             cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sources = sorted(name for name in listing.split("\0")
                     if pathlib.PurePosixPath(name).suffix in SUFFIXES and (ROOT / name).is_file())
    count = 0
    for source in sources:
        for number, offence in offences_of_file(source):
            print(f"{source}:{number}: {offence}")
            count += 1
    if not sources:
        print("no sources found")
    print(f"include rule: {len(sources)} files, {count} offences")
    return 1 if count or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
