#include "carousel/module.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

Linear::Linear(ParameterSet& params, const std::string& name, std::int64_t in_size,
               std::int64_t out_size, bool bias)
    : params_(&params), bias_(0), in_size_(in_size), out_size_(out_size), has_bias_(bias) {
    nn::check_positive("in_size", in_size);
    nn::check_positive("out_size", out_size);
    weight_ = params.add(name + ".weight", {out_size, in_size});
    if (bias) bias_ = params.add(name + ".bias", {out_size});
}

const void* Linear::bias_data() const { return has_bias_ ? params_->value(bias_).data : nullptr; }

void Linear::forward_no_bias(const void* x, std::int64_t n, void* y) const {
    nn::check_given("n", n, {{"x", x}, {"y", y}});
    Ops& ops = params_->context().ops();
    if (n == 1) {
        MatVecArgs args;
        args.weight = params_->value(weight_).data;
        args.rows = out_size_;
        args.cols = in_size_;
        args.x = x;
        args.y = y;
        ops.matvec(args);
        return;
    }
    MatMulArgs args;
    args.trans_b = true;
    args.m = n;
    args.n = out_size_;
    args.k = in_size_;
    args.a = x;
    args.lda = in_size_;
    args.b = params_->value(weight_).data;
    args.ldb = in_size_;
    args.c = y;
    args.ldc = out_size_;
    ops.matmul(args);
}

void Linear::forward(const void* x, std::int64_t n, void* y) const {
    forward_no_bias(x, n, y);
    if (!has_bias_) return;
    AddBiasArgs args;
    args.x = y;
    args.rows = n;
    args.cols = out_size_;
    args.ld = out_size_;
    args.bias = params_->value(bias_).data;
    params_->context().ops().add_bias(args);
}

void Linear::backward(const void* x, std::int64_t n, const void* dy, void* dx, bool accumulate) {
    nn::check_given("n", n, {{"x", x}, {"dy", dy}});
    Ops& ops = params_->context().ops();
    if (dx != nullptr) {
        MatMulArgs args;
        args.m = n;
        args.n = in_size_;
        args.k = out_size_;
        args.a = dy;
        args.lda = out_size_;
        args.b = params_->value(weight_).data;
        args.ldb = in_size_;
        args.c = dx;
        args.ldc = in_size_;
        ops.matmul(args);
    }
    MatMulArgs dw;
    dw.trans_a = true;
    dw.m = out_size_;
    dw.n = in_size_;
    dw.k = n;
    dw.a = dy;
    dw.lda = out_size_;
    dw.b = x;
    dw.ldb = in_size_;
    dw.beta = accumulate ? 1.0 : 0.0;
    dw.c = params_->grad(weight_).data;
    dw.ldc = in_size_;
    dw.c_is_gradient = true;
    ops.matmul(dw);
    if (!has_bias_) return;
    ColumnSumArgs db;
    db.x = dy;
    db.rows = n;
    db.cols = out_size_;
    db.ld = out_size_;
    db.y = params_->grad(bias_).data;
    db.accumulate = accumulate;
    ops.column_sum(db);
}

}  // namespace carousel
