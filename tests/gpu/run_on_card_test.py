#!/usr/bin/env python3
"""Tests of the runner's logic over programs that only pretend. No GPU."""

import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import card_machine  # noqa: E402
import card_stages  # noqa: E402
import run_on_card  # noqa: E402

LISTING = """Running main() from main.cpp
GpuRnnSizes.
  AFewStepsOfOneLine
Cells/GpuRnnPass.  # TypeParam
  EveryOption/lstm_f32  # GetParam() = (2, 4-byte object <00-00>)
GpuGraph/0.  # TypeParam = float
  Replay
GpuWordModel.
  Learns
"""

# Does one row a call, of the two that the headline has here; $7 is its file of lines.
BENCH = """#!/bin/sh
echo "$@" >> %s
echo '{"bench":"gpu","about":"machine"}'
rows=$(grep -c '"pass"' "$7")
echo '{"row":"R'$rows'","pass":"train","carousel_ms":{"median":1.5},"ratio":{"median":2.0},"peer":"p"}'
if [ "$rows" -eq 0 ]; then left='"b"'; fi
echo '{"bench":"gpu","about":"end","rows_left":['$left']}'
echo "said on stderr" >&2
%s
"""

DOCTOR = '#!/bin/sh\necho \'{"kind":"system","cuda_devices":1,"cuda_status":"%s"}\'\n'


