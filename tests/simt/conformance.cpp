#include "simt/conformance.hpp"

#include <bit>
#include <cmath>
#include <istream>
#include <ostream>
#include <random>
#include <stdexcept>

namespace carousel::simt {

namespace {

constexpr const char* kHeader = "carousel ptx conformance 1";

/// Sums of 17 terms of size up to 4, of which each addition may round, or cut off, once.
constexpr float kSumTolerance = 17 * 4 * 0x1p-21F;

/// Sign, exponent near one and random mantissa: every product of two is exact in f32.
std::uint32_t random_bf16(std::mt19937& random) {
    const std::uint32_t bits = random();
    return (bits & 0x807FU) | ((126U + (bits >> 16) % 2) << 7);
}
std::uint32_t random_f16(std::mt19937& random) {
    const std::uint32_t bits = random();
    return (bits & 0x83FFU) | ((14U + (bits >> 16) % 2) << 10);
}

}  // namespace

std::vector<std::uint32_t> conformance_input(const cuda::ConformanceCase& test) {
    std::mt19937 random(20240517);  // any fixed seed
    std::vector<std::uint32_t> words(test.in_words);
    constexpr std::size_t kFragmentWords = 192;  // a and b of an mma; then come f32 sums
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (test.input == cuda::ConformanceInput::kBits) {
            words[i] = random();
        } else if (i >= kFragmentWords) {
            words[i] = std::bit_cast<std::uint32_t>(
                static_cast<float>(static_cast<int>(random() % 4096) - 2048) / 1024.0F);
        } else if (test.input == cuda::ConformanceInput::kMmaBf16) {
            words[i] = random_bf16(random) | random_bf16(random) << 16;
        } else {
            words[i] = random_f16(random) | random_f16(random) << 16;
        }
    }
    return words;
}

std::vector<std::uint32_t> run_conformance(const cuda::ConformanceCase& test,
                                           const ConformanceDevice& device) {
    const std::vector<std::uint32_t> input = conformance_input(test);
    std::vector<std::uint32_t> output(test.out_words);
    const std::size_t in_bytes = input.size() * sizeof(input[0]);
    const std::size_t out_bytes = output.size() * sizeof(output[0]);
    void* in = device.allocate(in_bytes);
    void* out = device.allocate(out_bytes);
    device.upload(in, input.data(), in_bytes);
    device.upload(out, output.data(), out_bytes);
    device.run(
        test.launch({static_cast<const std::uint32_t*>(in), static_cast<std::uint32_t*>(out)}));
    device.download(output.data(), out, out_bytes);
    device.release(in);
    device.release(out);
    return output;
}

void dump_conformance(std::span<const cuda::ConformanceCase> cases, const ConformanceDevice& device,
                      int sm, std::ostream& out) {
    out << kHeader << '\n';
    for (const cuda::ConformanceCase& test : cases) {
        if (sm < test.min_sm) {
            continue;
        }
        const std::vector<std::uint32_t> words = run_conformance(test, device);
        out << test.name << ' ' << std::dec << words.size() << std::hex;
        constexpr std::size_t kWordsPerLine = 12;
        for (std::size_t i = 0; i < words.size(); ++i) {
            out << (i % kWordsPerLine == 0 ? '\n' : ' ') << words[i];
        }
        out << std::endl;  // a card may hang in the next case
    }
}

ConformanceResults read_conformance(std::istream& in) {
    std::string line;
    if (!std::getline(in, line) || line != kHeader) {
        throw std::runtime_error("conformance file: its first line is not '" +
                                 std::string(kHeader) + "'");
    }
    ConformanceResults results;
    std::string name;
    std::size_t count = 0;
    while (in >> name >> std::dec >> count) {
        std::vector<std::uint32_t>& words = results[name];
        for (std::size_t i = 0; i < count; ++i) {
            std::uint32_t word = 0;
            if (!(in >> std::hex >> word)) {
                throw std::runtime_error("conformance file: case " + name + " is cut short");
            }
            words.push_back(word);
        }
    }
    return results;
}

std::string compare_conformance(const cuda::ConformanceCase& test,
                                const std::vector<std::uint32_t>& found,
                                const std::vector<std::uint32_t>& expected) {
    if (found.size() != expected.size()) {
        return std::string(test.name) + ": " + std::to_string(found.size()) + " words, not " +
               std::to_string(expected.size());
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (found[i] == expected[i]) {
            continue;
        }
        const float a = std::bit_cast<float>(found[i]), b = std::bit_cast<float>(expected[i]);
        if (!test.floats || !(std::fabs(a - b) <= kSumTolerance)) {
            return std::string(test.name) + ": word " + std::to_string(i) + " is " +
                   std::to_string(found[i]) + ", not " + std::to_string(expected[i]) +
                   (test.floats ? " (" + std::to_string(a) + ", " + std::to_string(b) + ")" : "");
        }
    }
    return {};
}

}  // namespace carousel::simt
