"""The Python programs of this folder: what they read, say and start; they need no torch, no matplotlib."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import bench  # noqa: E402
import cost_curves  # noqa: E402
import cpu_table  # noqa: E402
import lines  # noqa: E402
import report  # noqa: E402
import torch_models  # noqa: E402

GPU_HEADER = {"bench": "gpu", "about": "machine", "gpu": "H200", "cudnn": "9.19.0", "commit": "abc",
              "smi": {"uuid": "GPU-1", "driver": "580", "sm_mhz": 1980}}
GPU_ROW = {"bench": "gpu", "row": "FRH6", "cell": "lstm", "dtype": "bf16", "hidden": 768,
           "input": 768, "batch": 16, "seq_len": 1024, "layers": 2, "directions": 1, "forms": [],
           "pass": "train", "l2": "warm", "carousel_ms": {"median": 2.048}, "bound_us": 512.0,
           "peer": "cudnn", "peer_ms": {"median": 4.096}, "ratio": {"median": 2.0, "p10": 1.9, "p90": 2.1}}
CPU_HEADER = {"bench": "cpu", "about": "machine", "cpu": "EPYC", "threads": 2, "commit": "abc",
              "onednn_version": "2.6.3", "torch_version": "2.15", "date": "2026-11-21T07:40:01Z"}


def ratio_of(median, spread=0.05):
    return {"median": median, "p10": median - spread, "p90": median + spread}


def cpu_row(ratio, row="CPU10", **changes):
    """One of shapes/cpu.txt whose aim is 1.05; oneDNN's plain weights are its best peer."""
    ms = {"median": 60.0, "p10": 59.0, "p90": 61.0}
    others = [("onednn any", True, ratio + 0.1), ("onednn plain", True, ratio),
              ("torch f32", True, ratio + 0.5), ("torch bf16", False, ratio - 0.3)]
    return {"bench": "cpu", "row": row, "cell": "lstm", "dtype": "f32", "hidden": 512, "input": 512,
            "batch": 64, "seq_len": 64, "layers": 2, "directions": 1, "line": f"... id={row}",
            "forms": [], "pass": "forward", "l2": "warm", "carousel_ms": ms, "bound_us": 30000.0,
            "bound_fraction": 0.5, "peer": "onednn plain", "peer_ms": ms, "ratio": ratio_of(ratio),
            "handoff_ns": [40.0, 240.0],
            "others": [{"name": name, "peer": peer, "ms": ms, "ratio": ratio_of(value), "pairs": 9}
                       for name, peer, value in others], **changes}


def model_row(name, ratio):
    ms = {"median": 166.0, "p10": 160.0, "p90": 170.0}
    return {"bench": "cpu", "row": name, "dtype": "f32", "pass": "train", "l2": "warm",
            "carousel_ms": ms, "peer": "torch f32", "peer_ms": ms, "ratio": ratio_of(ratio), "pairs": 9}


