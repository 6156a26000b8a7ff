// The file that the tool keeps algorithms of products in.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "carousel/gemm_tuning.hpp"
#include "src/cli/tuned_products.hpp"
#include "src/io/file.hpp"
#include "tests/cudart/runtime_fixture.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using cli::TunedProducts;

class TunedProductsTest : public RuntimeTest {
protected:
    TunedProductsTest() {
        fake.clock_us = &lt.clock_us;
        lt.num_algos = 2;
        lt.cost_us[0] = 10;
        lt.cost_us[1] = 5;
        cuda::install_device_api(1, device);
        std::filesystem::remove(file);
    }
    ~TunedProductsTest() override {
        cuda::install_device_api(1, nullptr);
        std::filesystem::remove(file);
    }
    // The number of products that it took to do one with `n` columns.
    int multiply(int n) {
        cuda::GemmArgs g;
        g.m = g.n = g.k = g.lda = g.ldb = g.ldc = 16;
        g.n = n;
        g.a = g.b = memory.data();
        g.c = memory.data() + 1024;
        const int before = lt.matmuls;
        device->gemm(queue, g);
        EXPECT_EQ(lt.products.back().algo, FakeCublasLt::kFirstAlgo + 1);
        return lt.matmuls - before;
    }
    void restart_device() {
        device = make_device();
        queue = device->default_queue();
        cuda::install_device_api(1, device);
    }

    const Device card = Device::cuda(1);
    const std::string file = std::filesystem::temp_directory_path() /
                             ("carousel_products_" + std::to_string(getpid()) + ".txt");
    std::vector<float> memory = std::vector<float>(2048);
};

TEST_F(TunedProductsTest, FileGrowsAndServesLaterRuns) {
    {
        TunedProducts products(card, file);
        EXPECT_TRUE(gemm_tuning(card));
        EXPECT_GT(multiply(3), 1);
        products.store();
    }
    EXPECT_FALSE(gemm_tuning(card));
    const std::string first = io::read_file(file);
    EXPECT_EQ(first, gemm_choices(card));
    restart_device();
    {
        TunedProducts products(card, file);
        EXPECT_EQ(multiply(3), 1) << "from the file";
        // Nothing is new: the file is not written again.
        std::filesystem::remove(file);
        products.store();
        EXPECT_FALSE(std::filesystem::exists(file));
        EXPECT_GT(multiply(4), 1);
        products.store();
    }
    EXPECT_NE(io::read_file(file), first);
    restart_device();
    TunedProducts products(card, file);
    EXPECT_EQ(multiply(3), 1);
    EXPECT_EQ(multiply(4), 1);
}

TEST_F(TunedProductsTest, DamagedFileIsNamedAndLeftAlone) {
    io::write_file_atomic(file, "something else\n");
    const std::string sentence = expect_error(ErrorCode::kInvalidArgument, "line 1",
                                              [&] { TunedProducts products(card, file); });
    EXPECT_NE(sentence.find(file), std::string::npos) << sentence;
    EXPECT_EQ(io::read_file(file), "something else\n");
    EXPECT_FALSE(gemm_tuning(card));
}

TEST_F(TunedProductsTest, NoFileNoTuning) {
    TunedProducts products(card, "");
    EXPECT_FALSE(gemm_tuning(card));
    products.store();
}

}  // namespace
}  // namespace carousel::test
