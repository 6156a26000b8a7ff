#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "carousel/module.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

namespace {

void check_capacity(const IdBuffer& ids, std::int64_t n) {
    if (n <= ids.capacity()) return;
    throw Error(ErrorCode::kInvalidArgument, "n is " + std::to_string(n) +
                                                 "; the buffer of ids has room for " +
                                                 std::to_string(ids.capacity()));
}

}  // namespace

Embedding::Embedding(ParameterSet& params, const std::string& name, std::int64_t num_embeddings,
                     std::int64_t embedding_size)
    : params_(&params), num_embeddings_(num_embeddings), embedding_size_(embedding_size) {
    nn::check_positive("num_embeddings", num_embeddings);
    nn::check_positive("embedding_size", embedding_size);
    if (num_embeddings > std::numeric_limits<std::int32_t>::max()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "num_embeddings is " + std::to_string(num_embeddings) +
                        "; ids are 32-bit numbers, so it must be at most 2147483647");
    }
    weight_ = params.add(name + ".weight", {num_embeddings, embedding_size});
    touched_ = params.touched_rows().size();
    ParameterSet::TouchedRows touched;
    touched.parameter = weight_;
    touched.row_size = embedding_size;
    // Where norms and updates are dense, nobody asks which rows were touched.
    if (!params.context().ops().visits_rows()) {
        params.touched_rows().push_back(std::move(touched));
        return;
    }
    const double bytes = static_cast<double>(num_embeddings) *
                         static_cast<double>(sizeof(touched.rows[0]) + sizeof(stamp_[0]));
    nn::allocate_or_fail("the list of used rows of " + name + " [" +
                             std::to_string(num_embeddings) + "," + std::to_string(embedding_size) +
                             "]; use a smaller vocabulary",
                         bytes, [&] {
                             touched.rows.reserve(static_cast<std::size_t>(num_embeddings));
                             stamp_.assign(static_cast<std::size_t>(num_embeddings), 0);
                         });
    params.touched_rows().push_back(std::move(touched));
}

const std::int32_t* Embedding::on_device(const std::int32_t* ids, std::int64_t n) const {
    const ModuleContext& context = params_->context();
    if (context.device().type == DeviceType::kCpu) return ids;
    if (!staged_ || staged_->capacity() < n) staged_ = std::make_unique<IdBuffer>(context, n);
    staged_->upload(ids, n);
    return staged_->data();
}

void Embedding::gather(const std::int32_t* device_ids, std::int64_t n, void* y) const {
    GatherRowsArgs args;
    args.table = params_->value(weight_).data;
    args.row_size = embedding_size_;
    args.ids = device_ids;
    args.n = n;
    args.y = y;
    args.num_rows = num_embeddings_;
    params_->context().ops().gather_rows(args);
}

void Embedding::scatter(const std::int32_t* device_ids, std::int64_t n, const void* dy) {
    ScatterAddRowsArgs args;
    args.table = params_->grad(weight_).data;
    args.row_size = embedding_size_;
    args.ids = device_ids;
    args.n = n;
    args.x = dy;
    args.num_rows = num_embeddings_;
    params_->context().ops().scatter_add_rows(args);
}

void Embedding::forward(const std::int32_t* ids, std::int64_t n, void* y) const {
    nn::check_given("n", n, {{"ids", ids}, {"y", y}});
    nn::check_ids("ids", ids, n, num_embeddings_);
    gather(on_device(ids, n), n, y);
}

void Embedding::forward(const IdBuffer& ids, std::int64_t n, void* y) const {
    nn::check_given("n", n, {{"y", y}});
    check_capacity(ids, n);
    const bool on_host = params_->context().device().type == DeviceType::kCpu;
    if (on_host) nn::check_ids("ids", ids.data(), n, num_embeddings_);
    gather(ids.data(), n, y);
}

void Embedding::touch(const std::int32_t* ids, std::int64_t n, bool accumulate) {
    Ops& ops = params_->context().ops();
    void* grad = params_->grad(weight_).data;
    if (!ops.visits_rows()) {
        if (accumulate) return;
        const auto numel = static_cast<std::size_t>(num_embeddings_ * embedding_size_);
        ops.zero(grad, numel * dtype_bytes(ops.state_dtype()));
        return;
    }
    std::vector<std::int64_t>& rows = params_->touched_rows()[touched_].rows;
    if (!accumulate) {
        RowSet old;
        old.row_size = embedding_size_;
        old.rows = rows.data();
        old.num_rows = static_cast<std::int64_t>(rows.size());
        ops.zero_rows(grad, old);
        rows.clear();
    }
    // zero_grads() may have emptied the list: a new generation then too.
    if (rows.empty() && ++generation_ == 0) {
        std::fill(stamp_.begin(), stamp_.end(), 0);
        generation_ = 1;
    }
    for (std::int64_t r = 0; r < n; ++r) {
        std::uint32_t& stamp = stamp_[static_cast<std::size_t>(ids[r])];
        if (stamp == generation_) continue;
        stamp = generation_;
        rows.push_back(ids[r]);
    }
}

void Embedding::backward(const std::int32_t* ids, std::int64_t n, const void* dy, bool accumulate) {
    nn::check_given("n", n, {{"ids", ids}, {"dy", dy}});
    nn::check_ids("ids", ids, n, num_embeddings_);
    touch(ids, n, accumulate);
    scatter(on_device(ids, n), n, dy);
}

void Embedding::backward(const IdBuffer& ids, std::int64_t n, const void* dy, bool accumulate) {
    nn::check_given("n", n, {{"dy", dy}});
    check_capacity(ids, n);
    const bool on_host = params_->context().device().type == DeviceType::kCpu;
    if (on_host) nn::check_ids("ids", ids.data(), n, num_embeddings_);
    touch(ids.data(), n, accumulate);
    scatter(ids.data(), n, dy);
}

}  // namespace carousel
