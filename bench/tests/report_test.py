"""report.py reads what the programs write, and refuses to draw different machines together."""

import json
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import bench  # noqa: E402  (checked for its syntax: it starts programs)
import cost_curves  # noqa: E402
import report  # noqa: E402

GPU_HEADER = {"bench": "gpu", "about": "machine", "gpu": "H200", "cudnn": "9.19.0", "commit": "abc",
              "smi": {"uuid": "GPU-1", "driver": "580", "sm_mhz": 1980}}
GPU_ROW = {"bench": "gpu", "row": "FRH6", "cell": "lstm", "dtype": "bf16", "hidden": 768,
           "input": 768, "batch": 16, "seq_len": 1024, "layers": 2, "directions": 1, "forms": [],
           "pass": "train", "l2": "warm", "carousel_ms": {"median": 2.048}, "bound_us": 512.0,
           "peer": "cudnn", "peer_ms": {"median": 4.096}, "ratio": {"median": 2.0, "p10": 1.9, "p90": 2.1}}


class Reading(unittest.TestCase):
    def write(self, *lines):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "results.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def test_gpu_lines_become_times_per_layer_and_step(self):
        machine, _, records, _ = report.read([self.write(GPU_HEADER, GPU_ROW)])
        self.assertEqual(machine["gpu"], "H200")
        self.assertEqual(machine["driver"], "580")
        self.assertAlmostEqual(records[0]["us"], 1.0)
        self.assertAlmostEqual(records[0]["peer_us"], 2.0)
        self.assertAlmostEqual(records[0]["bound_us"], 0.25)

    def test_clocks_may_differ_and_machines_may_not(self):
        warmer = {**GPU_HEADER, "smi": {**GPU_HEADER["smi"], "sm_mhz": 1500}}
        report.read([self.write(GPU_HEADER, GPU_ROW), self.write(warmer, GPU_ROW)])
        for key, value in (("gpu", "H100"), ("cudnn", "9.20.0"), ("commit", "def")):
            with self.assertRaisesRegex(report.Refusal, key):
                report.read([self.write(GPU_HEADER), self.write({**GPU_HEADER, key: value})])
        other_card = {**GPU_HEADER, "smi": {"uuid": "GPU-2", "driver": "580"}}
        with self.assertRaisesRegex(report.Refusal, "uuid"):
            report.read([self.write(GPU_HEADER), self.write(other_card)])

    def test_rows_without_results_are_no_records(self):
        skipped = {"bench": "gpu", "row": "FRH1", "skipped": "not yet: heads"}
        derived = {**GPU_ROW, "pass": "backward_weights", "derived": "a difference"}
        _, _, records, _ = report.read([self.write(GPU_HEADER, skipped, derived)])
        self.assertEqual(records, [])

    def test_nameless_or_broken_input_is_refused(self):
        with self.assertRaisesRegex(report.Refusal, "machine"):
            report.read([self.write(GPU_ROW)])
        path = self.write(GPU_HEADER)
        path.write_text("not json\n")
        with self.assertRaisesRegex(report.Refusal, "not JSON"):
            report.read([path])
        with self.assertRaisesRegex(report.Refusal, "no NVIDIA driver"):
            report.read([self.write({"bench": "gpu", "no_device": "no NVIDIA driver"})])

    def test_results_in_the_repository_are_read(self):
        for path in sorted((HERE.parent / "results").glob("*-epyc-*/results.jsonl")):
            _, _, records, _ = report.read([path])
            self.assertGreater(len(records), 20)
            self.assertTrue(all(r["ratio"]["median"] > 0 for r in records))


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


class Starting(unittest.TestCase):
    def test_the_cpu_grid_has_two_peers(self):
        class Options:
            peer, build, python = None, pathlib.Path("build"), "python3"
        self.assertTrue(str(bench.cpu(Options, [])[0]).endswith("carousel_bench_cpu"))
        Options.peer = "torch"
        self.assertTrue(str(bench.cpu(Options, [])[1]).endswith("torch_rnn.py"))


if __name__ == "__main__":
    unittest.main()
