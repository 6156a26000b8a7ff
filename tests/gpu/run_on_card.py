#!/usr/bin/env python3
"""Runs Carousel's tests, benchmarks and trainings on a machine with a GPU. Python 3, no packages.

    python3 run_on_card.py --out DIR [--budget-s 1500] [--only tests,train] [--skip probes]

Stages run in order of value, every step a process of its own with a time limit, under a budget for
all. A step that fails or hangs stops nothing. After every step DIR gets state.json, which a second call
continues from, summary.txt, and one archive of logs and results a call: when this program is killed, what
was done before is there, and its step is ended with it. The work folder has a state.json as well, and a
second call may have another DIR with the same --work.

Exit status: 0 all that ran passed; 1 something failed; 2 wrong usage; 3 no usable device; 4 the budget
ended before the last step.
"""

import argparse
import ctypes
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time

import card_machine
import card_stages

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = ("carousel", "carousel_gpu_tests", "carousel_bench_gpu", "carousel_probes")
PACKED_SUFFIXES = (".log", ".txt", ".json", ".jsonl", ".xml", ".csv")
MAX_ARCHIVE_BYTES = 12 << 20
MAX_ARCHIVES = 5
PACKING_S = 5.0
# Finished: a second call does not repeat them.
DONE = ("passed", "failed", "timeout")


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def say(text):
    print(text, flush=True)


def be_a_step():
    """In a step's process: a group of its own, to be ended with its children, and an end with ours."""
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def whole_lines(path):
    """Cuts off the beginning of a line that a killed process left at the end of a file."""
    if path and os.path.exists(path):
        with open(path, "r+b") as opened:
            data = opened.read()
            opened.truncate(data.rfind(b"\n") + 1)


class State:
    """What was done, written after every step, to two folders: either may be emptied between calls."""

    def __init__(self, folders):
        self.files = [os.path.join(folder, "state.json") for folder in folders]
        self.steps = {}
        self.calls = 0
        for file in self.files:
            try:
                with open(file, encoding="utf-8") as opened:
                    stored = json.load(opened)
            except FileNotFoundError:
                continue
            if stored["calls"] > self.calls:
                self.steps, self.calls = stored["steps"], stored["calls"]

    def done(self, step):
        return self.steps.get(step.key, {}).get("status") in DONE

    def set(self, step, status, seconds=0.0, detail=""):
        self.steps[step.key] = {"status": status, "seconds": round(seconds, 1), "detail": detail}
        self.write()

    def write(self):
        for file in self.files:
            with open(file + ".new", "w", encoding="utf-8") as opened:
                json.dump({"calls": self.calls, "steps": self.steps}, opened, indent=1)
            os.replace(file + ".new", file)


def stop(process):
    """Ends a step and all its children: first with a request, then without."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def run_process(step, environment, log_file, timeout_s, more=()):
    """Runs one step, its output line by line to the log and to here, JSON lines also to the step's own
    file. (exit status or None if it ran out of time, output)."""
    lines = []
    command = [*step.command, *more]
    with open(log_file, "a" if step.data else "w", encoding="utf-8", errors="replace") as log, \
            open(step.data or os.devnull, "a", encoding="utf-8", errors="replace") as data:
        log.write("$ " + " ".join(command) + "\n")
        errors = subprocess.PIPE if step.data else subprocess.STDOUT
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors,
                                   stdin=subprocess.DEVNULL, text=True, errors="replace", bufsize=1,
                                   env={**environment, **step.environment}, preexec_fn=be_a_step)

        def copy(stream, to):
            for line in stream:
                lines.append(line)
                to.write(line)
                to.flush()
                said = line.rstrip("\n")
                say("    " + (card_stages.in_brief(said) if to is data else said))

        streams = [(process.stdout, data), (process.stderr, log)] if step.data else [(process.stdout, log)]
        readers = [threading.Thread(target=copy, args=pair, daemon=True) for pair in streams]
        for reader in readers:
            reader.start()
        status = wait(step, process, timeout_s)
        if status is None:
            stop(process)
        for reader, (stream, _) in zip(readers, streams):
            reader.join(5.0)
            if not reader.is_alive():
                stream.close()
    whole_lines(step.data)
    return status, "".join(lines)


def wait(step, process, timeout_s):
    """Exit status, or None at the time limit. Sends the step's Ctrl-C when that is due."""
    first = min(step.interrupt_after_s, timeout_s) if step.interrupt_after_s else timeout_s
    try:
        return process.wait(first)
    except subprocess.TimeoutExpired:
        if not step.interrupt_after_s or first >= timeout_s:
            return None
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(timeout_s - first)
    except subprocess.TimeoutExpired:
        return None