class WithFiles(unittest.TestCase):
    def write(self, *content):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "results.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in content))
        return path

    def run_main(self, module, *arguments):
        """(status, stdout, stderr) of a program."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", [module.__name__, *map(str, arguments)]), \
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = module.main()
            except SystemExit as ended:
                status = ended.code
        return status, out.getvalue(), err.getvalue()


class Reading(WithFiles):
    def test_clocks_may_differ_and_machines_may_not(self):
        warmer = {**GPU_HEADER, "smi": {**GPU_HEADER["smi"], "sm_mhz": 1500}}
        lines.read([self.write(GPU_HEADER, GPU_ROW), self.write(warmer)])
        for key, value in (("gpu", "H100"), ("cudnn", "9.20.0"), ("commit", "def")):
            with self.assertRaisesRegex(lines.Refusal, key):
                lines.read([self.write(GPU_HEADER), self.write({**GPU_HEADER, key: value})])
        other_card = {**GPU_HEADER, "smi": {"uuid": "GPU-2", "driver": "580"}}
        with self.assertRaisesRegex(lines.Refusal, "uuid"):
            lines.read([self.write(GPU_HEADER), self.write(other_card)])

    def test_two_runs_are_not_mixed(self):
        path = self.write(CPU_HEADER, cpu_row(1.5))
        with self.assertRaisesRegex(lines.Refusal, "lstm H512 N64 T64 L2 forward stands in .*, too"):
            lines.read([path, path])

    def test_rows_without_results_are_not_timed(self):
        skipped = {"bench": "gpu", "row": "FRH1", "skipped": "not yet: heads"}
        derived = {**GPU_ROW, "pass": "backward_weights", "derived": "a difference"}
        end = {"bench": "gpu", "about": "end", "gpu": "what a footer says is not compared"}
        results = lines.read([self.write(GPU_HEADER, skipped, derived, end)])
        self.assertEqual((results.timed, results.skipped), ([], [skipped]))

    def test_nameless_or_broken_input_is_refused(self):
        with self.assertRaisesRegex(lines.Refusal, "machine"):
            lines.read([self.write(GPU_ROW)])
        with self.assertRaisesRegex(lines.Refusal, "not a JSON object"):
            lines.read([self.write(GPU_HEADER, 3)])
        with self.assertRaisesRegex(lines.Refusal, "no NVIDIA driver"):
            lines.read([self.write({"bench": "gpu", "no_device": "no NVIDIA driver"})])
        path = self.write(GPU_HEADER)
        path.write_text("not json\n")
        with self.assertRaisesRegex(lines.Refusal, "not JSON"):
            lines.read([path])
        for module, flags in ((report, ["--out", path.parent]), (cpu_table, [])):
            status, _, err = self.run_main(module, path, *flags)
            self.assertEqual(status, 2)
            self.assertIn("not JSON", err)
        path.write_bytes(b"\xff\xfe\x00")
        with self.assertRaisesRegex(lines.Refusal, "not text"):
            lines.read([path])
        with self.assertRaisesRegex(lines.Refusal, ":2: a result without the field 'l2'"):
            lines.read([self.write(GPU_HEADER, {k: v for k, v in GPU_ROW.items() if k != "l2"})])

    def test_labels_say_what_is_not_as_usual(self):
        self.assertEqual(lines.label(cpu_row(1.0)), "lstm H512 N64 T64 L2")
        self.assertEqual(lines.label(GPU_ROW), "FRH6 lstm H768 N16 T1024 L2 bf16")
        odd = cpu_row(1.0, row="-", input=64, directions=2, forms=["peer without resets"])
        self.assertEqual(lines.label(odd),
                         "lstm H512 N64 T64 L2 I64 bidirectional (peer without resets)")

    def test_results_in_the_repository_are_read(self):
        for path in sorted((HERE.parent / "results").glob("*/*.jsonl")):
            with self.subTest(path=path):
                results = lines.read([path])
                self.assertTrue(results.timed or results.curves)
                for record in map(report.record_of, results.timed):
                    self.assertTrue(record["ratio"] is None or record["ratio"]["median"] > 0)


class Records(WithFiles):
    def test_gpu_lines_become_times_per_layer_and_step(self):
        record = report.record_of(GPU_ROW)
        self.assertAlmostEqual(record["us"], 1.0)
        self.assertAlmostEqual(record["peer_us"], 2.0)
        self.assertAlmostEqual(record["bound_us"], 0.25)

    def test_cpu_lines_take_the_same_path(self):
        record = report.record_of(cpu_row(1.5))
        self.assertEqual(record["label"], "lstm H512 N64 T64 L2")
        self.assertEqual((record["peer"], record["ratio"]["median"]), ("onednn plain", 1.5))
        self.assertAlmostEqual(record["us"], 60e3 / 128)
        self.assertAlmostEqual(record["bound_us"], 30e3 / 128)

    def test_models_have_a_ratio_and_no_step(self):
        record = report.record_of(model_row("char-LM step", 1.6))
        self.assertEqual((record["label"], record["ratio"]["median"], record["us"]),
                         ("char-LM step", 1.6, None))

    def test_passes_are_chosen(self):
        path = self.write(CPU_HEADER, cpu_row(1.5))
        flags = [path, "--out", path.parent]
        self.assertEqual(self.run_main(report, *flags, "--pass", "trian")[0], 2)
        status, _, err = self.run_main(report, *flags, "--pass", "train")
        self.assertEqual(status, 2)
        self.assertIn("no timed row of train", err)


class Table(WithFiles):
    def table(self, *rows, flags=()):
        path = self.write(CPU_HEADER, *rows)
        status, out, err = self.run_main(cpu_table, path, *flags)
        self.assertEqual((status, err), (0, ""))
        return out

    def test_aims_depend_on_the_shape(self):
        def aim(**changes):
            return cpu_table.aim_of(cpu_row(1.0, **changes))
        self.assertEqual(aim(), 1.05)
        self.assertEqual(aim(batch=1), 1.7)
        self.assertEqual(aim(batch=1, cell="gru", **{"pass": "train"}), 2.5)
        self.assertEqual(aim(batch=1, hidden=1024), 1.1)
        self.assertEqual(aim(batch=1, hidden=1024, **{"pass": "train"}), 1.2)
        self.assertEqual(aim(batch=20, hidden=650), 1.15)
        self.assertEqual(aim(hidden=1500, **{"pass": "train"}), 1.2)
        self.assertIsNone(aim(**{"pass": "infer"}))
        self.assertEqual(cpu_table.aim_of(model_row("sampled character", 1.0)), 4.0)

    def test_near_the_bound_is_met_unless_a_peer_is_faster(self):
        for ratio, share, expected in ((1.06, 0.5, "met"), (1.02, 0.5, "missed"),
                                       (1.02, 0.9, "met at the bound"), (1.02, 0.89, "missed"),
                                       (0.99, 0.95, "missed")):
            self.assertEqual(cpu_table.verdict(cpu_row(ratio, bound_fraction=share)), expected)
        alone = cpu_row(1.0)
        del alone["ratio"]
        self.assertEqual(cpu_table.verdict(alone), "no peer")

    def test_a_row_says_all_that_was_asked(self):
        out = self.table(cpu_row(1.5), cpu_row(0.98, **{"pass": "train"}))
        self.assertIn("| lstm H512 N64 T64 L2 | 60 | 1.50 [1.45, 1.55] | 0.50 | 1.50 / 2.00 / 1.20 | "
                      "1.05 met | 60 | 0.98 [0.93, 1.03] | 0.50 | 0.98 / 1.48 / 0.68 | 1.05 missed |", out)
        self.assertIn("oneDNN / torch f32 / torch bf16*", out)
        self.assertIn("1 of 2 aims are met.", out)
        self.assertIn("A peer is faster in 1 of 2 passes, in 0 of them with the whole interval below 1: "
                      "lstm H512 N64 T64 L2 train (onednn plain, 0.980 [0.930, 1.030]).", out)
        self.assertIn("torch bf16 computes in another precision and is no peer; it is faster in 1 of 2",
                      out)
        self.assertIn("onednn_version 2.6.3", out)

    def test_other_passes_have_a_table_of_their_own(self):
        rows = cpu_row(1.5), cpu_row(1.3, **{"pass": "backward_data"})
        cell = "| lstm H512 N64 T64 L2 |  | 60, 1.30 [1.25, 1.35], 0.50 |  |"
        self.assertNotIn(cell, self.table(*rows))
        self.assertIn(cell, self.table(*rows, flags=["--all-passes"]))

    def test_models_have_a_table_of_their_own(self):
        out = self.table(model_row("char-LM step", 1.6), model_row("word-LM step", 0.9))
        self.assertIn("| char-LM step | 166 | 166 (torch f32) | 1.60 [1.55, 1.65] | 1.3 met |", out)
        self.assertIn("A peer is faster in 1 of 2 passes, in 1 of them", out)
        self.assertNotIn("cell, H, N, T, layers", out)

    def test_what_did_not_run_is_said(self):
        refused = cpu_row(1.5, others=[{"name": "onednn any", "refused": "no such pass"}])
        out = self.table(refused, {**cpu_row(1.0, cell="gru"), "skipped": "wrong by 3"})
        self.assertIn("onednn any did not run in 1 passes: no such pass", out)
        self.assertIn("Not timed: gru H512 N64 T64 L2 forward: wrong by 3", out)
        alone = cpu_row(1.0, others=[])
        del alone["ratio"], alone["peer"]
        self.assertIn("0 of 1 aims are met; 1 had no peer to be judged by.", self.table(alone))

    def test_results_of_a_gpu_are_refused(self):
        self.assertEqual(self.run_main(cpu_table, self.write(GPU_HEADER, GPU_ROW))[0], 2)
        self.assertEqual(self.run_main(cpu_table, self.write(CPU_HEADER))[0], 2)

    def test_a_line_that_lacks_fields_is_refused(self):
        for key in ("bench", "hidden", "carousel_ms"):
            damaged = cpu_row(1.0)
            damaged[key] = 3
            if key != "carousel_ms":
                del damaged[key]
            status, out, err = self.run_main(cpu_table, self.write(CPU_HEADER, damaged))
            self.assertEqual((status, out), (2, ""))
            self.assertIn("cpu_table.py: ", err)


class Agreement(WithFiles):
    def agree(self, one, other, header=None):
        return self.run_main(cpu_table, "--agree", self.write(CPU_HEADER, *one),
                             self.write(header or CPU_HEADER, *other))

    def test_overlapping_runs_agree(self):
        # 1.50 ± 0.05 and 1.56 ± 0.05 overlap, with no median in the other's interval.
        train = {"pass": "train"}
        status, out, _ = self.agree([cpu_row(1.5), cpu_row(1.2, **train)],
                                    [cpu_row(1.56), cpu_row(1.2, **train)])
        self.assertEqual(status, 0)
        self.assertIn("2 passes: the printed intervals of 2 overlap", out)
        self.assertIn("differ by 2.0 % (median) and at most 4.0 %", out)

    def visits(self, *visits):
        return {"by_visit": [{"handoff_ns": [handoff, handoff], "ratio": ratio_of(ratio)}
                             for handoff, ratio in visits]}

    def test_visits_are_compared_at_the_same_distance_of_the_cores(self):
        near_and_far = cpu_row(1.8, **self.visits((40, 1.8), (200, 2.5), (38, 1.8)))
        far = cpu_row(2.5, **self.visits((210, 2.51)))
        status, out, _ = self.agree([near_and_far], [far])
        self.assertEqual(status, 0)
        self.assertIn("1 do in visits with the cores as far apart", out)
        near = cpu_row(1.8, **self.visits((45, 1.82), (40, 1.79)))
        status, out, _ = self.agree([near], [far])
        self.assertEqual(status, 0)
        self.assertIn("1 had no such visits", out)
        off = cpu_row(2.5, **self.visits((41, 2.5)))
        self.assertEqual(self.agree([near_and_far], [off])[0], 1)

    def test_a_visit_in_which_the_cores_moved_is_like_no_other(self):
        moved = [cpu_row(ratio, by_visit=[{"handoff_ns": [40, 200], "ratio": ratio_of(ratio)}])
                 for ratio in (1.8, 2.5)]
        self.assertIn("1 had no such visits", self.agree([moved[0]], [moved[1]])[1])

    def test_apart_is_status_1_and_stands_first(self):
        train = {"pass": "train"}
        one = [cpu_row(1.0), cpu_row(4.0, **train), cpu_row(1.0, **{"pass": "infer"})]
        status, out, _ = self.agree(one, [cpu_row(1.08), cpu_row(3.88, **train)])
        self.assertEqual(status, 1)
        self.assertIn("printed intervals of 1 overlap", out)
        self.assertIn("and 1 are apart", out)
        self.assertIn("In one file only: lstm H512 N64 T64 L2 infer.", out)
        self.assertRegex(out, r"---.*\n.* train .*-3\.0 % \| APART \| 40 to 240, 40 to 240 \|\n.* forward ")

    def test_what_cannot_be_compared_is_refused(self):
        self.assertEqual(self.agree([cpu_row(1.0)], [cpu_row(1.0, batch=1)])[0], 2)
        status, _, err = self.agree([cpu_row(1.0)], [cpu_row(1.0)], {**CPU_HEADER, "threads": 4})
        self.assertEqual(status, 2)
        self.assertIn("threads", err)
        self.assertEqual(self.run_main(cpu_table, "--agree", "one.jsonl")[0], 2)


class Models(WithFiles):
    def test_the_tool_gets_the_model(self):
        arguments = torch_models.carousel_arguments(torch_models.MODELS["word-LM step"])
        self.assertEqual(" ".join(arguments), "lm --vocab 10000 --hidden 200 --layers 2 --batch 20 "
                                              "--seq-len 20 --optimizer sgd --clip-norm 5.0")
        arguments = torch_models.carousel_arguments(torch_models.MODELS["sampled character"])
        self.assertEqual(" ".join(arguments), "sample --vocab 65 --hidden 512 --layers 2")

    def test_flags_are_checked(self):
        self.assertEqual(torch_models.parse(["--row", "LM"]).models, ["char-LM step", "word-LM step"])
        for flags in (["--row", "GRU"], ["--row", "("], ["--visits", "0"], ["--rounds", "x"]):
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                torch_models.parse(flags)

    def test_ratios_are_taken_round_by_round(self):
        comparison = torch_models.Comparison("char-LM step", lambda: None,
                                             torch_models.parse(["--rounds", "3"]))
        begins = []

        def peer(*_):
            begins.append("peer")
            return 3.0

        def ours(*_):
            begins.append("ours")
            return 2.0
        with mock.patch.multiple(torch_models, median_ms=peer, carousel_ms=ours):
            comparison.visit()
        self.assertEqual(begins, ["peer", "ours", "ours", "peer", "peer", "ours"])
        line = comparison.line()
        self.assertEqual((line["ratio"]["median"], line["pairs"], line["pass"]), (1.5, 3, "train"))
        results = lines.read([self.write(CPU_HEADER, line)])
        self.assertEqual(cpu_table.verdict(results.timed[0]), "met")

    def test_a_tool_that_fails_is_said(self):
        comparison = torch_models.Comparison(
            "sampled character", lambda: None,
            torch_models.parse(["--carousel", "no such tool", "--turn-ms", "1"]))
        comparison.visit()
        self.assertIn("no such tool", comparison.line()["skipped"])


class CutOff(WithFiles):
    def test_a_line_without_its_end_is_no_result(self):
        path = self.write(GPU_HEADER, GPU_ROW)
        with open(path, "a") as file:
            file.write(json.dumps(dict(GPU_ROW, row="FRH7"))[:60])
        self.assertEqual([line["row"] for line in lines.read([path]).timed], ["FRH6"])
        with open(path, "a") as file:
            file.write("\n")
        with self.assertRaisesRegex(lines.Refusal, "not JSON"):
            lines.read([path])

    def test_the_parts_of_a_run_that_went_on_are_one(self):
        path = self.write(GPU_HEADER, GPU_ROW, dict(bench="gpu", about="end"), GPU_HEADER,
                          dict(GPU_ROW, row="FRH7"))
        self.assertEqual(len(lines.read([path]).timed), 2)


class Fits(unittest.TestCase):
    def test_powers_are_found(self):
        xs = [100, 300, 1000, 3000]
        self.assertAlmostEqual(cost_curves.power(xs, [7.0 * x for x in xs]), 1.0)
        self.assertAlmostEqual(cost_curves.power(xs, [0.1 * x**2 for x in xs]), 2.0)
        self.assertAlmostEqual(cost_curves.power(xs, [5.0] * 4), 0.0)
        self.assertIsNone(cost_curves.power(xs, [0, 0, 0, 4]))

    def test_every_axis_has_a_base(self):
        for axis, base in cost_curves.BASE.items():
            self.assertIsNone(base[axis])
            self.assertEqual(set(base), set(cost_curves.AXES))


class Starting(WithFiles):
    def started(self, *flags, statuses=(0,)):
        """The command lines that bench.py starts, whose statuses are given."""
        with mock.patch.object(bench.subprocess, "run") as run:
            run.side_effect = [mock.Mock(returncode=status) for status in statuses]
            status, _, _ = self.run_main(bench, *flags)
        return status, [call.args[0] for call in run.call_args_list]

    def test_the_cpu_grid_passes_on_peers_and_flags(self):
        _, commands = self.started("--grid", "cpu", "--build", "b", "--peer", "onednn,torch", "--python",
                                   "p", "--row", "N1 ", "--json")
        self.assertEqual(commands, [["b/carousel_bench_cpu", "--peer", "onednn,torch", "--python", "p",
                                     "--row", "N1 ", "--json"]])
        self.assertEqual(self.started("--grid", "cpu", "--build", "b")[1], [["b/carousel_bench_cpu"]])

    def test_models_start_their_script(self):
        _, commands = self.started("--grid", "models", "--build", "b", "--python", "p", "--visits", "1")
        self.assertEqual(commands, [["p", str(HERE.parent / "torch_models.py"), "--carousel",
                                     "b/carousel", "--visits", "1"]])
        self.assertEqual(self.started("--grid", "models", "--peer", "onednn"), (2, []))

    def test_without_a_device_the_cpu_grid_runs(self):
        folder = self.write().parent
        fallback = [f"{folder}/carousel_bench_cpu", "--json"]
        flags = ["--build", folder, "--peer", "cudnn", "--l2", "both", "--json"]
        self.assertEqual(self.started(*flags), (0, [fallback]))
        gpu = folder / "carousel_bench_gpu"
        gpu.touch()
        command = [str(gpu), "--grid", "headline", "--peer", "cudnn", "--l2", "both", "--json"]
        self.assertEqual(self.started(*flags, statuses=(77, 0)), (0, [command, fallback]))
        self.assertEqual(self.started(*flags, statuses=(1,)), (1, [command]))


if __name__ == "__main__":
    unittest.main()
