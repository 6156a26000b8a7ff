#include "carousel/module.hpp"

#include <algorithm>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

ModuleContext::ModuleContext(DType dtype, Device device, std::shared_ptr<ThreadPool> pool)
    : dtype_(dtype), device_(device), pool_(std::move(pool)) {
    if (!pool_) pool_ = std::make_shared<ThreadPool>();
    ops_ = Ops::make(dtype_, device_, pool_);
}

IdBuffer::IdBuffer(const ModuleContext& context, std::int64_t capacity)
    : context_(context), capacity_(capacity) {
    nn::check_positive("capacity", capacity);
    ids_ = Buffer(static_cast<std::size_t>(capacity) * sizeof(std::int32_t), context.device(),
                  "token ids");
    data_ = ids_.as<std::int32_t>();
}

IdBuffer::IdBuffer(const ModuleContext& context, std::int32_t* memory, std::int64_t capacity)
    : context_(context), capacity_(capacity), data_(memory) {
    nn::check_positive("capacity", capacity);
}

void IdBuffer::upload(const std::int32_t* ids, std::int64_t n) {
    nn::check_given("n", n, {{"ids", ids}});
    if (n > capacity_) {
        throw Error(ErrorCode::kInvalidArgument, std::to_string(n) +
                                                     " ids; this buffer was made for at most " +
                                                     std::to_string(capacity_));
    }
    context_.ops().upload(data_, ids, static_cast<std::size_t>(n) * sizeof(std::int32_t));
}

namespace {

constexpr std::int64_t kAlignBytes = 64;

/// Elements of one tensor behind `before` others. InvalidArgument where their bytes leave 64 bits.
std::int64_t checked_numel(const ParameterInfo& info, std::int64_t before) {
    std::int64_t n = 1, total = 0, bytes = 0;
    bool overflow = false;
    for (const std::int64_t size : info.shape) overflow |= __builtin_mul_overflow(n, size, &n);
    overflow |= __builtin_add_overflow(n, before, &total);
    overflow |= __builtin_mul_overflow(total, std::int64_t{sizeof(double)}, &bytes);
    if (!overflow) return n;
    throw Error(ErrorCode::kInvalidArgument, "the parameters up to '" + info.name +
                                                 "' do not fit 64-bit sizes; choose smaller sizes");
}

TensorView view_of(void* flat, DType dtype, const ParameterInfo& info,
                   const ModuleContext& context) {
    TensorView view;
    const auto bytes = static_cast<std::size_t>(info.offset) * dtype_bytes(dtype);
    view.data = static_cast<std::byte*>(flat) + bytes;
    view.dtype = dtype;
    view.device = context.device();
    view.ndim = static_cast<int>(info.shape.size());
    std::int64_t stride = 1;
    for (std::size_t d = info.shape.size(); d-- > 0;) {
        view.shape[d] = info.shape[d];
        view.strides[d] = stride;
        stride *= info.shape[d];
    }
    return view;
}

}  // namespace

ParameterSet::ParameterSet(const ModuleContext& context) : context_(context) {}

std::size_t ParameterSet::add(const std::vector<ParameterInfo>& group) {
    if (values_.data() != nullptr) {
        throw Error(ErrorCode::kInvalidArgument,
                    "a module was made after ParameterSet::allocate(); make all modules first");
    }
    const std::size_t first = infos_.size();
    const auto align = kAlignBytes / static_cast<std::int64_t>(dtype_bytes(context_.dtype()));
    numel_ = (numel_ + align - 1) / align * align;
    for (const ParameterInfo& wanted : group) {
        ParameterInfo info = wanted;
        info.numel = checked_numel(info, numel_);
        if (!names_.insert(wanted.name).second) {
            throw Error(ErrorCode::kInvalidArgument,
                        "two parameters are named '" + wanted.name + "'; give modules names");
        }
        info.offset = numel_;
        numel_ += info.numel;
        infos_.push_back(std::move(info));
    }
    return first;
}

std::size_t ParameterSet::add(const std::string& name, const std::vector<std::int64_t>& shape) {
    ParameterInfo info;
    info.name = name;
    info.shape = shape;
    return add(std::vector<ParameterInfo>{info});
}

void ParameterSet::allocate() {
    if (values_.data() != nullptr) {
        throw Error(ErrorCode::kInvalidArgument,
                    "ParameterSet::allocate() was called before; modules keep the addresses");
    }
    const Ops& ops = context_.ops();
    const auto numel = static_cast<std::size_t>(numel_);
    values_ = Buffer(numel * dtype_bytes(ops.dtype()), context_.device(), "parameters");
    grads_ = Buffer(numel * dtype_bytes(ops.state_dtype()), context_.device(), "gradients");
    values_.zero();
    grads_.zero();
    if (!ops.has_working_copy()) return;
    masters_ = Buffer(grads_.bytes(), context_.device(), "master weights");
    masters_.zero();
}

std::size_t ParameterSet::find(const std::string& name) const {
    for (std::size_t i = 0; i < infos_.size(); ++i) {
        if (infos_[i].name == name) return i;
    }
    throw Error(ErrorCode::kInvalidArgument, "there is no parameter named '" + name + "'");
}

TensorView ParameterSet::value(std::size_t index) const {
    nn::check_allocated(values_.data());
    return view_of(values_.data(), context_.dtype(), infos_.at(index), context_);
}

TensorView ParameterSet::master(std::size_t index) const {
    if (masters_.data() == nullptr) return value(index);
    return view_of(masters_.data(), context_.ops().state_dtype(), infos_.at(index), context_);
}

void ParameterSet::masters_from_values() {
    if (masters_.data() == nullptr) return;
    Ops& ops = context_.ops();
    ops.cast(ops.dtype(), values_.data(), ops.state_dtype(), masters_.data(), numel_);
}

void ParameterSet::values_from_masters() {
    if (masters_.data() == nullptr) return;
    Ops& ops = context_.ops();
    ops.cast(ops.state_dtype(), masters_.data(), ops.dtype(), values_.data(), numel_);
}

TensorView ParameterSet::grad(std::size_t index) const {
    nn::check_allocated(values_.data());
    return view_of(grads_.data(), context_.ops().state_dtype(), infos_.at(index), context_);
}

void ParameterSet::zero_grads() {
    context_.ops().zero(grads_.data(), grads_.bytes());
    for (TouchedRows& touched : touched_) touched.rows.clear();
}

}  // namespace carousel
