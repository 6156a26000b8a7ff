#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <nlohmann/json.hpp>

#include "src/io/folder_lock.hpp"
#include "tests/train/train_support.hpp"

#if defined(CAROUSEL_TOOL)

// `carousel train`, `sample` and `eval` from the outside: exit codes, files, sentences.

namespace carousel::test {
namespace {

struct Outcome {
    int code = -1;
    std::string out, err;
};

std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

void write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

/// A text with structure, and enough of it for every split.
std::string sample_text() {
    std::string text;
    for (int i = 0; i < 400; ++i) {
        text += "line " + std::to_string(i * 37 % 101) + " of the text; ";
        if (i % 3 == 0) text += "naïve\n";
    }
    return text;
}

class Tool : public testing::Test {
protected:
    Outcome run(const std::string& arguments, const std::string& before = "") {
        const std::string out = folder_ / "stdout", err = folder_ / "stderr";
        // Quoted: the build folder and the temporary one may have spaces in their names.
        const std::string command =
            before + " '" + CAROUSEL_TOOL + "' " + arguments + " >'" + out + "' 2>'" + err + "'";
        const int status = std::system(("cd '" + folder_.path() + "' && " + command).c_str());
        Outcome outcome;
        outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        outcome.out = content(out);
        outcome.err = content(err);
        return outcome;
    }
    /// Runs and expects failure with a sentence that has all the words; a crash or a trace has none.
    void expect_failure(const std::string& arguments, int code,
                        const std::vector<std::string>& words) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
        for (const std::string& word : words) {
            EXPECT_NE(outcome.err.find(word), std::string::npos) << arguments << "\n"
                                                                 << outcome.err;
        }
    }
    void SetUp() override { write(folder_ / "text.txt", sample_text()); }

