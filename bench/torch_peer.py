#!/usr/bin/env python3
"""PyTorch's recurrent layers as carousel_bench_cpu's peer: answers JSON lines on stdin with JSON lines.

    {"ask": "make", "id": 0, "folder": DIR, "cell": "lstm", "dtype": "f32", ...}   inputs are files in DIR
    {"ask": "run", "id": 0, "pass": "train"}
    {"ask": "outcome", "id": 0, "all": true}                                      results become files
    {"ask": "turn", "id": 0, "pass": "train", "lead_in_ms": 4, "timed_ms": 12}     -> {"ms": 1.23}
    {"ask": "drop", "id": 0}

Tensors are raw f32 in Carousel's (and torch's) layout. What cannot be done is answered with "error".
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

FEWEST = 3  # repetitions of a turn, if they are short


def elapsed_ms(begin):
    return (time.perf_counter() - begin) * 1e3


class Layer:
    """One problem: inputs, the layer, and what its last passes gave."""

    def __init__(self, torch, ask):
        self.torch, self.ask = torch, ask
        self.folder = pathlib.Path(ask["folder"])
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[ask["dtype"]]
        if self.dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise RuntimeError("this processor has no bf16")
        kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN,
                 "rnn_relu": torch.nn.RNN}
        if ask["cell"] not in kinds:
            raise RuntimeError(f"no cell {ask['cell']}")
        options = {"nonlinearity": "relu"} if ask["cell"] == "rnn_relu" else {}
        self.layer = kinds[ask["cell"]](ask["input"], ask["hidden"], num_layers=ask["layers"],
                                        bidirectional=ask["bidirectional"], **options)
        self.load_weights()
        self.layer.to(self.dtype).train()
        if hasattr(self.layer, "flatten_parameters"):
            self.layer.flatten_parameters()
        directions = 2 if ask["bidirectional"] else 1
        sequence = (ask["seq_len"], ask["batch"])
        state = (ask["layers"] * directions, ask["batch"], ask["hidden"])
        self.x = self.load("x", (*sequence, ask["input"])).requires_grad_()
        self.states = [self.load(name, state).requires_grad_()
                       for name in ("hx", "cx") if (self.folder / name).exists()]
        # The gradients of y, then of the final states.
        self.given = [self.load("dy", (*sequence, ask["hidden"] * directions))]
        self.given += [self.load(name, state) for name in ("dhy", "dcy")
                       if (self.folder / name).exists()]
        lengths = self.folder / "lengths"
        self.lengths = None
        if lengths.exists():
            self.lengths = torch.from_file(str(lengths), size=ask["batch"], dtype=torch.int64).clone()
        self.outputs, self.gradients = None, None
        for path in self.folder.iterdir():  # read, and large: nothing is left if the caller is stopped
            path.unlink()

    def load(self, name, shape):
        count = 1
        for size in shape:
            count *= size
        values = self.torch.from_file(str(self.folder / name), size=count, dtype=self.torch.float32)
        return values.view(shape).to(self.dtype).clone()

    def load_weights(self):
        """Ours and torch's parameters follow each other in the same order."""
        count = sum(p.numel() for p in self.layer.parameters())
        flat = self.torch.from_file(str(self.folder / "weights"), size=count,
                                    dtype=self.torch.float32)
        at = 0
        with self.torch.no_grad():
            for p in self.layer.parameters():
                p.copy_(flat[at:at + p.numel()].view(p.shape))
                at += p.numel()

    def apply(self):
        state = tuple(self.states) if len(self.states) == 2 else self.states[0]
        x = self.x
        if self.lengths is not None:
            x = self.torch.nn.utils.rnn.pack_padded_sequence(x, self.lengths, enforce_sorted=False)
        y, last = self.layer(x, state)
        if self.lengths is not None:
            y, _ = self.torch.nn.utils.rnn.pad_packed_sequence(y, total_length=self.ask["seq_len"])
        return [y, *(last if isinstance(last, tuple) else (last,))]

    def infer(self):
        with self.torch.inference_mode():
            self.outputs = self.apply()

    def forward(self):
        self.outputs = self.apply()

    def leaves(self, weights):
        return [self.x, *self.states, *(self.layer.parameters() if weights else [])]

    def backward(self, weights=True):
        # The graph is kept, so that a backward pass alone can be repeated.
        self.gradients = self.torch.autograd.grad(self.outputs, self.leaves(weights), self.given,
                                                  retain_graph=True)

    def train(self):
        self.outputs = self.apply()
        self.gradients = self.torch.autograd.grad(self.outputs, self.leaves(True), self.given)

    def passes(self):
        return {"infer": self.infer, "forward": self.forward, "backward": self.backward,
                "backward_data": lambda: self.backward(False), "train": self.train}

    def turn_ms(self, ask):
        run = self.passes()[ask["pass"]]
        if ask["pass"].startswith("backward"):
            self.forward()
        begin = time.perf_counter()
        while elapsed_ms(begin) < ask["lead_in_ms"]:
            run()
        fewest = FEWEST if ask["timed_ms"] > 0 else 1
        times, begin = [], time.perf_counter()
        while len(times) < fewest or elapsed_ms(begin) < ask["timed_ms"]:
            start = time.perf_counter()
            run()
            times.append(elapsed_ms(start))
        return statistics.median(times)

    def write(self, name, tensors):
        values = self.torch.cat([t.detach().to(self.torch.float32).reshape(-1) for t in tensors])
        (self.folder / name).write_bytes(values.contiguous().numpy().tobytes())

    def outcome(self, everything):
        self.write("out_hy", [self.outputs[1]])
        if everything:
            self.write("out_y", [self.outputs[0]])
            if len(self.outputs) > 2:
                self.write("out_cy", [self.outputs[2]])
        if self.gradients is None:
            return
        states = 1 + len(self.states)
        self.write("out_dhx", [self.gradients[1]])
        self.write("out_dweights", self.gradients[states:])
        if everything:
            self.write("out_dx", [self.gradients[0]])
            if states > 2:
                self.write("out_dcx", [self.gradients[2]])


def answer(torch, layers, ask):
    what, number = ask["ask"], ask["id"]
    if what == "make":
        layers[number] = Layer(torch, ask)
    elif what == "drop":
        layers.pop(number, None)
    elif what == "run":
        layers[number].passes()[ask["pass"]]()
    elif what == "outcome":
        layers[number].outcome(ask["all"])
    elif what == "turn":
        return {"ms": layers[number].turn_ms(ask)}
    else:
        raise RuntimeError(f"unknown request {what}")
    return {"ok": True}


def keep_freed_memory(torch):
    """Lets the C library keep the memory of temporaries instead of mapping and faulting in new pages
    at every call, which can double torch's times. Freeing one large block, as any training process
    soon does, raises glibc's threshold; its limit is 32 MiB."""
    block = torch.zeros(31 * 2**20, dtype=torch.uint8)
    del block


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # Answers go where stdout was; whatever libraries print goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    try:
        import torch
    except ImportError as error:
        say({"error": f"{sys.executable}: {error}; bench/setup_torch.sh makes one that has torch"})
        return
    torch.set_num_threads(options.threads)
    keep_freed_memory(torch)
    say({"torch_version": torch.__version__})
    layers = {}
    for line in sys.stdin:
        try:
            say(answer(torch, layers, json.loads(line)))
        except Exception as error:  # whatever torch cannot do ends one side, not the process
            say({"error": f"{error}".splitlines()[0] if f"{error}" else type(error).__name__})


if __name__ == "__main__":
    main()
