#include <cstdio>
#include <cstring>
#include <vector>

#include "src/api/c_convert.hpp"

// The C interface: status, devices, memory, weights. Each function turns its arguments into those
// of the C++ API and lets no exception out.

using namespace carousel;
using namespace carousel::c_api;

extern "C" {

const char* carousel_last_error(void) { return remembered(); }

const char* carousel_status_name(carousel_status status) {
    const int value = static_cast<int>(status);
    return value >= 0 && value <= CAROUSEL_INTERNAL ? error_code_name(static_cast<ErrorCode>(value))
                                                    : "?";
}

const char* carousel_version(void) { return CAROUSEL_VERSION; }

carousel_status carousel_device_parse(const char* text, carousel_device* device) {
    return guarded([&] {
        need(text, "text");
        need(device, "device");
        const Device parsed = Device::parse(text);
        *device = {static_cast<std::int32_t>(parsed.type), parsed.index};
    });
}

carousel_status carousel_device_usable(carousel_device device) {
    return guarded([&] {
        std::string why;
        if (!device_usable(device_of(device), &why)) throw Error(ErrorCode::kUnsupported, why);
    });
}

carousel_status carousel_thread_pool_create(int32_t num_threads, carousel_thread_pool** pool) {
    return guarded([&] {
        need(pool, "pool");
        *pool = new carousel_thread_pool{std::make_shared<ThreadPool>(num_threads)};
    });
}

int32_t carousel_thread_pool_num_threads(const carousel_thread_pool* pool) {
    return pool == nullptr ? 0 : pool->pool->num_threads();
}

void carousel_thread_pool_destroy(carousel_thread_pool* pool) { delete pool; }

carousel_status carousel_buffer_create(size_t bytes, carousel_device device, const char* what,
                                       carousel_buffer** buffer) {
    return guarded([&] {
        need(buffer, "buffer");
        *buffer = new carousel_buffer{
            Buffer(bytes, device_of(device), what == nullptr ? "a buffer" : what)};
    });
}

void* carousel_buffer_data(const carousel_buffer* buffer) {
    return buffer == nullptr ? nullptr : buffer->buffer.data();
}

size_t carousel_buffer_bytes(const carousel_buffer* buffer) {
    return buffer == nullptr ? 0 : buffer->buffer.bytes();
}

void carousel_buffer_destroy(carousel_buffer* buffer) { delete buffer; }

carousel_status carousel_copy_to_device(void* to, const void* from, size_t bytes,
                                        carousel_device device) {
    return guarded([&] {
        if (bytes == 0) return;
        need(to, "to");
        need(from, "from");
        copy_to_device(to, from, bytes, device_of(device));
    });
}

carousel_status carousel_copy_to_host(void* to, const void* from, size_t bytes,
                                      carousel_device device) {
    return guarded([&] {
        if (bytes == 0) return;
        need(to, "to");
        need(from, "from");
        copy_to_host(to, from, bytes, device_of(device));
    });
}

carousel_status carousel_synchronize(carousel_device device) {
    return guarded([&] { synchronize(device_of(device)); });
}

carousel_status carousel_rnn_spec_validate(const carousel_rnn_spec* spec) {
    return guarded([&] { validate(spec_of(spec)); });
}

carousel_status carousel_rnn_param_count(const carousel_rnn_spec* spec, int64_t* num_tensors,
                                         int64_t* num_elements) {
    return guarded([&] {
        const RnnSpec s = spec_of(spec);
        validate(s);
        if (num_tensors != nullptr) {
            *num_tensors = static_cast<std::int64_t>(param_layout(s).size());
        }
        if (num_elements != nullptr) *num_elements = param_count(s);
    });
}

carousel_status carousel_rnn_param_get(const carousel_rnn_spec* spec, int64_t index,
                                       carousel_rnn_param_info* info) {
    return guarded([&] {
        need(info, "info");
        const RnnSpec s = spec_of(spec);
        validate(s);
        const std::vector<RnnParamInfo> layout = param_layout(s);
        if (index < 0 || index >= static_cast<std::int64_t>(layout.size())) {
            invalid("index is " + std::to_string(index) + ", and this spec has " +
                    std::to_string(layout.size()) + " tensors.");
        }
        const RnnParamInfo& found = layout[static_cast<std::size_t>(index)];
        std::memset(info, 0, sizeof *info);
        std::snprintf(info->name, sizeof info->name, "%s", found.name.c_str());
        info->shape[0] = found.shape[0];
        info->shape[1] = found.shape[1];
        info->ndim = found.ndim;
        info->offset = found.offset;
        info->numel = found.numel;
    });
}

carousel_status carousel_rnn_layers_from_flat(const carousel_rnn_spec* spec, void* flat,
                                              carousel_device device, carousel_rnn_layer* layers,
                                              int64_t num_layer_entries) {
    return guarded([&] {
        need(flat, "flat");
        const RnnSpec s = spec_of(spec);
        validate(s);
        check_entries(layers, num_layer_entries, s.num_states(), "layers");
        const RnnGrads views = grads_from_flat(s, flat, device_of(device));
        for (std::size_t i = 0; i < views.layers.size(); ++i) {
            const RnnLayerGrads& v = views.layers[i];
            layers[i] = {c_tensor(v.dw_ih), c_tensor(v.dw_hh), c_tensor(v.db_ih), c_tensor(v.db_hh),
                         c_tensor(v.dw_hr)};
        }
    });
}

carousel_status carousel_packed_weights_make(const carousel_rnn_spec* spec,
                                             const carousel_rnn_layer* layers,
                                             int64_t num_layer_entries, carousel_device device,
                                             carousel_thread_pool* pool,
                                             carousel_packed_weights** packed) {
    return guarded([&] {
        need(packed, "packed");
        const RnnSpec s = spec_of(spec);
        validate(s);
        RnnParams params;
        fill_params(params, layers, num_layer_entries, s);
        *packed = new carousel_packed_weights{PackedWeights::make(
            s, params, device_of(device), pool == nullptr ? nullptr : pool->pool.get())};
    });
}

size_t carousel_packed_weights_bytes(const carousel_packed_weights* packed) {
    return packed == nullptr ? 0 : packed->weights.bytes();
}

void carousel_packed_weights_destroy(carousel_packed_weights* packed) { delete packed; }

}  // extern "C"
