#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/tool.hpp"
#include "src/io/file.hpp"
#include "src/io/safetensors.hpp"

namespace carousel::testing_tool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kCommands{"train", "sample",  "eval",    "run",
                                         "bench", "explain", "inspect", "doctor"};

TEST(ToolUsage, HelpGoesToStdoutAndListsEverything) {
    const ToolResult help = run_tool({"--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    for (const std::string& command : kCommands) {
        EXPECT_THAT(help.out, HasSubstr(command));
        const ToolResult own = run_tool({command, "--help"});
        EXPECT_EQ(own.exit_code, 0) << command;
        EXPECT_EQ(own.err, "") << command;
        EXPECT_THAT(own.out, HasSubstr("--help")) << command;
    }
    const ToolResult bench = run_tool({"bench", "rnn", "--help"});
    EXPECT_EQ(bench.exit_code, 0);
    EXPECT_THAT(bench.out, HasSubstr("[time steps]"));
    EXPECT_THAT(bench.out, HasSubstr("=[lstm]"));
    EXPECT_THAT(run_tool({"--version"}).out, HasSubstr(CAROUSEL_VERSION));
}

TEST(ToolUsage, WrongUsageIsExitCode2WithASentence) {
    const struct {
        std::vector<std::string> args;
        const char* sentence;
    } cases[] = {
        {{}, "subcommand is required"},
        {{"trian"}, "no command 'trian'; did you mean 'train'?"},
        {{"frobnicate"}, "no command 'frobnicate'."},
        {{"bench"}, "subcommand is required: rnn, lm, sample"},
        {{"bench", "rmn"}, "no command 'rmn'; did you mean 'rnn'?"},
        {{"bench", "rnn", "--hiden", "8"}, "no flag --hiden; did you mean --hidden?"},
        {{"bench", "rnn", "--seqlen=8"}, "no flag --seqlen; did you mean --seq-len?"},
        {{"bench", "rnn", "--zzzzzz", "8"}, "no flag --zzzzzz."},
        {{"run", "--wieghts", "w"}, "no flag --wieghts; did you mean --weights?"},
        {{"run", "--cell", "lstm"}, "--weights is required"},
        {{"bench", "rnn", "--hidden", "many"}, "--hidden: Value many is not a number above 0."},
        {{"bench", "rnn", "--hidden", "4,-1"}, "--hidden: Value -1 is not a number above 0."},
        {{"train", "--steps", "-1"}, "--steps: Value -1 is not a number from 0 on."},
        {{"train", "--epochs", "inf"}, "--epochs: Value inf is not a number from 0 on."},
        {{"train", "--epochs", "nan"}, "--epochs: Value nan is not a number from 0 on."},
        {{"train", "--seed", "-1"}, "--seed: Value -1 is not a whole number from 0 to 2^64-1."},
        {{"train", "--seed", "1.5"}, "--seed: Value 1.5 is not a whole number from 0"},
        {{"sample", "run", "--seed", "18446744073709551616"}, "is not a whole number from 0"},
        {{"train", "--dtype", "f31"}, "--dtype is 'f31'; expected f32, f64, tf32, bf16 or f16\n"},
        {{"bench", "lm", "--dtype", "i32"}, "--dtype is 'i32'; expected f32, f64, tf32, bf16"},
        {{"bench", "rnn", "--hidden", "0"}, "--hidden: Value 0 is not a number above 0."},
        {{"bench", "rnn", "--hidden"}, "--hidden"},
        {{"bench", "rnn", "--threads", "-1"}, "--threads"},
        {{"bench", "rnn", "--cell", "lsmt"}, "lsmt"},
        {{"bench", "rnn", "--mode", "fwd"}, "unknown --mode 'fwd'"},
        {{"bench", "rnn", "--dtype", "f31"}, "--dtype is 'f31'; expected f32, f64, tf32, bf16 or"},
        {{"bench", "rnn", "--device", "gpu"}, "gpu"},
        {{"bench", "lm", "--optimizer", "adm"}, "adm"},
        {{"explain", "rnn", "--cell", "gru", "--proj", "3"}, "proj"},
        {{"inspect"}, "FILE is required"},
        {{"train", "--hidden", "2.5"}, "--hidden is '2.5', which is not a whole number."},
        {{"train", "--lr", "fast"}, "--lr: Value fast is not a number above 0."},
        {{"train", "--lr", "nan"}, "--lr: Value nan is not a number above 0."},
        {{"train", "--clip-norm", "-1"}, "--clip-norm: Value -1 is not a number from 0 on."},
        {{"train", "--dropout", "much"}, "--dropout is 'much', which is not a number."},
        {{"train", "--steps", "99999999999999999999"}, "is too large; the most is 2^53."},
        {{"sample", "run", "--length", "1e300"}, "--length: Value 1e300 is too large"},
        {{"bench", "rnn", "--hidden", "8,9007199254740993000"}, "is too large"},
        {{"bench", "rnn", "--threads", "1025"}, "--threads"},
        {{"bench", "rnn", "--device", "cpu", "--device", "cpu"},
         "--device takes one value and got 2"},
        {{"train", "--hidden"}, "--hidden needs a value."},
        {{"bench", "lm", "--vocab", "1000000000000"}, "vocab_size is 1000000000000"},
        {{"inspect", "a", "b"}, "b"},
        {{"doctor", "--jsn"}, "no flag --jsn; did you mean --json?"},
    };
    for (const auto& c : cases) {
        const ToolResult result = run_tool(c.args);
        const std::string line = ::testing::PrintToString(c.args);
        EXPECT_EQ(result.exit_code, 2) << line << result.err;
        EXPECT_THAT(result.err, HasSubstr(c.sentence)) << line;
        EXPECT_EQ(result.out, "") << line;
    }
}

TEST(ToolUsage, MissingAndMalformedFilesAreExitCode1WithASentence) {
    const TempFolder folder;
    io::write_file_atomic(folder.file("text"), "this is no safetensors file");
    for (const std::string& file : {folder.file("text"), folder.file("none"), folder.path()}) {
        const ToolResult result = run_tool({"inspect", file});
        EXPECT_EQ(result.exit_code, 1) << file;
        EXPECT_THAT(result.err, HasSubstr(file));
        EXPECT_EQ(result.out, "");
    }
}

TEST(ToolUsage, OutputThatCannotBeWritten) {
    const ToolResult full = run_tool({"doctor"}, {.stdout_path = "/dev/full"});
    EXPECT_EQ(full.exit_code, 1);
    EXPECT_THAT(full.err, HasSubstr("cannot write to the standard output"));
    const ToolResult help = run_tool({"--help"}, {.stdout_path = "/dev/full"});
    EXPECT_EQ(help.exit_code, 1);
}

TEST(ToolUsage, ReaderThatGoesAwayEndsItQuietly) {
    // A table far larger than a pipe holds, of which only the first line is read.
    const TempFolder folder;
    std::vector<io::TensorToWrite> tensors;
    for (int i = 0; i < 5000; ++i) {
        tensors.push_back(
            {"tensor_with_a_long_name_" + std::to_string(i), DType::kF32, {0}, nullptr});
    }
    io::write_safetensors(folder.file("many.safetensors"), tensors);
    const std::string command = std::string("{ \"") + CAROUSEL_TOOL + "\" inspect \"" +
                                folder.file("many.safetensors") + "\" 2>\"" + folder.file("err") +
                                "\"; echo $? >\"" + folder.file("code") +
                                "\"; } | head -n 1 >/dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
    EXPECT_EQ(io::read_file(folder.file("code")), "0\n");
    EXPECT_EQ(io::read_file(folder.file("err")), "");
}

TEST(ToolUsage, InterruptIsExitCode130) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGINT, SIG_DFL);
        ::execl(CAROUSEL_TOOL, CAROUSEL_TOOL, "bench", "rnn", "--hidden", "8", "--batch", "1",
                "--seq-len", "2", "--min-time-ms", "60000", "--json", nullptr);
        ::_exit(120);
    }
    // The signal is sent again until it comes after the program has set its handler and ended.
    int status = 0;
    int tries = 0;
    while (::waitpid(child, &status, WNOHANG) == 0 && ++tries < 300) {
        ::usleep(100000);
        if (tries >= 5) ::kill(child, SIGINT);
    }
    if (tries >= 300) ::kill(child, SIGKILL);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 130);
}

