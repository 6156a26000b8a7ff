#include "carousel/tbptt.hpp"

#include <algorithm>
#include <cmath>

#include "carousel/error.hpp"
#include "src/train/parse.hpp"
#include "src/train/random.hpp"

namespace carousel {

namespace {

[[noreturn]] void refuse(const std::string& sentence) {
    throw Error(ErrorCode::kInvalidArgument, sentence);
}

}  // namespace

TbpttOptions tbptt_parse(const std::string& text) {
    TbpttOptions options;
    const std::string prefix = "random:";
    if (text.compare(0, prefix.size(), prefix) == 0) {
        options.kind = TbpttOptions::Kind::kRandom;
        options.mean =
            train::parse_integer(text.substr(prefix.size()), "the mean of --tbptt random");
        if (options.mean < 2) {
            refuse("the mean of --tbptt random is " + std::to_string(options.mean) +
                   "; it must be at least 2 steps");
        }
        return options;
    }
    const std::vector<std::string> parts = train::split_text(text, ',');
    if (parts.size() != 2) {
        refuse("--tbptt '" + text + "' must be K1,K2 (say 16,64) or random:MEAN (say random:64)");
    }
    options.k1 = train::parse_integer(parts[0], "k1 of --tbptt");
    options.k2 = train::parse_integer(parts[1], "k2 of --tbptt");
    if (options.k1 < 1 || options.k2 < options.k1) {
        refuse(
            "--tbptt " + text +
            " breaks 1 <= k1 <= k2: every k1 steps an update whose gradients flow back k2 steps");
    }
    return options;
}

std::string to_string(const TbpttOptions& options) {
    if (options.kind == TbpttOptions::Kind::kRandom)
        return "random:" + std::to_string(options.mean);
    return std::to_string(options.k1) + "," + std::to_string(options.k2);
}

TbpttOptions tbptt_resolve(TbpttOptions options, std::int64_t seq_len) {
    if (options.kind == TbpttOptions::Kind::kFixed) {
        if (options.k1 == 0) options.k1 = seq_len;
        if (options.k2 == 0) options.k2 = options.k1;
    } else if (options.chunk == 0) {
        // Long chunks keep the recurrent layer's products large, short ones the factor 1/(1-c), and
        // with it the variance, small: an eighth of the mean gives 8/7.
        options.chunk = std::clamp<std::int64_t>(options.mean / 8, 1, 16);
    }
    if (options.kind == TbpttOptions::Kind::kRandom &&
        (options.chunk < 1 || options.chunk >= options.mean)) {
        refuse("chunks of " + std::to_string(options.chunk) + " steps for a mean of " +
               std::to_string(options.mean) +
               "; a chunk must be at least 1 step and shorter than that");
    }
    return options;
}

double tbptt_cut_probability(const TbpttOptions& options) noexcept {
    return static_cast<double>(options.chunk) / static_cast<double>(options.mean);
}

double tbptt_boundary_scale(const TbpttOptions& options) noexcept {
    return 1.0 / (1.0 - tbptt_cut_probability(options));
}

std::int64_t tbptt_segment_chunks(const TbpttOptions& options, std::uint64_t seed,
                                  std::uint64_t segment) noexcept {
    // Inverse of the geometric distribution: P(more than k chunks) = (1-c)^k.
    const double u =
        1.0 - train::random_uniform(seed, train::RandomStream::kSegment, segment);  // in (0, 1]
    const double c = tbptt_cut_probability(options);
    return 1 + static_cast<std::int64_t>(std::floor(std::log(u) / std::log1p(-c)));
}

TbpttWindow tbptt_window(const TbpttOptions& options, std::int64_t stream_begin,
                         std::int64_t position, std::int64_t num_new) noexcept {
    TbpttWindow window;
    window.begin = std::max(stream_begin, position + options.k1 - options.k2);
    window.loss_begin = position;
    window.end = position + num_new;
    window.next_begin = std::max(stream_begin, window.end + options.k1 - options.k2);
    return window;
}

}  // namespace carousel
