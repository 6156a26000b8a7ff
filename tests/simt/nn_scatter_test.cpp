#include "simt/nn_data.hpp"

namespace carousel::test {
namespace {

std::int64_t count(std::size_t n) { return static_cast<std::int64_t>(n); }

struct Case {
    std::size_t table_rows, row_size, n;
};

/// Sums in the order of positions, in the arithmetic of the dtype: the exact result.
std::vector<double> added(DType dtype, std::vector<double> table, std::size_t row,
                          const std::vector<std::int32_t>& rows, const std::vector<double>& x,
                          std::size_t table_rows) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
        if (rows[r] < 0 || static_cast<std::size_t>(rows[r]) >= table_rows) continue;
        for (std::size_t j = 0; j < row; ++j) {
            double& to = table[static_cast<std::size_t>(rows[r]) * row + j];
            to = dtype == DType::kF64 ? to + x[r * row + j]
                                      : static_cast<double>(static_cast<float>(to) +
                                                            static_cast<float>(x[r * row + j]));
        }
    }
    return table;
}

void check(const Case& sizes, const std::vector<std::int32_t>& rows, DType dtype,
           std::size_t offset, std::uint32_t expected_status, const simt::Options& options) {
    SCOPED_TRACE("table " + std::to_string(sizes.table_rows) + " x " +
                 std::to_string(sizes.row_size) + ", n " + std::to_string(sizes.n));
    const DType wide = wide_dtype(dtype);
    const auto table = rounded(numbers(sizes.table_rows * sizes.row_size, 1), wide);
    const auto x = rounded(numbers(sizes.n * sizes.row_size, 2), dtype);
    const NnTensor dtable(wide, table, "table", offset), dx(dtype, x, "x", offset);
    const simt::DeviceBuffer<std::int32_t> dids(rows, "ids");
    const simt::DeviceBuffer<std::uint32_t> status(std::vector<std::uint32_t>{0}, "status");
    const simt::DeviceBuffer<std::byte> workspace(nn().scatter_workspace_bytes(count(sizes.n)),
                                                  "workspace");
    const cuda::ScatterArgs args = {
        dtype,          dtable.data(), count(sizes.table_rows), count(sizes.row_size), dids.data(),
        count(sizes.n), dx.data(),     status.data(),           workspace.data()};
    for (int step = 0; step < nn().scatter_steps(args); ++step) {
        run(nn().scatter_add_rows(args, step), options);
    }
    expect_equal(dtable.read(), added(dtype, table, sizes.row_size, rows, x, sizes.table_rows),
                 "table");
    EXPECT_EQ(status[0], expected_status);
}

TEST(SimtNnScatter, AddsRowsInTheOrderOfPositions) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const Case& sizes :
             {Case{1, 1, 1}, Case{7, 5, 100}, Case{300, 8, 77}, Case{5, 140, 50}}) {
            check(sizes, ids(sizes.n, count(sizes.table_rows), 3), dtype, offset, 0, options);
        }
    });
}

TEST(SimtNnScatter, SortsOverSeveralTilesAndDigits) {
    for (const simt::Options& options : nn_schedules()) {
        for (const Case& sizes :
             {Case{9, 2, 4500}, Case{255, 1, 2048}, Case{256, 1, 2049}, Case{70000, 1, 3000}}) {
            check(sizes, ids(sizes.n, count(sizes.table_rows), 4), DType::kF32, 0, 0, options);
        }
    }
}

TEST(SimtNnScatter, AFrequentIdIsOneLongRun) {
    std::vector<std::int32_t> rows = ids(2100, 1000, 5);
    for (std::size_t r = 0; r < rows.size(); ++r) {
        if (r % 3 != 0) rows[r] = 999;
    }
    check({1000, 4, 2100}, rows, DType::kBf16, 0, 0, simt::Options());
    check({1000, 4, 2100}, std::vector<std::int32_t>(2100, 0), DType::kF32, 0, 0, simt::Options());
}

TEST(SimtNnScatter, BadIdsAddNothing) {
    for (const std::int32_t bad : {-1, 256, 255, 2147483647, -2147483647}) {
        std::vector<std::int32_t> rows = ids(600, 255, 6);
        rows[0] = rows[333] = rows[599] = bad;
        check({255, 3, 600}, rows, DType::kF32, 1, cuda::kStatusToken, simt::Options());
    }
}

}  // namespace
}  // namespace carousel::test
