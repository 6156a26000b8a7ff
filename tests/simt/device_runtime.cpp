#include "simt/device_runtime.hpp"

#include "simt/executor.hpp"
#include "simt/symbols.hpp"

namespace carousel::simt {

void fail(const char* what, SourceLocation at) { running_executor->fail(what, line_text(at)); }
unsigned barrier(unsigned id, unsigned count, bool wait, unsigned value, SourceLocation at) {
    return running_executor->barrier(id, count, wait, value, at);
}
void warp_collective(const WarpOperation& operation, unsigned mask, void* payload,
                     SourceLocation at) {
    running_executor->warp_collective(operation, mask, payload, at);
}
unsigned lane_id() { return running_executor->current()->lane; }
void* static_shared(const void* key, std::size_t bytes, std::size_t align, const char* name) {
    return running_executor->static_shared(key, bytes, align, name);
}
void* dynamic_shared() { return running_executor->dynamic_shared(); }
void pause(SourceLocation at) { running_executor->poll("a pause", at); }
std::uint64_t clock_ns() { return running_executor->clock_ns(); }

}  // namespace carousel::simt
