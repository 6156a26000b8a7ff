#!/usr/bin/env python3
"""Tables of the CPU's results: cpu_table.py FILE.jsonl [...], or --agree ONE.jsonl OTHER.jsonl

Reads what carousel_bench_cpu --json and torch_models.py --json wrote, of one machine and commit, and
prints markdown: Carousel's time, the ratio to the best peer and to each, the share of the lower bound,
and whether the aim is met. --agree says how far two runs of the same rows agree: whether the printed
intervals overlap or, where they do not, those of the visits that both made with the cores at the same
distance; it ends with status 1 if some do not. Status 2: input that cannot be shown.
"""

import argparse
import collections
import sys

import lines

# A row also meets its aim when Carousel is this close to the lower bound and no peer is faster.
NEAR_BOUND = 1.12
# No multiples of the widths that products are blocked by.
ODD_HIDDEN = (200, 650, 1500)
# Language models have torch as their only peer.
MODEL_AIMS = {"char-LM step": 1.3, "word-LM step": 1.3, "sampled character": 4.0}
AIMED = ("forward", "train")
OTHER_PASSES = ("infer", "backward_data", "backward")
WORST_SHOWN = 10
# Rows whose threads meet at every step change with the distance of the cores, which a virtual machine
# changes at will: 40 or 200 ns. Visits are compared with those at nearly the same distance.
LIKE_HANDOFF = 1.6


def aim_of(line):
    """The least ratio that a pass should have, or None."""
    if "cell" not in line:
        return MODEL_AIMS.get(line["row"])
    if line["pass"] not in AIMED:
        return None
    train = line["pass"] == "train"
    if line["batch"] == 1 and line["hidden"] <= 512:
        return 2.5 if train and line["cell"] == "gru" else 1.7
    if line["batch"] == 1:
        return 1.2 if train else 1.1
    if line["batch"] >= 64 and line["hidden"] >= 512 and line["hidden"] not in ODD_HIDDEN:
        return 1.05
    return 1.2 if train else 1.15


def verdict(line):
    if "ratio" not in line:
        return "no peer"
    median = line["ratio"]["median"]
    if median >= aim_of(line):
        return "met"
    near = line.get("bound_fraction", 0.0) >= 1 / NEAR_BOUND
    return "met at the bound" if near and median >= 1 else "missed"


def peers_of(line):
    """{peer: its ratio}; of oneDNN's weight formats the better one, and * marks another precision."""
    found = {}
    for other in line.get("others", []):
        if "refused" in other:
            continue
        peer = "oneDNN" if other["name"].startswith("onednn") else other["name"]
        peer += "" if other["peer"] else "*"
        found[peer] = min(other["ratio"]["median"], found.get(peer, float("inf")))
    return found


def ratio_text(ratio, digits=2):
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(ratio["median"], ratio["p10"], ratio["p90"], d=digits)


def best(line):
    return ratio_text(line["ratio"]) if "ratio" in line else "no peer"


def share(line):
    return f"{line['bound_fraction']:.2f}" if "bound_fraction" in line else ""


def milliseconds(values):
    return f"{values['median']:.4g}"


def markdown(head, rows):
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def rows_of(timed):
    """{label: {pass: line}} in the order of the lines."""
    rows = {}
    for line in timed:
        rows.setdefault(lines.label(line), {})[line["pass"]] = line
    return rows


def layer_table(timed):
    names = list(dict.fromkeys(peer for line in timed for peer in peers_of(line)))
    head, table = ["cell, H, N, T, layers"], []
    for which in AIMED:
        head += [f"{which}: ms", "ratio [p10, p90]", "of bound", " / ".join(names) or "peers", "aim"]
    for label, passes in rows_of(timed).items():
        cells = [label]
        for which in AIMED:
            line = passes.get(which)
            if line is None:
                cells += [""] * 5
                continue
            peers = peers_of(line)
            cells += [milliseconds(line["carousel_ms"]), best(line), share(line),
                      " / ".join(f"{peers[n]:.2f}" if n in peers else "-" for n in names),
                      f"{aim_of(line):g} {verdict(line)}"]
        table.append(cells)
    return markdown(head, table)


