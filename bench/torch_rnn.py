#!/usr/bin/env python3
"""PyTorch's recurrent layers and language models beside Carousel's, in turn, on the CPU.

Carousel runs as the tool (`carousel bench rnn|lm|sample --json`), one process to a round; a ratio is
taken in each round, and the median of them is reported. bench/setup_torch.sh installs torch.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

import shapes

# Carousel's process has ended before torch is timed; OpenMP's threads of torch, which spin for
# milliseconds after their last region, go to sleep while that process starts.
LEAST_REPETITIONS = 3
WARM_UP_MS = 50.0
KEEP_MEMORY = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"

# Models of `carousel bench lm` and `bench sample`; its loss is the mean over tokens, and it carries
# the state from window to window.
MODELS = {
    "char-LM step": {"what": "lm", "vocab": 65, "hidden": 512, "layers": 2, "batch": 64,
                     "seq_len": 64, "optimizer": "adam", "clip_norm": 1.0},
    "word-LM step": {"what": "lm", "vocab": 10000, "hidden": 200, "layers": 2, "batch": 20,
                     "seq_len": 20, "optimizer": "sgd", "clip_norm": 5.0},
    "sampled character": {"what": "sample", "vocab": 65, "hidden": 512, "layers": 2},
}


def timed_ms(run, budget_ms):
    """Times of single repetitions, after a warm-up: its threads slept while the tool ran."""
    warm_until = time.perf_counter() + max(WARM_UP_MS, budget_ms / 10) / 1e3
    runs = 0
    while runs < 2 or time.perf_counter() < warm_until:
        run()
        runs += 1
    times = []
    until = time.perf_counter() + budget_ms / 1e3
    while len(times) < LEAST_REPETITIONS or time.perf_counter() < until:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def keep_freed_memory(torch):
    """Lets the C library keep the memory of temporaries instead of mapping and faulting in new pages
    at every call, which can double torch's times. Freeing one large block, as any training process
    soon does, raises glibc's threshold; its limit is 32 MiB, beyond which --keep-memory goes."""
    block = torch.zeros(31 * 2**20, dtype=torch.uint8)
    del block


def layer_runs(torch, row):
    """Forward for training, and forward + backward with every gradient."""
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(row.cell, torch.nn.RNN)
    options = {"nonlinearity": "relu"} if row.cell == "rnn_relu" else {}
    layer = kind(row.input, row.hidden, num_layers=row.layers, **options).train()
    x = torch.rand(row.steps, row.batch, row.input).sub_(0.5).requires_grad_()
    state = [torch.rand(row.layers, row.batch, row.hidden).sub_(0.5).requires_grad_()
             for _ in range(2 if row.cell == "lstm" else 1)]
    dy = torch.rand(row.steps, row.batch, row.hidden).sub_(0.5)
    leaves = [x, *state, *layer.parameters()]

    def forward():
        return layer(x, tuple(state) if row.cell == "lstm" else state[0])[0]

    def train():
        torch.autograd.grad(forward(), leaves, dy)

    return {"forward": forward, "train": train}


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


class Comparison:
    """Rounds of torch and tool in turn."""

    def __init__(self, options):
        self.options = options
        # The tool warms up for a tenth of its time, and both take their turn in each round.
        self.turn_ms = options.time_ms / options.rounds / 2.2

    def carousel_ms(self, arguments):
        command = [self.options.carousel, "bench", *arguments, "--device", "cpu", "--threads",
                   str(self.options.threads), "--min-time-ms", f"{self.turn_ms:.0f}", "--repeat",
                   str(LEAST_REPETITIONS), "--json"]
        # What --keep-memory changes is for torch alone.
        environment = {key: os.environ[key] for key in os.environ if key != "GLIBC_TUNABLES"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def compare(self, name, what, run, arguments):
        """A JSON line's values; `run` is one repetition of torch."""
        torch_ms, ours_ms, ratios, gflops = [], [], [], None
        for _ in range(self.options.rounds):
            times = timed_ms(run, self.turn_ms)
            ours = self.carousel_ms(arguments)
            torch_ms += times
            ours_ms.append(ours["median_ms"])
            ratios.append(shapes.quantile(times, 0.5) / ours["median_ms"])
            gflops = max(gflops or 0.0, ours.get("gflops", 0.0))
        return {"bench": "torch", "row": name, "pass": what, "threads": self.options.threads,
                "carousel_ms": shapes.summary(ours_ms), "peer_ms": shapes.summary(torch_ms),
                "ratio": shapes.summary(ratios), "pairs": len(ratios), "gflops": gflops}


def rnn_arguments(row, mode):
    return ["rnn", "--cell", row.cell, "--hidden", str(row.hidden), "--input", str(row.input),
            "--batch", str(row.batch), "--seq-len", str(row.steps), "--layers", str(row.layers),
            "--mode", mode]


def model_arguments(model):
    arguments = [model["what"], "--vocab", str(model["vocab"]), "--hidden", str(model["hidden"]),
                 "--layers", str(model["layers"])]
    if model["what"] == "lm":
        arguments += ["--batch", str(model["batch"]), "--seq-len", str(model["seq_len"]),
                      "--optimizer", model["optimizer"], "--clip-norm", str(model["clip_norm"])]
    return arguments


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--carousel", required=True, help="the tool, e.g. build/carousel")
    parser.add_argument("--shapes", default=shapes.SHAPES, help="rows to run")
    parser.add_argument("--row", default=".*",
                        help="only rows and models whose name this expression finds")
    parser.add_argument("--pass", dest="which", default="both", choices=["forward", "train", "both"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--time-ms", type=float, default=4000.0,
                        help="time for each row and pass, both sides together")
    parser.add_argument("--keep-memory", action="store_true",
                        help="restart with a C library that keeps blocks of any size: torch tuned,"
                             " not as it is installed")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    return parser.parse_args()


def report(line, as_json):
    if as_json:
        print(json.dumps(line), flush=True)
        return
    ours, peer, ratio = line["carousel_ms"], line["peer_ms"], line["ratio"]
    print(f"{line['row']:26} {line['pass']:8} {ours['median']:>10} ({ours['p10']} to {ours['p90']})"
          f"   torch {peer['median']:>10} ({peer['p10']} to {peer['p90']})"
          f"   ratio {ratio['median']:>6} ({ratio['p10']} to {ratio['p90']})", flush=True)


def main():
    options = parse()
    if options.keep_memory and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = KEEP_MEMORY
        os.execv(sys.executable, [sys.executable, *sys.argv])
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    try:
        import torch
    except ImportError:
        sys.exit("torch is not installed here; run bench/setup_torch.sh and use its python")
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    keep_freed_memory(torch)
    about = {"bench": "torch", "about": "machine", "torch_version": torch.__version__,
             "threads": options.threads, "keep_memory": options.keep_memory}
    print(json.dumps(about) if options.json else
          f"torch {torch.__version__}, {options.threads} threads; times in ms, median (p10 to p90)",
          flush=True)
    comparison = Comparison(options)
    passes = ["forward", "train"] if options.which == "both" else [options.which]
    for row in shapes.read_rows(options.shapes, options.row):
        runs = layer_runs(torch, row)
        for mode in passes:
            report(comparison.compare(row.text, mode, runs[mode], rnn_arguments(row, mode)),
                   options.json)
    for name, model in MODELS.items():
        what = "train" if model["what"] == "lm" else "sample"
        if re.search(options.row, name) and (what in passes or what == "sample"):
            run = (lm_step if what == "train" else sample_step)(torch, model)
            report(comparison.compare(name, what, run, model_arguments(model)), options.json)


if __name__ == "__main__":
    main()
