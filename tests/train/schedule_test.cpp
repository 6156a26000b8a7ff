#include "carousel/schedule.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

Schedule make(const std::string& text, std::int64_t lr_steps, double lr = 0.1) {
    ScheduleOptions options = schedule_parse(text);
    options.lr_steps = lr_steps;
    return Schedule(options, lr);
}

TEST(Schedule, ConstantIsConstant) {
    const Schedule schedule = make("constant", 0);
    EXPECT_EQ(schedule.lr(0), 0.1);
    EXPECT_EQ(schedule.lr(1000000), 0.1);
}

TEST(Schedule, StepMultipliesAfterEachStage) {
    const Schedule schedule = make("step:0.5,20", 10);
    EXPECT_EQ(schedule.lr(29), 0.1);
    EXPECT_DOUBLE_EQ(schedule.lr(30), 0.05);
    EXPECT_DOUBLE_EQ(schedule.lr(39), 0.05);
    EXPECT_DOUBLE_EQ(schedule.lr(40), 0.025);
}

TEST(Schedule, CosineWarmsUpAndEndsAtItsMinimum) {
    const Schedule schedule = make("cosine:4,0.1", 104);
    EXPECT_DOUBLE_EQ(schedule.lr(0), 0.025);
    EXPECT_DOUBLE_EQ(schedule.lr(3), 0.1);
    EXPECT_DOUBLE_EQ(schedule.lr(4), 0.1);
    EXPECT_DOUBLE_EQ(schedule.lr(54), 0.1 * (0.1 + 0.9 * 0.5));
    EXPECT_NEAR(schedule.lr(104), 0.01, 1e-15);
    EXPECT_NEAR(schedule.lr(5000), 0.01, 1e-15);
    for (int step = 5; step < 104; ++step) EXPECT_LT(schedule.lr(step), schedule.lr(step - 1));
}

TEST(Schedule, PlateauCutsAfterPatienceAndResumes) {
    Schedule schedule = make("plateau:0.5,2", 0);
    schedule.observe(2.0);
    schedule.observe(1.9);
    EXPECT_EQ(schedule.lr(7), 0.1);
    schedule.observe(1.95);
    EXPECT_EQ(schedule.lr(7), 0.1);
    Schedule resumed = make("plateau:0.5,2", 0);
    resumed.set_state(schedule.state());
    for (Schedule* s : {&schedule, &resumed}) {
        s->observe(1.9);  // no better than the best
        EXPECT_DOUBLE_EQ(s->lr(7), 0.05);
        s->observe(1.8);
        s->observe(1.81);
        EXPECT_DOUBLE_EQ(s->lr(7), 0.05);
        s->observe(1.82);
        EXPECT_DOUBLE_EQ(s->lr(7), 0.025);
    }
}

TEST(Schedule, WritesWhatItReads) {
    for (const char* text : {"constant", "step:0.8,12", "cosine:5,0.25", "plateau:0.3,4"}) {
        EXPECT_EQ(to_string(schedule_parse(text)), text);
    }
}

TEST(Schedule, RefusesWithAReason) {
    expect_error(ErrorCode::kInvalidArgument, "lr-steps", [] { make("cosine", 0); });
    expect_error(ErrorCode::kInvalidArgument, "lr-steps", [] { make("step", 0); });
    expect_error(ErrorCode::kInvalidArgument, "gamma", [] { make("step:1.5", 10); });
    expect_error(ErrorCode::kInvalidArgument, "warm", [] { make("cosine:10", 10); });
    expect_error(ErrorCode::kInvalidArgument, "linear", [] { schedule_parse("linear"); });
    expect_error(ErrorCode::kInvalidArgument, "gamma", [] { schedule_parse("step:x"); });
    expect_error(ErrorCode::kInvalidArgument, "values", [] { schedule_parse("step:1,2,3"); });
    expect_error(ErrorCode::kInvalidArgument, "positive", [] { make("constant", 0, 0.0); });
}

}  // namespace
}  // namespace carousel::test
