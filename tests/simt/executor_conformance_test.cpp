// The wrappers of ptx.cuh against expectations written from the PTX ISA's text, not from the twins.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <sstream>

#include "simt/conformance.hpp"
#include "simt/simt.hpp"

namespace carousel::simt {
namespace {

using Words = std::vector<std::uint32_t>;

ConformanceDevice simt_device(const Options& options) {
    return {.allocate = [](std::size_t bytes) { return allocate(bytes, "conformance"); },
            .release = [](void* data) { release(data); },
            .upload = [](void* to, const void* from,
                         std::size_t bytes) { std::memcpy(to, from, bytes); },
            .download = [](void* to, const void* from,
                           std::size_t bytes) { std::memcpy(to, from, bytes); },
            .run =
                [options](const cuda::Launch& kernel) {
                    const Report report = launch(kernel, options);
                    EXPECT_EQ(report.races + report.uninitialised, 0U)
                        << kernel.kernel << ": " << report.text();
                }};
}

const cuda::ConformanceCase& find(const std::string& name) {
    for (const cuda::ConformanceCase& test : cuda_simt::conformance_cases()) {
        if (name == test.name) {
            return test;
        }
    }
    throw std::out_of_range("no conformance case " + name);
}

/// Under every schedule the case must give what `expect` makes of its input.
void check(const std::string& name, const std::function<Words(const Words&)>& expect) {
    const cuda::ConformanceCase& test = find(name);
    const Words expected = expect(conformance_input(test));
    for (Options options : schedules(4)) {
        options.races = can_check_races();
        EXPECT_EQ(compare_conformance(test, run_conformance(test, simt_device(options)), expected),
                  "");
    }
}

/// f(lane) for all lanes, appended.
template <class F>
void append(Words& words, std::size_t count, F f) {
    for (std::size_t i = 0; i < count; ++i) {
        words.push_back(static_cast<std::uint32_t>(f(i)));
    }
}

TEST(SimtConformance, StrongAccesses) {
    check("strong_access", [](const Words& in) {
        Words out;
        for (int copy = 0; copy < 3; ++copy) {
            append(out, 64, [&](std::size_t i) { return in[i]; });
        }
        append(out, 64, [&](std::size_t i) { return in[i] + 12; });
        append(out, 64, [&](std::size_t) { return 0; });
        append(out, 64, [&](std::size_t i) { return in[i]; });
        append(out, 64, [&](std::size_t i) { return in[i] + 5; });
        append(out, 64, [&](std::size_t i) { return in[i]; });
        append(out, 64, [&](std::size_t i) { return in[i]; });
        return out;
    });
}

TEST(SimtConformance, Shuffles) {
    check("shuffle", [](const Words& in) {
        Words out;
        const auto by = [&](std::size_t lane) { return in[32 + lane] % 32; };
        append(out, 32, [&](std::size_t lane) { return in[by(lane)]; });
        append(out, 32, [&](std::size_t lane) { return in[lane / 8 * 8 + by(lane) % 8]; });
        append(out, 32, [&](std::size_t lane) { return in[lane < 5 ? lane : lane - 5]; });
        append(out, 32, [&](std::size_t lane) { return in[lane % 8 < 3 ? lane : lane - 3]; });
        append(out, 32, [&](std::size_t lane) { return in[lane > 26 ? lane : lane + 5]; });
        append(out, 32, [&](std::size_t lane) { return in[lane % 8 > 4 ? lane : lane + 3]; });
        append(out, 32, [&](std::size_t lane) { return in[lane ^ 21]; });
        append(out, 32, [&](std::size_t lane) { return in[lane ^ 3]; });
        std::uint32_t ballot = 0, sum = 0, most = 0, least = ~0U, parity = 0;
        bool any = false, all = true;
        for (std::size_t lane = 0; lane < 32; ++lane) {
            ballot |= (in[lane] & 1U) << lane;
            any = any || in[lane] % 64 == 0;
            all = all && in[lane] != 0;
            sum += in[lane];
            most = std::max(most, in[lane]);
            least = std::min(least, in[lane]);
            parity ^= in[lane];
        }
        for (const std::uint32_t word :
             {ballot, std::uint32_t{any}, std::uint32_t{all}, sum, most, least, parity}) {
            append(out, 32, [&](std::size_t) { return word; });
        }
        return out;
    });
}

/// Rounds to nearest, ties to even, by arithmetic: `bits` of mantissa, lowest exponent `least`.
double round_to(double x, int bits, int least) {
    if (x == 0.0 || !std::isfinite(x)) {
        return x;
    }
    const int exponent = std::max(std::ilogb(x), least) - bits;
    return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
}

TEST(SimtConformance, Conversions) {
    check("conversion", [](const Words& in) {
        Words out;
        const auto number = [&](std::size_t i) {
            const float x = std::bit_cast<float>(in[i]);
            return std::isnan(x) ? 1.0F : x;
        };
        append(out, 64, [&](std::size_t i) {
            const auto rounded = static_cast<float>(round_to(number(i), 7, -126));
            return std::bit_cast<std::uint32_t>(rounded) >> 16;
        });
        append(out, 64, [&](std::size_t i) {
            const float x = number(i) * 1e-20F;
            const double rounded = std::fabs(round_to(x, 10, -14));
            const std::uint32_t sign = std::signbit(x) ? 0x8000U : 0U;
            if (rounded > 65504.0) {
                return sign | 0x7C00U;
            }
            if (rounded < 0x1p-14) {
                return sign | static_cast<std::uint32_t>(std::ldexp(rounded, 24));
            }
            const int exponent = std::ilogb(rounded);
            return sign | static_cast<std::uint32_t>(exponent + 15) << 10 |
                   static_cast<std::uint32_t>(std::ldexp(rounded, 10 - exponent) - 1024.0);
        });
        append(out, 64, [&](std::size_t i) {
            const std::uint32_t bits = in[i] << 16;
            return std::isnan(std::bit_cast<float>(bits)) ? 0U : bits;
        });
        append(out, 64, [&](std::size_t i) {
            const std::uint32_t exponent = in[i] >> 10 & 31U, mantissa = in[i] & 0x3FFU;
            if (exponent == 31 && mantissa != 0) {
                return 0U;
            }
            double value = exponent == 0
                               ? std::ldexp(mantissa, -24)
                               : std::ldexp(mantissa + 1024.0, static_cast<int>(exponent) - 25);
            value = exponent == 31 ? INFINITY : value;
            return std::bit_cast<std::uint32_t>(
                static_cast<float>((in[i] & 0x8000U) != 0 ? -value : value));
        });
        return out;
    });
}

TEST(SimtConformance, NamedBarriers) {
    check("named_barrier", [](const Words& in) {
        Words out;
        append(out, 128, [&](std::size_t i) { return in[i / 32 * 32 + 31 - i % 32]; });
        return out;
    });
}

TEST(SimtConformance, CopyAsync) {
    check("copy_async", [](const Words& in) {
        Words out;
        for (std::size_t word = 0; word < 4; ++word) {
            append(out, 32, [&](std::size_t lane) {
                const std::size_t from = 31 - lane;
                return word < from % 5 ? in[from * 4 + word] : 0U;
            });
        }
        append(out, 32, [&](std::size_t lane) { return in[(31 - lane) * 2]; });
        append(out, 32, [&](std::size_t lane) { return in[(31 - lane) * 2 + 1]; });
        append(out, 32, [&](std::size_t lane) { return in[31 - lane]; });
        return out;
    });
}

TEST(SimtConformance, LoadMatrix) {
    check("load_matrix", [](const Words& in) {
        // Element (row, column) of matrix m: 16 bits.
        const auto element = [&](std::size_t m, std::size_t row, std::size_t column) {
            const std::uint32_t word = in[(m * 8 + row) * 4 + column / 2];
            return column % 2 == 0 ? word & 0xFFFFU : word >> 16;
        };
        Words out;
        const auto straight = [&](std::size_t m) {
            append(out, 32, [&](std::size_t lane) {
                return element(m, lane / 4, lane % 4 * 2) | element(m, lane / 4, lane % 4 * 2 + 1)
                                                                << 16;
            });
        };
        const auto transposed = [&](std::size_t m) {
            append(out, 32, [&](std::size_t lane) {
                return element(m, lane % 4 * 2, lane / 4) | element(m, lane % 4 * 2 + 1, lane / 4)
                                                                << 16;
            });
        };
        for (const std::size_t matrices : {4, 2}) {
            for (std::size_t m = 0; m < matrices; ++m) {
                straight(m);
            }
            for (std::size_t m = 0; m < matrices; ++m) {
                transposed(m);
            }
        }
        return out;
    });
}

/// The product from the fragment tables of the PTX ISA: where register i of lane l lies.
Words naive_mma(const Words& in, const std::function<double(std::uint32_t)>& value) {
    double a[16][16] = {}, b[16][8] = {};
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        const std::uint32_t group = lane >> 2, thread = lane % 4;
        for (std::uint32_t i = 0; i < 8; ++i) {  // a_i
            const std::uint32_t row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
            const std::uint32_t column = thread * 2 + (i & 1U) + (i >= 4 ? 8 : 0);
            a[row][column] = value(in[lane * 4 + i / 2] >> (16 * (i & 1U)) & 0xFFFFU);
        }
        for (std::uint32_t i = 0; i < 4; ++i) {  // b_i
            const std::uint32_t row = thread * 2 + (i & 1U) + (i >= 2 ? 8 : 0);
            b[row][group] = value(in[128 + lane * 2 + i / 2] >> (16 * (i & 1U)) & 0xFFFFU);
        }
    }
    Words out;
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        for (std::uint32_t i = 0; i < 4; ++i) {  // c_i
            const std::uint32_t row = i < 2 ? lane >> 2 : (lane >> 2) + 8;
            const std::uint32_t column = lane % 4 * 2 + (i & 1U);
            double sum = std::bit_cast<float>(in[192 + lane * 4 + i]);
            for (std::size_t k = 0; k < 16; ++k) {
                sum += a[row][k] * b[k][column];
            }
            out.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(sum)));
        }
    }
    return out;
}

