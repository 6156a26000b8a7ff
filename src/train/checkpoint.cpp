#include "src/train/checkpoint.hpp"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"
#include "src/io/file.hpp"
#include "src/io/safetensors.hpp"
#include "src/util/dtypes.hpp"

namespace carousel::train {

namespace fs = std::filesystem;

namespace {

constexpr const char* kModelFile = "/model.safetensors";
constexpr const char* kStateFile = "/state.safetensors";
constexpr const char* kFormat = "carousel language model";

[[noreturn]] void refuse(const std::string& sentence) { throw Error(ErrorCode::kIo, sentence); }

/// Scalars of a run, as tensors of state.safetensors.
struct Scalars {
    std::int64_t cursor[2] = {0, 0};
    std::int64_t steps = 0, applied_steps = 0;
    std::int64_t seed = 0;  ///< the bits of the u64
    std::int64_t schedule[3] = {0, 0, 0};
    double schedule_best = 0.0;
    std::int64_t best[2] = {0, 0};
    double best_loss = 0.0;

    /// Calls f(name, dtype, count, pointer) for each.
    template <class F>
    void each(F&& f) {
        f("cursor", DType::kI64, std::int64_t{2}, static_cast<void*>(cursor));
        f("steps", DType::kI64, std::int64_t{1}, static_cast<void*>(&steps));
        f("applied_steps", DType::kI64, std::int64_t{1}, static_cast<void*>(&applied_steps));
        f("random_key", DType::kI64, std::int64_t{1}, static_cast<void*>(&seed));
        f("schedule", DType::kI64, std::int64_t{3}, static_cast<void*>(schedule));
        f("schedule_best_loss", DType::kF64, std::int64_t{1}, static_cast<void*>(&schedule_best));
        f("best", DType::kI64, std::int64_t{2}, static_cast<void*>(best));
        f("best_loss", DType::kF64, std::int64_t{1}, static_cast<void*>(&best_loss));
    }
};

/// Tensors of a trainer's state whose memory is the trainer's own, on its device.
struct StateView {
    std::string name;
    std::vector<std::int64_t> shape;
    DType dtype;
    void* data;
};

std::vector<StateView> state_views(LmTrainer& trainer) {
    std::vector<StateView> views;
    for (const Optimizer::StateTensor& tensor : trainer.optimizer().state()) {
        views.push_back(
            {"optimizer." + tensor.name, tensor.shape, tensor.view.dtype, tensor.view.data});
    }
    const LmConfig& config = trainer.config();
    const std::vector<std::int64_t> shape = {config.num_layers, config.batch_size,
                                             config.hidden_size};
    views.push_back({"carried.h", shape, storage_dtype(config.dtype), trainer.state().h.data()});
    if (trainer.state().c.data() != nullptr) {
        views.push_back(
            {"carried.c", shape, accumulator_dtype(config.dtype), trainer.state().c.data()});
    }
    return views;
}

std::size_t bytes_of(const std::vector<std::int64_t>& shape, DType dtype) {
    std::size_t bytes = dtype_bytes(dtype);
    for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
    return bytes;
}

/// Tensors to be written, and copies of those that lie on a device.
class TensorList {
public:
    explicit TensorList(Device device) : device_(device) {}

