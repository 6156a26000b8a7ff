"""The stages of a run on a card, in order of value. Standard library only.

A stage is a list of steps; a step is one process with a time limit. What a step needs and the machine
has not is said in a sentence, and the step is skipped.
"""

import dataclasses
import json
import os
import re
import typing

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
    data: str = ""  # file for its JSON lines on stdout, which a later call goes on with; empty = none
    # Further arguments, by the seconds that it has.
    at_start: typing.Optional[typing.Callable[[float], list]] = None

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


# By what it would be worst not to know; suites of other names come after these, and the slow last.
SUITES_IN_ORDER = ["GpuRnnPass", "GpuRnnSizes", "GpuProducts", "GpuGraph", "GpuCudnn", "GpuTraining",
                   "GpuRnnAndCpu", "GpuRnnRepeat", "GpuRnnMask", "GpuTrainGraph"]
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
    for suite in in_order(suites):
        if suite not in ELSEWHERE:
            every = f"{suite}.*:*/{suite}.*:{suite}/*.*:*/{suite}/*.*"
            b.tests("tests", suite, every, SLOW_SUITES.get(suite, 180))
    # Seconds each; the lower bound of every row rests on the probes.
    b.tests("conformance", "dump", "GpuConformance.*", 60,
            environment={"CAROUSEL_CONFORMANCE_OUT": os.path.join(results, "conformance.txt")})
    b.add("probes", "all", "carousel_probes", [], 120, data=data_of(setting, PROBES))
    benchmark(b, "headline", "cudnn", ["--grid", "headline"], 480, [])
    training(b)
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [setting.sanitizer or "compute-sanitizer", "--tool", tool, "--error-exitcode", "86",
                   "--print-limit", "50"]
        b.tests("sanitizer", tool, SANITIZED, 240, prefix=command,
                needs=[(setting.sanitizer, "compute-sanitizer is not on this machine")])
    benchmark(b, "benchmark", "rest", ["--grid", "all", "--every-dtype"], 1200,
              [data_of(setting, "headline.cudnn")])
    return b.steps


def in_order(suites):
    def place(suite):
        known = SUITES_IN_ORDER.index(suite) if suite in SUITES_IN_ORDER else len(SUITES_IN_ORDER)
        return len(SUITES_IN_ORDER) + 1 if suite == "GpuRnnHuge" else known

    return sorted(suites, key=place)


PROBES = "probes.all"
ROW_S = 25.0  # for the row that is in work when a benchmark's budget ends


def data_of(setting, key):
    return os.path.join(setting.results, key + ".jsonl")


def benchmark(b, stage, name, flags, timeout_s, done_elsewhere):
    """Rows in order of value, but for those that its own file or another already has."""
    setting = b.setting
    data = data_of(setting, f"{stage}.{name}")
    arguments = ["--shapes", os.path.join(setting.data, "bench", "shapes", "grid.txt"), "--json", *flags]
    for file in [data, *done_elsewhere]:
        arguments += ["--done", file]

    def at_start(seconds):
        more = ["--budget-s", f"{max(seconds - ROW_S, 1.0):.0f}"]
        if has_figures(data_of(setting, PROBES)):
            more += ["--probes", data_of(setting, PROBES)]
        return more

    b.add(stage, name, "carousel_bench_gpu", arguments, timeout_s, data=data, at_start=at_start)


def has_figures(path):
    """True if some probe gave a figure, though others may have failed."""
    try:
        with open(path, encoding="utf-8") as opened:
            return any('"us":' in line or '"tflops":' in line for line in opened)
    except OSError:
        return False


def in_brief(text):
    """A line of JSON in a few words; any other line as it is."""
    try:
        line = json.loads(text)
    except ValueError:
        return text
    if not isinstance(line, dict):
        return text
    words = [str(line[key]) for key in ("row", "cell", "dtype", "pass", "probe", "kind", "about", "skipped",
                                        "error") if key in line]
    if "carousel_ms" in line:
        words.append(f"{line['carousel_ms']['median']} ms")
    if "ratio" in line:
        words.append(f"ratio {line['ratio']['median']} to {line.get('peer', '')}")
    words += [f"{key} {line[key]}" for key in ("us", "tflops", "tb_per_s", "clusters") if key in line]
    return " ".join(words) or text


def failed_rows(path):
    """How many rows of a file of JSON lines say why they have no results, but for what nobody has yet."""
    try:
        with open(path, encoding="utf-8") as opened:
            skipped = [json.loads(line).get("skipped", "") for line in opened]
    except (OSError, ValueError, AttributeError):
        return 0
    return sum(1 for why in skipped if why and not why.startswith("not yet"))


def rows_left(output):
    """How many rows a benchmark says in its last line that it did not reach."""
    for text in reversed(output.splitlines()):
        try:
            return len(json.loads(text).get("rows_left", []))
        except (ValueError, AttributeError):
            continue
    return 0


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
