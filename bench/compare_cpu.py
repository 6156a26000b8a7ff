#!/usr/bin/env python3
"""Carousel's CPU backend against the better of oneDNN and PyTorch, row by row, with the aims.

Runs carousel_bench_cpu and torch_rnn.py for every row, merges what they measured, and writes
table.md and results.jsonl into --out. Each peer is timed in turn with Carousel, so each ratio belongs
to one run; the better peer of a row is the one with the lower ratio.
"""

import argparse
import datetime
import json
import pathlib
import re
import shlex
import subprocess
import sys
import time

import shapes

HERE = pathlib.Path(__file__).resolve().parent
PASSES = ("forward", "train")
# A row also meets its aim when Carousel is this close to the arithmetic floor and no peer is faster.
NEAR_FLOOR = 1.12
# No multiples of the widths that products are blocked by.
ODD_HIDDEN = (200, 650, 1500)
# Language models have torch as their only peer.
MODEL_AIMS = {"char-LM step": 1.3, "word-LM step": 1.3, "sampled character": 4.0}


def aims(row):
    """(group, least ratio by pass) of a row."""
    if row.batch == 1 and row.hidden <= 512:
        return "N = 1, H <= 512", {"forward": 1.7, "train": 2.5 if row.cell == "gru" else 1.7}
    if row.batch == 1:
        return "N = 1, wide", {"forward": 1.1, "train": 1.2}
    if row.batch >= 64 and row.hidden >= 512 and row.hidden not in ODD_HIDDEN:
        return "N >= 64, H >= 512", {"forward": 1.05, "train": 1.05}
    return "N 20 to 32, or odd H", {"forward": 1.15, "train": 1.2}


