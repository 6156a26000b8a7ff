#include "src/train/lm_config.hpp"

#include <limits>

#include "carousel/error.hpp"
#include "src/train/parse.hpp"

namespace carousel::train {

InitOptions init_parse(const std::string& text) {
    InitOptions options;
    if (text == "torch") return options;
    const std::string prefix = "uniform:";
    if (text.compare(0, prefix.size(), prefix) == 0) {
        options.kind = InitOptions::Kind::kUniform;
        options.range = parse_number(text.substr(prefix.size()), "the range of --init uniform");
        if (options.range >= 0.0) return options;
    }
    throw Error(
        ErrorCode::kInvalidArgument,
        "--init '" + text + "' must be torch, or uniform:RANGE with RANGE >= 0, say uniform:0.08");
}

std::string to_string(const InitOptions& options) {
    if (options.kind == InitOptions::Kind::kTorch) return "torch";
    return "uniform:" + number_text(options.range);
}

RnnSpec LmConfig::rnn_spec() const {
    RnnSpec spec;
    spec.cell = cell;
    spec.dtype = dtype;
    spec.input_size = input_size();
    spec.hidden_size = hidden_size;
    spec.num_layers = num_layers;
    spec.dropout = num_layers > 1 ? dropout : 0.0;
    return spec;
}

void validate(const LmConfig& config) {
    const auto require = [](bool rule, const std::string& sentence) {
        if (!rule) throw Error(ErrorCode::kInvalidArgument, sentence);
    };
    const auto positive = [&](const char* name, std::int64_t value) {
        require(value >= 1,
                std::string(name) + " is " + std::to_string(value) + "; it must be at least 1");
    };
    positive("vocab_size", config.vocab_size);
    require(config.vocab_size <= std::numeric_limits<std::int32_t>::max(),
            "vocab_size is " + std::to_string(config.vocab_size) +
                "; ids are 32-bit numbers, so it must be at most 2147483647");
    positive("hidden size", config.hidden_size);
    positive("number of layers", config.num_layers);
    positive("sequence length", config.seq_len);
    positive("batch size", config.batch_size);
    require(config.embedding_size >= 0, "embedding size is " +
                                            std::to_string(config.embedding_size) +
                                            "; it must be at least 1, or 0 for one-hot input");
    require(config.dropout >= 0.0 && config.dropout < 1.0,
            "dropout is " + number_text(config.dropout) + "; it must lie in [0, 1)");
    carousel::validate(config.rnn_spec());
}

}  // namespace carousel::train
