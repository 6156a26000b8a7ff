#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "simt/nn_data.hpp"
#include "simt/simt_device.hpp"
#include "src/cli/common.hpp"
#include "src/cli/tool.hpp"
#include "src/io/file.hpp"
#include "src/io/safetensors.hpp"
#include "tests/train/train_support.hpp"

// The tool's commands on a CUDA device, which is the executor, in this process.

namespace carousel::test {
namespace {

/// Runs a command; what it wrote to stdout.
std::string tool(const std::string& command) {
    SCOPED_TRACE(command);
    std::vector<std::string> words;
    std::istringstream stream(command);
    for (std::string word; stream >> word;) words.push_back(word);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    int code = -1;
    try {
        code = cli::run_tool(words);
    } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
    }
    const std::string notes = testing::internal::GetCapturedStderr();
    EXPECT_EQ(code, cli::kExitDone) << notes;
    return testing::internal::GetCapturedStdout();
}

std::vector<double> read_tensor(const std::string& path, const std::string& name) {
    const auto file = io::SafetensorsFile::open(path);
    const io::StoredTensor& tensor = file.get(name);
    std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
    io::convert_to(tensor, DType::kF64, values.data(), path);
    return values;
}

io::StoredType type_of(const std::string& path, const std::string& name) {
    return io::SafetensorsFile::open(path).get(name).type;
}

void write_layer(const std::string& weights, const std::string& input) {
    std::vector<io::TensorToWrite> tensors;
    std::vector<std::vector<double>> memory;
    memory.reserve(16);
    const auto add = [&](const char* name, const std::vector<std::int64_t>& shape) {
        std::size_t count = 1;
        for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
        memory.push_back(numbers(count, 100 + memory.size(), 0.4));
        tensors.emplace_back(name, DType::kF64, shape, memory.back().data());
    };
    add("weight_ih_l0", {20, 4});
    add("weight_hh_l0", {20, 5});
    add("bias_ih_l0", {20});
    add("bias_hh_l0", {20});
    io::write_safetensors(weights, std::move(tensors));
    tensors.clear();
    add("x", {6, 3, 4});
    add("hx", {1, 3, 5});
    add("cx", {1, 3, 5});
    add("dy", {6, 3, 5});
    add("dcy", {1, 3, 5});
    const std::vector<std::int64_t> lengths = {6, 2, 5};
    const std::vector<std::uint8_t> reset = {0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    tensors.emplace_back("lengths", DType::kI64, std::vector<std::int64_t>{3}, lengths.data());
    tensors.emplace_back("reset", DType::kU8, std::vector<std::int64_t>{6, 3}, reset.data());
    io::write_safetensors(input, std::move(tensors));
}

TEST(SimtTool, RunGivesWhatTheCpuGives) {
    const simt::InstalledDevice device(0);
    const TemporaryFolder folder;
    write_layer(folder / "w", folder / "in");
    const auto run = [&](const std::string& where, const std::string& dtype) {
        std::string out = folder / where;
        out += dtype;
        tool("run --cell lstm --backward --weights " + (folder / "w") + " --input " +
             (folder / "in") + " --output " + out + " --device " + where + " --dtype " + dtype);
        return out;
    };
    const std::string cpu = run("cpu", "f64");
    const std::vector<std::string> names = {"y",
                                            "hy",
                                            "cy",
                                            "dx",
                                            "dhx",
                                            "dcx",
                                            "d_weight_ih_l0",
                                            "d_weight_hh_l0",
                                            "d_bias_ih_l0",
                                            "d_bias_hh_l0"};
    // `auto` finds the device.
    for (const auto& [dtype, limit] :
         {std::pair{"f64", 1e-12}, {"f32", 1e-5}, {"bf16", 4e-2}, {"f16", 4e-3}}) {
        const std::string cuda = run("auto", dtype);
        EXPECT_GT(device.device().index, -1);
        for (const std::string& name : names) {
            expect_near(read_tensor(cuda, name), read_tensor(cpu, name), limit, name + dtype);
        }
    }
    EXPECT_EQ(type_of(folder / "autobf16", "y"), io::StoredType::kBf16);
    EXPECT_EQ(type_of(folder / "autobf16", "cy"), io::StoredType::kF32);
    EXPECT_EQ(type_of(folder / "autobf16", "d_weight_ih_l0"), io::StoredType::kF32);
}

std::vector<double> losses(const std::string& run) {
    std::vector<double> values;
    for (const std::string& line : io::read_lines(run + "/metrics.jsonl")) {
        const auto json = nlohmann::json::parse(line);
        const bool is_update = json.contains("loss_nats");
        values.push_back(json[is_update ? "loss_nats" : "validation_loss_nats"].get<double>());
    }
    return values;
}

TEST(SimtTool, TrainsResumesScoresAndSamplesOnEitherDevice) {
    simt::InstalledDevice device(0);
    const TemporaryFolder folder;
    std::string text;
    for (int i = 0; i < 60; ++i) text += "the cat sat. ";
    io::write_file_atomic(folder / "text", text);
    const auto train = [&](const std::string& name, const std::string& flags) {
        tool("train --text " + (folder / "text") + " --out " + (folder / name) +
             " --hidden 8 --layers 2 --embed 4 --seq-len 5 --batch 3 --dropout 0.2 --threads 1 "
             "--steps 7 --eval-every 3 " +
             flags);
        return folder / name;
    };
    const std::string cpu = train("cpu", "--device cpu");
    const std::string cuda = train("cuda", "--device auto --verbose");
    EXPECT_GT(device->counts().graph_launches, 4);
    device->reset_counts();
    const std::string plain = train("plain", "--device cuda --no-graphs");
    EXPECT_EQ(device->counts().graph_launches, 0);
    EXPECT_EQ(losses(plain), losses(cuda));
    ASSERT_EQ(losses(cuda).size(), 7U + 3U);
    expect_near(losses(cuda), losses(cpu), 1e-4, "losses");

    tool("train --resume " + cuda + " --steps 9 --device cpu");
    tool("train --resume " + cpu + " --steps 9 --device cuda");
    ASSERT_EQ(losses(cuda).size(), 7U + 3U + 2U + 1U);
    expect_near(losses(cuda), losses(cpu), 2e-4, "losses after resuming");

    const auto score = [&](const std::string& where) {
        return nlohmann::json::parse(tool("eval " + cuda + " --json --text " + (folder / "text") +
                                          " --device " + where))["loss_nats"]
            .get<double>();
    };
    EXPECT_NEAR(score("cuda"), score("cpu"), 1e-5);
    // Replays of a batch show that it was the device that drew.
    const std::string sample = "sample " + cuda + " --length 70 --top-k 4 --device ";
    const std::string drawn = tool(sample + "cpu");
    device->reset_counts();
    EXPECT_EQ(tool(sample + "cuda"), drawn);
    EXPECT_GT(device->counts().graph_launches, 1);
    device->reset_counts();
    EXPECT_EQ(tool(sample + "cuda --no-graphs"), drawn);
    EXPECT_EQ(device->counts().graph_launches, 0);
    EXPECT_GT(device->counts().launches, 70 * 3);

    const std::string narrow = train("f16", "--device cuda --dtype f16");
    tool("train --resume " + narrow + " --steps 8 --device cpu --dtype f32");
    std::vector<double> narrow_losses = losses(narrow);
    ASSERT_EQ(narrow_losses.size(), 7U + 3U + 1U + 1U);
    EXPECT_NEAR(narrow_losses[10], losses(cuda)[10], 5e-2);  // both went on in f32, on the CPU
    narrow_losses.resize(10);
    expect_near(narrow_losses, losses(plain), 2e-2, "losses in f16");
}

TEST(SimtTool, ProductsAreTunedIntoAFile) {
    const TemporaryFolder folder;
    const std::string products = folder / "products";
    const auto timed = [](simt::InstalledDevice& device, const std::string& command) {
        device->reset_counts();
        tool(command);
        EXPECT_FALSE(device->gemm_tuning());
        return device->counts().timed_products;
    };
    io::write_file_atomic(folder / "text", std::string(400, 'a') + std::string(400, 'b'));
    const std::string train =
        "train --device cuda --hidden 8 --embed 4 --seq-len 5 --batch 3 "
        "--threads 1 --steps 2 --text " +
        (folder / "text") + " --out ";
    std::string stored;
    {
        simt::InstalledDevice device(0);
        EXPECT_EQ(timed(device, train + (folder / "plain")), 0);
        EXPECT_GT(timed(device, train + (folder / "run") + " --tune-products " + products), 8);
        stored = io::read_file(products);
        EXPECT_EQ(stored, device->gemm_choices());
    }
    // Another process: the choices come from the file, whose name the run has kept.
    simt::InstalledDevice device(0);
    EXPECT_EQ(timed(device, "train --steps 3 --resume " + (folder / "run")), 0);
    EXPECT_EQ(device->gemm_choices(), stored);
    tool("train --steps 4 --device cpu --resume " + (folder / "run"));
    EXPECT_EQ(io::read_file(products), stored);
    EXPECT_EQ(timed(device, "train --steps 5 --device cuda --resume " + (folder / "run")), 0);

    const std::string sizes = " --device cuda --vocab 11 --hidden 4 --min-time-ms 1 --repeat 1";
    for (const char* what : {"lm --batch 2 --seq-len 3", "sample"}) {
        const std::string bench = std::string("bench ") + what + sizes;
        EXPECT_EQ(timed(device, bench), 0) << what;
        EXPECT_GT(timed(device, bench + " --tune-products " + products), 0) << what;
        EXPECT_EQ(io::read_file(products), device->gemm_choices()) << what;
    }
}

TEST(SimtTool, BenchTimesOnTheDevice) {
    simt::InstalledDevice device(0);
    const std::string timing = " --device cuda --min-time-ms 1 --repeat 1 --json";
    for (const char* mode : {"infer", "forward", "backward", "train"}) {
        for (const char* dtype : {"f32", "bf16", "f64"}) {
            const std::string text =
                tool(std::string("bench rnn --hidden 8 --batch 2 --seq-len 3 --mode ") + mode +
                     " --dtype " + dtype + timing);
            const auto json = nlohmann::json::parse(text);
            EXPECT_EQ(json["device"], "cuda:0");
            EXPECT_EQ(json["dtype"], dtype);
            EXPECT_GT(json["median_ms"].get<double>(), 0.0);
        }
    }
    EXPECT_GT(device->counts().graph_launches, 0);
    device->reset_counts();
    tool("bench rnn --no-graphs --hidden 8 --batch 2 --seq-len 3" + timing);
    EXPECT_EQ(device->counts().graph_launches, 0);
    tool("bench lm --vocab 11 --hidden 8 --batch 2 --seq-len 3 --dtype bf16" + timing);
    EXPECT_GT(device->counts().graph_launches, 0);
    tool("bench sample --vocab 11 --hidden 8" + timing);
}

}  // namespace
}  // namespace carousel::test