class Runner:
    """Runs steps. With `no_device`, a sentence, it only notes it for each."""

    def __init__(self, options, setting, environment, no_device="", clock=time.monotonic):
        self.options = options
        self.setting = setting
        self.environment = environment
        self.clock = clock
        self.keep = lambda keys: None  # called with the keys so far after every step that ran
        self.started = clock()
        self.state = State([options.out, setting.results])
        self.state.calls += 1
        self.state.write()
        self.no_device = no_device

    def left(self):
        return self.options.budget_s - (self.clock() - self.started) - PACKING_S

    def wanted(self, step):
        only, skip = self.options.only, self.options.skip
        if step.stage in skip or step.key in skip:
            return False
        if only:
            return step.stage in only or step.key in only
        return True

    def run(self, steps):
        """Runs what is not done; the keys of this call's steps."""
        keys = []
        for step in steps:
            if not self.wanted(step):
                continue
            keys.append(step.key)
            # Named steps are run again.
            if not self.options.only and self.state.done(step):
                say(f"--- {step.key}: done before")
            elif self.no_device:
                self.state.set(step, "no device", detail=self.no_device)
            elif step.missing:
                say(f"--- {step.key}: {step.missing}")
                self.state.set(step, "missing", detail=step.missing)
            elif self.left() < 5.0:
                self.state.set(step, "not started", detail="the budget ended")
            else:
                self.run_step(step)
                self.keep(keys)
        return keys

    def resume(self, step):
        """The step's file of JSON lines: kept if this call goes on with it, else begun anew."""
        if step.data and self.state.done(step) and os.path.exists(step.data):
            os.remove(step.data)
        whole_lines(step.data)

    def run_step(self, step):
        limit = min(step.timeout_s, self.left())
        say(f"--- {step.key}: up to {limit:.0f} s of {self.left():.0f} s left")
        begin = self.clock()
        log_file = os.path.join(self.setting.results, step.key + ".log")
        self.resume(step)
        more = step.at_start(limit) if step.at_start else []
        try:
            status, output = run_process(step, self.environment, log_file, limit, more)
        except OSError as error:
            self.state.set(step, "failed", detail=f"cannot be started: {error}")
            say(f"--- {step.key}: cannot be started: {error}")
            return
        seconds = self.clock() - begin
        if status is None:
            cut = limit < step.timeout_s
            verdict = "cut short" if cut else "timeout"
            detail = "the budget ended" if cut else f"ran longer than {limit:.0f} s"
        elif step.at_start and status in (0, 1) and card_stages.rows_left(output) > 0:
            verdict, detail = "cut short", f"{card_stages.rows_left(output)} rows left"
        elif step.at_start and status in (0, 1) and card_stages.failed_rows(step.data) > 0:
            verdict, detail = "failed", f"{card_stages.failed_rows(step.data)} rows failed"
        elif status == 0 or (step.interrupt_after_s and status == card_stages.INTERRUPTED_STATUS):
            verdict, detail = "passed", ""
        elif status == card_stages.NO_DEVICE_STATUS:
            verdict, detail = "missing", card_stages.why_skipped(output)
        else:
            verdict, detail = "failed", f"exit status {status}"
        self.state.set(step, verdict, seconds, detail)
        say(f"--- {step.key}: {verdict} after {seconds:.1f} s {detail}")


def summary(state, keys):
    """A table of this call's steps, and the exit status that follows."""
    rows = []
    for key in keys:
        entry = state.steps[key]
        rows.append(f"{entry['status']:<12} {entry['seconds']:>7} s  {key}  {entry['detail']}".rstrip())
    found = {state.steps[key]["status"] for key in keys}
    if "no device" in found:
        status = 3
    elif found & {"failed", "timeout"}:
        status = 1
    elif found & {"cut short", "not started"}:
        status = 4
    else:
        status = 0
    return "\n".join(rows) + "\n", status


