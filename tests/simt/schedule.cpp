#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string_view>

#include "simt/executor.hpp"

namespace carousel::simt {

namespace {

std::uint64_t mix(std::uint64_t x) {  // the finaliser of SplitMix64
    x += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

Policy policy_of_environment() {
    const char* text = std::getenv("CAROUSEL_SIMT_SCHEDULE");
    const std::string_view name = text != nullptr ? text : "ascending";
    constexpr std::pair<std::string_view, Policy> kNames[] = {
        {"ascending", Policy::kAscending}, {"descending", Policy::kDescending},
        {"random", Policy::kRandom},       {"thread", Policy::kThreadPriority},
        {"warp", Policy::kWarpPriority},   {"block", Policy::kBlockPriority},
    };
    for (const auto& [known, policy] : kNames) {
        if (name == known) {
            return policy;
        }
    }
    throw std::invalid_argument(
        "CAROUSEL_SIMT_SCHEDULE is '" + std::string(name) +
        "'; it must be ascending, descending, random, thread, warp or block");
}

constexpr auto kLowestFirst = [](const auto* a, const auto* b) {
    if constexpr (requires { a->rank; }) {
        return a->rank > b->rank;
    } else {
        return a->next_rank > b->next_rank;
    }
};

}  // namespace

Options::Options() : policy(policy_of_environment()) {
    const char* seed_text = std::getenv("CAROUSEL_SIMT_SEED");
    seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : 1;
    const char* races_text = std::getenv("CAROUSEL_SIMT_RACES");
    races = races_text != nullptr && std::string_view(races_text) == "1" && can_check_races();
    races_are_faults = races;
}

Options::Options(Policy chosen, std::uint64_t chosen_seed) : Options() {
    policy = chosen;
    seed = chosen_seed;
}

std::vector<Options> schedules(int count) {
    constexpr Policy kOrder[] = {Policy::kDescending,     Policy::kWarpPriority,
                                 Policy::kRandom,         Policy::kAscending,
                                 Policy::kThreadPriority, Policy::kBlockPriority};
    std::vector<Options> result;
    for (int i = 0; i < count; ++i) {
        result.emplace_back(kOrder[static_cast<std::size_t>(i) % std::size(kOrder)],
                            static_cast<std::uint64_t>(i) + 1);
    }
    return result;
}

Schedule::Schedule(const Options& options, std::uint64_t blocks, unsigned block_threads)
    : policy_(options.policy),
      seed_(mix(options.seed)),
      blocks_(blocks),
      step_(1),
      shift_(0),
      block_threads_(block_threads),
      random_(static_cast<std::minstd_rand::result_type>(seed_ % 2147483646 + 1)) {
    if (policy_ != Policy::kAscending && policy_ != Policy::kDescending) {
        // x -> step * x + shift is a permutation when step and the number of blocks are coprime.
        constexpr std::uint64_t kStepBits = 0x7FFFFFFF;
        step_ = (seed_ & kStepBits) | 1;
        while (std::gcd(step_, blocks_) != 1) {
            step_ += 2;
        }
        shift_ = mix(seed_) % blocks_;
    }
}

std::uint64_t Schedule::block_number(std::uint64_t i) const {
    if (policy_ == Policy::kDescending) {
        return blocks_ - 1 - i;
    }
    return (step_ % blocks_ * i + shift_) % blocks_;  // both factors are below 2^32
}

std::uint64_t Schedule::rank(const Block& block, unsigned thread) const {
    constexpr unsigned kThreadBits = 11;
    constexpr std::uint64_t kLow = (std::uint64_t{1} << kThreadBits) - 1;
    switch (policy_) {
        case Policy::kDescending:
            return ~((block.linear << kThreadBits) | thread);
        case Policy::kThreadPriority:
            return mix(seed_ ^ ((block.linear << kThreadBits) | thread));
        case Policy::kWarpPriority:
            return (mix(seed_ ^ ((block.linear << kThreadBits) | (thread / 32))) & ~kLow) | thread;
        case Policy::kBlockPriority:
            return (mix(seed_ ^ block.linear) & ~kLow) | thread;
        case Policy::kAscending:
        case Policy::kRandom:
            break;
    }
    return (block.linear << kThreadBits) | thread;
}

void Schedule::add_block(Block* block) {
    const bool counted = policy_ == Policy::kAscending || policy_ == Policy::kBlockPriority;
    if (!counted && block->order.empty()) {
        block->order.resize(block_threads_);
        std::iota(block->order.begin(), block->order.end(), 0U);
        if (policy_ == Policy::kDescending) {
            std::reverse(block->order.begin(), block->order.end());
        }
    }
    if (policy_ == Policy::kThreadPriority || policy_ == Policy::kWarpPriority) {
        std::sort(block->order.begin(), block->order.end(),
                  [&](unsigned a, unsigned b) { return rank(*block, a) < rank(*block, b); });
    }
    block->started = 0;
    block->next_rank = rank(*block, block->order.empty() ? 0 : block->order[0]);
    unstarted_.push_back(block);
    if (policy_ != Policy::kRandom) {
        std::push_heap(unstarted_.begin(), unstarted_.end(), kLowestFirst);
    }
}

void Schedule::add_ready(Thread* thread) {
    thread->state = State::kReady;
    ready_.push_back(thread);
    if (policy_ != Policy::kRandom) {
        std::push_heap(ready_.begin(), ready_.end(), kLowestFirst);
    }
}

Thread* Schedule::start_from(std::size_t i) {
    Block* block = unstarted_[i];
    if (policy_ == Policy::kRandom) {
        std::swap(block->order[block->started],
                  block->order[block->started + random_() % (block_threads_ - block->started)]);
    }
    const unsigned index = block->order.empty() ? block->started : block->order[block->started];
    Thread* thread = &block->threads[index];
    thread->rank = policy_ == Policy::kRandom ? 0 : block->next_rank;
    ++block->started;
    if (block->started < block_threads_) {
        if (policy_ == Policy::kRandom) {
            return thread;
        }
        block->next_rank =
            rank(*block, block->order.empty() ? block->started : block->order[block->started]);
        const bool still_first =
            (unstarted_.size() < 2 || unstarted_[1]->next_rank > block->next_rank) &&
            (unstarted_.size() < 3 || unstarted_[2]->next_rank > block->next_rank);
        if (!still_first) {
            std::pop_heap(unstarted_.begin(), unstarted_.end(), kLowestFirst);
            std::push_heap(unstarted_.begin(), unstarted_.end(), kLowestFirst);
        }
    } else if (policy_ == Policy::kRandom) {
        unstarted_[i] = unstarted_.back();
        unstarted_.pop_back();
    } else {
        std::pop_heap(unstarted_.begin(), unstarted_.end(), kLowestFirst);
        unstarted_.pop_back();
    }
    return thread;
}

Thread* Schedule::next() {
    if (policy_ == Policy::kRandom) {
        const std::size_t choices = ready_.size() + unstarted_.size();
        if (choices == 0) {
            return nullptr;
        }
        const std::size_t choice = random_() % choices;
        if (choice >= ready_.size()) {
            return start_from(choice - ready_.size());
        }
        std::swap(ready_[choice], ready_.back());
    } else {
        if (!unstarted_.empty() && (ready_.empty() || unstarted_[0]->next_rank < ready_[0]->rank)) {
            return start_from(0);
        }
        if (ready_.empty()) {
            return nullptr;
        }
        std::pop_heap(ready_.begin(), ready_.end(), kLowestFirst);
    }
    Thread* thread = ready_.back();
    ready_.pop_back();
    return thread;
}

}  // namespace carousel::simt
