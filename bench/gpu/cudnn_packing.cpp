#include "bench/gpu/cudnn_packing.hpp"

#include <algorithm>
#include <numeric>

namespace carousel::bench {

CudnnPacking::CudnnPacking(const std::vector<std::int64_t>& lengths) : order_(lengths.size()) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return lengths[a] > lengths[b]; });
    for (const std::size_t n : order_) lengths_.push_back(static_cast<int>(lengths[n]));
    rows_ = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

std::vector<std::byte> CudnnPacking::packed(const std::vector<std::byte>& padded,
                                            std::size_t row_bytes) const {
    std::vector<std::byte> out;
    out.reserve(static_cast<std::size_t>(rows_) * row_bytes);
    for (int t = 0; !lengths_.empty() && t < lengths_[0]; ++t) {
        for (std::size_t i = 0; i < order_.size() && lengths_[i] > t; ++i) {
            const std::size_t row = static_cast<std::size_t>(t) * order_.size() + order_[i];
            const auto from = padded.begin() + static_cast<std::ptrdiff_t>(row * row_bytes);
            out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(row_bytes));
        }
    }
    return out;
}

std::vector<double> CudnnPacking::padded(const std::vector<double>& packed, std::int64_t seq_len,
                                         std::int64_t width) const {
    const auto batch = static_cast<std::int64_t>(order_.size());
    std::vector<double> out(static_cast<std::size_t>(seq_len * batch * width), 0.0);
    auto from = packed.begin();
    for (int t = 0; !lengths_.empty() && t < lengths_[0]; ++t) {
        for (std::size_t i = 0; i < order_.size() && lengths_[i] > t; ++i, from += width) {
            const std::int64_t row = t * batch + static_cast<std::int64_t>(order_[i]);
            std::copy_n(from, width, out.begin() + row * width);
        }
    }
    return out;
}

std::vector<std::byte> CudnnPacking::sorted(const std::vector<std::byte>& states,
                                            std::size_t row_bytes) const {
    std::vector<std::byte> out(states.size());
    const std::size_t batch = order_.size();
    for (std::size_t row = 0; row < states.size() / row_bytes; ++row) {
        const std::size_t from = row / batch * batch + order_[row % batch];
        std::copy_n(states.begin() + static_cast<std::ptrdiff_t>(from * row_bytes), row_bytes,
                    out.begin() + static_cast<std::ptrdiff_t>(row * row_bytes));
    }
    return out;
}

std::vector<double> CudnnPacking::unsorted(const std::vector<double>& states,
                                           std::int64_t width) const {
    std::vector<double> out(states.size());
    const auto batch = static_cast<std::int64_t>(order_.size());
    const std::int64_t rows = static_cast<std::int64_t>(states.size()) / width;
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t to =
            row / batch * batch +
            static_cast<std::int64_t>(order_[static_cast<std::size_t>(row % batch)]);
        std::copy_n(states.begin() + row * width, width, out.begin() + to * width);
    }
    return out;
}

}  // namespace carousel::bench
