#pragma once

#include <set>
#include <string>
#include <vector>

#include "bench/core/grid.hpp"

namespace carousel::bench {

/// What files of JSON lines have results of, or say why they have none: a run that goes on leaves it
/// out.
class DoneRows {
public:
    /// A file that is not there has nothing. What is no whole line, as the last one of a run that was
    /// ended, is passed over.
    explicit DoneRows(const std::vector<std::string>& paths);
    bool has(const GridCase& c, bool l2_flushed) const;

private:
    void read(const std::string& path);
    std::set<std::string> done_;
};

}  // namespace carousel::bench
