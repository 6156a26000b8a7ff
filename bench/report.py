#!/usr/bin/env python3
"""Figures of results: report.py --out FOLDER FILE.jsonl [...]

Reads what carousel_bench_gpu --json, compare_cpu.py (results.jsonl) and cost_curves.py --json wrote,
and makes PNGs and one self-contained report.html: the ratio to the best peer for each row, time per
step against H and N with the lower bound and the peer, and scaling with T and L. Results of different
machines or versions are never drawn together: that ends with status 2. bench/setup_report.sh makes
the virtual environment with matplotlib.
"""

import argparse
import base64
import html
import json
import pathlib
import sys

import shapes

PASS_ORDER = ["infer", "forward", "backward_data", "backward", "train", "sample"]
OURS, PEER, BOUND, SLOWER = "#1b7f79", "#8d99a6", "#c98b1b", "#b8433a"
GRID_COLOR = "#d9dde2"
# What must be equal for two results to stand in one figure.
MACHINE_KEYS = ["gpu", "cpu", "threads", "driver_cuda", "cuda_runtime", "cublaslt", "cudnn",
                "onednn_version", "torch_version", "commit"]


class Refusal(Exception):
    """Input that must not be drawn."""


def machine_of(about):
    """What of a header names the machine and the versions."""
    about = dict(about)
    smi = about.pop("smi", {})
    machine = {key: about[key] for key in MACHINE_KEYS if key in about}
    if isinstance(smi, dict):
        for key in ("uuid", "driver"):
            if key in smi:
                machine[key] = smi[key]
    return machine


def read(paths):
    """(machine, header, GPU and CPU records, cost curves) of all files."""
    machine, header, records, curves = {}, {}, [], []
    for path in paths:
        for number, text in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except json.JSONDecodeError as error:
                raise Refusal(f"{path}:{number}: not JSON: {error}") from None
            about = line.get("about")
            if about == "end":
                continue
            if about is not None:
                said = about if isinstance(about, dict) else line
                for key, value in machine_of(said).items():
                    if key in machine and machine[key] != value:
                        raise Refusal(f"{path}:{number}: results of different machines or versions: "
                                      f"{key} is '{value}' here and '{machine[key]}' before")
                    machine[key] = value
                header.update(said)
            elif "curve" in line or "fit" in line:
                curves.append(line)
            elif "no_device" in line:
                raise Refusal(f"{path}:{number}: no results: {line['no_device']}")
            else:
                records += from_gpu(line) if line.get("bench") == "gpu" else from_cpu(line)
    if not machine:
        raise Refusal("no file says which machine its results are of")
    return machine, header, records, curves


def from_gpu(line):
    if "carousel_ms" not in line or "derived" in line:
        return []
    steps = line["seq_len"] * line["layers"]
    name = f"{line['row']} {line['cell']} {line['dtype']} H{line['hidden']} N{line['batch']}"
    return [{"label": name, "family": line["row"].rstrip("0123456789"), "pass": line["pass"],
             "cell": line["cell"], "dtype": line["dtype"], "H": line["hidden"], "N": line["batch"],
             "T": line["seq_len"], "L": line["layers"], "l2": line.get("l2", "warm"),
             "us": line["carousel_ms"]["median"] * 1e3 / steps,
             "peer_us": line["peer_ms"]["median"] * 1e3 / steps if "peer_ms" in line else None,
             "bound_us": line["bound_us"] / steps, "ratio": line.get("ratio"),
             "peer": line.get("peer", "")}]


def from_cpu(line):
    """A line of compare_cpu.py: both peers, of which the better one counts."""
    best = line.get("best_peer")
    if best is None:
        return []
    values = line[best]
    record = {"label": line["row"], "family": "cpu", "pass": line["pass"], "l2": "warm",
              "ratio": values["ratio"], "peer": best, "aim": line.get("aim"), "bound_us": None,
              "us": None, "peer_us": None}
    if line.get("group") == "model":
        return [record]
    row = shapes.Row(line["row"], line["row"])
    steps = row.steps * row.layers
    record.update({"cell": row.cell, "dtype": "f32", "H": row.hidden, "N": row.batch,
                   "T": row.steps, "L": row.layers,
                   "us": values["carousel_ms"]["median"] * 1e3 / steps,
                   "peer_us": values["peer_ms"]["median"] * 1e3 / steps})
    floor = line.get("onednn", {}).get("floor_ms")
    if floor:
        record["bound_us"] = floor * 1e3 / steps
    return [record]


