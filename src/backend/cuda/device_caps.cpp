#include "src/backend/cuda/device_caps.hpp"

#include <array>
#include <charconv>

#include "carousel/error.hpp"

// What nvcc compiled the kernels for; CMake says it where nvcc is there.
#if !defined(CAROUSEL_CUDA_ARCHITECTURES)
#define CAROUSEL_CUDA_ARCHITECTURES "80,90a"
#endif

namespace carousel::cuda {

namespace {

std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

struct Architecture {
    int major = 0, minor = 0;
    bool specific = false;  ///< "90a": that compute capability and no other
    bool machine_code = true, ptx = true;
};

// "80", "90a", "100f", "86-real", "80-virtual"; anything else serves nothing.
Architecture parse_architecture(std::string_view text) {
    Architecture arch;
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) return {0, 0, true, false, false};
    std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
    arch.major = number / 10;
    arch.minor = number % 10;
    if (!rest.empty() && (rest.front() == 'a' || rest.front() == 'f')) {
        // "f" also serves the rest of its family; which those are is not known here.
        arch.specific = true;
        rest.remove_prefix(1);
    }
    arch.machine_code = rest != "-virtual";
    arch.ptx = rest != "-real";
    return arch;
}

// The figures that one architecture's devices share.
struct Generation {
    int compute_major, compute_minor;
    std::size_t shared_kib_per_sm;  // a block can have 1 KiB less
};
constexpr Generation kAmpere = {8, 0, 164};  // NVIDIA Ampere GPU Architecture Tuning Guide, 1.4.2.2
constexpr Generation kAda = {8, 9, 100};     // NVIDIA Ada GPU Architecture Tuning Guide, 1.4.2
constexpr Generation kHopper = {9, 0, 228};  // NVIDIA Hopper Tuning Guide, 1.4.2.2

struct KnownDevice {
    const char* key;
    const char* name;
    const Generation& generation;
    int num_sms;
    std::size_t l2_mib;
    std::size_t memory_gb;  // 10^9 bytes, as data sheets count
};

// Data sheets and architecture white papers: H200, H100, A100, L40S, GeForce RTX 4090. The L2 of an H200
// is on no data sheet: the full GH100 has 60 MB behind six stacks of HBM and an H100 50 MB behind five
// (NVIDIA H100 Tensor Core GPU Architecture, GH100 and H100 in comparison); an H200 has six, and reports
// 60 MB as its cudaDeviceProp::l2CacheSize (PyTorch prints it as "NVIDIA H200 ... L2_cache_size=60MB").
constexpr std::array<KnownDevice, 6> kKnownDevices = {{
    {"h200", "NVIDIA H200", kHopper, 132, 60, 141},
    {"h100", "NVIDIA H100 80GB HBM3", kHopper, 132, 50, 80},
    {"h100-pcie", "NVIDIA H100 PCIe", kHopper, 114, 50, 80},
    {"a100", "NVIDIA A100-SXM4-80GB", kAmpere, 108, 40, 80},
    {"l40s", "NVIDIA L40S", kAda, 142, 96, 48},
    {"rtx4090", "NVIDIA GeForce RTX 4090", kAda, 128, 72, 24},
}};

// The CUDA version that plans for a machine elsewhere assume on it.
constexpr int kAssumedCuda = 13000;

}  // namespace

bool runs_on(std::string_view architectures, int compute_major, int compute_minor) {
    const int device = compute_major * 10 + compute_minor;
    while (!architectures.empty()) {
        const std::size_t comma = architectures.find(',');
        const Architecture arch = parse_architecture(architectures.substr(0, comma));
        architectures.remove_prefix(comma == std::string_view::npos ? architectures.size()
                                                                    : comma + 1);
        const int built = arch.major * 10 + arch.minor;
        if (built == device && (arch.machine_code || arch.ptx)) return true;
        if (arch.specific || built > device) continue;
        // Machine code serves later minors of its major; PTX everything after it.
        if (arch.ptx || (arch.machine_code && arch.major == compute_major)) return true;
    }
    return false;
}

std::string driver_reason(int driver_version, int runtime_version) {
    if (driver_version == 0) {
        return "no NVIDIA driver is loaded on this machine; install one, or use the CPU";
    }
    // A driver serves every runtime of its major version (CUDA compatibility, minor versions).
    if (driver_version / 1000 < runtime_version / 1000) {
        return "the NVIDIA driver supports CUDA " + version_text(driver_version) +
               ", but Carousel was built with CUDA " + version_text(runtime_version) +
               "; update the driver, or rebuild with an older CUDA toolkit";
    }
    return "";
}

std::string unusable_reason(const DeviceCaps& caps, std::string_view architectures) {
    if (std::string reason = driver_reason(caps.driver_version, caps.runtime_version);
        !reason.empty()) {
        return reason;
    }
    if (!runs_on(architectures, caps.compute_major, caps.compute_minor)) {
        return caps.name + " has compute capability " + std::to_string(caps.compute_major) + "." +
               std::to_string(caps.compute_minor) + ", and this build's kernels are for " +
               std::string(architectures) +
               (caps.compute_major < 8
                    ? "; Carousel needs 8.0 or later, so use the CPU there"
                    : "; rebuild with CMAKE_CUDA_ARCHITECTURES set for it, or use the CPU");
    }
    if (caps.memory_bytes == 0) {
        return caps.name + " reports no memory; check it with nvidia-smi, or use the CPU";
    }
    return "";
}

std::string unusable_reason(const DeviceCaps& caps) {
    return unusable_reason(caps, CAROUSEL_CUDA_ARCHITECTURES);
}

DeviceCaps known_device(const std::string& name) {
    std::string names;
    for (const KnownDevice& known : kKnownDevices) {
        names += (names.empty() ? "" : ", ") + std::string(known.key);
        if (name != known.key) continue;
        DeviceCaps caps;
        caps.name = known.name;
        caps.compute_major = known.generation.compute_major;
        caps.compute_minor = known.generation.compute_minor;
        caps.num_sms = known.num_sms;
        caps.shared_bytes_per_sm = known.generation.shared_kib_per_sm * 1024;
        caps.shared_bytes_per_block = caps.shared_bytes_per_sm - 1024;
        caps.l2_bytes = known.l2_mib << 20;
        caps.memory_bytes = known.memory_gb * 1'000'000'000;
        caps.cooperative_launch = true;
        caps.memory_pools = true;
        caps.driver_version = kAssumedCuda;
        caps.runtime_version = kAssumedCuda;
        return caps;
    }
    throw Error(ErrorCode::kInvalidArgument,
                "device is \"" + name + "\"; the devices whose figures are known are " + names);
}

}  // namespace carousel::cuda
