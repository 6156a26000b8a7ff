#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/core/carousel_side.hpp"
#include "bench/core/report.hpp"
#include "bench/core/row_bench.hpp"
#include "bench/gpu/gemm_side.hpp"
#include "bench/gpu/gpu_venue.hpp"
#include "bench/tests/simt/wall_timer.hpp"
#include "tests/simt/simt_device.hpp"

// A row as a card runs it, with the real CUDA backend on a device that executes kernels on the CPU:
// checked against the reference, recorded, replayed, timed.

namespace carousel::bench {
namespace {

constexpr int kDevice = 58;

/// A device that executes on the CPU, its venue, and options for one quick turn of each side.
struct SimtRow {
    SimtRow() {
        venue.api = cuda::device_api(kDevice);
        venue.queue = venue.api->default_queue();
        venue.timer = &timer;
        venue.turn_ms = 0.0;
        options.min_pairs = 1;
        options.pass_ms = 0.0;
        options.reference_threads = 1;
    }

    simt::InstalledDevice device{kDevice};
    WallTimer timer{*device};
    GpuVenue venue;
    RowOptions options;
};

template <class AnySide>
SideMaker maker_of(const char* name) {
    SideMaker maker;
    maker.name = name;
    maker.make = [](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
        return std::make_unique<AnySide>(p, a);
    };
    return maker;
}

TEST(BenchRowOnSimt, CarouselAndItsProductsRunEveryPass) {
    for (const char* line :
         {"lstm H8 N2 T3 I5 L2", "gru H6 N3 T4 reset=0.3", "lstm H8 N3 T4 lengths=0.25 dtypes=bf16",
          "gru H8 N2 T3 D2 dtypes=tf32", "rnn_relu H8 N2 T3 pass=infer dtypes=f16"}) {
        SCOPED_TRACE(line);
        SimtRow row;
        SideMaker products;
        products.name = "gemm";
        products.is_peer = products.checked = false;
        products.make = [&](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
            return std::make_unique<GemmSide>(p, a, row.venue.api);
        };
        const GridCase c = make_case(parse_grid_row("x", line));
        const RowResult result =
            run_row(c, row.venue, maker_of<CarouselSide>("carousel"), {products}, row.options);
        EXPECT_EQ(result.failed, "");
        for (const auto& [name, why] : result.left_out) ADD_FAILURE() << name << ": " << why;
        ASSERT_EQ(result.passes.size(), c.inference_only ? 1U : 5U);
        EXPECT_LE(result.errors.at("carousel"), allowed_error(c.spec.dtype));
        for (const PassResult& pass : result.passes) {
            EXPECT_EQ(pass.verdict.ours.refused, "");
            EXPECT_NE(pass.verdict.ours.name.find("graph"), std::string::npos);
            for (const Standing& other : pass.verdict.peers) EXPECT_EQ(other.refused, "");
        }
        ReportOptions report;
        report.bench = "gpu";
        report.bound = [](const PassResult& p) {
            return lower_bound(p.grid_case, p.pass, estimated_figures());
        };
        for (const auto& json : json_lines(result, report)) {
            EXPECT_FALSE(table_line(json).empty());
        }
        EXPECT_GT(row.device->counts().graph_launches, 0);
    }
}

/// Carousel's side that does nothing at the row's own size, where others leave results behind.
class IdleSide final : public Side {
public:
    IdleSide(const Problem& p, Arena& a) : side_(p, a), idle_(p.grid_case.seq_len > 16) {}
    std::string name() const override { return "idle"; }
    std::size_t workspace_bytes() const override { return side_.workspace_bytes(); }
    std::size_t reserve_bytes() const override { return side_.reserve_bytes(); }
    void forward(StreamRef stream, bool training) override {
        if (!idle_) side_.forward(stream, training);
    }
    void backward(StreamRef stream, bool weights) override {
        if (!idle_) side_.backward(stream, weights);
    }
    Outcome outcome(bool states) override { return side_.outcome(states); }

private:
    CarouselSide side_;
    bool idle_;
};

TEST(BenchRowOnSimt, WhatOneSideLeftIsNoResultOfAnother) {
    SimtRow row;
    row.options.passes = {Pass::kInfer};
    const GridCase c = make_case(parse_grid_row("x", "gru H4 N2 T18"));
    const RowResult result = run_row(c, row.venue, maker_of<CarouselSide>("carousel"),
                                     {maker_of<IdleSide>("idle")}, row.options);
    ASSERT_EQ(result.left_out.size(), 1U);
    EXPECT_NE(result.left_out[0].second.find("differs from ours"), std::string::npos);
}

}  // namespace
}  // namespace carousel::bench