def style(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def ratio_bars(plt, records, caption):
    """A bar for each row, a panel for each pass: above 1, Carousel is faster."""
    with_ratio = [r for r in records if r["ratio"]]
    passes = [p for p in PASS_ORDER if any(r["pass"] == p for r in with_ratio)]
    # Passes with a single row share a panel of their own.
    panels = [[p] for p in passes if sum(r["pass"] == p for r in with_ratio) > 1]
    single = [p for p in passes if [p] not in panels]
    if single and panels:
        panels[-1] = panels[-1] + single
    elif single:
        panels = [single]
    most = max(sum(r["pass"] in panel for r in with_ratio) for panel in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.9 * len(panels) + 0.8, 0.24 * most + 1.7),
                                squeeze=False)
    for panel, ax in zip(panels, axes[0]):
        rows = [r for r in with_ratio if r["pass"] in panel]
        positions = range(len(rows))
        medians = [r["ratio"]["median"] for r in rows]
        spread = [[max(0.0, r["ratio"]["median"] - r["ratio"]["p10"]) for r in rows],
                  [max(0.0, r["ratio"]["p90"] - r["ratio"]["median"]) for r in rows]]
        # Drawn from 1, so that length is what is won or lost.
        ax.barh(positions, [m - 1 for m in medians], left=1, height=0.68,
                color=[OURS if m >= 1 else SLOWER for m in medians])
        ax.errorbar(medians, list(positions), xerr=spread, fmt="none", ecolor="#333333",
                    elinewidth=0.8, capsize=1.5)
        ax.axvline(1.0, color="#333333", linewidth=0.9)
        ax.set_yticks(list(positions), [r["label"] for r in rows])
        ax.invert_yaxis()
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xscale("log")
        low = max(min([0.8, *(r["ratio"]["p10"] * 0.95 for r in rows)]), min(medians) * 0.6)
        high = max([1.5, *(r["ratio"]["p90"] * 1.12 for r in rows)])
        ax.set_xlim(low, high)
        ticks = [t for t in (0.25, 0.5, 0.7, 0.8, 1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16) if low <= t <= high]
        while len(ticks) > 8:
            ticks = [t for i, t in enumerate(ticks) if i % 2 == 0 or t == 1]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        for y, r in zip(positions, rows):
            ax.annotate(f"{r['ratio']['median']:.2f}", (max(r["ratio"]["p90"], r["ratio"]["median"]), y),
                        xytext=(4, 0), textcoords="offset points", va="center", fontsize=6.5,
                        color="#333333")
        style(ax)
        ax.grid(axis="y", visible=False)
        ax.set_title(", ".join(panel), fontsize=10, loc="left")
        ax.set_xlabel("time of the best peer / Carousel's (above 1: Carousel is faster)", fontsize=8)
    figure.suptitle(f"Ratio to the best peer; whiskers: 10th to 90th percentile of pairs\n{caption}",
                    fontsize=9, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.05 / (0.24 * most + 1.7)))
    return figure


def series(records, axis, fixed):
    """Groups of two or more records that differ in `axis` and agree in all of `fixed`."""
    groups = {}
    for r in records:
        if r["us"] is not None:
            groups.setdefault(tuple(r[key] for key in fixed), []).append(r)
    for key, group in sorted(groups.items()):
        unique = {r[axis]: r for r in group}
        if len(unique) >= 2:
            yield key, [unique[value] for value in sorted(unique)]


def sweep(plt, records, axis, fixed, which, caption):
    """Time per layer and step against one size; a panel for each group."""
    chosen = [r for r in records if r["pass"] == which]
    groups = list(series(chosen, axis, fixed))[:12]
    if not groups:
        return None
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.0 * rows + 0.6), squeeze=False)
    for ax in axes.flat[len(groups):]:
        ax.set_visible(False)
    for ax, (key, group) in zip(axes.flat, groups):
        xs = [r[axis] for r in group]
        ax.plot(xs, [r["us"] for r in group], "o-", color=OURS, label="Carousel", markersize=4)
        if all(r["peer_us"] for r in group):
            ax.plot(xs, [r["peer_us"] for r in group], "s--", color=PEER, label="best peer",
                    markersize=4)
        if all(r["bound_us"] for r in group):
            ax.plot(xs, [r["bound_us"] for r in group], ":", color=BOUND, label="lower bound")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(xs, [str(x) for x in xs])
        ax.minorticks_off()
        low, high = ax.get_ylim()
        ticks = [m * 10**e for e in range(-3, 7) for m in (1, 2, 5) if low <= m * 10**e <= high]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        style(ax)
        ax.set_title(" ".join(str(value) if isinstance(value, str) else f"{name}{value}"
                              for name, value in zip(fixed, key)), fontsize=9, loc="left")
        ax.set_xlabel(axis, fontsize=8)
        ax.set_ylabel("us per layer and step", fontsize=8)
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.suptitle(f"{which}: time per layer and step against {axis}\n{caption}", fontsize=9, x=0.01,
                    ha="left")
    figure.tight_layout()
    return figure


