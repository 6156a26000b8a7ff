#include <gtest/gtest.h>

#include "tests/support/compare.hpp"

// Gradients asked for one by one, added up, and without harm to what forward saved.

namespace carousel::test {
namespace {

const char* const kCells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};

ShapeLine cell_line(const std::string& cell, const std::string& rest) {
    return parse_shape_line(cell + " " + rest);
}

class RnnGradients : public testing::TestWithParam<const char*> {
protected:
    ShapeLine line_ = cell_line(GetParam(), "L2 D2 T6 N4 I5 H7 lengths f32");
    RnnData data_ = make_rnn_data(line_);
};

TEST_P(RnnGradients, InputGradientWithoutWeightGradients) {
    RnnRun both(line_, data_);
    both.training();
    both.backward();
    RnnRun alone(line_, data_);
    alone.backward_args.grads = nullptr;
    alone.backward_args.dhx = alone.backward_args.dcx = alone.backward_args.dh_norms = TensorView();
    alone.training();
    alone.backward();
    EXPECT_EQ(alone.dx.bytes(), both.dx.bytes());
}

TEST_P(RnnGradients, WeightGradientsWithoutInputGradient) {
    RnnRun both(line_, data_);
    both.training();
    both.backward();
    NamedTensors expected = both.backward_results();
    RnnRun alone(line_, data_);
    alone.backward_args.dx = alone.backward_args.dhx = alone.backward_args.dcx = TensorView();
    alone.backward_args.dh_norms = TensorView();
    alone.training();
    alone.backward();
    NamedTensors actual = alone.backward_results();
    for (const char* name : {"dx", "dhx", "dcx", "dh_norms"}) {
        expected.erase(name);
        actual.erase(name);
    }
    expect_same_bits(actual, expected);
}

TEST_P(RnnGradients, EachWeightGradientAlone) {
    RnnRun all(line_, data_);
    all.training();
    all.backward();
    for (std::size_t s = 0; s < all.dweights.size(); ++s) {
        for (int which = 0; which < 4; ++which) {
            RnnRun one(line_, data_);
            RnnGrads grads;
            grads.layers.resize(one.dweights.size());
            LayerTensors& mine = one.dweights[s];
            const LayerTensors& expected = all.dweights[s];
            RnnLayerGrads& wanted = grads.layers[s];
            const HostTensor* pair[2] = {nullptr, nullptr};
            if (which == 0)
                wanted.dw_ih = mine.w_ih.view(), pair[0] = &mine.w_ih, pair[1] = &expected.w_ih;
            if (which == 1)
                wanted.dw_hh = mine.w_hh.view(), pair[0] = &mine.w_hh, pair[1] = &expected.w_hh;
            if (which == 2)
                wanted.db_ih = mine.b_ih.view(), pair[0] = &mine.b_ih, pair[1] = &expected.b_ih;
            if (which == 3)
                wanted.db_hh = mine.b_hh.view(), pair[0] = &mine.b_hh, pair[1] = &expected.b_hh;
            one.backward_args.grads = &grads;
            one.training();
            one.backward();
            EXPECT_EQ(pair[0]->bytes(), pair[1]->bytes()) << "state " << s << " tensor " << which;
        }
    }
}

TEST_P(RnnGradients, AccumulateAdds) {
    line_.spec.dtype = DType::kF64;
    RnnRun set(line_, data_);
    set.training();
    set.backward();
    ShapeLine adding = line_;
    adding.accumulate = true;
    RnnRun add(adding, data_);
    for (LayerTensors& d : add.dweights) {
        for (HostTensor* g : {&d.w_ih, &d.w_hh, &d.b_ih, &d.b_hh}) g->fill(2.0);
    }
    add.training();
    add.backward();
    add.backward();
    for (std::size_t s = 0; s < set.dweights.size(); ++s) {
        LayerTensors& once = set.dweights[s];
        LayerTensors& twice = add.dweights[s];
        HostTensor* const pairs[][2] = {{&once.w_ih, &twice.w_ih},
                                        {&once.w_hh, &twice.w_hh},
                                        {&once.b_ih, &twice.b_ih},
                                        {&once.b_hh, &twice.b_hh}};
        for (const auto& pair : pairs) {
            std::vector<double> expected = pair[0]->get();
            for (double& value : expected) value = 2.0 + 2.0 * value;
            EXPECT_LE(relative_error(pair[1]->get(), expected), 1e-14);
        }
    }
    EXPECT_EQ(add.dx.bytes(), set.dx.bytes()) << "dx is written, never added to";
    EXPECT_EQ(add.dhx.bytes(), set.dhx.bytes());
}

TEST_P(RnnGradients, BackwardLeavesItsInputsAlone) {
    RnnRun run(line_, data_);
    run.training();
    const std::vector<std::byte> reserve = run.reserve.copy();
    const std::vector<std::byte> dy = run.dy.bytes(), dhy = run.dhy.bytes(), y = run.y.bytes();
    run.backward();
    const NamedTensors first = run.backward_results();
    EXPECT_EQ(run.reserve.copy(), reserve);
    EXPECT_EQ(run.dy.bytes(), dy);
    EXPECT_EQ(run.dhy.bytes(), dhy);
    EXPECT_EQ(run.y.bytes(), y);
    run.backward();
    expect_same_bits(run.backward_results(), first);
}

/// Gradients are linear in the cotangents: those of dy alone and of dhy, dcy alone add up.
TEST_P(RnnGradients, CotangentsAddUp) {
    line_.spec.dtype = DType::kF64;
    RnnRun run(line_, data_);
    const NamedTensors both = run.training_and_backward();
    run.backward_args.dhy = run.backward_args.dcy = ConstTensorView();
    run.backward();
    const std::vector<double> from_y = run.dweights[0].w_hh.get(), x_from_y = run.dx.get();
    run.backward_args.dy = ConstTensorView();
    run.backward_args.dhy = run.dhy.view();
    run.backward_args.dcy = run.dcy.view();
    run.backward();
    const auto sum = [](std::vector<double> a, const std::vector<double>& b) {
        for (std::size_t e = 0; e < a.size(); ++e) a[e] += b[e];
        return a;
    };
    EXPECT_LE(relative_error(sum(run.dweights[0].w_hh.get(), from_y), both.at("d_weight_hh_l0")),
              1e-13);
    EXPECT_LE(relative_error(sum(run.dx.get(), x_from_y), both.at("dx")), 1e-13);
}

TEST_P(RnnGradients, NoCotangentGivesZero) {
    RnnRun run(line_, data_);
    run.backward_args.dy = run.backward_args.dhy = run.backward_args.dcy = ConstTensorView();
    run.training();
    run.backward();
    for (const auto& [name, values] : run.backward_results()) {
        for (const double value : values) ASSERT_EQ(value, 0.0) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Cells, RnnGradients, testing::ValuesIn(kCells),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace carousel::test
