"""Rows of a shape file, and small statistics; shared by the Python programs of this folder."""

import pathlib
import re
import sys

SHAPES = pathlib.Path(__file__).resolve().parent / "shapes" / "cpu.txt"


class Row:
    """One line `lstm H512 N64 T64 L2`, optionally `I<input>`, which is H unless said."""

    def __init__(self, text, place):
        words = text.split()
        self.text = " ".join(words)
        self.cell = words[0]
        if self.cell not in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            sys.exit(f"{place}: unknown cell '{self.cell}'")
        sizes = {}
        for word in words[1:]:
            match = re.fullmatch(r"([HINTL])([1-9][0-9]*)", word)
            if not match:
                sys.exit(f"{place}: '{word}' should be one of H, I, L, N, T and a number, as H512")
            sizes[match[1]] = int(match[2])
        missing = [letter for letter in "HNT" if letter not in sizes]
        if missing:
            sys.exit(f"{place}: {' and '.join(missing)} missing")
        self.hidden, self.batch, self.steps = sizes["H"], sizes["N"], sizes["T"]
        self.layers = sizes.get("L", 1)
        self.input = sizes.get("I", self.hidden)


def read_rows(path, pattern=".*"):
    """The rows of a file whose line the regular expression finds."""
    rows = []
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if line:
            row = Row(line, f"{path}:{number}")
            if re.search(pattern, row.text):
                rows.append(row)
    return rows


def quantile(values, q):
    """Linear interpolation between neighbours of the sorted values."""
    values = sorted(values)
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def summary(values):
    return {name: float(f"{quantile(values, q):.4g}")
            for name, q in (("median", 0.5), ("p10", 0.1), ("p90", 0.9))}
