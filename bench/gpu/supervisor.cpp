#include "bench/gpu/supervisor.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <thread>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

constexpr int kLostDevice = 99;  // exit status of a worker whose device is gone
constexpr int kMistake = 2;
constexpr std::size_t kRowsBeforeExclusion = 2;
constexpr auto kLook = std::chrono::milliseconds(20);

std::int64_t now_ms() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

void put(std::array<char, 512>& to, const std::string& text) {
    const std::size_t count = std::min(text.size(), to.size() - 1);
    std::memcpy(to.data(), text.data(), count);
    to[count] = '\0';
}

/// The worker's process, from its beginning to its end.
[[noreturn]] void be_worker(const std::function<int(const Task&)>& work, const Task& task,
                            pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kMistake);  // it ended before this
    int status = kMistake;
    try {
        status = work(task);
    } catch (const Error& error) {
        task.progress.last_words(error.what());
        std::fprintf(stderr, "%s\n", error.what());
        if (error.code() == ErrorCode::kDeviceLost) status = kLostDevice;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    std::fflush(nullptr);
    // Without destructors: they would call a device that is lost.
    _exit(status);
}

/// Waits for the end; kills a worker that is silent for too long. What waitpid says.
int end_of(pid_t worker, const Progress& progress, double most_silent_s, bool& hung) {
    hung = false;
    for (int status = 0;;) {
        const pid_t ended = waitpid(worker, &status, hung ? 0 : WNOHANG);
        if (ended == worker) return status;
        if (ended < 0 && errno != EINTR) {
            throw Error(ErrorCode::kIo, std::string("waitpid: ") + std::strerror(errno));
        }
        if (progress.silent_s() > most_silent_s) {
            hung = true;
            kill(worker, SIGKILL);
        } else {
            std::this_thread::sleep_for(kLook);
        }
    }
}

/// How a worker ended, if that was no regular end, else "".
std::string mishap_of(int status, bool hung, const Progress& progress, double most_silent_s) {
    if (hung) {
        return "no sign of life for " + std::to_string(static_cast<int>(most_silent_s)) + " s";
    }
    if (WIFSIGNALED(status)) {
        const int number = WTERMSIG(status);
        return "signal " + std::to_string(number) + " (" + strsignal(number) + ")";
    }
    return WEXITSTATUS(status) == kLostDevice ? progress.last_words() : "";
}

}  // namespace

struct Progress::Shared {
    std::atomic<std::int64_t> row{-1}, heard_ms{0};
    std::array<char, 512> side{}, words{};
};

Progress::Progress() {
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        throw Error(ErrorCode::kIo, std::string("mmap: ") + std::strerror(errno));
    }
    shared_ = new (memory) Shared;
    running("");
}

Progress::~Progress() { munmap(shared_, sizeof(Shared)); }

void Progress::begin_row(std::size_t index) {
    running("");
    shared_->row = static_cast<std::int64_t>(index);
}

void Progress::running(const std::string& side) {
    put(shared_->side, side);
    shared_->heard_ms = now_ms();
}

bool Progress::begun() const { return shared_->row >= 0; }
std::size_t Progress::row() const { return static_cast<std::size_t>(shared_->row); }
std::string Progress::side() const { return shared_->side.data(); }
double Progress::silent_s() const {
    return static_cast<double>(now_ms() - shared_->heard_ms) * 1e-3;
}
void Progress::last_words(const std::string& words) { put(shared_->words, words); }
std::string Progress::last_words() const { return shared_->words.data(); }

bool gives_up_row(const Mishap& mishap, const SupervisorOptions& options) {
    return mishap.side.empty() || mishap.side == options.ours;
}

int supervise(const std::function<int(const Task&)>& work, const SupervisorOptions& options,
              const std::function<void(const Mishap&)>& told) {
    Progress progress;
    std::vector<Mishap> mishaps;
    std::size_t first_row = 0;
    bool gave_up = false;
    for (;;) {
        std::fflush(nullptr);  // or the worker prints it, too
        progress.running("");
        const pid_t parent = getpid(), worker = fork();
        if (worker < 0) throw Error(ErrorCode::kIo, std::string("fork: ") + std::strerror(errno));
        if (worker == 0) be_worker(work, {first_row, mishaps, progress}, parent);
        bool hung = false;
        const int status = end_of(worker, progress, options.most_silent_s, hung);
        const std::string how = mishap_of(status, hung, progress, options.most_silent_s);
        if (how.empty()) {
            return WEXITSTATUS(status) == 0 && gave_up ? 1 : WEXITSTATUS(status);
        }
        if (!progress.begun()) {
            std::fprintf(stderr, "before the first row: %s\n", how.c_str());
            return kMistake;
        }
        mishaps.push_back({progress.row(), progress.side(), how});
        told(mishaps.back());
        const bool gives_up = gives_up_row(mishaps.back(), options);
        gave_up = gave_up || gives_up;
        first_row = progress.row() + (gives_up ? 1 : 0);
        if (mishaps.size() >= options.most_mishaps) {
            std::fprintf(stderr, "%zu workers ended like this: no more are started\n",
                         mishaps.size());
            return 1;
        }
    }
}

std::string excluded(const Task& task, std::size_t row, const std::string& side) {
    std::size_t rows = 0;
    for (const Mishap& mishap : task.mishaps) {
        if (mishap.side != side) continue;
        if (mishap.row == row) return "it ended the process: " + mishap.how;
        if (++rows == kRowsBeforeExclusion)
            return "it ended the process in other rows: " + mishap.how;
    }
    return "";
}

}  // namespace carousel::bench
