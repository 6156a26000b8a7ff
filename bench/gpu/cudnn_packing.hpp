#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace carousel::bench {

/// cuDNN's packed layout of sequences of varied length: the longest comes first, and step t has a
/// row for each sequence that is longer than t. No header of cuDNN here.
class CudnnPacking {
public:
    explicit CudnnPacking(const std::vector<std::int64_t>& lengths);

    const std::vector<int>& lengths() const noexcept { return lengths_; }  ///< in packed order
    std::int64_t rows() const noexcept { return rows_; }

    /// Rows of `row_bytes` from [T,N] to the packed order.
    std::vector<std::byte> packed(const std::vector<std::byte>& padded,
                                  std::size_t row_bytes) const;
    /// [T,N,width] of packed rows; 0 where a sequence has ended.
    std::vector<double> padded(const std::vector<double>& packed, std::int64_t seq_len,
                               std::int64_t width) const;
    /// States [S,N] in the order of the sequences here, and back.
    std::vector<std::byte> sorted(const std::vector<std::byte>& states,
                                  std::size_t row_bytes) const;
    std::vector<double> unsorted(const std::vector<double>& states, std::int64_t width) const;

private:
    std::vector<std::size_t> order_;  ///< of the packed order, which sequence it is
    std::vector<int> lengths_;
    std::int64_t rows_ = 0;
};

}  // namespace carousel::bench