    void add(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape,
             const void* data) {
        tensors_.emplace_back(name, dtype, shape, data);
    }
    void add_from_device(const std::string& name, DType dtype,
                         const std::vector<std::int64_t>& shape, const void* data) {
        if (device_.type != DeviceType::kCpu) {
            copies_.emplace_back(bytes_of(shape, dtype));
            copy_to_host(copies_.back().data(), data, copies_.back().size(), device_);
            data = copies_.back().data();
        }
        add(name, dtype, shape, data);
    }
    std::vector<io::TensorToWrite> take() { return std::move(tensors_); }

private:
    Device device_;
    std::vector<io::TensorToWrite> tensors_;
    std::vector<std::vector<std::byte>> copies_;
};

carousel::LossScale read_scale(LmTrainer& trainer) {
    carousel::LossScale scale;
    copy_to_host(&scale, trainer.loss_scaler()->state(), sizeof scale, trainer.config().device);
    return scale;
}

void write_model(const std::string& path, const LmModel& model,
                 const data::Vocabulary& vocabulary) {
    TensorList tensors(model.config().device);
    const ParameterSet& params = model.params();
    for (std::size_t i = 0; i < params.infos().size(); ++i) {
        const ParameterInfo& info = params.infos()[i];
        tensors.add_from_device(info.name, accumulator_dtype(model.config().dtype), info.shape,
                                params.master(i).data);
    }
    io::write_safetensors(path, tensors.take(),
                          {{"format", kFormat},
                           {"cell", cell_name(model.config().cell)},
                           {"vocabulary", vocabulary.to_utf8()}});
}

void write_state(const std::string& path, LmTrainer& trainer, const RunProgress& progress) {
    const Schedule::State& schedule = trainer.schedule().state();
    Scalars scalars;
    scalars.cursor[0] = progress.cursor.epoch;
    scalars.cursor[1] = progress.cursor.position;
    scalars.steps = trainer.steps_done();
    scalars.applied_steps = trainer.optimizer().applied_steps();
    scalars.seed = std::bit_cast<std::int64_t>(trainer.config().seed);
    scalars.schedule[0] = schedule.bad_evaluations;
    scalars.schedule[1] = schedule.cuts;
    scalars.schedule[2] = schedule.has_best ? 1 : 0;
    scalars.schedule_best = schedule.best_loss;
    scalars.best[0] = progress.has_best ? 1 : 0;
    scalars.best[1] = progress.best_step;
    scalars.best_loss = progress.best_loss;
    TensorList tensors(trainer.config().device);
    scalars.each([&](const char* name, DType dtype, std::int64_t count, void* data) {
        tensors.add(name, dtype, {count}, data);
    });
    for (const StateView& view : state_views(trainer)) {
        tensors.add_from_device(view.name, view.dtype, view.shape, view.data);
    }
    carousel::LossScale scale;
    if (trainer.loss_scaler() != nullptr) {
        scale = read_scale(trainer);
        tensors.add("loss_scale", DType::kF64, {1}, &scale.scale);
        tensors.add("loss_scale_good_steps", DType::kI64, {1}, &scale.good_steps);
    }
    io::write_safetensors(path, tensors.take());
}

/// Puts folder `fresh` in the place of `folder`, whose old content is removed.
void exchange_folders(const std::string& fresh, const std::string& folder) {
    if (!fs::exists(folder)) {
        fs::rename(fresh, folder);
        return;
    }
    if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
        fs::remove_all(fresh);
        return;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        refuse("cannot put '" + fresh + "' in the place of '" + folder +
               "': " + std::generic_category().message(errno));
    }
    // A file system without the exchange: load_checkpoint knows this name.
    const std::string old = folder + ".old";
    fs::remove_all(old);
    fs::rename(folder, old);
    fs::rename(fresh, folder);
    fs::remove_all(old);
}

void check_shape(const io::StoredTensor& tensor, const std::vector<std::int64_t>& shape,
                 const std::string& path) {
    if (tensor.shape == shape) return;
    std::string expected;
    for (const std::int64_t size : shape) {
        expected += (expected.empty() ? "" : ",") + std::to_string(size);
    }
    refuse("'" + path + "': tensor '" + tensor.name + "' is " + tensor.shape_text() +
           ", expected [" + expected + "]; the file is not of this model");
}

void read_tensor(const io::SafetensorsFile& file, const std::string& name,
                 const std::vector<std::int64_t>& shape, DType dtype, void* out) {
    const io::StoredTensor& tensor = file.get(name);
    check_shape(tensor, shape, file.path());
    io::convert_to(tensor, dtype, out, file.path());
}

/// As read_tensor, into memory of a device.
void read_to_device(const io::SafetensorsFile& file, const StateView& view, Device device) {
    if (device.type == DeviceType::kCpu) {
        return read_tensor(file, view.name, view.shape, view.dtype, view.data);
    }
    std::vector<std::byte> copy(bytes_of(view.shape, view.dtype));
    read_tensor(file, view.name, view.shape, view.dtype, copy.data());
    copy_to_device(view.data, copy.data(), copy.size(), device);
}

template <class T>
bool all_finite(const std::vector<std::byte>& values) {
    const T* begin = reinterpret_cast<const T*>(values.data());
    return std::all_of(begin, begin + values.size() / sizeof(T),
                       [](T value) { return std::isfinite(value); });
}

void read_weights(const io::SafetensorsFile& file, ParameterSet& params) {
    const DType dtype = accumulator_dtype(params.context().dtype());
    for (std::size_t i = 0; i < params.infos().size(); ++i) {
        const ParameterInfo& info = params.infos()[i];
        std::vector<std::byte> values(bytes_of(info.shape, dtype));
        read_tensor(file, info.name, info.shape, dtype, values.data());
        if (!(dtype == DType::kF64 ? all_finite<double>(values) : all_finite<float>(values))) {
            refuse("'" + file.path() + "': tensor '" + info.name +
                   "' has values that are not finite; the training that wrote it has diverged");
        }
        copy_to_device(params.master(i).data, values.data(), values.size(),
                       params.context().device());
    }
    params.values_from_masters();
}

/// The scale of an f16 run; one that was trained in another type before starts with the default.
void read_loss_scale(const io::SafetensorsFile& file, LmTrainer& trainer) {
    if (trainer.loss_scaler() == nullptr || file.find("loss_scale") == nullptr) return;
    carousel::LossScale scale = read_scale(trainer);
    read_tensor(file, "loss_scale", {1}, DType::kF64, &scale.scale);
    read_tensor(file, "loss_scale_good_steps", {1}, DType::kI64, &scale.good_steps);
    copy_to_device(trainer.loss_scaler()->state(), &scale, sizeof scale, trainer.config().device);
}

}  // namespace

