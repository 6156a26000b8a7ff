#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "src/train/lm_trainer.hpp"

namespace carousel::test {

/// A small model in f64, for comparisons to rounding error.
inline train::LmConfig small_lm(Cell cell, std::int64_t vocab_size = 7) {
    train::LmConfig config;
    config.cell = cell;
    config.vocab_size = vocab_size;
    config.embedding_size = 4;
    config.hidden_size = 6;
    config.num_layers = 2;
    config.dtype = DType::kF64;
    config.num_threads = 2;
    config.seq_len = 6;
    config.batch_size = 3;
    config.seed = 5;
    return config;
}

/// `count` ids that repeat no short pattern.
inline std::vector<std::int32_t> some_tokens(std::int64_t count, std::int32_t vocab_size) {
    std::vector<std::int32_t> tokens;
    std::uint64_t state = 88172645463325252ull;
    for (std::int64_t i = 0; i < count; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        tokens.push_back(static_cast<std::int32_t>(state % static_cast<std::uint64_t>(vocab_size)));
    }
    return tokens;
}

template <class T>
std::vector<T> flat_values(const train::LmModel& model) {
    const T* data = static_cast<const T*>(model.params().flat_values());
    return std::vector<T>(data, data + model.params().numel());
}
template <class T>
std::vector<T> flat_grads(const train::LmModel& model) {
    const T* data = static_cast<const T*>(model.params().flat_grads());
    return std::vector<T>(data, data + model.params().numel());
}

/// A folder that goes away with the object.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "carousel-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

}  // namespace carousel::test
