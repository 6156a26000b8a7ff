#pragma once

// Stacks to switch between, from Boost.Context. Fibers live as long as the program and are used
// again; a launch that is given up leaves its fibers where they stopped, and they start anew.

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <vector>

namespace carousel::simt {

struct Thread;

struct Fiber {
    boost::context::detail::fcontext_t context = nullptr;
    std::byte* stack = nullptr;  ///< lowest address; null for the stack of the operating system
    void (*entry)(Fiber* self) = nullptr;
    Thread* thread = nullptr;    ///< that runs on it and has not returned
    void* fake_stack = nullptr;  ///< AddressSanitizer's, while the fiber is not running
    const void* host_stack = nullptr;
    std::size_t host_stack_bytes = 0;
};

class FiberPool {
public:
    using Entry = void (*)(Fiber* self);  ///< never returns

    explicit FiberPool(Entry entry) : entry_(entry) {}
    /// A fiber that will run `entry` from its start, or goes on in it where it last stopped.
    Fiber* take();
    void give_back(Fiber* fiber) { idle_.push_back(fiber); }
    /// Makes every fiber idle at its entry, wherever it is.
    void abandon_all();
    /// Leaves `from`; returns when something switches to it again.
    static void switch_to(Fiber* from, Fiber* to);
    static bool overflowed(const Fiber& fiber);

private:
    static void start(boost::context::detail::transfer_t transfer);
    void make(Fiber* fiber);
    void add_slab();

    Entry entry_;
    std::vector<Fiber*> idle_;
    std::vector<Fiber*> all_;
};

}  // namespace carousel::simt