    const std::string small_ =
        " --text text.txt --hidden 16 --embed 8 --layers 2 --seq-len 16 --batch 4 --dropout 0.1 ";
    TemporaryFolder folder_;
};

TEST_F(Tool, TrainsSamplesAndScores) {
    const Outcome trained =
        run("train" + small_ + "--steps 60 --eval-every 20 --lr 0.01 --out run");
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_EQ(trained.out, "");
    for (const char* file : {"config.json", "metrics.jsonl", "last/model.safetensors",
                             "last/state.safetensors", "best/model.safetensors"}) {
        EXPECT_TRUE(std::filesystem::exists(folder_ / (std::string("run/") + file))) << file;
    }
    const auto config = nlohmann::json::parse(content(folder_ / "run/config.json"));
    EXPECT_EQ(config["hidden"], 16);
    EXPECT_EQ(config["resolved"]["steps"], 60);
    std::ifstream metrics(folder_ / "run/metrics.jsonl");
    int updates = 0, evaluations = 0;
    double first = 0.0, last = 0.0;
    for (std::string line; std::getline(metrics, line);) {
        const auto json = nlohmann::json::parse(line);
        if (json.contains("validation_loss_nats")) ++evaluations;
        if (!json.contains("loss_nats")) continue;
        EXPECT_EQ(json["step"], ++updates);
        last = json["loss_nats"];
        if (updates == 1) first = last;
    }
    EXPECT_EQ(updates, 60);
    EXPECT_EQ(evaluations, 3);
    EXPECT_LT(last, 0.8 * first);

    const Outcome sampled = run("sample run --prompt 'line 4' --length 50 --temperature 0.7");
    ASSERT_EQ(sampled.code, 0) << sampled.err;
    EXPECT_EQ(sampled.out.rfind("line 4", 0), 0u);
    EXPECT_GE(sampled.out.size(), 6u + 50u);
    EXPECT_EQ(run("sample run --prompt 'line 4' --length 50 --temperature 0.7").out, sampled.out);
    EXPECT_NE(run("sample run --prompt 'line 4' --length 50 --temperature 0.7 --seed 2").out,
              sampled.out);
    EXPECT_EQ(run("sample run --length 30 --top-k 1").out,
              run("sample run --length 30 --temperature 0").out);

    const Outcome scored = run("eval run --text text.txt --json");
    ASSERT_EQ(scored.code, 0) << scored.err;
    const auto json = nlohmann::json::parse(scored.out);
    EXPECT_NEAR(json["perplexity"], std::exp(json["loss_nats"].get<double>()), 1e-9);
    EXPECT_NEAR(json["bits_per_char"], json["loss_nats"].get<double>() / std::log(2.0), 1e-9);
    EXPECT_LT(json["loss_nats"].get<double>(), first);
    std::int64_t characters = 0;
    for (const char c : sample_text()) characters += (c & 0xC0) != 0x80 ? 1 : 0;
    EXPECT_EQ(json["tokens"], characters - 1);
    EXPECT_NE(run("eval run --text text.txt").out.find("bits/char"), std::string::npos);
}

TEST_F(Tool, ResumingIsBitForBitTheUninterruptedRun) {
    for (const char* extra :
         {"--threads 2", "--threads 1 --tbptt 8,24 --optimizer rmsprop:0.95 --one-hot",
          "--threads 1 --tbptt random:24",
          "--threads 1 --batching random --schedule cosine:5 --lr-steps 150"}) {
        SCOPED_TRACE(extra);
        std::string flags = small_ + extra;
        if (flags.find("--one-hot") != std::string::npos) flags.erase(flags.find("--embed 8"), 9);
        ASSERT_EQ(run("train " + flags + " --steps 200 --out whole").code, 0);
        ASSERT_EQ(
            run("train " + flags + " --steps 100 --eval-every 7 --save-every 30 --out half").code,
            0);
        const Outcome resumed = run("train --resume half --steps 200");
        ASSERT_EQ(resumed.code, 0) << resumed.err;
        EXPECT_EQ(content(folder_ / "half/last/model.safetensors"),
                  content(folder_ / "whole/last/model.safetensors"));
        const Outcome complete = run("train --resume half");
        EXPECT_EQ(complete.code, 0);
        EXPECT_NE(complete.err.find("complete"), std::string::npos) << complete.err;
        std::filesystem::remove_all(folder_ / "whole");
        std::filesystem::remove_all(folder_ / "half");
    }
}

TEST_F(Tool, ResumeRefusesWhatConflicts) {
    ASSERT_EQ(run("train" + small_ + "--steps 5 --out run").code, 0);
    expect_failure("train --resume run --hidden 32 --steps 9", 2, {"--hidden", "32", "16"});
    expect_failure("train --resume run --seed 7", 2, {"--seed"});
    expect_failure("train --resume run --out other", 2, {"--out"});
    EXPECT_EQ(run("train --resume run --hidden 16 --text text.txt --steps 6").code, 0);
    expect_failure("train" + small_ + "--steps 5 --out run", 2,
                   {"already holds a run", "--resume"});
    expect_failure("train --resume nothing", 2, {"nothing"});
    write(folder_ / "text.txt", sample_text() + "line");
    expect_failure("train --resume run --steps 9", 2, {"text", "changed"});
    write(folder_ / "text.txt", sample_text() + "line ☃");
    expect_failure("train --resume run --steps 9", 1, {"U+2603", "text.txt"});
}

TEST_F(Tool, ADamagedCheckpointIsASentenceAndLosesNothing) {
    ASSERT_EQ(run("train" + small_ + "--steps 5 --out run").code, 0);
    const std::string path = folder_ / "run/last/state.safetensors";
    const std::string whole = content(path);
    write(path, whole.substr(0, whole.size() / 2));
    expect_failure("train --resume run --steps 9", 1, {"state.safetensors", "'run/best'"});
    EXPECT_EQ(content(path).size(), whole.size() / 2);
    EXPECT_EQ(run("sample run --length 5").code, 0);
    write(folder_ / "run/best/model.safetensors", "nonsense");
    expect_failure("sample run --length 5", 1, {"model.safetensors", "newest", "'run/last'"});
    expect_failure("eval run/ --text text.txt", 1, {"model.safetensors", "'run/last'"});
    EXPECT_EQ(run("sample run/last --length 5").code, 0);
    EXPECT_EQ(run("eval run/last --text text.txt").code, 0);
    // Cut short behind its header.
    const std::string model = content(folder_ / "run/last/model.safetensors");
    write(folder_ / "run/best/model.safetensors", model.substr(0, model.size() - 9));
    expect_failure("sample run --length 5", 1, {"best/model.safetensors", "'run/last'"});
    expect_failure("sample run/best --length 5", 1, {"best/model.safetensors", "'run/last'"});
    // Nothing is named that is not there.
    std::filesystem::rename(folder_ / "run/last", folder_ / "run/moved");
    const Outcome alone = run("sample run --length 5");
    EXPECT_EQ(alone.code, 1);
    EXPECT_EQ(alone.err.find("newest"), std::string::npos) << alone.err;
    std::filesystem::rename(folder_ / "run/moved", folder_ / "run/last");
    write(path, whole);
    EXPECT_EQ(run("train --resume run --steps 9").code, 0);
}

TEST_F(Tool, BadTextsAreSentences) {
    write(folder_ / "empty.txt", "");
    write(folder_ / "binary.bin", std::string("\x7f"
                                              "ELF\0\xff\xfe\x01",
                                              8));
    write(folder_ / "line.txt", "one line\n");
    expect_failure("train --text empty.txt --out run", 1, {"empty.txt", "empty"});
    expect_failure("train --text binary.bin --out run", 1, {"binary.bin", "UTF-8"});
    expect_failure("train --text missing.txt --out run", 1, {"missing.txt"});
    const Outcome shorter = run("train --text line.txt --out run");
    EXPECT_EQ(shorter.code, 1) << shorter.err;
    EXPECT_NE(shorter.err.find("characters"), std::string::npos) << shorter.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));

    ASSERT_EQ(run("train" + small_ + "--steps 2 --out run").code, 0);
    expect_failure("sample run --prompt 'x☃'", 2, {"U+2603", "--prompt"});
    write(folder_ / "snow.txt", "line ☃");
    expect_failure("eval run --text snow.txt", 1, {"U+2603", "snow.txt"});
    write(folder_ / "one.txt", "l");
    expect_failure("eval run --text one.txt", 2, {"2"});
    expect_failure("sample nowhere", 1, {"nowhere"});
    expect_failure("sample run --temperature -1", 2, {"temperature"});
}

