// Clusters: their barrier, and shared memory of the blocks next door.

#include <algorithm>

#include "simt/executor.hpp"
#include "simt/symbols.hpp"

namespace carousel::simt {

ClusterBarrier& Executor::cluster_barrier(const Block& block) {
    return clusters_[(block.slot - block.cluster_slot) / launch_.cluster];
}

void Executor::cluster_arrive(bool releases, SourceLocation at) {
    Thread* self = current_;
    ClusterBarrier& barrier = cluster_barrier(*self->block);
    if (self->cluster_arrived) {
        fail("arrives at the cluster's barrier again without having waited", line_text(at));
    }
    self->cluster_arrived = true;
    self->cluster_generation = barrier.generation;
    if (races_ != nullptr) {
        barrier.collecting =
            races_->combined(barrier.collecting, releases ? races_->release(*self, Scope::kCluster)
                                                          : races_->fenced(*self, Scope::kCluster));
    }
    barrier.at = at;
    if (++barrier.arrived < launch_.cluster * block_threads_) {
        return;
    }
    barrier.arrived = 0;
    ++barrier.generation;
    barrier.completed = std::move(barrier.collecting);
    barrier.collecting = {};
    for (Thread* thread : barrier.waiting) {
        schedule_.add_ready(thread);
    }
    barrier.waiting.clear();
    ++progress_;
}

void Executor::cluster_wait(SourceLocation at) {
    Thread* self = current_;
    ClusterBarrier& barrier = cluster_barrier(*self->block);
    if (!self->cluster_arrived) {
        fail("waits at the cluster's barrier without having arrived", line_text(at));
    }
    if (barrier.generation == self->cluster_generation) {
        barrier.waiting.push_back(self);
        wait("a cluster's barrier", at);
    }
    self->cluster_arrived = false;
    if (races_ != nullptr) {
        races_->acquire(*self, barrier.completed, Scope::kCluster);
    }
}

unsigned Executor::cluster_rank() const { return current_->block->cluster_slot; }

std::uintptr_t Executor::map_to_rank(std::uintptr_t address, unsigned rank, SourceLocation at) {
    Block* own = current_->block;
    if (rank >= launch_.cluster) {
        fail("rank " + std::to_string(rank) + " of a cluster of " + std::to_string(launch_.cluster),
             line_text(at));
    }
    if (own->window == nullptr || address - own->window->begin >= own->window->bytes) {
        fail("maps an address that is not in the shared memory of its block", line_text(at));
    }
    Block* other = slots_[own->slot - own->cluster_slot + rank].get();
    make_window(other);
    return other->window->begin + (address - own->window->begin);
}

}  // namespace carousel::simt