def cost_curves(plt, curves, caption):
    """Time and memory of cost_curves.py, on logarithmic axes, with a line of slope 1 from the first."""
    axes_names = [a for a in "TNHL" if any(c.get("curve") == a for c in curves)]
    if not axes_names:
        return None
    figure, axes = plt.subplots(2, len(axes_names), figsize=(3.4 * len(axes_names), 5.4), squeeze=False)
    for column, axis in enumerate(axes_names):
        for row, (key, unit, scale) in enumerate((("ms", "ms", 1.0), ("peak_bytes", "MiB", 2.0**20))):
            ax = axes[row][column]
            for mode, color in (("infer", PEER), ("train", OURS)):
                points = [(c[axis], c[key] / scale) for c in curves
                          if c.get("curve") == axis and c["mode"] == mode and c[key] > 0]
                if not points:
                    continue
                xs, ys = zip(*points)
                fit = next((c for c in curves if c.get("fit") == axis and c["mode"] == mode), {})
                name = fit.get("time_power_of_last" if row == 0 else "memory_power_of_last")
                ax.plot(xs, ys, "o-", color=color, markersize=4,
                        label=mode if name is None else f"{mode}, ~ {axis}^{name:.2f} at the end")
                ax.plot(xs, [ys[-1] * x / xs[-1] for x in xs], ":", color=BOUND, linewidth=0.9)
            ax.set_xscale("log")
            ax.set_yscale("log")
            style(ax)
            ax.legend(fontsize=7, frameon=False)
            ax.set_xlabel(axis, fontsize=8)
            ax.set_ylabel(unit, fontsize=8)
    figure.suptitle(f"Cost of a layer; dotted: slope 1\n{caption}", fontsize=9, x=0.01, ha="left")
    figure.tight_layout()
    return figure


def figures(plt, records, curves, caption):
    warm = [r for r in records if r["l2"] == "warm"]
    if any(r["ratio"] for r in warm):
        yield "ratios", ratio_bars(plt, warm, caption)
    timed = [r for r in warm if r["us"] is not None]
    for which in PASS_ORDER:
        for axis, fixed in (("H", ["cell", "dtype", "N"]), ("N", ["cell", "dtype", "H"]),
                            ("T", ["cell", "dtype", "H", "N", "L"]),
                            ("L", ["cell", "dtype", "H", "N"])):
            made = sweep(plt, timed, axis, fixed, which, caption)
            if made is not None:
                yield f"{which}_against_{axis}", made
    made = cost_curves(plt, curves, caption)
    if made is not None:
        yield "cost_curves", made


def table(records):
    yield "<table><tr><th>row<th>pass<th>us per layer and step<th>peer<th>peer us<th>ratio<th>of bound"
    for r in records:
        ratio = f"{r['ratio']['median']:.2f}" if r["ratio"] else "no peer"
        share = f"{r['bound_us'] / r['us']:.2f}" if r["us"] and r["bound_us"] else ""
        cells = [r["label"], r["pass"] + ("*" if r["l2"] == "flushed" else ""),
                 f"{r['us']:.3g}" if r["us"] else "", r["peer"],
                 f"{r['peer_us']:.3g}" if r["peer_us"] else "", ratio, share]
        yield "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells)
    yield "</table>"


def write(out, made, machine, header, records):
    out.mkdir(parents=True, exist_ok=True)
    parts = ["<!doctype html><meta charset=utf-8><title>Carousel: benchmarks</title>",
             "<style>body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:75rem;"
             "padding:0 1rem}img{max-width:100%}td,th{padding:.1rem .6rem;text-align:left}"
             "table{border-collapse:collapse;font-size:13px}tr:nth-child(even){background:#f4f5f7}"
             "pre{white-space:pre-wrap}</style><h1>Carousel: benchmarks</h1>"]
    for name, figure in made:
        path = out / f"{name}.png"
        figure.savefig(path, dpi=130)
        image = base64.b64encode(path.read_bytes()).decode()
        parts.append(f'<p><img alt="{name}" src="data:image/png;base64,{image}">')
        print(path)
    parts += table(records)
    parts.append("<h2>Machine and versions</h2><pre>" +
                 html.escape(json.dumps({**header, **machine}, indent=1)) + "</pre>")
    (out / "report.html").write_text("\n".join(parts))
    print(out / "report.html")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    try:
        machine, header, records, curves = read(options.files)
    except (Refusal, OSError) as refusal:
        print(f"report.py: {refusal}", file=sys.stderr)
        return 2
    try:
        import matplotlib
    except ImportError:
        print("report.py: no matplotlib in this python; bench/setup_report.sh makes one that has it",
              file=sys.stderr)
        return 2
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    caption = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "uuid")
    date = header.get("date", "")
    write(options.out, figures(plt, records, curves, f"{date} {caption}".strip()), machine, header,
          records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