def shortened(data, limit):
    """The first and last bytes of what is longer than `limit`."""
    if len(data) <= limit:
        return data
    return data[: limit // 2] + b"\n... cut ...\n" + data[-(limit // 2):]


def pack(results, archive, max_bytes=MAX_ARCHIVE_BYTES):
    """Logs and results, without models, in one archive of bounded size. The one before stays until this
    one is whole."""
    limit = 4 << 20
    while True:
        with tarfile.open(archive + ".new", "w:gz") as tar:
            for folder, _, files in sorted(os.walk(results)):
                for name in sorted(files):
                    if not name.endswith(PACKED_SUFFIXES):
                        continue
                    path = os.path.join(folder, name)
                    with open(path, "rb") as opened:
                        data = shortened(opened.read(), limit)
                    info = tarfile.TarInfo(os.path.join("results", os.path.relpath(path, results)))
                    info.size, info.mtime = len(data), int(os.path.getmtime(path))
                    tar.addfile(info, io.BytesIO(data))
        if os.path.getsize(archive + ".new") <= max_bytes or limit <= 1024:
            os.replace(archive + ".new", archive)
            return
        limit //= 4


def parse_arguments(arguments):
    names = lambda text: [name for name in text.split(",") if name]
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="card-results", help="folder of state, summary and archives")
    parser.add_argument("--budget-s", type=float, default=1500.0, help="seconds for everything")
    parser.add_argument("--train-s", type=float, default=60.0, help="seconds for each training")
    parser.add_argument("--only", type=names, default=[], help="stages or stage.step, run again")
    parser.add_argument("--skip", type=names, default=[], help="stages or stage.step to leave out")
    parser.add_argument("--list", action="store_true", help="name the steps and stop")
    parser.add_argument("--programs", default=os.path.join(HERE, "bin"), help="folder of programs")
    parser.add_argument("--program", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--data", default=HERE, help="folder of tests/, text/ and bench/")
    parser.add_argument("--work", default="", help="folder for logs and models")
    return parser.parse_args(arguments)


def programs_of(options):
    files = {name: os.path.join(options.programs, name) for name in PROGRAMS}
    files.update(entry.split("=", 1) for entry in options.program)
    return {name: file for name, file in files.items() if os.path.exists(file)}


def environment_of(options, found):
    environment = dict(os.environ)
    fallback = os.path.join(HERE, "lib", "fallback")
    cache = card_machine.loader_cache()
    needs_fallback = os.path.isdir(fallback) and "libstdc++.so.6" not in cache
    path = card_machine.loader_path(found, environment, fallback if needs_fallback else None)
    if path:
        environment["LD_LIBRARY_PATH"] = path
    environment["CAROUSEL_TEST_DIR"] = os.path.join(options.data, "tests")
    # What the benchmark writes beside its numbers; a bundle knows its own.
    about = os.path.join(HERE, "ABOUT.txt")
    if os.path.exists(about):
        with open(about, encoding="utf-8") as file:
            match = re.search(r"commit (\S+),", file.read())
        environment["CAROUSEL_COMMIT"] = match.group(1) if match else ""
    environment["CAROUSEL_CTEST"] = "1"  # a program all of whose tests are skipped says so
    return environment


def device_reason(programs, environment):
    """Why no device can be used, in the library's words; empty if one can, or if nobody can tell."""
    if "carousel" not in programs:
        return ""
    try:
        done = subprocess.run([programs["carousel"], "doctor", "--json"], capture_output=True,
                              text=True, env=environment, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return card_stages.why_unusable(done.stdout)


def main(arguments):
    options = parse_arguments(arguments)
    options.out = os.path.abspath(options.out)
    options.data = os.path.abspath(options.data)
    results = os.path.abspath(options.work or os.path.join(options.out + "-work"))
    for folder in (options.out, results):
        os.makedirs(folder, exist_ok=True)
    found = card_machine.find_libraries(os.environ)
    environment = environment_of(options, found)
    sanitizer = card_machine.find_sanitizer(environment)
    programs = programs_of(options)
    setting = card_stages.Setting(programs, options.data, results, sanitizer or "", options.train_s)
    listing = ""
    if "carousel_gpu_tests" in programs:
        listed = subprocess.run([programs["carousel_gpu_tests"], "--gtest_list_tests"],
                                capture_output=True, text=True, env=environment, check=False)
        listing = listed.stdout
        if listed.returncode != 0:
            say(f"carousel_gpu_tests cannot be started: {listed.stderr.strip()}")
    steps = card_stages.all_steps(setting, card_stages.suites_of(listing))
    stages = {step.stage for step in steps} | {step.key for step in steps}
    unknown = [name for name in options.only + options.skip if name not in stages]
    if unknown:
        say(f"unknown: {', '.join(unknown)}; the stages are "
            + ", ".join(dict.fromkeys(step.stage for step in steps)))
        return 2
    if options.list:
        for step in steps:
            say(f"{step.key}  {step.timeout_s:.0f} s  {step.missing}".rstrip())
        return 0
    with open(os.path.join(results, "machine.txt"), "w", encoding="utf-8") as machine:
        machine.write(card_machine.describe(found, sanitizer))
    runner = Runner(options, setting, environment, device_reason(programs, environment))
    archive = os.path.join(options.out, f"results-{(runner.state.calls - 1) % MAX_ARCHIVES + 1}.tar.gz")

    def keep(keys):
        table, status = summary(runner.state, keys)
        for folder in (options.out, results):
            with open(os.path.join(folder, "summary.txt"), "w", encoding="utf-8") as opened:
                opened.write(table)
        pack(results, archive)
        return table, status

    runner.keep = keep
    if runner.no_device:
        say(f"no device: {runner.no_device}")
    table, status = keep(runner.run(steps))
    say(table + f"{archive}: {os.path.getsize(archive)} bytes; exit status {status}")
    return status


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    sys.exit(main(sys.argv[1:]))
