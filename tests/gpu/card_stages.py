"""The stages of a run on a card, in order of value. Standard library only.

A stage is a list of steps; a step is one process with a time limit. What a step needs and the machine
has not is said in a sentence, and the step is skipped.
"""

import dataclasses
import os
import re

NO_DEVICE_STATUS = 77  # of a test program all of whose tests were skipped (tests/main.cpp)
INTERRUPTED_STATUS = 130  # of the tool after Ctrl-C: it has saved

# Suites that say nothing under a memory checker, or take hours there.
SANITIZED = "GpuSmall.*"


@dataclasses.dataclass
class Step:
    """One process."""

    stage: str
    name: str
    command: list
    timeout_s: float
    environment: dict = dataclasses.field(default_factory=dict)
    interrupt_after_s: float = 0.0  # 0 = never; otherwise a Ctrl-C that the program answers
    missing: str = ""  # why it cannot run here; empty = it can

    @property
    def key(self):
        return f"{self.stage}.{self.name}"


@dataclasses.dataclass
class Setting:
    """Where things are, and how long training may take."""

    programs: dict  # name -> file
    data: str  # folder of tests/, text/ and bench/
    results: str
    sanitizer: str = ""
    train_s: float = 60.0


def suites_of(listing):
    """Suite names of a --gtest_list_tests output, with instantiations joined."""
    names = []
    for line in listing.splitlines():
        match = re.match(r"^(\S+)\.\s*(#.*)?$", line)
        if match:
            name = re.sub(r"/\d+$", "", match.group(1))
            names.append(name.split("/")[-1])
    return list(dict.fromkeys(names))


class Builder:
    """Makes steps, and says of each what is missing for it."""

    def __init__(self, setting):
        self.setting = setting
        self.steps = []

    def add(self, stage, name, program, arguments, timeout_s, prefix=(), needs=(), **more):
        file = self.setting.programs.get(program)
        missing = "" if file else f"the program {program} is not in this bundle"
        for path, sentence in needs:
            if not missing and not (path and os.path.exists(path)):
                missing = sentence
        self.steps.append(Step(stage, name, list(prefix) + [file or program] + list(arguments),
                               timeout_s, missing=missing, **more))

    def tests(self, stage, name, gtest_filter, timeout_s, **more):
        report = os.path.join(self.setting.results, f"{stage}.{name}.xml")
        self.add(stage, name, "carousel_gpu_tests",
                 [f"--gtest_filter={gtest_filter}", f"--gtest_output=xml:{report}"], timeout_s, **more)


SLOW_SUITES = {"GpuRnnHuge": 300, "GpuRnnPass": 300}
# Have stages of their own.
ELSEWHERE = ("GpuConformance", "GpuWordModel", "GpuRnnLine")
SMOKE = "GpuRnnSizes.AFewStepsOfOneLine:*GpuRnnPass.*/lstm_f32:GpuGraph.ACallerCanRecordAPass"


def all_steps(setting, suites):
    """Every step of every stage, in order."""
    b = Builder(setting)
    results = setting.results
    b.add("smoke", "doctor", "carousel", ["doctor", "--json"], 60)
    b.tests("smoke", "three_tests", SMOKE, 120)
    for suite in suites:
        if suite not in ELSEWHERE:
            every = f"{suite}.*:*/{suite}.*:{suite}/*.*:*/{suite}/*.*"
            b.tests("tests", suite, every, SLOW_SUITES.get(suite, 180))
    # The benchmark prints JSON lines, which are the step's log, and rows in order of value.
    grid = ["--shapes", os.path.join(setting.data, "bench", "shapes", "grid.txt"), "--json"]
    b.add("headline", "cudnn", "carousel_bench_gpu",
          grid + ["--grid", "headline", "--budget-s", "270"], 300)
    b.add("probes", "all", "carousel_probes", [], 180)
    training(b)
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [setting.sanitizer or "compute-sanitizer", "--tool", tool, "--error-exitcode", "86",
                   "--print-limit", "50"]
        b.tests("sanitizer", tool, SANITIZED, 240, prefix=command,
                needs=[(setting.sanitizer, "compute-sanitizer is not on this machine")])
    b.tests("conformance", "dump", "GpuConformance.*", 60,
            environment={"CAROUSEL_CONFORMANCE_OUT": os.path.join(results, "conformance.txt")})
    b.add("benchmark", "rest", "carousel_bench_gpu",
          grid + ["--grid", "all", "--every-dtype", "--budget-s", "570"], 600)
    return b.steps


def training(b):
    """A character model by the tool, and the word model of Zaremba et al. (2014) by a test."""
    setting = b.setting
    text = os.path.join(setting.data, "text", "characters.txt")
    run = os.path.join(setting.results, "character-model")
    arguments = ["train", "--device", "cuda", "--cell", "lstm", "--layers", "2", "--hidden", "512",
                 "--batch", "64", "--seq-len", "64", "--lr", "0.002", "--dropout", "0.3",
                 "--clip-norm", "1", "--epochs", "10", "--out", run]
    if os.path.exists(text):
        arguments += ["--text", text]
    b.add("train", "characters", "carousel", arguments, setting.train_s + 60,
          interrupt_after_s=setting.train_s)
    words = os.path.join(setting.data, "text", "words")
    b.tests("train", "words", "GpuWordModel.*", setting.train_s + 90,
            environment={"CAROUSEL_WORD_TEXT": words, "CAROUSEL_TRAIN_S": str(setting.train_s)},
            needs=[(os.path.join(words, "ptb.train.txt"),
                    "the bundle was made without a text for the word model")])


def why_unusable(doctor_output):
    """The library's sentence if `carousel doctor --json` found no usable device, else empty."""
    match = re.search(r'"cuda_status": *"(.*?)"[,}]', doctor_output)
    return "" if match is None or match.group(1) == "usable" else match.group(1)


def why_skipped(output):
    """The first reason that a test program gave for skipping."""
    match = re.search(r": Skipped\n(.+)", output)
    return match.group(1).strip() if match else "every test was skipped"
