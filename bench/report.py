#!/usr/bin/env python3
"""Figures of results: report.py --out FOLDER FILE.jsonl [...]

Reads what carousel_bench_gpu, carousel_bench_cpu, torch_models.py and cost_curves.py wrote with
--json, and makes PNGs and one self-contained report.html: the ratio to the best peer for each row,
time per step against H and N with the lower bound and the peer, and scaling with T and L. Results of
different machines or versions are never drawn together: that ends with status 2.
bench/setup_report.sh makes the virtual environment with matplotlib.
"""

import argparse
import base64
import html
import json
import pathlib
import sys

import lines

OURS, PEER, BOUND, SLOWER = "#1b7f79", "#8d99a6", "#c98b1b", "#b8433a"
GRID_COLOR = "#d9dde2"


def record_of(line):
    """What is drawn of a timed row and pass; a model has no shape, and no time per step."""
    record = {"label": lines.label(line), "pass": line["pass"], "l2": line["l2"],
              "ratio": line.get("ratio"), "peer": line.get("peer", ""), "us": None, "peer_us": None,
              "bound_us": None}
    if "cell" in line:
        steps = line["seq_len"] * line["layers"]
        record.update({"cell": line["cell"], "dtype": line["dtype"], "H": line["hidden"],
                       "N": line["batch"], "T": line["seq_len"], "L": line["layers"],
                       "us": line["carousel_ms"]["median"] * 1e3 / steps,
                       "bound_us": line["bound_us"] / steps})
        if "peer_ms" in line:
            record["peer_us"] = line["peer_ms"]["median"] * 1e3 / steps
    return record


def style(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def ratio_bars(plt, records, caption):
    """A bar for each row, a panel for each pass: above 1, Carousel is faster."""
    with_ratio = [r for r in records if r["ratio"]]
    # Sampling is one row, which stands beside training steps.
    panels = {"train, sample" if p in ("train", "sample") else p: [] for p in lines.PASSES}
    for r in with_ratio:
        next(panel for name, panel in panels.items() if r["pass"] in name.split(", ")).append(r)
    panels = {", ".join(p for p in name.split(", ") if any(r["pass"] == p for r in panel)): panel
              for name, panel in panels.items() if panel}
    labels = list(dict.fromkeys(r["label"] for r in with_ratio))
    height = 0.24 * len(labels) + 1.9
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels) + 2.2, height),
                                sharey=True, squeeze=False)
    for (name, panel), ax in zip(panels.items(), axes[0]):
        ratio_panel(ax, panel, [labels.index(r["label"]) for r in panel])
        ax.set_title(name, fontsize=10, loc="left")
    axes[0][0].set_yticks(range(len(labels)), labels)
    axes[0][0].set_ylim(len(labels) - 0.4, -0.6)
    figure.suptitle("Time of the best peer / Carousel's: above 1, Carousel is faster; whiskers: 10th to "
                    f"90th percentile of pairs\n{caption}", fontsize=8, x=0.01, ha="left", wrap=True)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.1 / height))
    return figure


def ratio_panel(ax, rows, positions):
    medians = [r["ratio"]["median"] for r in rows]
    spread = [[max(0.0, r["ratio"]["median"] - r["ratio"]["p10"]) for r in rows],
              [max(0.0, r["ratio"]["p90"] - r["ratio"]["median"]) for r in rows]]
    # Drawn from 1, so that length is what is won or lost.
    ax.barh(positions, [m - 1 for m in medians], left=1, height=0.68,
            color=[OURS if m >= 1 else SLOWER for m in medians])
    ax.errorbar(medians, positions, xerr=spread, fmt="none", ecolor="#333333", elinewidth=0.8,
                capsize=1.5)
    ax.axvline(1.0, color="#333333", linewidth=0.9)
    ax.set_xscale("log")
    low = max(min([0.8, *(r["ratio"]["p10"] * 0.95 for r in rows)]), min(medians) * 0.6)
    high = max([1.5, *(r["ratio"]["p90"] for r in rows)])
    high *= (high / low) ** 0.15  # for the figures beside the bars
    ax.set_xlim(low, high)
    ticks = [t for t in (0.25, 0.5, 0.7, 0.8, 1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16) if low <= t <= high]
    while len(ticks) > 7:
        ticks = [t for i, t in enumerate(ticks) if i % 2 == 0 or t == 1]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    for y, r in zip(positions, rows):
        ax.annotate(f"{r['ratio']['median']:.2f}", (max(r["ratio"]["p90"], r["ratio"]["median"]), y),
                    xytext=(4, 0), textcoords="offset points", va="center", fontsize=6.5,
                    color="#333333")
    style(ax)
    ax.grid(axis="y", visible=False)


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
            ax.minorticks_off()
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
    for which in lines.PASSES:
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


def write(out, made, header, records):
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
                 html.escape(json.dumps(header, indent=1)) + "</pre>")
    (out / "report.html").write_text("\n".join(parts))
    print(out / "report.html")


def pass_list(text):
    for name in text.split(","):
        if name not in lines.PASSES:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {','.join(lines.PASSES)}")
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--pass", dest="passes", metavar="LIST", type=pass_list, default=lines.PASSES,
                        help=f"of {','.join(lines.PASSES)} [default: all]")
    options = parser.parse_args()
    try:
        results = lines.read(options.files)
        records = [record_of(line) for line in results.timed if line["pass"] in options.passes]
        if not records and not results.curves:
            raise lines.Refusal(f"no timed row of {', '.join(options.passes)}, and no cost curve")
    except (lines.Refusal, OSError) as refusal:
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
    made = figures(plt, records, results.curves, results.caption())
    write(options.out, made, results.header, records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
