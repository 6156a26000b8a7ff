#!/usr/bin/env python3
"""Writes golden_torch.txt: torch.nn.LSTM, GRU and RNN on random weights, forward and gradients.

Run:     python make_golden_torch.py          (needs torch; any 2.x version)
Format:  see golden_file.hpp. Inputs are multiples of 1/64, so they are short and exact in the
         file; results are printed with 17 significant digits, that is, exactly.
"""
import os
import sys

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

# name, module, nonlinearity, T, N, I, H, L, D, P, bias, states given, lengths
CASES = [
    ("lstm_plain", "lstm", 5, 3, 3, 4, 1, 1, 0, True, True, None),
    ("lstm_stack_bidirectional", "lstm", 4, 2, 3, 3, 2, 2, 0, True, True, None),
    ("lstm_no_bias_no_states", "lstm", 6, 2, 2, 5, 1, 1, 0, False, False, None),
    ("lstm_projection_stack", "lstm", 4, 3, 3, 5, 2, 1, 2, True, True, None),
    ("lstm_projection_bidirectional_lengths", "lstm", 5, 4, 2, 4, 1, 2, 3, True, True,
     [2, 5, 1, 4]),
    ("lstm_stack_bidirectional_lengths", "lstm", 5, 4, 2, 3, 2, 2, 0, True, True, [3, 1, 5, 5]),
    ("gru_plain", "gru", 5, 3, 3, 4, 1, 1, 0, True, True, None),
    ("gru_stack_bidirectional_lengths", "gru", 5, 3, 2, 3, 2, 2, 0, True, True, [4, 5, 2]),
    ("gru_no_bias_stack", "gru", 4, 2, 3, 3, 2, 1, 0, False, True, None),
    ("gru_reset_before_autograd", "gru_reset_before", 5, 3, 3, 4, 1, 1, 0, True, True, None),
    ("rnn_tanh_stack_bidirectional", "rnn_tanh", 5, 2, 3, 4, 2, 2, 0, True, True, None),
    ("rnn_tanh_lengths", "rnn_tanh", 6, 4, 3, 4, 1, 1, 0, True, True, [6, 1, 3, 2]),
    ("rnn_relu_stack", "rnn_relu", 5, 3, 3, 4, 2, 1, 0, True, True, None),
    ("rnn_relu_bidirectional_lengths", "rnn_relu", 5, 3, 2, 3, 1, 2, 0, True, True, [5, 2, 4]),
]


def coarse(shape, generator, scale):
    """Random multiples of 1/64 in [-scale, scale]."""
    values = (torch.rand(shape, generator=generator) * 2 - 1) * scale
    return torch.round(values * 64) / 64


class GruResetBefore(torch.nn.Module):
    """torch has no such cell: its equations for autograd, one layer, one direction."""

    def __init__(self, input_size, hidden):
        super().__init__()
        for name, shape in [("weight_ih_l0", (3 * hidden, input_size)),
                            ("weight_hh_l0", (3 * hidden, hidden)),
                            ("bias_ih_l0", (3 * hidden,)), ("bias_hh_l0", (3 * hidden,))]:
            setattr(self, name, torch.nn.Parameter(torch.zeros(shape)))

    def forward(self, x, hx):
        w_r, w_z, w_n = self.weight_ih_l0.chunk(3)
        u_r, u_z, u_n = self.weight_hh_l0.chunk(3)
        b_r, b_z, b_n = (self.bias_ih_l0 + self.bias_hh_l0).chunk(3)
        h, outputs = hx[0], []
        for step in x:
            r = torch.sigmoid(step @ w_r.T + h @ u_r.T + b_r)
            z = torch.sigmoid(step @ w_z.T + h @ u_z.T + b_z)
            n = torch.tanh(step @ w_n.T + (r * h) @ u_n.T + b_n)
            h = (1 - z) * n + z * h
            outputs.append(h)
        return torch.stack(outputs), h.unsqueeze(0)


def make_module(cell, input_size, hidden, layers, directions, proj, bias):
    options = dict(num_layers=layers, bidirectional=directions == 2, bias=bias)
    if cell == "lstm":
        return torch.nn.LSTM(input_size, hidden, proj_size=proj, **options)
    if cell == "gru_reset_before":
        return GruResetBefore(input_size, hidden)
    if cell == "gru":
        return torch.nn.GRU(input_size, hidden, **options)
    return torch.nn.RNN(input_size, hidden, nonlinearity=cell[4:], **options)


def write(out, name, tensor):
    values = tensor.detach().reshape(-1).tolist()
    shape = ",".join(str(size) for size in tensor.shape)
    out.write(f"tensor {name} {shape}\n")
    out.write(" ".join(format(v, ".17g") for v in values) + "\n")


def write_case(out, seed, case):
    name, cell, T, N, I, H, L, D, P, bias, states, lengths = case
    generator = torch.Generator().manual_seed(seed)
    module = make_module(cell, I, H, L, D, P, bias)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(coarse(weight.shape, generator, 0.8))
    O = P if P else H
    x = coarse((T, N, I), generator, 1.5).requires_grad_()
    hx = coarse((L * D, N, O), generator, 0.7).requires_grad_()
    cx = coarse((L * D, N, H), generator, 0.7).requires_grad_()
    dy = coarse((T, N, D * O), generator, 1.0)
    dhy = coarse((L * D, N, O), generator, 1.0)
    dcy = coarse((L * D, N, H), generator, 1.0)

    initial = None if not states else ((hx, cx) if cell == "lstm" else hx)
    if lengths:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(lengths), enforce_sorted=False)
        y, final = module(packed, initial)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    else:
        y, final = module(x, initial)
    hy, cy = final if cell == "lstm" else (final, None)
    loss = (y * dy).sum() + (hy * dhy).sum()
    if cell == "lstm":
        loss = loss + (cy * dcy).sum()
    loss.backward()

    shape = f"L{L} T{T} N{N} I{I} H{H} D{D}" + (f" P{P}" if P else "")
    words = " bias=" + ("double" if bias else "none") + ("" if states else " no_states")
    out.write(f"case {name}\nline {cell} {shape}{words} f64\n")
    if lengths:
        out.write("lengths " + " ".join(str(n) for n in lengths) + "\n")
    tensors = {"x": x, "dy": dy, "dhy": dhy, "y": y, "hy": hy, "dx": x.grad}
    if states:
        tensors.update({"hx": hx, "dhx": hx.grad})
    if cell == "lstm":
        tensors.update({"dcy": dcy, "cy": cy})
        if states:
            tensors.update({"cx": cx, "dcx": cx.grad})
    for weight_name, weight in module.named_parameters():
        tensors[weight_name] = weight
        tensors["d_" + weight_name] = weight.grad
    for tensor_name, tensor in tensors.items():
        write(out, tensor_name, tensor)
    out.write("end\n\n")


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden_torch.txt")
    with open(path, "w", encoding="ascii") as out:
        out.write(f"# made by make_golden_torch.py with torch {torch.__version__}, CPU, f64\n\n")
        for seed, case in enumerate(CASES, start=1):
            write_case(out, seed, case)
    print(f"{path}: {len(CASES)} cases, {os.path.getsize(path)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
