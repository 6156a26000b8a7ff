#!/usr/bin/env python3
"""PyTorch's language models beside Carousel's, in turn, on the CPU: training steps and sampling.

Carousel runs as the tool (`carousel bench lm|sample --json`), one process to a round; a ratio is taken
in each round. Every model is visited several times, as rows of carousel_bench_cpu are, whose JSON
lines these continue. bench/setup_torch.sh installs torch.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import lines
import torch_peer

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEAST_REPETITIONS = 3
WARM_UP_MS = 50.0

# Models of `carousel bench lm` and `bench sample`; its loss is the mean over tokens, and it carries
# the state from window to window.
MODELS = {
    "char-LM step": {"what": "lm", "vocab": 65, "hidden": 512, "layers": 2, "batch": 64,
                     "seq_len": 64, "optimizer": "adam", "clip_norm": 1.0},
    "word-LM step": {"what": "lm", "vocab": 10000, "hidden": 200, "layers": 2, "batch": 20,
                     "seq_len": 20, "optimizer": "sgd", "clip_norm": 5.0},
    "sampled character": {"what": "sample", "vocab": 65, "hidden": 512, "layers": 2},
}


def median_ms(run, turn_ms):
    """Median time of a repetition in one turn, after a warm-up: its threads slept while the tool ran."""
    warm_until = time.perf_counter() + max(WARM_UP_MS, turn_ms / 10) / 1e3
    runs = 0
    while runs < 2 or time.perf_counter() < warm_until:
        run()
        runs += 1
    times = []
    until = time.perf_counter() + turn_ms / 1e3
    while len(times) < LEAST_REPETITIONS or time.perf_counter() < until:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return lines.quantile(times, 0.5)


def language_model(torch, model):
    class LanguageModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(model["vocab"], model["hidden"])
            self.rnn = torch.nn.LSTM(model["hidden"], model["hidden"], num_layers=model["layers"])
            self.output = torch.nn.Linear(model["hidden"], model["vocab"])

        def forward(self, tokens, state):
            y, state = self.rnn(self.embedding(tokens), state)
            return self.output(y), state

    return LanguageModel()


def lm_step(torch, model):
    """One training step: loss, gradients, clipping, update."""
    lm = language_model(torch, model).train()
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[model["optimizer"]]
    try:  # one pass over all parameters: the quickest that torch has
        optimizer = kind(lm.parameters(), lr=1e-4, fused=True)
    except (RuntimeError, TypeError):
        optimizer = kind(lm.parameters(), lr=1e-4)
    windows = [torch.randint(model["vocab"], (model["seq_len"] + 1, model["batch"]))
               for _ in range(8)]
    zeros = torch.zeros(model["layers"], model["batch"], model["hidden"])
    carried = {"state": (zeros, zeros), "turn": 0}

    def step():
        window = windows[carried["turn"]]
        carried["turn"] = (carried["turn"] + 1) % len(windows)
        optimizer.zero_grad(set_to_none=True)
        logits, state = lm(window[:-1], carried["state"])
        loss = torch.nn.functional.cross_entropy(logits.view(-1, model["vocab"]),
                                                 window[1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), model["clip_norm"])
        optimizer.step()
        carried["state"] = tuple(s.detach() for s in state)

    return step


def sample_step(torch, model):
    """One character: the model on the last one, and a draw from its distribution."""
    lm = language_model(torch, model).eval()
    zeros = torch.zeros(model["layers"], 1, model["hidden"])
    carried = {"state": (zeros, zeros), "token": torch.zeros(1, 1, dtype=torch.long)}

    def step():
        with torch.no_grad():
            logits, carried["state"] = lm(carried["token"], carried["state"])
            carried["token"] = torch.multinomial(torch.softmax(logits[0], dim=-1), 1)

    return step


def carousel_arguments(model):
    arguments = [model["what"], "--vocab", str(model["vocab"]), "--hidden", str(model["hidden"]),
                 "--layers", str(model["layers"])]
    if model["what"] == "lm":
        arguments += ["--batch", str(model["batch"]), "--seq-len", str(model["seq_len"]),
                      "--optimizer", model["optimizer"], "--clip-norm", str(model["clip_norm"])]
    return arguments


def carousel_ms(options, arguments):
    command = [options.carousel, "bench", *arguments, "--device", "cpu", "--threads",
               str(options.threads), "--min-time-ms", f"{options.turn_ms:.0f}", "--repeat",
               str(LEAST_REPETITIONS), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])["median_ms"]


class Comparison:
    """Rounds of torch and the tool in turn, for one model."""

    def __init__(self, name, step, options):
        """`step` is one repetition of torch."""
        self.name, self.model, self.step, self.options = name, MODELS[name], step, options
        self.arguments = carousel_arguments(self.model)
        self.ours, self.peer, self.failed = [], [], None

    def visit(self):
        try:
            for _ in range(self.options.rounds):
                self.round()
        except (OSError, RuntimeError, ValueError) as error:
            self.failed = str(error)

    def round(self):
        sides = [(self.peer, lambda: median_ms(self.step, self.options.turn_ms)),
                 (self.ours, lambda: carousel_ms(self.options, self.arguments))]
        if len(self.ours) % 2:
            sides.reverse()  # who begins changes
        for times, measure in sides:
            times.append(measure())

    def line(self):
        """The JSON line of all rounds."""
        model = self.model
        sizes = {key: model[key] for key in ("vocab", "hidden", "batch", "seq_len", "layers")
                 if key in model}
        line = {"bench": "cpu", "row": self.name, "dtype": "f32", **sizes,
                "line": "carousel bench " + " ".join(self.arguments),
                "pass": "train" if model["what"] == "lm" else "sample", "l2": "warm"}
        if self.failed:
            return {**line, "skipped": self.failed}
        peer_ms = lines.summary(self.peer)
        ratio = lines.summary([b / a for a, b in zip(self.ours, self.peer)])
        pairs = len(self.ours)
        return {**line, "carousel_ms": lines.summary(self.ours), "pairs": pairs, "peer": "torch f32",
                "peer_ms": peer_ms, "ratio": ratio, "visits": self.options.visits,
                "others": [{"name": "torch f32", "peer": True, "ms": peer_ms, "ratio": ratio,
                            "pairs": pairs}]}


def at_least_one(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' should be a whole number from 1")
    return int(text)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--carousel", default=ROOT / "build" / "carousel", help="the tool")
    parser.add_argument("--row", default=".*", help="only models whose name this expression finds")
    parser.add_argument("--threads", type=at_least_one, default=2, help="of each side")
    parser.add_argument("--visits", type=at_least_one, default=3, help="rounds through all models")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="turns of each side in a visit")
    parser.add_argument("--turn-ms", type=float, default=300.0, help="length of a turn")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args(arguments)
    try:
        options.models = [name for name in MODELS if re.search(options.row, name)]
    except re.error as error:
        parser.error(f"--row: {error}")
    if not options.models:
        parser.error(f"--row: '{options.row}' finds none of {', '.join(MODELS)}")
    return options


def show(line, as_json):
    if as_json:
        print(json.dumps(line), flush=True)
    elif "skipped" in line:
        print(f"{line['row']:18} {line['skipped']}", flush=True)
    else:
        times = [f"{who} {ms['median']:>9} ({ms['p10']} to {ms['p90']})"
                 for who, ms in (("carousel", line["carousel_ms"]), ("torch", line["peer_ms"]))]
        ratio = line["ratio"]
        print(f"{line['row']:18} {'   '.join(times)}   ratio {ratio['median']:>6} "
              f"({ratio['p10']} to {ratio['p90']})", flush=True)


def main():
    options = parse(sys.argv[1:])
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    try:
        import torch
    except ImportError:
        sys.exit("torch is not installed here; run bench/setup_torch.sh and use its python")
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    torch_peer.keep_freed_memory(torch)
    if options.json:
        show({"bench": "cpu", "about": "machine", "cpu": lines.processor_name(),
              "threads": options.threads, "torch_version": torch.__version__,
              "commit": lines.source_commit(), "date": lines.utc_now(), "flags": " ".join(sys.argv[1:]),
              "rows": len(options.models), "visits": options.visits}, True)
    else:
        print(f"torch {torch.__version__}, {options.threads} threads; times in ms, median (p10 to p90)",
              flush=True)
    begin = time.perf_counter()
    steps = {"lm": lm_step, "sample": sample_step}
    comparisons = [Comparison(name, steps[MODELS[name]["what"]](torch, MODELS[name]), options)
                   for name in options.models]
    for visit in range(options.visits):
        for comparison in comparisons:
            if not comparison.failed:
                print(f"visit {visit + 1} of {options.visits}: {comparison.name}", file=sys.stderr)
                comparison.visit()
    for comparison in comparisons:
        show(comparison.line(), options.json)
    if options.json:
        show({"bench": "cpu", "about": "end", "date": lines.utc_now(),
              "seconds": int(time.perf_counter() - begin)}, True)
    return 1 if any(comparison.failed for comparison in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
