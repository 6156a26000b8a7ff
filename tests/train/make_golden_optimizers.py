"""Writes golden_optimizers.hpp: parameters after updates by torch.optim, in double precision.

Run with PyTorch installed:  python3 make_golden_optimizers.py > golden_optimizers.hpp
"""
import torch

CASES = [
    ("sgd", torch.optim.SGD, dict(lr=0.1)),
    ("sgd_momentum_decay", torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.01)),
    ("rmsprop", torch.optim.RMSprop, dict(lr=0.01, alpha=0.95)),
    ("rmsprop_momentum", torch.optim.RMSprop, dict(lr=0.01, alpha=0.9, momentum=0.5)),
    ("adam", torch.optim.Adam, dict(lr=0.01)),
    ("adam_decay", torch.optim.Adam, dict(lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)),
    ("adamw", torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1)),
]
STEPS = 5


def numbers(values):
    return ", ".join(repr(float(v)) for v in values)


def main():
    torch.manual_seed(3)
    start = torch.randn(6, dtype=torch.float64)
    grads = torch.randn(STEPS, 6, dtype=torch.float64)
    print("#pragma once\n\n// Made by make_golden_optimizers.py with PyTorch "
          f"{torch.__version__.split('+')[0]}.\n\nnamespace carousel::test {{\n")
    print("// clang-format off")
    print(f"inline constexpr double kGoldenStart[6] = {{{numbers(start)}}};")
    rows = ",\n    ".join("{" + numbers(g) + "}" for g in grads)
    print(f"inline constexpr double kGoldenGrads[{STEPS}][6] = {{\n    {rows}}};")
    for name, kind, options in CASES:
        p = start.clone().requires_grad_(True)
        optimizer = kind([p], **options)
        for g in grads:
            p.grad = g.clone()
            optimizer.step()
        camel = "".join(part.capitalize() for part in name.split("_"))
        print(f"inline constexpr double kGolden{camel}[6] = {{{numbers(p.detach())}}};")
    print("// clang-format on\n\n}  // namespace carousel::test")


main()
