#include "simt/memory.hpp"

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>

#include "simt/race.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) (static_cast<void>(p), static_cast<void>(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) (static_cast<void>(p), static_cast<void>(n))
#endif

namespace carousel::simt {

namespace detail {
std::uint8_t* valid_bytes = nullptr;
}

Allocation::Allocation() = default;
Allocation::~Allocation() = default;

namespace {

constexpr int kFill = 0xFF;
constexpr int kRedZoneFill = 0xA5;

void* reserve(std::uintptr_t hint, std::size_t bytes) {
    const int fixed = hint != 0 ? MAP_FIXED_NOREPLACE : 0;
    void* data = mmap(reinterpret_cast<void*>(hint), bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
    if (data == MAP_FAILED || (hint != 0 && reinterpret_cast<std::uintptr_t>(data) != hint)) {
        throw std::runtime_error("SIMT executor: cannot reserve its range of addresses");
    }
    return data;
}

/// The reserved range, who owns each page of it, and pages that are free again.
class Arena {
public:
    Arena() {
        reserve(kArenaBase, kArenaBytes);
        detail::valid_bytes = static_cast<std::uint8_t*>(reserve(0, kArenaBytes / 8));
        owners_ =
            static_cast<Allocation**>(reserve(0, kArenaBytes / kPageBytes * sizeof(Allocation*)));
    }

    Allocation* take(std::size_t bytes, bool shared) {
        const std::lock_guard lock(mutex_);
        auto allocation = std::make_unique<Allocation>();
        allocation->pages = (bytes + 2 * kRedZoneBytes + kPageBytes - 1) / kPageBytes;
        allocation->base = take_pages(allocation->pages);
        allocation->begin = allocation->base + kRedZoneBytes;
        allocation->bytes = bytes;
        allocation->shared = shared;
        const std::size_t first = (allocation->base - kArenaBase) / kPageBytes;
        std::fill_n(owners_ + first, allocation->pages, allocation.get());
        Allocation* result = allocation.get();
        live_[result->begin] = std::move(allocation);
        return result;
    }

    void give_back(std::uintptr_t begin) {
        const std::lock_guard lock(mutex_);
        const auto it = live_.find(begin);
        if (it == live_.end()) {
            return;
        }
        const Allocation& gone = *it->second;
        const std::size_t first = (gone.base - kArenaBase) / kPageBytes;
        std::fill_n(owners_ + first, gone.pages, nullptr);
        auto* base = reinterpret_cast<void*>(gone.base);
        ASAN_UNPOISON_MEMORY_REGION(base, gone.pages * kPageBytes);
        constexpr std::size_t kManyPages = 256;
        if (gone.pages >= kManyPages) {
            madvise(base, gone.pages * kPageBytes, MADV_DONTNEED);
        }
        ASAN_POISON_MEMORY_REGION(base, gone.pages * kPageBytes);
        free_.emplace(gone.pages, gone.base);
        live_.erase(it);
    }

    Allocation* owner(std::uintptr_t address) const {
        return owners_[(address - kArenaBase) / kPageBytes];
    }
    const std::map<std::uintptr_t, std::unique_ptr<Allocation>>& live() const { return live_; }

private:
    std::uintptr_t take_pages(std::size_t pages) {
        const auto it = free_.find(pages);
        if (it != free_.end()) {
            const std::uintptr_t base = it->second;
            free_.erase(it);
            ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(base), pages * kPageBytes);
            return base;
        }
        if ((next_page_ + pages) * kPageBytes > kArenaBytes) {
            throw std::bad_alloc();
        }
        const std::uintptr_t base = kArenaBase + next_page_ * kPageBytes;
        next_page_ += pages;
        return base;
    }

    std::mutex mutex_;
    Allocation** owners_ = nullptr;
    std::size_t next_page_ = 1;
    std::map<std::uintptr_t, std::unique_ptr<Allocation>> live_;
    std::multimap<std::size_t, std::uintptr_t> free_;
};

/// Never destroyed: buffers with static storage may outlive any order.
Arena& arena() {
    static Arena* instance = new Arena;
    return *instance;
}

}  // namespace

void set_valid(std::uintptr_t begin, std::size_t bytes, bool valid) {
    std::uint8_t* granule = detail::valid_bytes + ((begin - kArenaBase) >> 3);
    std::memset(granule, valid ? 8 : 0, (bytes + 7) / 8);
    if (valid && bytes % 8 != 0) {
        granule[bytes / 8] = static_cast<std::uint8_t>(bytes % 8);
    }
    auto* data = reinterpret_cast<void*>(begin);
    if (valid) {
        ASAN_UNPOISON_MEMORY_REGION(data, bytes);
    } else {
        ASAN_POISON_MEMORY_REGION(data, (bytes + 7) / 8 * 8);
    }
}

void* allocate(std::size_t bytes, const char* name) {
    Allocation* allocation = arena().take(bytes, false);
    allocation->name = name;
    auto* data = reinterpret_cast<unsigned char*>(allocation->begin);
    std::memset(data - kRedZoneBytes, kRedZoneFill, kRedZoneBytes);
    std::memset(data, kFill, bytes);
    std::memset(data + bytes, kRedZoneFill, kRedZoneBytes);
    ASAN_POISON_MEMORY_REGION(data - kRedZoneBytes, kRedZoneBytes);
    ASAN_POISON_MEMORY_REGION(data + bytes, kRedZoneBytes);
    set_valid(allocation->begin, bytes, true);
    return data;
}

void release(void* data) noexcept {
    if (data == nullptr) {
        return;
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(data);
    if (const Allocation* allocation = find_allocation(begin)) {
        set_valid(begin, allocation->bytes, false);
        arena().give_back(begin);
    }
}

void set_read_only(const void* data, bool read_only) {
    find_allocation(reinterpret_cast<std::uintptr_t>(data))->read_only = read_only;
}

Allocation* find_allocation(std::uintptr_t address) {
    return in_arena(address) ? arena().owner(address) : nullptr;
}

Allocation* allocate_window(std::size_t bytes) {
    Allocation* window = arena().take(bytes, true);
    window->name = "shared memory";
    ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(window->base), window->pages * kPageBytes);
    return window;
}

std::string describe_address(std::uintptr_t address) {
    const Allocation* allocation = find_allocation(address);
    if (allocation == nullptr) {
        return "memory that belongs to no buffer";
    }
    if (allocation->shared) {
        return "shared memory of resident block " + std::to_string(allocation->owner) + ", byte " +
               std::to_string(address - allocation->begin) + " of its window";
    }
    const auto offset =
        static_cast<std::int64_t>(address) - static_cast<std::int64_t>(allocation->begin);
    return "'" + allocation->name + "', byte " + std::to_string(offset) + " (it has " +
           std::to_string(allocation->bytes) + " bytes)";
}

std::string damaged_red_zone() {
#if !defined(__SANITIZE_ADDRESS__)  // which would have seen the write itself
    for (const auto& [begin, allocation] : arena().live()) {
        if (allocation->shared) {
            continue;
        }
        const auto* data = reinterpret_cast<const unsigned char*>(begin);
        const unsigned char* end = data + allocation->bytes;
        for (std::size_t i = 0; i < kRedZoneBytes; ++i) {
            if (end[i] != kRedZoneFill ||
                data[-static_cast<std::ptrdiff_t>(i) - 1] != kRedZoneFill) {
                return allocation->name;
            }
        }
    }
#endif
    return {};
}

}  // namespace carousel::simt