TEST(ToolInspect, ListsTensorsAndMetadata) {
    const TempFolder folder;
    const std::vector<float> data(6, 1.0f);
    const std::int64_t scalar = 3;
    io::write_safetensors(
        folder.file("a.safetensors"),
        {{"rnn.weight", DType::kF32, {2, 3}, data.data()}, {"step", DType::kI64, {}, &scalar}},
        {{"format", "x"}, {"note", "\x1b[2Jx"}});
    const ToolResult text = run_tool({"inspect", folder.file("a.safetensors")});
    EXPECT_EQ(text.exit_code, 0);
    EXPECT_THAT(text.out, HasSubstr("rnn.weight  F32      [2,3]  24"));
    EXPECT_THAT(text.out, HasSubstr("metadata format = x"));
    EXPECT_THAT(text.err, HasSubstr("2 tensors, 7 elements"));
    EXPECT_THAT(text.out, HasSubstr("metadata note = ?[2Jx"));  // no escape sequence gets through
    const auto lines = run_tool({"inspect", "--json", folder.file("a.safetensors")}).json_lines();
    ASSERT_EQ(lines.size(), 4u);
    EXPECT_EQ(lines[0]["metadata"], "format");
    EXPECT_EQ(lines[0]["value"], "x");
    EXPECT_EQ(lines[1]["value"], "\x1b[2Jx");
    EXPECT_EQ(lines[2]["name"], "rnn.weight");
    EXPECT_EQ(lines[2]["dtype"], "F32");
    EXPECT_EQ(lines[2]["shape"], (std::vector<int>{2, 3}));
    EXPECT_EQ(lines[2]["bytes"], 24);
    EXPECT_EQ(lines[3]["shape"], nlohmann::json::array());
}

