"""JSON lines of results: read with a check that they belong together, named, and summed up.

Shared by the Python programs of this folder.
"""

import datetime
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What must be equal for two results to stand in one table or figure.
MACHINE_KEYS = ["gpu", "cpu", "threads", "driver_cuda", "cuda_runtime", "cublaslt", "cudnn",
                "onednn_version", "torch_version", "commit"]
PASSES = ["infer", "forward", "backward_data", "backward", "train", "sample"]


class Refusal(Exception):
    """Input that must not be shown, or not together."""


class Results:
    """What a set of files says: one machine's."""

    def __init__(self):
        self.machine, self.header = {}, {}
        self.timed, self.skipped, self.curves = [], [], []

    def caption(self):
        words = [self.header.get("date", "")]
        words += [f"{key} {value}" for key, value in self.machine.items() if key != "uuid"]
        return ", ".join(filter(None, words))


def machine_of(header):
    """What of a header names the machine and the versions."""
    machine = {key: header[key] for key in MACHINE_KEYS if key in header}
    smi = header.get("smi")
    if isinstance(smi, dict):
        machine.update({key: smi[key] for key in ("uuid", "driver") if key in smi})
    return machine


def check_same_machine(known, said, place):
    for key, value in said.items():
        if key in known and known[key] != value:
            raise Refusal(f"{place}: results of different machines or versions: "
                          f"{key} is '{value}' here and '{known[key]}' before")


def read(paths):
    results, seen = Results(), {}
    for path in paths:
        try:
            content = pathlib.Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise Refusal(f"{path}: not text, so not JSON lines: {error}") from None
        texts = content.splitlines()
        # What a killed program left of its last line is no result.
        if texts and not content.endswith("\n") and not is_json(texts[-1]):
            texts.pop()
        for number, text in enumerate(texts, 1):
            if text.strip():
                add(results, seen, text, f"{path}:{number}")
    if not results.machine:
        raise Refusal("no file says which machine its results are of")
    return results


def is_json(text):
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def add(results, seen, text, place):
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise Refusal(f"{place}: not JSON: {error}") from None
    if not isinstance(line, dict):
        raise Refusal(f"{place}: not a JSON object")
    if "no_device" in line:
        raise Refusal(f"{place}: no results: {line['no_device']}")
    if "about" in line:
        if line["about"] != "end":
            said = machine_of(line)
            check_same_machine(results.machine, said, place)
            results.machine.update(said)
            results.header.update(line)
    elif "curve" in line or "fit" in line:
        results.curves.append(line)
    elif "skipped" in line:
        results.skipped.append(line)
    elif "carousel_ms" in line and "derived" not in line:
        try:
            key = (*name(line), line["l2"])
        except KeyError as missing:
            raise Refusal(f"{place}: a result without the field {missing}") from None
        if key in seen:
            raise Refusal(f"{place}: {' '.join(name(line))} stands in {seen[key]}, too; "
                          "runs are not mixed")
        seen[key] = place
        results.timed.append(line)


def label(line):
    """`lstm H512 N64 T64 L2` and what else is not as usual, or the name of a model."""
    if "cell" not in line:
        return line["row"]
    # The ids of shapes/cpu.txt say no more than the shape, and - is no id.
    words = [] if line["row"].startswith(("CPU", "-")) else [line["row"]]
    words += [line["cell"], f"H{line['hidden']}", f"N{line['batch']}", f"T{line['seq_len']}",
             f"L{line['layers']}"]
    if line["input"] != line["hidden"]:
        words.append(f"I{line['input']}")
    if line["directions"] != 1:
        words.append("bidirectional")
    if line["dtype"] != "f32":
        words.append(line["dtype"])
    if line["forms"]:
        words.append(f"({'; '.join(line['forms'])})")
    return " ".join(words)


def name(line):
    return label(line), line["pass"]


def processor_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    return "unknown"


def quantile(values, q):
    """Linear interpolation between neighbours of the sorted values."""
    values = sorted(values)
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def summary(values):
    return {key: float(f"{quantile(values, q):.4g}")
            for key, q in (("median", 0.5), ("p10", 0.1), ("p90", 0.9))}


def source_commit():
    """As carousel_bench_cpu says it: + where tracked files differ."""
    if os.environ.get("CAROUSEL_COMMIT"):
        return os.environ["CAROUSEL_COMMIT"]

    def git(*arguments):
        try:
            return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True,
                                  check=False).stdout.strip()
        except OSError:
            return ""

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + ("+" if git("status", "--porcelain", "-uno") else "") if commit else "unknown"


def utc_now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
