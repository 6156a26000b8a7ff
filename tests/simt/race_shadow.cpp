#include "simt/race_shadow.hpp"

#include <utility>

namespace carousel::simt {

ShadowCell& RaceShadow::cell(std::size_t i) {
    const std::size_t page = i / kPageCells;
    if (pages.size() <= page) {
        pages.resize(page + 1);
    }
    if (pages[page] == nullptr) {
        pages[page] = std::make_unique<Page>();
    }
    ShadowCell& result = (*pages[page])[i % kPageCells];
    if (result.stamp != stamp) {
        result = ShadowCell{};
        result.stamp = stamp;
    }
    return result;
}

void RaceShadow::fit(std::size_t offset, std::size_t size) {
    while (((offset | size) & ((std::size_t{1} << shift) - 1)) != 0) {
        // Each cell becomes two, which know what it knew.
        std::vector<std::unique_ptr<Page>> finer(2 * pages.size());
        for (std::size_t page = 0; page < pages.size(); ++page) {
            for (std::size_t i = 0; pages[page] != nullptr && i < kPageCells; ++i) {
                const std::size_t first = 2 * (page * kPageCells + i);
                std::unique_ptr<Page>& target = finer[first / kPageCells];
                if (target == nullptr) {
                    target = std::make_unique<Page>();
                }
                (*target)[first % kPageCells] = (*pages[page])[i];
                (*target)[first % kPageCells + 1] = (*pages[page])[i];
            }
        }
        pages = std::move(finer);
        --shift;
    }
}

}  // namespace carousel::simt