void save_checkpoint(const std::string& run, const std::string& which, LmTrainer& trainer,
                     const data::Vocabulary& vocabulary, const RunProgress& progress) {
    const std::string folder = run + "/" + which, fresh = folder + ".new";
    try {
        fs::remove_all(fresh);
        io::make_folder(fresh);
        write_model(fresh + kModelFile, trainer.model(), vocabulary);
        write_state(fresh + kStateFile, trainer, progress);
        exchange_folders(fresh, folder);
    } catch (const std::exception& error) {
        std::error_code ignored;
        fs::remove_all(fresh, ignored);
        std::string sentence = "the checkpoint of step " + std::to_string(trainer.steps_done()) +
                               " could not be saved: " + error.what();
        if (sentence.back() != '.') sentence += '.';
        if (fs::exists(folder, ignored)) {
            sentence += " The checkpoint saved before is still in '" + folder + "'.";
        }
        refuse(sentence);
    }
}

RunProgress load_checkpoint(const std::string& run, LmTrainer& trainer) {
    const std::string folder = last_folder(run);
    const io::SafetensorsFile model = io::SafetensorsFile::open(folder + kModelFile);
    const io::SafetensorsFile state = io::SafetensorsFile::open(folder + kStateFile);
    read_weights(model, trainer.model().params());
    for (const StateView& view : state_views(trainer)) {
        read_to_device(state, view, trainer.config().device);
    }
    read_loss_scale(state, trainer);
    Scalars scalars;
    scalars.each([&](const char* name, DType dtype, std::int64_t count, void* data) {
        read_tensor(state, name, {count}, dtype, data);
    });
    if (std::bit_cast<std::uint64_t>(scalars.seed) != trainer.config().seed) {
        refuse("'" + state.path() + "' was made with another seed than the run's config.json says");
    }
    trainer.set_steps_done(scalars.steps);
    trainer.optimizer().set_applied_steps(scalars.applied_steps);
    Schedule::State schedule;
    schedule.bad_evaluations = scalars.schedule[0];
    schedule.cuts = scalars.schedule[1];
    schedule.has_best = scalars.schedule[2] != 0;
    schedule.best_loss = scalars.schedule_best;
    trainer.schedule().set_state(schedule);
    RunProgress progress;
    progress.cursor.epoch = scalars.cursor[0];
    progress.cursor.position = scalars.cursor[1];
    progress.has_best = scalars.best[0] != 0;
    progress.best_step = scalars.best[1];
    progress.best_loss = scalars.best_loss;
    return progress;
}

std::string last_folder(const std::string& run) {
    const std::string folder = run + "/last";
    if (fs::exists(folder)) return folder;
    if (fs::exists(folder + ".old")) return folder + ".old";
    refuse("'" + run + "' holds no checkpoint to continue from: there is no '" + folder +
           "'; it stopped before the first one was saved. Start again with another --out, or "
           "remove the folder");
}

