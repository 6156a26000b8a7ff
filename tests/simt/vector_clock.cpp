#include "simt/vector_clock.hpp"

#include <algorithm>

namespace carousel::simt {

namespace {

void join_rows(ClockRow& mine, const ClockRow& other) {
    if (other == nullptr || other == mine) {
        return;
    }
    if (mine == nullptr) {
        mine = other;
        return;
    }
    auto joined = std::make_shared<std::vector<std::uint32_t>>(*mine);
    for (std::size_t i = 0; i < joined->size(); ++i) {
        (*joined)[i] = std::max((*joined)[i], (*other)[i]);
    }
    mine = std::move(joined);
}

bool chunk_before(const ClockChunk& chunk, std::uint32_t block) { return chunk.block < block; }

}  // namespace

void raise_entry(ClockRow& row, std::size_t size, std::size_t i, std::uint32_t clock) {
    auto raised = row == nullptr ? std::make_shared<std::vector<std::uint32_t>>(size)
                                 : std::make_shared<std::vector<std::uint32_t>>(*row);
    (*raised)[i] = std::max((*raised)[i], clock);
    row = std::move(raised);
}

ClockPtr joined(const ClockPtr& a, const ClockPtr& b) {
    if (a == nullptr || b == nullptr || a == b) {
        return a == nullptr ? b : a;
    }
    auto result = std::make_shared<VectorClock>(*a);
    result->join(*b);
    return result;
}

std::uint32_t VectorClock::of(std::uint32_t block, std::uint32_t agent) const {
    const auto it = std::lower_bound(chunks.begin(), chunks.end(), block, chunk_before);
    if (it == chunks.end() || it->block != block) {
        return 0;
    }
    if (agent >= kFirstTwin) {
        return it->twins == nullptr ? 0 : (*it->twins)[agent - kFirstTwin];
    }
    return it->threads == nullptr ? it->uniform : std::max(it->uniform, (*it->threads)[agent]);
}

ClockChunk& VectorClock::chunk(std::uint32_t block) {
    auto it = std::lower_bound(chunks.begin(), chunks.end(), block, chunk_before);
    if (it == chunks.end() || it->block != block) {
        it = chunks.insert(it, ClockChunk{});
        it->block = block;
    }
    return *it;
}

void VectorClock::join(const VectorClock& other) {
    for (const ClockChunk& theirs : other.chunks) {
        ClockChunk& mine = chunk(theirs.block);
        mine.uniform = std::max(mine.uniform, theirs.uniform);
        join_rows(mine.threads, theirs.threads);
        join_rows(mine.twins, theirs.twins);
    }
}

}  // namespace carousel::simt
