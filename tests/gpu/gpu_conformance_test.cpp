#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "simt/conformance.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "tests/gpu/card.hpp"

// The conformance kernels on a card. Their results are written to CAROUSEL_CONFORMANCE_OUT and become
// the golden file that the SIMT executor's results are held against.

namespace carousel::test {
namespace {

class GpuConformance : public OnCard {};

simt::ConformanceDevice conformance_device(cuda::DeviceApi& api) {
    simt::ConformanceDevice device;
    device.allocate = [&](std::size_t bytes) { return api.allocate(bytes, "conformance"); };
    device.release = [&](void* data) { api.release(data); };
    device.upload = [&](void* to, const void* from, std::size_t bytes) {
        api.copy_to_device(to, from, bytes);
    };
    device.download = [&](void* to, const void* from, std::size_t bytes) {
        api.copy_to_host(to, from, bytes);
    };
    device.run = [&](const cuda::Launch& launch) {
        api.launch(api.default_queue(), launch);
        api.synchronize(api.default_queue());
    };
    return device;
}

TEST_F(GpuConformance, Dump) {
    const auto api = cuda::device_api(0);
    const simt::ConformanceDevice device = conformance_device(*api);
    const int sm = api->caps().compute_major * 10 + api->caps().compute_minor;
    std::ostringstream text;
    dump_conformance(cuda::conformance_cases(), device, sm, text);
    std::istringstream stored(text.str());
    const simt::ConformanceResults results = simt::read_conformance(stored);
    for (const cuda::ConformanceCase& test : cuda::conformance_cases()) {
        if (sm < test.min_sm) continue;
        SCOPED_TRACE(test.name);
        const auto found = results.find(test.name);
        ASSERT_NE(found, results.end());
        EXPECT_EQ(found->second.size(), test.out_words);
        // The same words again.
        EXPECT_EQ(run_conformance(test, device), found->second);
    }
    const char* file = std::getenv("CAROUSEL_CONFORMANCE_OUT");
    if (file == nullptr) {
        std::cout << text.str();
        return;
    }
    std::ofstream out(file);
    out << text.str();
    EXPECT_TRUE(out.good()) << file;
}

// Against the SIMT executor's results, where a file of them came along.
TEST_F(GpuConformance, TheExecutorComputesAsTheCardDoes) {
    const char* moved = std::getenv("CAROUSEL_TEST_DIR");
    const std::string file =
        std::string(moved != nullptr ? moved : CAROUSEL_TEST_DIR) + "/golden/ptx_simt.txt";
    std::ifstream stream(file);
    if (!stream) GTEST_SKIP() << file << " is not there";
    const simt::ConformanceResults expected = simt::read_conformance(stream);
    const auto api = cuda::device_api(0);
    const simt::ConformanceDevice device = conformance_device(*api);
    const int sm = api->caps().compute_major * 10 + api->caps().compute_minor;
    for (const cuda::ConformanceCase& test : cuda::conformance_cases()) {
        const auto found = expected.find(test.name);
        if (sm < test.min_sm || found == expected.end()) continue;
        EXPECT_EQ(simt::compare_conformance(test, run_conformance(test, device), found->second),
                  "");
    }
}

}  // namespace
}  // namespace carousel::test
