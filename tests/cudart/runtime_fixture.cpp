#include "tests/cudart/runtime_fixture.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "src/backend/cuda/runtime/cuda_device.hpp"

namespace carousel::cuda {

// No kernels here: nvcc's host code would bring the real runtime along.
const RnnLaunchers& rnn_launchers() {
    static const RnnLaunchers none{};
    return none;
}
const NnLaunchers& nn_launchers() {
    static const NnLaunchers none{};
    return none;
}

}  // namespace carousel::cuda

namespace carousel::test {

FakeCublasLt& fake_cublaslt() {
    static FakeCublasLt* const state = [] {
        setenv("CAROUSEL_CUBLASLT", CAROUSEL_FAKE_CUBLASLT, 1);
        void* library = dlopen(CAROUSEL_FAKE_CUBLASLT, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) throw std::runtime_error(dlerror());
        auto* find = reinterpret_cast<FakeCublasLt* (*)()>(dlsym(library, "fake_cublaslt_state"));
        return find();
    }();
    return *state;
}

RuntimeTest::RuntimeTest() {
    restart_fake_cudart();
    lt = FakeCublasLt{};
    caps = cuda::known_device("h100");
    device = make_device();
    queue = device->default_queue();
    // The stream that the status word was cleared on.
    default_stream = word(fake.log[static_cast<std::size_t>(fake.find("cudaMemsetAsync"))], 1);
}

RuntimeTest::~RuntimeTest() {
    device.reset();
    EXPECT_EQ(fake.current_device, 0) << "the caller's device was changed";
    EXPECT_EQ(fake.last_error, cudaSuccess) << "an error was left for the caller to find";
    restart_fake_cudart();
}

std::shared_ptr<cuda::DeviceApi> RuntimeTest::make_device() {
    return cuda::make_cuda_device(1, caps);
}

std::string RuntimeTest::word(const std::string& line, int index) {
    std::istringstream words(line);
    std::string found;
    for (int i = 0; i <= index; ++i) words >> found;
    return found;
}

}  // namespace carousel::test