class Programs:
    """Starts the comparators, with what the user wants in front of each."""

    def __init__(self, options):
        self.options = options
        self.started = False

    def lines(self, command):
        """(JSON lines that were printed, why the program failed or None)."""
        if self.started and self.options.pause > 0:
            time.sleep(self.options.pause)
        self.started = True
        command = [*shlex.split(self.options.prefix), *map(str, command)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return [], f"{command[0]}: {error.strerror}"
        lines = []
        for text in done.stdout.splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                return lines, f"{command[0]} printed '{text[:80]}'"
        skipped = [line["skipped"] for line in lines if "skipped" in line]
        if skipped:
            return lines, skipped[0]
        if done.returncode != 0:
            return lines, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return lines, None

    def common(self, name):
        return ["--row", f"^{re.escape(name)}$", "--threads", self.options.threads,
                "--time-ms", self.options.time_ms, "--json"]

    def onednn(self, row, which):
        return self.lines([self.options.bench, "--shapes", self.options.shapes, "--pass", which,
                           *self.common(row.text)])

    def torch(self, name, which):
        if not self.options.python:
            return [], "no --python with torch was given"
        return self.lines([self.options.python, HERE / "torch_rnn.py", "--carousel",
                           self.options.carousel, "--shapes", self.options.shapes, "--pass", which,
                           "--rounds", self.options.rounds, *self.common(name),
                           *(["--keep-memory"] if self.options.keep_memory else [])])


def merge(name, what, group, aim, measured, missing):
    """One result line from what each peer's comparison says about a row and pass."""
    line = {"row": name, "pass": what, "group": group, "aim": aim}
    for peer, values in measured.items():
        line[peer] = {key: values[key] for key in values
                      if key in ("carousel_ms", "peer_ms", "peer_format", "ratio", "pairs",
                                 "difference", "peak_gflops", "floor_ms", "floor_factor", "handoff_ns")}
    line["missing"] = missing
    if not measured:
        return line
    best = min(measured, key=lambda peer: measured[peer]["ratio"]["median"])
    line["best_peer"] = best
    line["ratio"] = measured[best]["ratio"]["median"]
    line["floor_factor"] = measured.get("onednn", {}).get("floor_factor")
    near_floor = line["floor_factor"] is not None and line["floor_factor"] <= NEAR_FLOOR
    line["met"] = line["ratio"] >= aim or (near_floor and line["ratio"] >= 1.0)
    return line


def text_of(line):
    """A row of the table."""
    def peer(name):
        if name not in line:
            return line["missing"].get(name, "") and "missing"
        values = line[name]
        return f"{values['peer_ms']['median']:.4g} ({values['ratio']['median']:.2f})"

    ours = line.get(line.get("best_peer"), {}).get("carousel_ms", {}).get("median")
    floor = line.get("floor_factor")
    ratio = f"{line['ratio']:.2f}" if "ratio" in line else ""
    handoff = " to ".join(f"{ns:.0f}" for ns in line.get("onednn", {}).get("handoff_ns", []))
    verdict = {True: "yes", False: "NO", None: "not timed"}[line.get("met")]
    if line["missing"] and verdict == "yes":
        verdict = "yes, of what ran"
    cells = [line["row"], line["pass"], f"{ours:.4g}" if ours else "", peer("onednn"),
             peer("torch"), line.get("best_peer", ""), ratio, str(line["aim"]),
             f"{floor:.2f}" if floor else "", handoff, verdict]
    return "| " + " | ".join(cells) + " |"


HEADING = ["| row | pass | carousel ms | oneDNN ms (ratio) | torch ms (ratio) | better peer | ratio |"
           " aim | x floor | hand-off ns | met |", "|---|---|---|---|---|---|---|---|---|---|---|"]


class Results:
    """Lines as they come: on the screen, and in two files that are whole after every row."""

    def __init__(self, options):
        self.folder = pathlib.Path(options.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.about = {"date": datetime.date.today().isoformat(), "threads": options.threads}
        self.lines = []
        print("\n".join(HEADING), flush=True)

    def note(self, about):
        self.about.update({key: value for key, value in about.items()
                           if key not in ("bench", "about")})

    def add(self, line):
        self.lines.append(line)
        print(text_of(line), flush=True)
        (self.folder / "results.jsonl").write_text(
            "".join(json.dumps(entry) + "\n" for entry in [{"about": self.about}, *self.lines]))
        missing = sorted({f"- {entry['row']}: {peer} is missing: {why}" for entry in self.lines
                          for peer, why in entry["missing"].items()})
        about = ", ".join(f"{key} {value}" for key, value in self.about.items())
        (self.folder / "table.md").write_text("\n".join(
            [about, "", *HEADING, *map(text_of, self.lines), "", *missing]).rstrip() + "\n")


def compare(results, programs, name, passes, aim_of, row=None):
    """Both peers on one row (or, without `row`, torch on one model)."""
    which = passes[0] if len(passes) == 1 and row else "both"
    found, missing = {}, {}
    peers = {"torch": lambda: programs.torch(name, which)}
    if row:
        peers = {"onednn": lambda: programs.onednn(row, which), **peers}
    for peer, start in peers.items():
        lines, why = start()
        for line in lines:
            if "about" in line:
                results.note(line)
            elif "ratio" in line:
                found.setdefault(line["pass"], {})[peer] = line
        if why:
            missing[peer] = why
    for what in passes:
        group, aim = aim_of(what)
        absent = {peer: missing.get(peer, "it did not report this pass")
                  for peer in peers if peer not in found.get(what, {})}
        results.add(merge(name, what, group, aim, found.get(what, {}), absent))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=HERE.parent / "build", type=pathlib.Path,
                        help="build folder with carousel and carousel_bench_cpu")
    parser.add_argument("--bench", help="carousel_bench_cpu [default: in --build]")
    parser.add_argument("--carousel", help="the tool [default: in --build]")
    parser.add_argument("--python", help="a python that has torch [default: bench/.venv's]")
    parser.add_argument("--out", required=True, help="folder for table.md and results.jsonl")
    parser.add_argument("--shapes", default=shapes.SHAPES)
    parser.add_argument("--row", default=".*", help="only rows and models that this finds")
    parser.add_argument("--pass", dest="which", default="both", choices=[*PASSES, "both"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side beside torch")
    parser.add_argument("--time-ms", type=float, default=3000.0, help="for each row, pass and peer")
    parser.add_argument("--keep-memory", action="store_true", help="as torch_rnn.py's")
    parser.add_argument("--prefix", default="", help="command in front of each program, e.g. nice")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between programs")
    options = parser.parse_args()
    options.bench = options.bench or options.build / "carousel_bench_cpu"
    options.carousel = options.carousel or options.build / "carousel"
    venv = HERE / ".venv" / "bin" / "python"
    if not options.python and venv.exists():
        options.python = venv
    return options


def main():
    options = parse()
    rows = shapes.read_rows(options.shapes, options.row)
    models = [name for name in MODEL_AIMS if re.search(options.row, name)]
    if not rows and not models:
        sys.exit(f"no row of {options.shapes} and no model matches '{options.row}'")
    results, programs = Results(options), Programs(options)
    passes = PASSES if options.which == "both" else (options.which,)
    for row in rows:
        group, least = aims(row)
        compare(results, programs, row.text, passes, lambda what: (group, least[what]), row)
    for name in models:
        what = "sample" if name.startswith("sampled") else "train"
        compare(results, programs, name, (what,), lambda _: ("model", MODEL_AIMS[name]))
    missed = [f"{line['row']} {line['pass']}" for line in results.lines if not line.get("met")]
    print(f"{len(results.lines) - len(missed)} of {len(results.lines)} meet their aim.")


if __name__ == "__main__":
    main()