TEST_F(Tool, BadFlagsAreSentences) {
    expect_failure("train --hiden 5", 2, {"--hiden", "--hidden"});
    expect_failure("train" + small_ + "--optimizer adagrad --out run", 2, {"adagrad", "rmsprop"});
    expect_failure("train" + small_ + "--tbptt 9,3 --out run", 2, {"k1"});
    expect_failure("train" + small_ + "--tbptt random:9 --batching random --out run", 2,
                   {"sequential"});
    expect_failure("train" + small_ + "--schedule cosine --out run", 2, {"--lr-steps"});
    expect_failure("train" + small_ + "--steps 5 --epochs 2 --out run", 2, {"--epochs"});
    expect_failure("train" + small_ + "--one-hot --out run", 2, {"--embed"});
    expect_failure("train" + small_ + "--dropout 1.5 --out run", 2, {"dropout"});
    expect_failure("train" + small_ + "--split 0.5,0.6 --out run", 2, {"split"});
    expect_failure("train" + small_ + "--loss total --out run", 2, {"--loss", "sum-steps"});
    EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST_F(Tool, ConfigFileGivesFlagsAndTheCommandLineWins) {
    ASSERT_EQ(run("train" + small_ + "--steps 4 --out first").code, 0);
    ASSERT_EQ(run("train --config first/config.json --out second").code, 0);
    EXPECT_EQ(content(folder_ / "first/last/model.safetensors"),
              content(folder_ / "second/last/model.safetensors"));
    ASSERT_EQ(run("train --config first/config.json --hidden 12 --out third").code, 0);
    EXPECT_EQ(nlohmann::json::parse(content(folder_ / "third/config.json"))["hidden"], 12);
    write(folder_ / "bad.json", R"({"hiddden": 5})");
    expect_failure("train --config bad.json --out run", 2, {"hiddden"});
    write(folder_ / "bad.json", R"({"hidden": "five"})");
    expect_failure("train --config bad.json --out run", 2, {"hidden", "five", "whole number"});
    write(folder_ / "bad.json", R"({"threads": 4294967298})");  // 2, were it cut to 32 bits
    expect_failure("train --config bad.json --out run", 2, {"threads", "4294967298", "range"});
    write(folder_ / "bad.json", R"({"text": "text.txt"})");
    expect_failure("train --config bad.json --out run", 2, {"text", "a list of texts"});
    write(folder_ / "bad.json", R"({"epochs": 1e300})");
    expect_failure("train --config bad.json --out run" + small_, 2, {"--epochs", "too large"});
    write(folder_ / "bad.json", R"({"hidden": 5)");
    expect_failure("train --config bad.json --out run", 1, {"bad.json"});
}

TEST_F(Tool, InterruptedRunsSaveAndSayHowToContinue) {
    // timeout sends what Ctrl-C sends, twice: to the tool and to its group. That is one interruption.
    const Outcome stopped = run(
        "train" + small_ + "--steps 1000000 --save-every 1000000 --eval-every 1000000 --out run",
        "timeout --preserve-status -s INT 1.5");
    EXPECT_EQ(stopped.code, 130) << stopped.err;
    EXPECT_NE(stopped.err.find(" train --resume run"), std::string::npos) << stopped.err;
    const auto config = nlohmann::json::parse(content(folder_ / "run/config.json"));
    std::ifstream metrics(folder_ / "run/metrics.jsonl");
    std::int64_t steps = 0;
    for (std::string line; std::getline(metrics, line);)
        steps = nlohmann::json::parse(line)["step"];
    EXPECT_GT(steps, 0);
    const Outcome resumed = run("train --resume run --steps " + std::to_string(steps + 3));
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    ASSERT_EQ(run("train" + small_ + "--steps " + std::to_string(steps + 3) + " --out whole").code,
              0);
    EXPECT_EQ(content(folder_ / "run/last/model.safetensors"),
              content(folder_ / "whole/last/model.safetensors"));
}

TEST_F(Tool, OneProcessWritesARun) {
    ASSERT_EQ(run("train" + small_ + "--steps 5 --out run").code, 0);
    {
        const io::FolderLock lock(folder_ / "run");
        expect_failure("train --resume run --steps 9", 1, {"'run' is in use", "another process"});
        std::filesystem::create_directory(folder_ / "new");
        const io::FolderLock early(folder_ / "new");
        expect_failure("train" + small_ + "--steps 5 --out new", 1, {"'new' is in use"});
        EXPECT_TRUE(std::filesystem::is_empty(folder_ / "new"));
        EXPECT_EQ(run("sample run --length 5").code, 0);
    }
    EXPECT_EQ(run("train --resume run --steps 9").code, 0);
}

TEST_F(Tool, ATrainingThatDivergesFailsAndIsNoModel) {
    const std::string sentence = "is not a finite number: the training has diverged";
    write(folder_ / "far.json", R"({"lr": 1e300})");  // the first update makes weights infinite
    const Outcome trained =
        run("train" + small_ + "--config far.json --steps 8 --eval-every 4 --out run");
    EXPECT_EQ(trained.code, 1) << trained.err;
    const std::size_t first = trained.err.find(sentence);
    ASSERT_NE(first, std::string::npos) << trained.err;
    EXPECT_EQ(trained.err.find(sentence, first + 1), std::string::npos) << trained.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "run/best"));
    expect_failure("sample run --length 5", 1, {"last/model.safetensors", "not finite"});
    expect_failure("eval run --text text.txt", 1, {"last/model.safetensors", "not finite"});
    expect_failure("train --resume run --steps 20", 1, {"last/model.safetensors", "not finite"});
    // Weights that are finite, and too large for sums.
    expect_failure("train" + small_ + "--init uniform:3e38 --steps 2 --out large", 1, {sentence});
    expect_failure("eval large --text text.txt", 1, {"the loss", "not a finite number", "large"});
}

TEST_F(Tool, AFullDiskKeepsTheOldCheckpoint) {
    ASSERT_EQ(run("train" + small_ + "--steps 5 --out run").code, 0);
    const std::string before = content(folder_ / "run/last/model.safetensors");
    // A limit on the size of files (in blocks of 512 bytes) fails writes as a full disk does.
    const Outcome failed = run("train --resume run --steps 9", "ulimit -f 8;");
    EXPECT_EQ(failed.code, 1) << failed.err;
    EXPECT_NE(failed.err.find("could not be saved"), std::string::npos) << failed.err;
    EXPECT_EQ(content(folder_ / "run/last/model.safetensors"), before);
    EXPECT_EQ(run("train --resume run --steps 9").code, 0);
}

TEST_F(Tool, TrainsOnItsOwnSourcesWithoutAnyFile) {
    const Outcome trained =
        run("train --hidden 16 --embed 8 --layers 1 --steps 3 --out run --eval-every 1000");
    ASSERT_EQ(trained.code, 0) << trained.err;
    const Outcome resumed = run("train --resume run --steps 4");
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(run("sample run --prompt 'namespace carousel' --length 10").code, 0);
}

}  // namespace
}  // namespace carousel::test

#endif  // CAROUSEL_TOOL