TEST(SimtConformance, MmaBf16) {
    check("mma_bf16", [](const Words& in) {
        return naive_mma(in, [](std::uint32_t bits) {
            const double size =
                std::ldexp(1.0 + (bits & 0x7FU) / 128.0, static_cast<int>(bits >> 7 & 0xFFU) - 127);
            return (bits & 0x8000U) != 0 ? -size : size;
        });
    });
}
TEST(SimtConformance, MmaF16) {
    check("mma_f16", [](const Words& in) {
        return naive_mma(in, [](std::uint32_t bits) {
            const double size = std::ldexp(1.0 + (bits & 0x3FFU) / 1024.0,
                                           static_cast<int>(bits >> 10 & 0x1FU) - 15);
            return (bits & 0x8000U) != 0 ? -size : size;
        });
    });
}

TEST(SimtConformance, GridSum) {
    check("grid_sum", [](const Words& in) {
        std::uint32_t sum = 0;
        for (const std::uint32_t word : in) {
            sum += word;
        }
        Words out(9, sum);
        out.push_back(8);
        return out;
    });
}

TEST(SimtConformance, Timer) {
    check("timer", [](const Words&) { return Words(32, 1); });
}

TEST(SimtConformance, Cluster) {
    check("cluster", [](const Words& in) {
        Words out;
        for (std::size_t rank = 0; rank < 4; ++rank) {
            append(out, 64, [&](std::size_t i) { return in[(rank + 3) % 4 * 64 + i]; });
            append(out, 64, [&](std::size_t i) { return in[(rank + 1) % 4 * 64 + i]; });
            append(out, 64, [&](std::size_t) { return rank; });
            append(out, 64, [&](std::size_t) { return 4; });
        }
        return out;
    });
}

