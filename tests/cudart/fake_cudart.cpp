#include "tests/cudart/fake_cudart.hpp"

#include <cstdlib>
#include <cstring>
#include <mutex>

// The CUDA runtime's types are opaque pointers to structs of these names; here they are ours.
struct CUstream_st {
    int id;
    bool recording = false;
};
struct CUevent_st {
    int id;
    bool timed = false;
    bool recorded_in_graph = false;
    double at_us = -1.0;  // never
};

namespace carousel::test {

FakeCudart& fake_cudart() {
    static FakeCudart fake;
    return fake;
}

int FakeCudart::find(const std::string& text, int from) const {
    for (std::size_t i = static_cast<std::size_t>(from); i < log.size(); ++i) {
        if (log[i].rfind(text, 0) == 0) return static_cast<int>(i);
    }
    return -1;
}

int FakeCudart::count(const std::string& text) const {
    int found = 0;
    for (const std::string& line : log) found += line.rfind(text, 0) == 0 ? 1 : 0;
    return found;
}

std::string FakeCudart::last(const std::string& text) const {
    for (auto line = log.rbegin(); line != log.rend(); ++line) {
        if (line->rfind(text, 0) == 0) return *line;
    }
    return "";
}

namespace {

std::set<CUstream_st*> recording, streams;
std::set<CUevent_st*> events;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
bool invalidated = false;
int next_stream = 0, next_event = 0;

cudaError_t answer(cudaError_t error) {
    if (error != cudaSuccess) fake_cudart().last_error = error;
    return error;
}

// Logs a call; what it must answer because a test said so, or cudaSuccess.
cudaError_t enter(const std::string& name, const std::string& detail = "") {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    FakeCudart& fake = fake_cudart();
    fake.log.push_back(detail.empty() ? name : name + " " + detail);
    if (const auto once = fake.fail_once.find(name); once != fake.fail_once.end()) {
        const cudaError_t error = once->second;
        fake.fail_once.erase(once);
        return answer(error);
    }
    const auto always = fake.fail_always.find(name);
    return always == fake.fail_always.end() ? cudaSuccess : answer(always->second);
}

// Calls that CUDA refuses to a thread that records, unless it said that it knows what it does. It has no
// list of them: those that take or give memory and those that wait are among them.
cudaError_t enter_unsafe(const std::string& name, const std::string& detail = "") {
    const cudaError_t error = enter(name, detail);
    if (error != cudaSuccess) return error;
    if (!recording.empty() && thread_mode != cudaStreamCaptureModeRelaxed) {
        invalidated = true;
        return answer(cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}

std::string name_of(cudaStream_t stream) { return "s" + std::to_string(stream->id); }
std::string name_of(cudaEvent_t event) { return "e" + std::to_string(event->id); }

cudaError_t take_memory(void** memory, std::size_t bytes, std::set<void*>& blocks) {
    if (bytes > fake_cudart().free_bytes) return answer(cudaErrorMemoryAllocation);
    *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    blocks.insert(*memory);
    return cudaSuccess;
}

cudaError_t give_memory(void* memory, std::set<void*>& blocks) {
    if (blocks.erase(memory) == 0) return answer(cudaErrorInvalidValue);
    std::free(memory);
    return cudaSuccess;
}

}  // namespace

void restart_fake_cudart() {
    FakeCudart& fake = fake_cudart();
    for (const auto* blocks : {&fake.device_blocks, &fake.pinned_blocks}) {
        for (void* memory : *blocks) std::free(memory);
    }
    for (CUstream_st* stream : streams) delete stream;
    for (CUevent_st* event : events) delete event;
    streams.clear();
    events.clear();
    recording.clear();
    thread_mode = cudaStreamCaptureModeGlobal;
    fake = FakeCudart{};
    fake.current_device = 0;
    fake.last_error = cudaSuccess;
}

}  // namespace carousel::test

using carousel::test::answer;
using carousel::test::enter;
using carousel::test::enter_unsafe;
using carousel::test::fake_cudart;
using carousel::test::name_of;
namespace fake = carousel::test;

extern "C" {

// --- errors, devices
const char* cudaGetErrorString(cudaError_t) { return "words of the runtime"; }
const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaErrorIllegalAddress:
            return "cudaErrorIllegalAddress";
        case cudaErrorInvalidConfiguration:
            return "cudaErrorInvalidConfiguration";
        case cudaErrorStreamCaptureInvalidated:
            return "cudaErrorStreamCaptureInvalidated";
        default:
            return "cudaErrorOther";
    }
}
cudaError_t cudaGetLastError() {
    const cudaError_t error = fake_cudart().last_error;
    fake_cudart().last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() { return fake_cudart().last_error; }
cudaError_t cudaGetDevice(int* device) {
    *device = fake_cudart().current_device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    const cudaError_t error = enter("cudaSetDevice", std::to_string(device));
    if (error == cudaSuccess) fake_cudart().current_device = device;
    return error;
}
cudaError_t cudaDriverGetVersion(int* version) {
    *version = fake_cudart().driver_version;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = fake_cudart().device_count;
    return answer(fake_cudart().count_error);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    *properties = {};
    std::strcpy(properties->name, "Fake");
    properties->major = fake_cudart().compute_major;
    properties->minor = fake_cudart().compute_minor;
    properties->multiProcessorCount = 100 + device;
    properties->sharedMemPerMultiprocessor = 228 * 1024;
    properties->sharedMemPerBlockOptin = 227 * 1024;
    properties->l2CacheSize = 50 << 20;
    properties->totalGlobalMem = std::size_t{80} << 30;
    properties->cooperativeLaunch = 1;
    properties->memoryPoolsSupported = fake_cudart().memory_pools ? 1 : 0;
    return enter("cudaGetDeviceProperties");
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    *free_bytes = fake_cudart().free_bytes;
    *total_bytes = std::size_t{80} << 30;
    return enter("cudaMemGetInfo");
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    std::swap(*mode, fake::thread_mode);
    return cudaSuccess;
}

// --- memory
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
    const cudaError_t error = enter("cudaMemPoolCreate", std::to_string(properties->location.id));
    if (error != cudaSuccess) return error;
    if (properties->allocType != cudaMemAllocationTypePinned ||
        properties->location.type != cudaMemLocationTypeDevice) {
        return answer(cudaErrorInvalidValue);
    }
    ++fake_cudart().pools;
    *pool = reinterpret_cast<cudaMemPool_t>(&fake_cudart());
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void* value) {
    return enter("cudaMemPoolSetAttribute",
                 std::to_string(attribute) + " " + std::to_string(*static_cast<uint64_t*>(value)));
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) {
    --fake_cudart().pools;
    return enter("cudaMemPoolDestroy");
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return enter("cudaMemPoolTrimTo"); }
cudaError_t cudaDeviceGraphMemTrim(int) { return enter("cudaDeviceGraphMemTrim"); }
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t,
                                    cudaStream_t stream) {
    const cudaError_t error = enter("cudaMallocFromPoolAsync", name_of(stream));
    if (error != cudaSuccess) return error;
    return fake::take_memory(memory, bytes, fake_cudart().device_blocks);
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
    const cudaError_t error = enter("cudaFreeAsync", name_of(stream));
    if (error != cudaSuccess) return error;
    if (stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    return fake::give_memory(memory, fake_cudart().device_blocks);
}
cudaError_t cudaMalloc(void** memory, size_t bytes) {
    const cudaError_t error = enter_unsafe("cudaMalloc");
    if (error != cudaSuccess) return error;
    return fake::take_memory(memory, bytes, fake_cudart().device_blocks);
}
cudaError_t cudaFree(void* memory) {
    const cudaError_t error = enter_unsafe("cudaFree");
    if (error != cudaSuccess) return error;
    return fake::give_memory(memory, fake_cudart().device_blocks);
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
    const cudaError_t error = enter_unsafe("cudaHostAlloc");
    if (error != cudaSuccess) return error;
    return fake::take_memory(memory, bytes, fake_cudart().pinned_blocks);
}
cudaError_t cudaFreeHost(void* memory) {
    const cudaError_t error = enter_unsafe("cudaFreeHost");
    if (error != cudaSuccess) return error;
    return fake::give_memory(memory, fake_cudart().pinned_blocks);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
    const cudaError_t error = enter("cudaMemcpyAsync", name_of(stream));
    if (error == cudaSuccess && !stream->recording) std::memcpy(to, from, bytes);
    return error;
}
cudaError_t cudaMemcpy2DAsync(void*, size_t, const void*, size_t, size_t width, size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
    return enter("cudaMemcpy2DAsync",
                 name_of(stream) + " " + std::to_string(width) + "x" + std::to_string(height));
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    const cudaError_t error = enter("cudaMemsetAsync", name_of(stream));
    if (error == cudaSuccess && !stream->recording) std::memset(to, value, bytes);
    return error;
}

// --- streams and events
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    const cudaError_t error = enter("cudaStreamCreateWithFlags", std::to_string(flags));
    if (error != cudaSuccess) return error;
    *stream = new CUstream_st{fake::next_stream++};
    fake::streams.insert(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const cudaError_t error = enter("cudaStreamDestroy", name_of(stream));
    fake::streams.erase(stream);
    delete stream;
    return error;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const cudaError_t error = enter("cudaStreamSynchronize", name_of(stream));
    if (error != cudaSuccess || !stream->recording) return error;
    fake::invalidated = true;
    return answer(cudaErrorStreamCaptureUnsupported);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    *status = stream->recording ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return enter("cudaStreamIsCapturing", name_of(stream));
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    const cudaError_t error = enter("cudaEventCreateWithFlags", std::to_string(flags));
    if (error != cudaSuccess) return error;
    *event = new CUevent_st{fake::next_event++, (flags & cudaEventDisableTiming) == 0};
    fake::events.insert(*event);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const cudaError_t error = enter("cudaEventDestroy", name_of(event));
    fake::events.erase(event);
    delete event;
    return error;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->recorded_in_graph = stream->recording;
    if (fake_cudart().clock_us != nullptr) event->at_us = *fake_cudart().clock_us;
    return enter("cudaEventRecord", name_of(event) + " " + name_of(stream));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (event->recorded_in_graph) {
        stream->recording = true;
        fake::recording.insert(stream);
    }
    return enter("cudaStreamWaitEvent", name_of(stream) + " " + name_of(event));
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    const cudaError_t error = enter_unsafe("cudaEventQuery", name_of(event));
    if (error != cudaSuccess) return error;
    return event->recorded_in_graph ? answer(cudaErrorCapturedEvent) : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return enter_unsafe("cudaEventSynchronize", name_of(event));
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
    const cudaError_t error = enter("cudaEventElapsedTime", name_of(begin) + " " + name_of(end));
    if (error != cudaSuccess) return error;
    for (cudaEvent_t event : {begin, end}) {
        if (!event->timed || event->at_us < 0) return answer(cudaErrorInvalidResourceHandle);
    }
    *ms = static_cast<float>((end->at_us - begin->at_us) / 1000.0);
    return cudaSuccess;
}

// --- graphs: a graph is a count of nodes
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    const cudaError_t error =
        enter("cudaStreamBeginCapture", name_of(stream) + " " + std::to_string(mode));
    if (error != cudaSuccess) return error;
    stream->recording = true;
    fake::recording.insert(stream);
    fake::capture_mode = mode;
    fake::invalidated = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    const cudaError_t error = enter("cudaStreamEndCapture", name_of(stream));
    for (CUstream_st* joined : fake::recording) joined->recording = false;
    fake::recording.clear();
    *graph = nullptr;
    if (error != cudaSuccess) return error;
    if (fake::invalidated) return answer(cudaErrorStreamCaptureInvalidated);
    *graph = reinterpret_cast<cudaGraph_t>(new std::size_t(fake_cudart().nodes_recorded));
    ++fake_cudart().graphs;
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
    *count = *reinterpret_cast<std::size_t*>(graph);
    return enter("cudaGraphGetNodes");
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    --fake_cudart().graphs;
    delete reinterpret_cast<std::size_t*>(graph);
    return enter("cudaGraphDestroy");
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t, unsigned long long) {
    const cudaError_t error = enter_unsafe("cudaGraphInstantiate");
    if (error != cudaSuccess) return error;
    ++fake_cudart().executables;
    *executable = reinterpret_cast<cudaGraphExec_t>(&fake_cudart());
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
    return enter("cudaGraphUpload", name_of(stream));
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t stream) {
    return enter("cudaGraphLaunch", name_of(stream));
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) {
    --fake_cudart().executables;
    return enter_unsafe("cudaGraphExecDestroy");
}

// --- kernels
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    *attributes = {};
    attributes->maxDynamicSharedSizeBytes = 48 * 1024;
    return enter("cudaFuncGetAttributes");
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
    return enter("cudaFuncSetAttribute", std::to_string(attribute) + " " + std::to_string(value));
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void** arguments) {
    std::string line =
        name_of(config->stream) + " grid " + std::to_string(config->gridDim.x) + "," +
        std::to_string(config->gridDim.y) + "," + std::to_string(config->gridDim.z) + " block " +
        std::to_string(config->blockDim.x) + " shared " + std::to_string(config->dynamicSmemBytes) +
        " arg " + std::to_string(*static_cast<int*>(arguments[0]));
    for (unsigned i = 0; i < config->numAttrs; ++i) {
        const cudaLaunchAttribute& attribute = config->attrs[i];
        if (attribute.id == cudaLaunchAttributeClusterDimension) {
            line += " cluster " + std::to_string(attribute.val.clusterDim.x);
        } else if (attribute.id == cudaLaunchAttributeCooperative) {
            line += " cooperative " + std::to_string(attribute.val.cooperative);
        }
    }
    return enter("cudaLaunchKernelExC", line);
}

}  // extern "C"
