#!/usr/bin/env python3
"""Writes golden_onnx.txt: the ONNX backend node cases of RNN, GRU and LSTM, in Carousel's terms.

Run:     python make_golden_onnx.py           (needs onnx and numpy)
Format:  see golden_file.hpp.

ONNX stacks directions in one tensor and orders gates i,o,f,c (LSTM) and z,r,h (GRU); its bias holds
W's half, then R's. This script splits and reorders them into PyTorch's names (i,f,g,o and r,z,n).
layout = 1 is batch-first: the case is marked batch_first and stored time-major. GRU without
linear_before_reset is the reset-before cell.

Left out: cases with peepholes (Carousel's LSTM has none).
"""
import importlib
import os
import sys

import numpy as np
import onnx

GATE_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}


def collect():
    """All node cases as (name, node, inputs, outputs), taken where they are declared."""
    cases = []
    for module_name, class_name in [("rnn", "RNN"), ("gru", "GRU"), ("lstm", "LSTM")]:
        module = importlib.import_module(f"onnx.backend.test.case.node.{module_name}")

        def expect(node, inputs, outputs, name, **_):
            cases.append((name, node, inputs, outputs))

        module.expect = expect
        exporter = getattr(module, class_name)
        for attribute in sorted(vars(exporter)):
            if attribute.startswith("export_"):
                np.random.seed(7)
                getattr(exporter, attribute)()
    return cases


def reorder(rows, op):
    """Gate blocks of [G*H, ...] from ONNX's order into PyTorch's."""
    blocks = np.split(rows, len(GATE_ORDER[op]))
    return np.concatenate([blocks[g] for g in GATE_ORDER[op]])


def write(out, name, tensor):
    shape = ",".join(str(size) for size in tensor.shape)
    values = " ".join(format(float(v), ".9g") for v in np.ascontiguousarray(tensor).reshape(-1))
    out.write(f"tensor {name} {shape}\n{values}\n")


def cell_of(node, attributes):
    if node.op_type == "LSTM":
        return "lstm"
    if node.op_type == "GRU":
        return "gru" if attributes.get("linear_before_reset", 0) else "gru_reset_before"
    activations = attributes.get("activations", [b"Tanh"])
    return "rnn_tanh" if activations[0] == b"Tanh" else "rnn_relu"


def parameters(inputs, op, direction, suffix):
    w, r = inputs["W"][direction], inputs["R"][direction]
    named = {"weight_ih_l0" + suffix: reorder(w, op), "weight_hh_l0" + suffix: reorder(r, op)}
    if "B" in inputs:
        w_b, r_b = np.split(inputs["B"][direction], 2)
        named["bias_ih_l0" + suffix] = reorder(w_b, op)
        named["bias_hh_l0" + suffix] = reorder(r_b, op)
    return named


def write_case(out, name, node, inputs, outputs):
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = dict(zip([i for i in node.input], inputs))
    outputs = dict(zip([o for o in node.output if o], outputs))
    batch_first = attributes.get("layout", 0) == 1
    direction = attributes.get("direction", b"forward")
    x = inputs["X"].swapaxes(0, 1) if batch_first else inputs["X"]
    T, N, I = x.shape
    D, _, H = inputs["R"].shape
    bias = "double" if "B" in inputs else "none"
    tensors = {}
    if direction == b"reverse":
        # One reverse direction: the forward layer on reversed time.
        x = x[::-1]
    tensors["x"] = x
    for d, suffix in zip(range(D), ["", "_reverse"]):
        tensors.update(parameters(inputs, node.op_type, d, suffix))
    for onnx_name, ours in [("initial_h", "hx"), ("initial_c", "cx"), ("Y_h", "hy"), ("Y_c", "cy")]:
        source = inputs if onnx_name.startswith("initial") else outputs
        if onnx_name in source:
            state = source[onnx_name]
            tensors[ours] = state.swapaxes(0, 1) if batch_first else state
    if "Y" in outputs:
        y = outputs["Y"]  # [T,D,N,H] or, batch-first, [N,T,D,H]
        y = y.transpose(1, 0, 2, 3) if batch_first else y.transpose(0, 2, 1, 3)
        y = y.reshape(T, N, D * H)
        tensors["y"] = y[::-1] if direction == b"reverse" else y
    states = "" if "hx" in tensors else " no_states"
    flags = states + (" batch_first" if batch_first else "")
    out.write(f"case {name}\n")
    shape = f"L1 T{T} N{N} I{I} H{H} D{D}"
    out.write(f"line {cell_of(node, attributes)} {shape} bias={bias}{flags} f32\n")
    if "sequence_lens" in inputs and inputs["sequence_lens"].size:
        out.write("lengths " + " ".join(str(int(n)) for n in inputs["sequence_lens"]) + "\n")
    for tensor_name, tensor in tensors.items():
        write(out, tensor_name, tensor)
    out.write("end\n\n")


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden_onnx.txt")
    written = 0
    with open(path, "w", encoding="ascii") as out:
        out.write("# made by make_golden_onnx.py from the backend node cases of onnx "
                  f"{onnx.__version__}\n\n")
        for name, node, inputs, outputs in collect():
            if "P" in node.input:
                print(f"left out: {name} (peepholes)", file=sys.stderr)
                continue
            write_case(out, name, node, inputs, outputs)
            written += 1
    print(f"{path}: {written} cases, {os.path.getsize(path)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
