#include <cmath>

#include "simt/nn_data.hpp"

namespace carousel::test {
namespace {

using Status = simt::DeviceBuffer<std::uint32_t>;
using Ids = simt::DeviceBuffer<std::int32_t>;

Status clear_status() { return Status(std::vector<std::uint32_t>{0}, "status"); }

std::int64_t count(std::size_t n) { return static_cast<std::int64_t>(n); }

TEST(SimtNnRows, GatherCopiesRowsAndChecksIds) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t row : {1, 5, 8, 70}) {
            constexpr std::size_t kTable = 11, kCount = 19;
            const auto table = rounded(numbers(kTable * row, 1), dtype);
            const auto rows = ids(kCount, kTable, 2);
            const NnTensor dtable(dtype, table, "table", offset);
            const NnTensor y(dtype, kCount * row, "y", offset);
            const Ids dids(rows, "ids");
            const Status status = clear_status();
            run(nn().gather_rows({dtype, dtable.data(), kTable, count(row), dids.data(), kCount,
                                  y.data(), status.data()}),
                options);
            std::vector<double> expected;
            for (const std::int32_t id : rows) {
                for (std::size_t j = 0; j < row; ++j) {
                    expected.push_back(table[static_cast<std::size_t>(id) * row + j]);
                }
            }
            expect_equal(y.read(), expected, "y");
            EXPECT_EQ(status[0], 0U);
        }
    });
}

TEST(SimtNnRows, BadIdsReadNothing) {
    for (const std::int32_t bad : {-1, 4, 2147483647, -2147483647}) {
        const NnTensor table(DType::kF32, numbers(4 * 6, 1), "table");
        const NnTensor y(DType::kF32, 3 * 6, "y");
        const Ids rows(std::vector<std::int32_t>{2, bad, 0}, "ids");
        const Status status = clear_status();
        run(nn().gather_rows(
                {DType::kF32, table.data(), 4, 6, rows.data(), 3, y.data(), status.data()}),
            simt::Options());
        for (std::size_t j = 6; j < 12; ++j) EXPECT_EQ(y.read()[j], 0.0);
        EXPECT_EQ(y.read()[0], table.read()[12]);
        EXPECT_EQ(status[0], cuda::kStatusToken);
    }
}

TEST(SimtNnRows, OneHotWritesOneElementPerRow) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        constexpr std::size_t kRows = 300, kClasses = 7;
        auto columns = ids(kRows, kClasses, 3);
        columns[17] = kClasses;
        columns[200] = -5;
        const NnTensor x(dtype, std::vector<double>(kRows * kClasses, 0.0), "x", offset);
        const Ids dids(columns, "ids");
        const Status status = clear_status();
        run(nn().set_one_hot({dtype, x.data(), kClasses, dids.data(), kRows, 1.0, status.data()}),
            options);
        std::vector<double> expected(kRows * kClasses, 0.0);
        for (std::size_t r = 0; r < kRows; ++r) {
            if (r == 17 || r == 200) continue;
            expected[r * kClasses + static_cast<std::size_t>(columns[r])] = 1.0;
        }
        expect_equal(x.read(), expected, "x");
        EXPECT_EQ(status[0], cuda::kStatusToken);
        run(nn().set_one_hot({dtype, x.data(), kClasses, dids.data(), kRows, 0.0, status.data()}),
            options);
        expect_equal(x.read(), std::vector<double>(kRows * kClasses, 0.0), "x cleared");
    });
}

TEST(SimtNnRows, ZeroRowsClearsOnlyThose) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t row : {3, 16}) {
            auto table = rounded(numbers(9 * row, 4), dtype);
            const NnTensor dtable(dtype, table, "table", offset);
            const simt::DeviceBuffer<std::int64_t> rows(std::vector<std::int64_t>{7, 0, 9, -1, 3},
                                                        "rows");
            const Status status = clear_status();
            run(nn().zero_rows(
                    {dtype, dtable.data(), 9, count(row), rows.data(), 5, status.data()}),
                options);
            for (const std::size_t r : {7, 0, 3}) {
                for (std::size_t j = 0; j < row; ++j) table[r * row + j] = 0.0;
            }
            expect_equal(dtable.read(), table, "table");
            EXPECT_EQ(status[0], cuda::kStatusToken);
        }
    });
}

TEST(SimtNnRows, AddBiasKeepsThePadding) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t cols : {1, 8, 33, 1200}) {
            constexpr std::size_t kRows = 11;
            for (const std::size_t pad : {0, 8}) {
                const std::size_t ld = cols + pad;
                const auto x = rounded(numbers(kRows * ld, 5), dtype);
                const auto bias = rounded(numbers(cols, 6), dtype);
                const NnTensor dx(dtype, x, "x", offset), dbias(dtype, bias, "bias", offset);
                run(nn().add_bias({dtype, dx.data(), kRows, count(cols), count(ld), dbias.data()}),
                    options);
                auto expected = x;
                for (std::size_t r = 0; r < kRows; ++r) {
                    for (std::size_t j = 0; j < cols; ++j) expected[r * ld + j] += bias[j];
                }
                expect_near(dx.read(), expected, 2 * unit_roundoff(dtype), "x");
            }
        }
    });
}

void check_column_sum(DType dtype, std::size_t rows, std::size_t cols, std::size_t ld,
                      bool accumulate, std::size_t offset, const simt::Options& options) {
    const auto x = rounded(numbers(rows * ld, 7), dtype);
    const DType wide = wide_dtype(dtype);
    const auto before = rounded(numbers(cols, 8), wide);
    const NnTensor dx(dtype, x, "x", offset), y(wide, before, "y", offset);
    const simt::DeviceBuffer<std::byte> workspace(
        nn().column_sum_workspace_bytes(dtype, count(rows), count(cols)), "workspace");
    const cuda::ColumnSumsArgs args = {dtype,     dx.data(), count(rows),        count(cols),
                                       count(ld), y.data(),  accumulate ? 1 : 0, workspace.data()};
    run(nn().column_sum(args, 0), options);
    run(nn().column_sum(args, 1), options);
    std::vector<double> expected(cols), magnitude(cols);
    for (std::size_t j = 0; j < cols; ++j) {
        expected[j] = accumulate ? before[j] : 0.0;
        for (std::size_t r = 0; r < rows; ++r) expected[j] += x[r * ld + j];
    }
    // Rounding of the sums in A, as a multiple of sqrt(rows).
    const double limit = unit_roundoff(wide) * std::sqrt(static_cast<double>(rows) + 1.0);
    expect_near(y.read(), expected, 6.0 * limit, "y");
}

TEST(SimtNnRows, ColumnSums) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        check_column_sum(dtype, 1, 1, 1, false, offset, options);
        check_column_sum(dtype, 3, 33, 40, true, offset, options);
        check_column_sum(dtype, 200, 8, 8, false, offset, options);
        check_column_sum(dtype, 65, 300, 300, true, offset, options);
    });
}

TEST(SimtNnRows, ColumnSumsOfMoreRowsThanAGridHas) {
    check_column_sum(DType::kF32, 70000, 3, 3, false, 0, simt::Options());
}

TEST(SimtNnRows, ColumnSumOfNoRowsIsZero) {
    check_column_sum(DType::kF32, 0, 5, 5, false, 0, simt::Options());
    check_column_sum(DType::kF32, 0, 5, 5, true, 0, simt::Options());
}

}  // namespace
}  // namespace carousel::test