TEST(SimtConformance, Mbarrier) {
    check("mbarrier", [](const Words&) { return Words(5 * 64, 1); });
}

TEST(SimtConformance, Exchange) {
    check("exchange", [](const Words& in) {
        Words out;
        for (std::size_t rank = 0; rank < 4; ++rank) {
            const std::uint32_t* from = in.data() + (rank + 3) % 4 * 256;
            append(out, 64, [&](std::size_t i) { return from[(i + 1) % 64]; });
            append(out, 64, [&](std::size_t i) { return from[64 + (i + 1) % 64]; });
            append(out, 256, [&](std::size_t i) { return from[i]; });
            append(out, 256, [&](std::size_t i) { return from[i]; });
        }
        return out;
    });
}

TEST(SimtConformance, RemoteArrival) {
    check("remote_arrival", [](const Words& in) { return Words(in.begin() + 1, in.end()); });
}

TEST(SimtConformance, Bulk) {
    check("bulk", [](const Words& in) {
        Words out;
        append(out, 64, [&](std::size_t i) { return in[i] + 1; });
        return out;
    });
}

TEST(SimtConformance, FileRoundTrip) {
    std::stringstream file;
    dump_conformance(cuda_simt::conformance_cases(), simt_device({}), 90, file);
    const ConformanceResults results = read_conformance(file);
    EXPECT_EQ(results.size(), cuda_simt::conformance_cases().size());
    for (const cuda::ConformanceCase& test : cuda_simt::conformance_cases()) {
        EXPECT_EQ(results.at(test.name), run_conformance(test, simt_device({})));
    }
    std::stringstream older;
    dump_conformance(cuda_simt::conformance_cases(), simt_device({}), 80, older);
    EXPECT_EQ(read_conformance(older).count("cluster"), 0U);
    std::string text = file.str();
    std::stringstream cut(text.substr(0, text.size() - 20));
    EXPECT_THROW(read_conformance(cut), std::runtime_error);
    std::stringstream other("something else\n");
    EXPECT_THROW(read_conformance(other), std::runtime_error);
}

TEST(SimtConformance, ComparisonSeesADifference) {
    const cuda::ConformanceCase& bits = find("shuffle");
    EXPECT_EQ(compare_conformance(bits, {1, 2}, {1, 2}), "");
    EXPECT_NE(compare_conformance(bits, {1, 2}, {1, 3}), "");
    EXPECT_NE(compare_conformance(bits, {1}, {1, 2}), "");
    const cuda::ConformanceCase& sums = find("mma_bf16");
    const auto word = [](float x) { return std::bit_cast<std::uint32_t>(x); };
    EXPECT_EQ(compare_conformance(sums, {word(1.0F)}, {word(1.0F + 0x1p-20F)}), "");
    EXPECT_NE(compare_conformance(sums, {word(1.0F)}, {word(1.01F)}), "");
    EXPECT_NE(compare_conformance(sums, {word(NAN)}, {word(1.0F)}), "");
}

}  // namespace
}  // namespace carousel::simt