TEST(ToolDoctor, SelfTestPassesOnEveryCell) {
    const ToolResult result = run_tool({"doctor", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto lines = result.json_lines();
    ASSERT_EQ(lines.size(), 6u);
    EXPECT_EQ(lines[0]["kind"], "system");
    EXPECT_EQ(lines[0]["carousel"], CAROUSEL_VERSION);
    EXPECT_GE(lines[0]["threads"], 1);
    for (std::size_t i = 1; i < lines.size(); ++i) {
        EXPECT_EQ(lines[i]["kind"], "self_test");
        EXPECT_TRUE(lines[i]["ok"]);
        // f32 cannot have the very bits of f64: a zero would mean that nothing was compared.
        EXPECT_GT(lines[i]["dw_error"], 0.0);
    }
    EXPECT_EQ(run_tool({"doctor"}).exit_code, 0);
}

TEST(ToolBench, TimesEveryCombinationOfTheLists) {
    const ToolResult result = run_tool({"bench",         "rnn",
                                        "--cell",        "gru,lstm",
                                        "--hidden",      "8,16",
                                        "--input",       "4",
                                        "--batch",       "2",
                                        "--seq-len",     "3",
                                        "--mode",        "infer,forward,backward,train",
                                        "--threads",     "1",
                                        "--min-time-ms", "1",
                                        "--repeat",      "3",
                                        "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto lines = result.json_lines();
    ASSERT_EQ(lines.size(), 16u);
    EXPECT_EQ(lines[0]["cell"], "gru");
    EXPECT_EQ(lines[0]["hidden"], 8);
    EXPECT_EQ(lines[0]["mode"], "infer");
    EXPECT_EQ(lines[15]["cell"], "lstm");
    EXPECT_EQ(lines[15]["hidden"], 16);
    EXPECT_EQ(lines[15]["mode"], "train");
    for (const auto& line : lines) {
        for (const char* key :
             {"input", "batch", "seq_len", "layers", "device", "dtype", "threads"}) {
            EXPECT_TRUE(line.contains(key)) << key;
        }
        EXPECT_GT(line["median_ms"], 0.0);
        EXPECT_LE(line["p10_ms"], line["median_ms"]);
        EXPECT_LE(line["median_ms"], line["p90_ms"]);
        EXPECT_GT(line["gflops"], 0.0);
        EXPECT_GE(line["repetitions"], 3);
    }
    // Two matrix products per gate and step in forward, twice as many in backward.
    const auto flops = [](const nlohmann::json& line) {
        return line["gflops"].get<double>() * line["median_ms"].get<double>() * 1e6;
    };
    const double gru_step = 2.0 * 3 * 8 * (4 + 8) * 2 * 3;
    EXPECT_NEAR(flops(lines[1]) / gru_step, 1.0, 2e-3);
    EXPECT_NEAR(flops(lines[2]) / gru_step, 2.0, 4e-3);
    EXPECT_NEAR(flops(lines[3]) / gru_step, 3.0, 6e-3);
    EXPECT_NEAR(flops(lines[15]) / (2.0 * 4 * 16 * (4 + 16) * 2 * 3), 3.0, 6e-3);
    const ToolResult table = run_tool({"bench", "rnn", "--hidden", "8", "--batch", "1", "--seq-len",
                                       "2", "--min-time-ms", "0", "--repeat", "1"});
    EXPECT_EQ(table.exit_code, 0) << table.err;
    EXPECT_THAT(table.out, HasSubstr("median_ms"));
}

TEST(ToolBench, TimesTrainingAndSamplingSteps) {
    const std::vector<std::string> small{"--vocab", "11",     "--hidden", "8", "--layers",
                                         "1",       "--json", "--repeat", "2", "--min-time-ms",
                                         "1"};
    std::vector<std::string> lm{"bench", "lm",          "--batch",  "2",      "--seq-len",
                                "3",     "--optimizer", "sgd,adam", "--cell", "gru"};
    lm.insert(lm.end(), small.begin(), small.end());
    const ToolResult lm_result = run_tool(lm);
    EXPECT_EQ(lm_result.exit_code, 0) << lm_result.err;
    const auto lm_lines = lm_result.json_lines();
    ASSERT_EQ(lm_lines.size(), 2u);
    EXPECT_EQ(lm_lines[1]["optimizer"], "adam");
    EXPECT_EQ(lm_lines[1]["vocab"], 11);
    EXPECT_GT(lm_lines[1]["median_ms"], 0.0);

    std::vector<std::string> sample{"bench", "sample"};
    sample.insert(sample.end(), small.begin(), small.end());
    const ToolResult sample_result = run_tool(sample);
    EXPECT_EQ(sample_result.exit_code, 0) << sample_result.err;
    const auto sample_lines = sample_result.json_lines();
    ASSERT_EQ(sample_lines.size(), 1u);
    EXPECT_GT(sample_lines[0]["median_ms"], 0.0);
    EXPECT_FALSE(sample_lines[0].contains("batch"));
}

TEST(ToolExplain, PrintsThePlan) {
    const ToolResult text = run_tool({"explain", "rnn", "--hidden", "8", "--threads", "1"});
    EXPECT_EQ(text.exit_code, 0) << text.err;
    EXPECT_THAT(text.out, HasSubstr("stepwise"));
    const auto lines =
        run_tool({"explain", "rnn", "--hidden", "8,16", "--mode", "infer", "--json"}).json_lines();
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0]["reserve_bytes"], 0);
    EXPECT_GT(lines[1]["workspace_bytes"], lines[0]["workspace_bytes"]);
    EXPECT_EQ(lines[0]["algorithm"], "stepwise");
    EXPECT_THAT(lines[0]["plan"].get<std::string>(), HasSubstr("stepwise"));
}

TEST(ToolExplain, AnAbsurdNumberOfLayersIsRefusedAtOnce) {
    const ToolResult result =
        run_tool({"explain", "rnn", "--layers", "100000000", "--hidden", "2", "--device", "cpu"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("num_layers is 100000000; at most 65536 layers"));
}

TEST(ToolExplain, WhatThisMachineCannotDoIsExitCode1WithTheReason) {
    const ToolResult result = run_tool({"explain", "rnn", "--dtype", "bf16", "--device", "cpu"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("bf16"));
}

}  // namespace
}  // namespace carousel::testing_tool