def other_table(timed):
    head = ["cell, H, N, T, layers", *(f"{p}: ms, ratio, of bound" for p in OTHER_PASSES)]
    table = []
    for label, passes in rows_of(timed).items():
        cells = [", ".join((milliseconds(passes[p]["carousel_ms"]), best(passes[p]), share(passes[p])))
                 if p in passes else "" for p in OTHER_PASSES]
        table.append([label, *cells])
    return markdown(head, table)


def model_table(timed):
    table = []
    for line in timed:
        peer = f"{milliseconds(line['peer_ms'])} ({line['peer']})" if "peer" in line else ""
        aim = aim_of(line)
        table.append([line["row"], milliseconds(line["carousel_ms"]), peer, best(line),
                      "" if aim is None else f"{aim:g} {verdict(line)}"])
    return markdown(["model", "Carousel ms", "peer ms", "ratio [p10, p90]", "aim"], table)


def count_of_aims(timed):
    verdicts = [verdict(line) for line in timed if aim_of(line) is not None]
    at_bound = verdicts.count("met at the bound")
    text = f"{verdicts.count('met') + at_bound} of {len(verdicts)} aims are met"
    if at_bound:
        text += f", {at_bound} of them only by being within {NEAR_BOUND} x the lower bound"
    if "no peer" in verdicts:
        text += f"; {verdicts.count('no peer')} had no peer to be judged by"
    return text + "."


def where_a_peer_is_faster(timed):
    compared = [line for line in timed if "ratio" in line]
    slower = [line for line in compared if line["ratio"]["median"] < 1]
    text = f"A peer is faster in {len(slower)} of {len(compared)} passes"
    if slower:
        surely = sum(line["ratio"]["p90"] < 1 for line in slower)
        where = (f"{' '.join(lines.name(line))} ({line['peer']}, {ratio_text(line['ratio'], 3)})"
                 for line in slower)
        text += f", in {surely} of them with the whole interval below 1: {', '.join(where)}"
    yield text + "."
    marked = {}
    for line in timed:
        for peer, ratio in peers_of(line).items():
            if peer.endswith("*"):
                marked.setdefault(peer, []).append(ratio)
    for peer, ratios in marked.items():
        yield (f"* {peer[:-1]} computes in another precision and is no peer; it is faster in "
               f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)} passes.")


def what_is_missing(results):
    if "torch_absent" in results.header:
        yield f"torch did not run: {results.header['torch_absent']}"
    for line in results.skipped:
        what = f"{lines.label(line)} {line.get('pass', '')}".strip()
        yield f"Not timed: {what}: {line['skipped']}"
    refused = {}
    for line in results.timed:
        for other in line.get("others", []):
            if "refused" in other:
                refused.setdefault((other["name"], other["refused"]), []).append(line)
    for (peer, why), where in refused.items():
        yield f"{peer} did not run in {len(where)} passes: {why}"


def tables(results, all_passes):
    layers = [line for line in results.timed if "cell" in line]
    models = [line for line in results.timed if "cell" not in line]
    yield results.caption()
    if layers:
        yield from ["", *layer_table(layers)]
    if layers and all_passes:
        yield from ["", *other_table(layers)]
    if models:
        yield from ["", *model_table(models)]
    yield from ["", count_of_aims(results.timed), *where_a_peer_is_faster(results.timed),
                *what_is_missing(results)]


class Pair:
    """One row and pass in two runs."""

    def __init__(self, one, other):
        self.one, self.other = one, other
        self.difference = other["ratio"]["median"] / one["ratio"]["median"] - 1
        mine, theirs = like_visits(one, other), like_visits(other, one)
        if overlap(spread([one["ratio"]]), spread([other["ratio"]])):
            self.verdict = "overlap"
        elif not (mine and theirs):
            self.verdict = "not comparable"
        else:
            alike = overlap(spread(mine), spread(theirs))
            self.verdict = "overlap at like hand-off" if alike else "APART"

    def cells(self):
        handoffs = [" to ".join(f"{ns:.0f}" for ns in line.get("handoff_ns", []))
                    for line in (self.one, self.other)]
        return [" ".join(lines.name(self.one)), best(self.one), best(self.other),
                f"{100 * self.difference:+.1f} %", self.verdict, ", ".join(filter(None, handoffs))]


