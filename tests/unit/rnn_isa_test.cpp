#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "src/backend/cpu/cpu_isa.hpp"

// The instruction set is chosen once per process, so each of the others runs in a process of its own.

namespace carousel::test {
namespace {

class RnnInstructionSet : public testing::TestWithParam<cpu::CpuIsa> {};

TEST_P(RnnInstructionSet, MatchesTheReference) {
    if (static_cast<int>(GetParam()) > static_cast<int>(cpu::best_isa())) {
        GTEST_SKIP() << "this processor lacks " << cpu::isa_name(GetParam());
    }
    if (GetParam() == cpu::current_isa()) {
        GTEST_SKIP() << cpu::isa_name(GetParam()) << " is what all other tests run";
    }
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const std::string command =
        std::string("CAROUSEL_CPU_ISA=") + cpu::isa_name(GetParam()) + " '" + self +
        "' --gtest_brief=1 --gtest_filter='RnnParity.*:*RnnActivation.*:GoldenTorch.*' 1>&2";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

INSTANTIATE_TEST_SUITE_P(Isa, RnnInstructionSet,
                         testing::Values(cpu::CpuIsa::kBaseline, cpu::CpuIsa::kAvx2,
                                         cpu::CpuIsa::kAvx512),
                         [](const auto& instance) {
                             return std::string(cpu::isa_name(instance.param));
                         });

}  // namespace
}  // namespace carousel::test
