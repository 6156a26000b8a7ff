#include "bench/gpu/supervisor.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "bench/tests/temp_file.hpp"
#include "carousel/error.hpp"

// Workers that crash, lose their device, or hang, as a kernel or another library would make them.

namespace carousel::bench {
namespace {

constexpr std::size_t kRows = 4;

class BenchSupervisor : public testing::Test {
protected:
    /// Runs `side_body` as side "peer" of every row, after ours; writes down what was done.
    int run(const std::function<void(std::size_t row)>& ours,
            const std::function<void(std::size_t row)>& peer, int status = 0) {
        return supervise(
            [&](const Task& task) {
                for (std::size_t row = task.first_row; row < kRows; ++row) {
                    task.progress.begin_row(row);
                    task.progress.running("carousel");
                    ours(row);
                    if (const std::string why = excluded(task, row, "peer"); why.empty()) {
                        task.progress.running("peer");
                        peer(row);
                        note("row " + std::to_string(row));
                    } else {
                        note("row " + std::to_string(row) + " without peer: " + why);
                    }
                    task.progress.running("");
                }
                return status;
            },
            options, [&](const Mishap& mishap) { told.push_back(mishap); });
    }
    void note(const std::string& text) {
        std::ofstream(notebook.path(), std::ios::app) << text << '\n';
    }
    std::vector<std::string> notes() const {
        std::vector<std::string> all;
        std::ifstream in(notebook.path());
        for (std::string text; std::getline(in, text);) all.push_back(text);
        return all;
    }
    static void nothing(std::size_t) {}

    const TempFile notebook{"notes"};
    SupervisorOptions options;
    std::vector<Mishap> told;
};

TEST_F(BenchSupervisor, ARegularEndIsTheWorkers) {
    EXPECT_EQ(run(nothing, nothing, 77), 77);
    EXPECT_EQ(notes(), (std::vector<std::string>{"row 0", "row 1", "row 2", "row 3"}));
    EXPECT_TRUE(told.empty());
}

TEST_F(BenchSupervisor, ACrashCostsOneSideOfOneRow) {
    const int status = run(nothing, [](std::size_t row) {
        if (row == 1) kill(getpid(), SIGSEGV);
    });
    EXPECT_EQ(status, 0);
    ASSERT_EQ(told.size(), 1U);
    EXPECT_EQ(told[0].row, 1U);
    EXPECT_EQ(told[0].side, "peer");
    EXPECT_NE(told[0].how.find("signal 11"), std::string::npos);
    const auto done = notes();
    ASSERT_EQ(done.size(), 4U);
    EXPECT_EQ(done[0], "row 0");
    EXPECT_EQ(done[1].rfind("row 1 without peer: it ended the process: signal 11", 0), 0U);
    EXPECT_EQ(done[2], "row 2");
}

TEST_F(BenchSupervisor, ALostDeviceIsAnotherProcessWithItsWords) {
    const int status = run(nothing, [](std::size_t row) {
        if (row == 0) throw Error(ErrorCode::kDeviceLost, "cuda:0 was lost: illegal address");
    });
    EXPECT_EQ(status, 0);
    ASSERT_EQ(told.size(), 1U);
    EXPECT_EQ(told[0].how, "cuda:0 was lost: illegal address");
    EXPECT_EQ(notes().size(), 4U);
}

TEST_F(BenchSupervisor, AHangIsEnded) {
    options.most_silent_s = 0.3;
    const int status = run(nothing, [](std::size_t row) {
        if (row == 2) sleep(60);
    });
    EXPECT_EQ(status, 0);
    ASSERT_EQ(told.size(), 1U);
    EXPECT_EQ(told[0].row, 2U);
    EXPECT_NE(told[0].how.find("no sign of life"), std::string::npos);
    EXPECT_EQ(notes().size(), 4U);
}

TEST_F(BenchSupervisor, OursTakesTheRowWithIt) {
    const int status = run(
        [](std::size_t row) {
            if (row == 3) abort();
        },
        nothing);
    EXPECT_EQ(status, 1) << "a row was given up";
    ASSERT_EQ(told.size(), 1U);
    EXPECT_TRUE(gives_up_row(told[0], options));
    EXPECT_EQ(notes(), (std::vector<std::string>{"row 0", "row 1", "row 2"}));
}

TEST_F(BenchSupervisor, ASideThatEndsTwoRowsIsLeftOutOfTheRest) {
    EXPECT_EQ(run(nothing, [](std::size_t) { abort(); }), 0);
    EXPECT_EQ(told.size(), 2U);
    const auto done = notes();
    ASSERT_EQ(done.size(), 4U);
    EXPECT_NE(done[2].find("in other rows"), std::string::npos);
    EXPECT_NE(done[3].find("in other rows"), std::string::npos);
}

TEST_F(BenchSupervisor, AnEndIsReached) {
    options.most_mishaps = 3;
    EXPECT_EQ(run([](std::size_t) { abort(); }, nothing), 1);
    EXPECT_EQ(told.size(), 3U);

    told.clear();
    const int status = supervise([](const Task&) -> int { abort(); }, options,
                                 [&](const Mishap& mishap) { told.push_back(mishap); });
    EXPECT_EQ(status, 2) << "no row can be blamed, and none would go better";
    EXPECT_TRUE(told.empty());
}

}  // namespace
}  // namespace carousel::bench