def visits_of(line):
    """[(hand-offs before and after, ratio)]; a line that does not tell is one visit."""
    return [(visit["handoff_ns"], visit["ratio"]) for visit in line.get("by_visit", [])] or \
        [([1.0], line["ratio"])]


def like_visits(line, other):
    """Ratios of the visits for which the other line has one with the cores as far apart."""
    def alike(a, b):
        return max(*a, *b) <= LIKE_HANDOFF * min(*a, *b)
    return [ratio for handoff, ratio in visits_of(line)
            if any(alike(handoff, theirs) for theirs, _ in visits_of(other))]


def spread(ratios):
    return min(r["p10"] for r in ratios), max(r["p90"] for r in ratios)


def overlap(a, b):
    return a[0] <= b[1] and b[0] <= a[1]


def agreement(one, other):
    """(whether all intervals overlap, text lines) of two runs."""
    runs = [{lines.name(line): line for line in results.timed if "ratio" in line}
            for results in (one, other)]
    pairs = [Pair(line, runs[1][key]) for key, line in runs[0].items() if key in runs[1]]
    if not pairs:
        raise lines.Refusal("the two files have no row and pass with a ratio in common")
    count = collections.Counter(pair.verdict for pair in pairs)
    differences = [abs(pair.difference) for pair in pairs]
    text = [f"{len(pairs)} passes: the printed intervals of {count['overlap']} overlap; of the others, "
            f"{count['overlap at like hand-off']} do in visits with the cores as far apart (hand-offs "
            f"within {LIKE_HANDOFF:g} x), {count['not comparable']} had no such visits, and "
            f"{count['APART']} are apart. Medians differ by "
            f"{100 * lines.quantile(differences, 0.5):.1f} % (median) and at most "
            f"{100 * max(differences):.1f} %."]
    alone = runs[0].keys() ^ runs[1].keys()
    if alone:
        text.append(f"In one file only: {', '.join(sorted(map(' '.join, alone)))}.")
    worst = sorted(pairs, key=lambda pair: (pair.verdict != "APART", -abs(pair.difference)))
    text += ["", *markdown(["worst", "ratio [p10, p90]", "in the other", "difference", "intervals",
                            "hand-off ns"], [pair.cells() for pair in worst[:WORST_SHOWN]])]
    return count["APART"] == 0, text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--all-passes", action="store_true",
                        help="one more table, of infer and of backward alone")
    parser.add_argument("--agree", action="store_true", help="two files: how far they agree")
    options = parser.parse_args()
    if options.agree and len(options.files) != 2:
        parser.error(f"--agree compares two files, not {len(options.files)}")
    try:
        if options.agree:
            one, other = (lines.read([path]) for path in options.files)
            lines.check_same_machine(one.machine, other.machine, options.files[1])
            agreed, text = agreement(one, other)
        else:
            results = lines.read(options.files)
            if any(line["bench"] != "cpu" for line in results.timed):
                raise lines.Refusal("results of a GPU; report.py draws them")
            if not results.timed:
                raise lines.Refusal("no file has a timed row")
            agreed, text = True, tables(results, options.all_passes)
        print("\n".join(text))
    except (lines.Refusal, OSError) as refusal:
        print(f"cpu_table.py: {refusal}", file=sys.stderr)
        return 2
    except (UnicodeDecodeError, KeyError, TypeError) as error:
        print(f"cpu_table.py: {', '.join(options.files)}: not lines of carousel_bench_cpu --json or "
              f"torch_models.py --json: {type(error).__name__} {error}", file=sys.stderr)
        return 2
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
