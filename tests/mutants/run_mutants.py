#!/usr/bin/env python3
"""Plants each fault of mutants.toml in a copy of the sources and checks that a named test sees it.

Run:     python3 tests/mutants/run_mutants.py [--only NAME]... [--build DIR] [--jobs N] [--list]
Exit:    0 if every mutant was killed; 1 if one survived, did not apply or did not compile, or if a
         named test does not exist or fails on the unchanged sources; 2 on wrong usage.

A mutant that names a `program` needs CUDA's headers; without them it is left out, and that is said.

The sources are copied once and built once; each mutant changes one file, rebuilds what depends on it,
runs its tests and puts the file back. The build is one that compiles quickly: -O1, two tile shapes of
the products, no tool. ccache, when present, makes the way back cheap.
"""
import argparse
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# A mutant may loop for ever or wait for ever: that is a kill. The first limit is of processor time, so
# that a busy machine does not kill a mutant which the tests would not.
TEST_CPU_LIMIT_S = 120
TEST_TIMEOUT_S = 600
TEST_FOLDERS = "support;reference;unit;gradcheck;golden;parity;train"


def say(text):
    print(text, flush=True)


def load_mutants():
    with open(HERE / "mutants.toml", "rb") as file:
        mutants = tomllib.load(file)["mutant"]
    names = [m["name"] for m in mutants]
    if len(set(names)) != len(names):
        sys.exit("mutants.toml: two mutants share a name")
    for mutant in mutants:
        for key in ("name", "kind", "file", "find", "replace", "tests"):
            if key not in mutant:
                sys.exit(f"mutants.toml: mutant {mutant.get('name')} lacks '{key}'")
    return mutants


def program_of(mutant):
    return mutant.get("program", "carousel_tests")


def copy_sources(target):
    """Files that git tracks or would track; without git, everything but build folders."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")
                  if p.is_file() and not p.relative_to(ROOT).parts[0].startswith("build")]
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            # With the time of now: an old object in a folder used before may be that of a mutant.
            shutil.copy(ROOT / name, target / name)


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


def limit_processor_time():
    resource.setrlimit(resource.RLIMIT_CPU, (TEST_CPU_LIMIT_S, TEST_CPU_LIMIT_S))


class Workbench:
    """A copy of the sources with one build folder."""

    def __init__(self, build, jobs):
        self.jobs = jobs
        self.base = pathlib.Path(build)
        self.source = self.base / "source"
        self.build_dir = self.base / "build"
        shutil.rmtree(self.source, ignore_errors=True)
        self.source.mkdir(parents=True)
        copy_sources(self.source)

    def configure(self):
        result = run(["cmake", "-S", self.source, "-B", self.build_dir, "-G", "Ninja",
                      "-DCMAKE_BUILD_TYPE=Release", "-DCAROUSEL_CUDA=OFF",
                      "-DCAROUSEL_BUILD_TOOL=OFF", "-DCAROUSEL_BUILD_BENCH=OFF",
                      "-DCAROUSEL_BUILD_EXAMPLES=OFF", "-DCAROUSEL_WARNINGS_AS_ERRORS=OFF",
                      "-DCMAKE_CXX_FLAGS_RELEASE=-O1", "-DCAROUSEL_ISA_OPTIMISATION=-O1",
                      "-DCMAKE_CXX_FLAGS=-DCAROUSEL_SMALL_TILES",
                      f"-DCAROUSEL_TEST_FOLDERS={TEST_FOLDERS}"])
        if result.returncode != 0:
            sys.exit("cmake failed:\n" + result.stdout[-3000:])

    def has_program(self, program):
        """Whether this build was configured to make it."""
        targets = run(["cmake", "--build", self.build_dir, "--target", "help"]).stdout
        return f"{program}:" in targets

    def build(self, program):
        return run(["cmake", "--build", self.build_dir, "--target", program,
                    "-j", str(self.jobs)])

    def executable(self, program):
        found = [p for p in self.build_dir.rglob(program) if p.is_file()]
        if not found:
            sys.exit(f"the build made no {program}")
        return found[0]

    def tests(self, program, gtest_filter):
        """(exit status, output); status None is a timeout."""
        try:
            result = run([self.executable(program), "--gtest_filter=" + gtest_filter,
                          "--gtest_brief=1", "--gtest_fail_fast"], timeout=TEST_TIMEOUT_S,
                         preexec_fn=limit_processor_time)
            return result.returncode, result.stdout
        except subprocess.TimeoutExpired:
            return None, "no end"

    def count_tests(self, program, gtest_filter):
        listing = run([self.executable(program), "--gtest_filter=" + gtest_filter,
                       "--gtest_list_tests"])
        return sum(1 for line in listing.stdout.splitlines() if line.startswith("  "))


def check_baseline(bench, mutants):
    """The unchanged sources build and pass every named test, and every name matches a test."""
    for program in sorted({program_of(m) for m in mutants}):
        result = bench.build(program)
        if result.returncode != 0:
            sys.exit("the unchanged sources do not build:\n" + result.stdout[-3000:])
    for program, tests in sorted({(program_of(m), m["tests"]) for m in mutants}):
        if bench.count_tests(program, tests) == 0:
            sys.exit(f"no test matches '{tests}'")
        status, output = bench.tests(program, tests)
        if status != 0:
            sys.exit(f"'{tests}' fails on the unchanged sources:\n{output[-3000:]}")


def try_mutant(bench, mutant):
    """None if the mutant was killed, else why not."""
    path = bench.source / mutant["file"]
    if not path.is_file():
        return f"does not apply: no file {mutant['file']}"
    original = path.read_text()
    times = original.count(mutant["find"])
    if times != mutant.get("times", 1):
        return f"does not apply: its text occurs {times} times in {mutant['file']}"
    try:
        path.write_text(original.replace(mutant["find"], mutant["replace"]))
        program = program_of(mutant)
        result = bench.build(program)
        if result.returncode != 0:
            return "does not compile:\n" + result.stdout[-3000:]
        status, _ = bench.tests(program, mutant["tests"])
        return "SURVIVED " + mutant["tests"] if status == 0 else None
    finally:
        path.write_text(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="run only the mutant of this name")
    parser.add_argument("--build", help="folder for the copy and its build (default: temporary)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compile jobs")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    options = parser.parse_args()
    mutants = load_mutants()
    if options.only:
        unknown = set(options.only) - {m["name"] for m in mutants}
        if unknown:
            parser.error("no mutant named " + ", ".join(sorted(unknown)))
        mutants = [m for m in mutants if m["name"] in options.only]
    if options.list:
        for mutant in mutants:
            say(f"{mutant['name']}: {mutant['kind']} ({mutant['file']}), killed by {mutant['tests']}")
        return 0

    with tempfile.TemporaryDirectory(prefix="carousel-mutants-") as temporary:
        bench = Workbench(options.build or temporary, options.jobs)
        bench.configure()
        missing = {p for p in map(program_of, mutants) if not bench.has_program(p)}
        left_out = [m["name"] for m in mutants if program_of(m) in missing]
        if left_out:
            say(f"left out, no CUDA headers here: {', '.join(left_out)}")
        mutants = [m for m in mutants if program_of(m) not in missing]
        check_baseline(bench, mutants)
        failures = 0
        for mutant in mutants:
            begin = time.monotonic()
            why_not = try_mutant(bench, mutant)
            verdict = why_not or "killed"
            failures += why_not is not None
            say(f"{mutant['name']}: {verdict} ({time.monotonic() - begin:.0f} s)")
    say(f"{len(mutants) - failures} of {len(mutants)} mutants killed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