def script(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


class Bundle:
    """A folder with programs made of shell scripts."""

    def __init__(self, test):
        self.folder = tempfile.TemporaryDirectory()
        test.addCleanup(self.folder.cleanup)
        self.bin = os.path.join(self.folder.name, "bin")
        self.out = os.path.join(self.folder.name, "out")
        os.makedirs(self.bin)
        self.program("carousel", DOCTOR % "usable")
        self.tests('echo "ran $*"')

    def program(self, name, text):
        script(os.path.join(self.bin, name), text)

    def tests(self, body):
        self.program("carousel_gpu_tests",
                     f'#!/bin/sh\nif [ "$1" = --gtest_list_tests ]; then cat <<"EOF"\n{LISTING}EOF\n'
                     f"exit 0\nfi\n{body}\n")

    def run(self, *arguments):
        return run_on_card.main(["--out", self.out, "--programs", self.bin, "--data",
                                 self.folder.name, "--train-s", "1", *arguments])

    def state(self):
        with open(os.path.join(self.out, "state.json"), encoding="utf-8") as file:
            return {key: entry["status"] for key, entry in json.load(file)["steps"].items()}

    def detail(self, key):
        with open(os.path.join(self.out, "state.json"), encoding="utf-8") as file:
            return json.load(file)["steps"][key]["detail"]


class Stages(unittest.TestCase):
    def test_suites_are_joined_over_instantiations(self):
        self.assertEqual(card_stages.suites_of(LISTING),
                         ["GpuRnnSizes", "GpuRnnPass", "GpuGraph", "GpuWordModel"])

    def test_stages_come_in_order_of_value(self):
        setting = card_stages.Setting({}, "/nowhere", "/nowhere")
        steps = card_stages.all_steps(setting, card_stages.suites_of(LISTING))
        self.assertEqual(list(dict.fromkeys(step.stage for step in steps)),
                         ["smoke", "tests", "conformance", "probes", "headline", "train", "sanitizer",
                          "benchmark"])
        self.assertNotIn("tests.GpuWordModel", [step.key for step in steps])
        self.assertEqual(len({step.key for step in steps}), len(steps))
        self.assertTrue(all(step.missing for step in steps))

    def test_suites_come_in_order_of_value_and_the_slowest_last(self):
        suites = ["GpuRnnHuge", "GpuNew", "GpuGraph", "GpuRnnPass", "GpuOther"]
        self.assertEqual(card_stages.in_order(suites),
                         ["GpuRnnPass", "GpuGraph", "GpuNew", "GpuOther", "GpuRnnHuge"])

    def test_doctor_says_why(self):
        self.assertEqual(card_stages.why_unusable('{"cuda_status":"usable"}'), "")
        self.assertEqual(card_stages.why_unusable('{"a":1,"cuda_status":"no driver; x"}\n{}'),
                         "no driver; x")
        self.assertEqual(card_stages.why_unusable("crashed"), "")


class Running(unittest.TestCase):
    def setUp(self):
        self.bundle = Bundle(self)

    def test_everything_passes_and_is_not_repeated(self):
        self.assertEqual(self.bundle.run("--skip", "sanitizer"), 0)
        state = self.bundle.state()
        self.assertEqual(state["tests.GpuRnnPass"], "passed")
        self.assertEqual(state["headline.cudnn"], "missing")
        self.assertEqual(state["train.words"], "missing")
        self.assertNotIn("sanitizer.memcheck", state)
        self.bundle.tests("exit 1")
        self.assertEqual(self.bundle.run("--skip", "sanitizer"), 0, "done steps are left alone")
        self.assertEqual(self.bundle.run("--only", "conformance"), 1, "named steps run again")
        archives = [name for name in os.listdir(self.bundle.out) if name.endswith(".tar.gz")]
        self.assertEqual(sorted(archives), [f"results-{n}.tar.gz" for n in (1, 2, 3)])

    def test_a_failure_stops_nothing(self):
        self.bundle.tests('case "$1" in *GpuRnnPass*) exit 1;; *GpuGraph.\\**) kill -9 $$;; esac')
        self.assertEqual(self.bundle.run("--only", "tests,conformance"), 1)
        state = self.bundle.state()
        self.assertEqual(state["tests.GpuRnnPass"], "failed")
        self.assertEqual(state["tests.GpuGraph"], "failed")
        self.assertEqual(state["tests.GpuRnnSizes"], "passed")
        self.assertEqual(state["conformance.dump"], "passed")

    def test_a_hang_is_ended_with_its_children(self):
        mark = os.path.join(self.bundle.folder.name, "pid")
        self.bundle.tests(f"sleep 100 & echo $! > {mark}; wait")
        step = card_stages.Step("tests", "Hang", [os.path.join(self.bundle.bin, "carousel_gpu_tests")],
                                1.0)
        results = self.bundle.folder.name
        begin = time.monotonic()
        status, _ = run_on_card.run_process(step, dict(os.environ), os.path.join(results, "log"), 1.0)
        self.assertIsNone(status)
        self.assertLess(time.monotonic() - begin, 20)
        with open(mark, encoding="utf-8") as file:
            child = int(file.read())
        time.sleep(0.1)
        with self.assertRaises((ProcessLookupError, AssertionError)):
            os.kill(child, 0)
            # Ended but not yet collected by init counts as ended.
            with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                self.assertNotIn(") Z", file.read())

    def test_the_budget_ends_and_a_second_call_goes_on(self):
        self.bundle.tests("case \"$1\" in *GpuRnnSizes*) sleep 60;; esac")
        self.assertEqual(self.bundle.run("--only", "tests", "--budget-s", "12"), 4)
        state = self.bundle.state()
        self.assertEqual(state["tests.GpuRnnPass"], "passed")
        self.assertEqual(state["tests.GpuRnnSizes"], "cut short")
        self.assertEqual(state["tests.GpuGraph"], "not started")
        self.bundle.tests("exit 0")
        self.assertEqual(self.bundle.run("--skip", "smoke,sanitizer"), 0)
        self.assertEqual(self.bundle.state()["tests.GpuRnnSizes"], "passed")

    def test_without_a_device_every_step_says_so(self):
        sentence = "no NVIDIA driver is loaded on this machine; install one, or use the CPU"
        self.bundle.program("carousel", DOCTOR % sentence)
        self.assertEqual(self.bundle.run(), 3)
        self.assertEqual(set(self.bundle.state().values()), {"no device"})
        self.assertEqual(self.bundle.detail("smoke.doctor"), sentence)
        # The same folder on a machine that has one.
        self.bundle.program("carousel", DOCTOR % "usable")
        self.assertEqual(self.bundle.run("--skip", "sanitizer"), 0)
        self.assertEqual(self.bundle.state()["tests.GpuGraph"], "passed")

    def test_a_suite_that_skips_itself_is_no_failure(self):
        self.bundle.tests('case "$1" in *GpuGraph.\\**) echo "x.cpp:1: Skipped"; echo "no cuDNN: y"; '
                          "exit 77;; esac")
        self.assertEqual(self.bundle.run("--only", "tests"), 0)
        self.assertEqual(self.bundle.detail("tests.GpuGraph"), "no cuDNN: y")

    def bench(self, end=""):
        calls = os.path.join(self.bundle.folder.name, "calls")
        self.bundle.program("carousel_bench_gpu", BENCH % (calls, end))
        return calls

    def data(self, key="headline.cudnn"):
        with open(os.path.join(self.bundle.out + "-work", key + ".jsonl"), encoding="utf-8") as file:
            return file.read()

    def test_a_benchmark_goes_on_where_it_ended(self):
        calls = self.bench()
        run = lambda: self.bundle.run("--skip", "smoke,tests,train,sanitizer,conformance,benchmark")
        self.assertEqual(run(), 4)
        self.assertEqual(self.bundle.state()["headline.cudnn"], "cut short")
        self.assertEqual(self.bundle.detail("headline.cudnn"), "1 rows left")
        work = os.path.join(self.bundle.out + "-work", "headline.cudnn")
        with open(work + ".jsonl", "a", encoding="utf-8") as file:
            file.write('{"row":"R')  # as a killed process leaves it
        self.assertEqual(run(), 0)
        self.assertEqual(self.bundle.state()["headline.cudnn"], "passed")
        lines = [json.loads(text) for text in self.data().splitlines()]
        self.assertEqual([line["row"] for line in lines if "pass" in line], ["R0", "R1"])
        with open(work + ".log", encoding="utf-8") as log:
            self.assertEqual(log.read().count("said on stderr"), 2)
        with open(calls, encoding="utf-8") as file:
            called = file.read().splitlines()
        self.assertEqual(len(called), 2)
        self.assertRegex(called[0], rf"--grid headline --done {work}.jsonl --budget-s \d+$")
        self.assertEqual(run(), 0)
        self.assertEqual(self.data().count('"pass"'), 2, "done")
        self.assertEqual(self.bundle.run("--only", "headline"), 4, "named steps run again")
        self.assertEqual(self.data().count('"pass"'), 1, "in a file of their own")

    def test_the_rest_leaves_out_the_headline_and_takes_what_was_probed(self):
        calls = self.bench()
        self.bundle.program("carousel_probes", '#!/bin/sh\necho \'{"probe":"launch","us":2}\'\n')
        self.bundle.run("--only", "probes,benchmark")
        self.assertEqual(self.data("probes.all"), '{"probe":"launch","us":2}\n')
        with open(calls, encoding="utf-8") as file:
            called = file.read()
        work = self.bundle.out + "-work"
        self.assertIn(f"--done {work}/headline.cudnn.jsonl", called)
        self.assertIn(f"--probes {work}/probes.all.jsonl", called)

    def test_a_row_that_failed_is_a_failure_at_the_end(self):
        self.bench("[ -n \"$left\" ] || echo '{\"row\":\"F\",\"skipped\":\"wrong result\"}'; exit 1")
        self.assertEqual(self.bundle.run("--only", "headline"), 4)
        self.assertEqual(self.bundle.run("--skip", "smoke,tests,train,sanitizer,conformance,benchmark"), 1)
        self.assertEqual(self.bundle.detail("headline.cudnn"), "1 rows failed")

    def test_the_work_folder_is_enough_to_go_on(self):
        self.assertEqual(self.bundle.run("--skip", "sanitizer"), 0)
        self.bundle.tests("exit 1")
        work = self.bundle.out + "-work"
        self.bundle.out = os.path.join(self.bundle.folder.name, "elsewhere")
        self.assertEqual(self.bundle.run("--skip", "sanitizer", "--work", work), 0, "done before")
        self.assertEqual(self.bundle.state()["tests.GpuRnnPass"], "passed")
        self.assertEqual(os.listdir(self.bundle.out).count("results-2.tar.gz"), 1)

    def test_when_the_runner_is_killed_what_was_done_is_kept_and_nothing_goes_on(self):
        mark = os.path.join(self.bundle.folder.name, "pid")
        self.bundle.tests(f'case "$1" in *GpuRnnSizes*) echo $$ > {mark}; exec sleep 100;; esac')
        runner = subprocess.Popen([sys.executable, os.path.join(HERE, "run_on_card.py"), "--out",
                                   self.bundle.out, "--programs", self.bundle.bin, "--data",
                                   self.bundle.folder.name, "--only", "tests"],
                                  stdout=subprocess.DEVNULL)
        for _ in range(300):
            if os.path.exists(mark) and os.path.getsize(mark) > 0:
                break
            time.sleep(0.1)
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        with open(mark, encoding="utf-8") as file:
            child = int(file.read())
        time.sleep(0.2)
        with self.assertRaises((ProcessLookupError, AssertionError)):
            os.kill(child, 0)
            with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                self.assertNotIn(") Z", file.read())
        self.assertEqual(self.bundle.state(), {"tests.GpuRnnPass": "passed"})
        with tarfile.open(os.path.join(self.bundle.out, "results-1.tar.gz")) as tar:
            self.assertIn("results/tests.GpuRnnPass.log", tar.getnames())

    def test_training_is_interrupted_and_that_is_well(self):
        self.bundle.program("carousel", "#!/bin/sh\n[ $1 = train ] || exec echo '{}'\n"
                                        "trap 'echo saved; exit 130' INT\n"
                                        "while :; do sleep 0.1; done\n")
        self.assertEqual(self.bundle.run("--only", "train.characters"), 0)
        self.assertEqual(self.bundle.state()["train.characters"], "passed")

    def test_a_program_that_cannot_start_is_a_failure(self):
        self.bundle.program("carousel_probes", "#!/nowhere/interpreter\n")
        self.assertEqual(self.bundle.run("--only", "probes"), 1)
        self.assertIn("cannot be started", self.bundle.detail("probes.all"))

    def test_unknown_names_are_refused(self):
        self.assertEqual(self.bundle.run("--only", "tests,nonsense"), 2)

    def test_the_programs_are_told_where_things_are(self):
        self.bundle.tests('echo "dir=$CAROUSEL_TEST_DIR"; [ "$CAROUSEL_CTEST" = 1 ]')
        self.assertEqual(self.bundle.run("--only", "tests.GpuRnnSizes"), 0)
        with open(os.path.join(self.bundle.out + "-work", "tests.GpuRnnSizes.log"),
                  encoding="utf-8") as log:
            self.assertIn(f"dir={self.bundle.folder.name}/tests", log.read())


class Lines(unittest.TestCase):
    def test_in_brief(self):
        self.assertEqual(card_stages.in_brief("no JSON"), "no JSON")
        self.assertEqual(card_stages.in_brief('{"probe":"peak","dtype":"bf16","tflops":700.0,"x":[1]}'),
                         "bf16 peak tflops 700.0")
        row = ('{"row":"A","cell":"gru","dtype":"f16","pass":"train","carousel_ms":{"median":1.5},'
               '"ratio":{"median":2.0},"peer":"cudnn"}')
        self.assertEqual(card_stages.in_brief(row), "A gru f16 train 1.5 ms ratio 2.0 to cudnn")

    def test_figures(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "probes.jsonl")
            self.assertFalse(card_stages.has_figures(path))
            for line, has in (('{"probe":"launch","error":"gone"}', False), ('{"probe":"peak","tflops":7}', True)):
                with open(path, "a", encoding="utf-8") as file:
                    file.write(line + "\n")
                self.assertEqual(card_stages.has_figures(path), has)

    def test_rows_left(self):
        self.assertEqual(card_stages.rows_left(""), 0)
        self.assertEqual(card_stages.rows_left('{"about":"end","rows_left":["a","b"]}\nand stderr\n'), 2)
        self.assertEqual(card_stages.rows_left('{"row":"killed before the end"}'), 0)


class Packing(unittest.TestCase):
    def test_archives_are_bounded_and_leave_models_out(self):
        with tempfile.TemporaryDirectory() as folder:
            results = os.path.join(folder, "results")
            os.makedirs(os.path.join(results, "run", "best"))
            with open(os.path.join(results, "noise.log"), "wb") as file:
                file.write(os.urandom(3 << 20))
            with open(os.path.join(results, "run", "metrics.jsonl"), "w", encoding="utf-8") as file:
                file.write("{}\n")
            with open(os.path.join(results, "run", "best", "model.safetensors"), "wb") as file:
                file.write(b"weights")
            archive = os.path.join(folder, "a.tar.gz")
            run_on_card.pack(results, archive, max_bytes=1 << 20)
            self.assertLessEqual(os.path.getsize(archive), 1 << 20)
            with tarfile.open(archive) as tar:
                self.assertEqual(sorted(tar.getnames()),
                                 ["results/noise.log", "results/run/metrics.jsonl"])

    def test_shortened_keeps_both_ends(self):
        self.assertEqual(run_on_card.shortened(b"abc", 10), b"abc")
        cut = run_on_card.shortened(b"A" * 50 + b"B" * 50, 10)
        self.assertTrue(cut.startswith(b"AAAAA\n") and cut.endswith(b"\nBBBBB"))


class Libraries(unittest.TestCase):
    def test_loader_cache_then_folders(self):
        with tempfile.TemporaryDirectory() as root:
            cudnn = os.path.join(root, "nvidia", "cudnn", "lib")
            cublas = os.path.join(root, "nvidia", "cu13", "lib")
            for folder, name in ((cudnn, "libcudnn.so.9"), (cublas, "libcublasLt.so.13"),
                                 (cublas, "libcublas.so.13.0.1")):
                os.makedirs(folder, exist_ok=True)
                with open(os.path.join(folder, name), "w", encoding="utf-8"):
                    pass
            found = card_machine.find_libraries({}, cache={"libcuda.so.1"}, folders=[cudnn, cublas])
            self.assertEqual(found, {"cuBLASLt": cublas, "cuBLAS": None, "cuDNN": cudnn,
                                     "CUPTI": None, "driver": ""})
            path = card_machine.loader_path(found, {"LD_LIBRARY_PATH": "/mine:/too"}, "/fallback")
            self.assertEqual(path.split(":"), ["/mine", "/too", cublas, cudnn, "/fallback"])

    def test_newest_version_of_any_major(self):
        with tempfile.TemporaryDirectory() as root:
            older, newer = os.path.join(root, "older"), os.path.join(root, "newer")
            for folder, name in ((older, "libcublasLt.so.13"), (newer, "libcublasLt.so.101"),
                                 (newer, "libcublasLt.so.9"), (older, "libcublas.so.12"),
                                 (newer, "libcublas.so.12"), (older, "libcudnn.so.9"),
                                 (newer, "libcudnn.so.10"), (older, "libcupti.so.13"),
                                 (newer, "libcupti.so.2025.3.1")):
                os.makedirs(folder, exist_ok=True)
                with open(os.path.join(folder, name), "w", encoding="utf-8"):
                    pass
            cache = {"libcublasLt.so.12", "libcublas.so.12", "libcudnn.so.8", "libcublasLt.so",
                     "libcuda.so.1", "libcudart.so.99", "libcublasLt.so.102.1"}
            found = card_machine.find_libraries({}, cache=cache, folders=[older, newer])
            # The loader's own is as new as the folders' for cuBLAS alone.
            self.assertEqual(found, {"cuBLASLt": newer, "cuBLAS": "", "cuDNN": newer,
                                     "CUPTI": older, "driver": ""})
            found = card_machine.find_libraries({}, cache=set(), folders=[older, newer])
            self.assertEqual(found["cuBLAS"], older)
            self.assertIsNone(found["driver"])
            cache.add("libcublasLt.so.110")
            self.assertEqual(card_machine.find_libraries({}, cache=cache, folders=[newer])["cuBLASLt"], "")

    def test_nothing_to_add(self):
        self.assertEqual(card_machine.loader_path({"cuDNN": "", "CUPTI": None}, {}), "")

    def test_cuda_home_comes_first(self):
        with tempfile.TemporaryDirectory() as root:
            lib = os.path.join(root, "lib64")
            os.makedirs(lib)
            folders = card_machine.loader_folders({"CUDA_HOME": root})
            self.assertEqual(folders[0], lib)


if __name__ == "__main__":
    unittest.main()
