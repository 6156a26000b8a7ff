#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

// Rows on a card run in a process of their own. A kernel's fault takes CUDA's context with it, and only
// a new process gets another; a fault in another library, or a wait without end, takes the process. The
// supervisor never touches CUDA: it starts a worker, watches, and starts another one for what is left.

namespace carousel::bench {

/// What ended a worker before its last row.
struct Mishap {
    std::size_t row = 0;
    std::string side;  ///< that was running; empty = none
    std::string how;   ///< "signal 11 (Segmentation fault)", or what the worker said of its device
};

/// A worker's place, in memory that outlives it.
class Progress {
public:
    Progress();
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void begin_row(std::size_t index);
    /// The side whose work comes next, "" for none. Each call is a sign of life.
    void running(const std::string& side);

    bool begun() const;  ///< some row was
    std::size_t row() const;
    std::string side() const;
    double silent_s() const;  ///< since the last sign of life
    void last_words(const std::string& words);
    std::string last_words() const;

private:
    struct Shared;
    Shared* shared_;
};

/// Where a worker begins, and what went wrong before.
struct Task {
    std::size_t first_row;
    const std::vector<Mishap>& mishaps;
    Progress& progress;
};

struct SupervisorOptions {
    double most_silent_s = 90.0;  ///< of a worker without a sign of life
    std::size_t most_mishaps = 12;
    std::string ours = "carousel";  ///< the side without which a row is nothing
};

/// Runs `work` in a process of its own, which returns the exit status. After a crash, a lost device (a
/// DeviceLost that `work` throws) or a hang it is called again in another process: from the same row if
/// another side than ours was running, which excluded() then names, else from the next. `told` hears
/// of each mishap. Returns the last worker's status, or 1 instead of 0 if a row was given up. Errors: Io:
/// no process can be started.
int supervise(const std::function<int(const Task&)>& work, const SupervisorOptions& options,
              const std::function<void(const Mishap&)>& told);

/// Why a side is left out of a row: it ended a worker there, or in two rows before. Empty: it is not.
std::string excluded(const Task& task, std::size_t row, const std::string& side);

/// True if the row is given up after this.
bool gives_up_row(const Mishap& mishap, const SupervisorOptions& options);

}  // namespace carousel::bench
