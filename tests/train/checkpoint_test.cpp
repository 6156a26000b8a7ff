#include "src/train/checkpoint.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/train/train_support.hpp"

namespace carousel::test {
namespace {

using train::LmConfig;
using train::LmTrainer;
using train::RunProgress;

std::string bytes_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

data::Vocabulary vocabulary() {
    return data::Vocabulary::from_text(data::decode_utf8("\n \"abé\\", "text"));
}

struct Case {
    std::string name;
    LmConfig config;
    data::Batching batching = data::Batching::kSequential;
};

std::vector<Case> cases() {
    LmConfig base = small_lm(Cell::kLstm);
    base.dtype = DType::kF32;
    base.dropout = 0.3;
    base.clip_norm = 0.5;
    std::vector<Case> all = {{"adam", base}, {"random batches", base, data::Batching::kRandom}};
    const auto add = [&](const char* name, const std::function<void(LmConfig&)>& change) {
        all.push_back({name, base});
        change(all.back().config);
    };
    add("gru one-hot rmsprop momentum", [](LmConfig& c) {
        c.cell = Cell::kGru;
        c.embedding_size = 0;
        c.optimizer.kind = OptimizerKind::kRmsprop;
        c.optimizer.momentum = 0.9;
    });
    add("sgd momentum", [](LmConfig& c) {
        c.optimizer.kind = OptimizerKind::kSgd;
        c.optimizer.momentum = 0.9;
    });
    add("plain sgd", [](LmConfig& c) { c.optimizer.kind = OptimizerKind::kSgd; });
    add("history", [](LmConfig& c) { c.tbptt = tbptt_parse("2,5"); });
    add("random truncation", [](LmConfig& c) { c.tbptt = tbptt_parse("random:8"); });
    add("plateau", [](LmConfig& c) { c.schedule = schedule_parse("plateau:0.5,1"); });
    add("cosine", [](LmConfig& c) {
        c.schedule = schedule_parse("cosine:3");
        c.schedule.lr_steps = 30;
    });
    return all;
}

TEST(Checkpoint, ResumedTrainingIsBitForBitTheUninterruptedOne) {
    const auto tokens = some_tokens(3 * 35 + 1, 7);
    const auto batcher_of = [&](const Case& c) {
        return data::make_batcher(c.batching, tokens.data(), 106, 3, 6, c.config.seed);
    };
    for (const Case& c : cases()) {
        SCOPED_TRACE(c.name);
        TemporaryFolder folder;
        const auto run = [&](LmTrainer& trainer, data::Batcher& batcher, int until) {
            while (trainer.steps_done() < until) {
                trainer.step(batcher);
                if (trainer.steps_done() % 3 == 0) trainer.schedule().observe(1.0);
            }
        };
        const auto save = [&](LmTrainer& trainer, data::Batcher& batcher, const std::string& name) {
            std::filesystem::create_directories(folder / name);
            RunProgress progress;
            progress.cursor = batcher.cursor();
            save_checkpoint(folder / name, "last", trainer, vocabulary(), progress);
        };
        LmTrainer whole(c.config);
        const auto whole_batcher = batcher_of(c);
        run(whole, *whole_batcher, 10);
        save(whole, *whole_batcher, "half");
        run(whole, *whole_batcher, 20);
        save(whole, *whole_batcher, "whole");

        LmTrainer resumed(c.config);
        const auto resumed_batcher = batcher_of(c);
        const RunProgress progress = load_checkpoint(folder / "half", resumed);
        resumed_batcher->set_cursor(progress.cursor);
        EXPECT_EQ(resumed.steps_done(), 10);
        run(resumed, *resumed_batcher, 20);
        save(resumed, *resumed_batcher, "resumed");
        for (const char* file : {"/last/model.safetensors", "/last/state.safetensors"}) {
            EXPECT_EQ(bytes_of(folder / "resumed" + file), bytes_of(folder / "whole" + file))
                << file;
            EXPECT_NE(bytes_of(folder / "half" + file), bytes_of(folder / "whole" + file)) << file;
        }
    }
}

/// A run with one checkpoint in it.
struct SavedRun {
    SavedRun() : config(cases().front().config), trainer(config) {
        const auto tokens = some_tokens(106, 7);
        data::SequentialBatcher batcher(tokens.data(), 106, 3, 6);
        trainer.step(batcher);
        save();
    }
    void save() { save_checkpoint(folder.path(), "last", trainer, vocabulary(), {}); }
    TemporaryFolder folder;
    LmConfig config;
    LmTrainer trainer;
};

TEST(Checkpoint, ModelFileDescribesItself) {
    SavedRun run;
    const std::string folder = train::checkpoint_folder(run.folder.path());
    EXPECT_EQ(folder, run.folder / "last");
    const train::ModelFile file = train::read_model_file(folder);
    EXPECT_EQ(file.config.cell, Cell::kLstm);
    EXPECT_EQ(file.config.hidden_size, 6);
    EXPECT_EQ(file.config.num_layers, 2);
    EXPECT_EQ(file.config.embedding_size, 4);
    EXPECT_EQ(file.config.vocab_size, 7);
    EXPECT_TRUE(file.vocabulary == vocabulary());
    const auto model = train::load_model(folder, file.config, 1, 1);
    EXPECT_EQ(flat_values<float>(*model), flat_values<float>(run.trainer.model()));
}

TEST(Checkpoint, DamageIsASentence) {
    for (const char* file : {"last/model.safetensors", "last/state.safetensors"}) {
        SavedRun run;
        const std::string path = run.folder / file;
        const std::string whole = bytes_of(path);
        for (const std::size_t size :
             {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() - 1}) {
            write_bytes(path, whole.substr(0, size));
            LmTrainer trainer(run.config);
            expect_error(ErrorCode::kIo, "safetensors",
                         [&] { train::load_checkpoint(run.folder.path(), trainer); });
        }
        std::filesystem::remove(path);
        LmTrainer trainer(run.config);
        expect_error(ErrorCode::kIo, "safetensors",
                     [&] { train::load_checkpoint(run.folder.path(), trainer); });
    }
}

TEST(Checkpoint, OfAnotherModelNamesTheTensor) {
    SavedRun run;
    LmConfig other = run.config;
    other.hidden_size = 8;
    LmTrainer trainer(other);
    expect_error(ErrorCode::kIo, "tensor",
                 [&] { train::load_checkpoint(run.folder.path(), trainer); });
    other = run.config;
    other.seed = 99;
    LmTrainer reseeded(other);
    expect_error(ErrorCode::kIo, "seed",
                 [&] { train::load_checkpoint(run.folder.path(), reseeded); });
}

TEST(Checkpoint, AFailedSaveLeavesTheOldOne) {
    SavedRun run;
    const std::string path = run.folder / "last/model.safetensors";
    const std::string before = bytes_of(path);
    // A file where the new folder would go up: as unwritable as a full disk.
    const auto tokens = some_tokens(106, 7);
    data::SequentialBatcher batcher(tokens.data(), 106, 3, 6);
    run.trainer.step(batcher);
    const std::string gone = run.folder / "no-such-folder";
    write_bytes(gone, "a file");
    expect_error(ErrorCode::kIo, "saved",
                 [&] { save_checkpoint(gone, "last", run.trainer, vocabulary(), {}); });
    EXPECT_EQ(bytes_of(path), before);
    run.save();
    EXPECT_NE(bytes_of(path), before);
    for (const auto& entry : std::filesystem::directory_iterator(run.folder.path())) {
        const std::string name = entry.path().filename().string();
        EXPECT_TRUE(name == "last" || name == "no-such-folder") << name;
    }
}

TEST(Checkpoint, AFolderWithoutARunSaysSo) {
    TemporaryFolder folder;
    EXPECT_FALSE(train::holds_run(folder.path()));
    expect_error(ErrorCode::kIo, "model", [&] { train::checkpoint_folder(folder.path()); });
    expect_error(ErrorCode::kIo, "checkpoint", [&] { train::last_folder(folder.path()); });
}

}  // namespace
}  // namespace carousel::test