std::string checkpoint_folder(const std::string& run) {
    if (fs::exists(run + kModelFile)) return run;
    for (const char* which : {"/best", "/last", "/last.old"}) {
        if (fs::exists(run + which + kModelFile)) return run + which;
    }
    refuse("'" + run + "' holds no trained model: there is neither best" + kModelFile +
           " nor last" + kModelFile + "; name the folder that `carousel train --out` wrote");
}

namespace {

/// Calls `read`, which reads the model in `folder`; if that is damaged and the best one of a run, says
/// that there is a newest one.
template <class F>
auto read_model(const std::string& folder, F&& read) {
    try {
        return read();
    } catch (const Error& error) {
        const fs::path path = fs::path(folder).lexically_normal();
        const std::string last = (path.parent_path() / "last").string();
        if (error.code() != ErrorCode::kIo || path.filename() != "best" ||
            !fs::exists(last + kModelFile)) {
            throw;
        }
        std::string sentence = error.what();
        if (sentence.back() != '.') sentence += '.';
        refuse(sentence + " The run's newest checkpoint is there, too: name '" + last +
               "' in the place of the run.");
    }
}

ModelFile read_header(const std::string& folder) {
    const io::SafetensorsFile file =
        io::SafetensorsFile::open(folder + kModelFile, io::SafetensorsFile::Content::kHeader);
    const auto& metadata = file.metadata();
    const auto text = [&](const char* key) {
        const auto found = metadata.find(key);
        if (found != metadata.end()) return found->second;
        refuse("'" + file.path() + "' has no '" + key +
               "' in its metadata; it is not a model that `carousel train` saved");
    };
    if (text("format") != kFormat) {
        refuse("'" + file.path() + "' is not a language model of `carousel train`");
    }
    ModelFile model;
    LmConfig& config = model.config;
    try {
        config.cell = cell_parse(text("cell"));
    } catch (const Error& error) {
        refuse("'" + file.path() + "': " + error.what());
    }
    model.vocabulary = data::Vocabulary::from_utf8(text("vocabulary"), "'" + file.path() + "'");
    config.vocab_size = model.vocabulary.size();
    const auto matrix = [&](const std::string& name) -> const io::StoredTensor& {
        const io::StoredTensor& tensor = file.get(name);
        if (tensor.shape.size() == 2) return tensor;
        refuse("'" + file.path() + "': tensor '" + name + "' is " + tensor.shape_text() +
               ", expected a matrix");
    };
    const io::StoredTensor& recurrent = matrix("rnn.weight_hh_l0");
    config.hidden_size = recurrent.shape[1];
    config.dtype = recurrent.type == io::StoredType::kF64 ? DType::kF64 : DType::kF32;
    config.embedding_size =
        file.find("embedding.weight") != nullptr ? matrix("embedding.weight").shape[1] : 0;
    config.num_layers = 0;
    while (file.find("rnn.weight_ih_l" + std::to_string(config.num_layers)) != nullptr) {
        ++config.num_layers;
    }
    check_shape(matrix("output.weight"), {config.vocab_size, config.hidden_size}, file.path());
    return model;
}

}  // namespace

ModelFile read_model_file(const std::string& folder) {
    return read_model(folder, [&] { return read_header(folder); });
}

std::unique_ptr<LmModel> load_model(const std::string& folder, const LmConfig& config,
                                    std::int64_t max_steps, std::int64_t batch_size,
                                    std::shared_ptr<ThreadPool> pool) {
    auto model = std::make_unique<LmModel>(config, max_steps, batch_size, std::move(pool));
    read_model(folder, [&] {
        read_weights(io::SafetensorsFile::open(folder + kModelFile), model->params());
    });
    return model;
}

bool holds_checkpoint(const std::string& run) {
    for (const char* name : {"/last", "/best", "/last.old"}) {
        if (fs::exists(run + name)) return true;
    }
    return false;
}

bool holds_run(const std::string& folder) {
    for (const char* name : {"/config.json", "/last", "/best", "/last.old", "/metrics.jsonl"}) {
        if (fs::exists(folder + name)) return true;
    }
    return false;
}

}  // namespace carousel::train
