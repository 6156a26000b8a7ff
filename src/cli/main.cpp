#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "src/cli/common.hpp"
#include "src/cli/tool.hpp"
#include "src/io/file.hpp"

// The door of the tool: turns every failure into a sentence on stderr and an exit code.

namespace carousel::cli {
namespace {

void end_interrupted(int) {
    io::remove_unfinished_files();
    ::_exit(kExitInterrupted);
}

void set_signals() {
    // A reader that goes away, or a file at its size limit, is an error of the write, not a death.
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    struct sigaction previous {};
    sigaction(SIGINT, nullptr, &previous);
    if (previous.sa_handler != SIG_IGN) signal(SIGINT, end_interrupted);
}

}  // namespace
}  // namespace carousel::cli

int main(int argc, char** argv) {
    using namespace carousel;
    using namespace carousel::cli;
    set_signals();
    try {
        if (argc > 0) set_program(argv[0]);
        return run_tool(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
    } catch (const ReaderGone&) {
        return kExitDone;  // as after `carousel ... | head`
    } catch (const Error& error) {
        note(std::string("carousel: ") + error.what());
        return error.code() == ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
    } catch (const std::bad_alloc&) {
        note("carousel: out of memory.");
    } catch (const std::exception& error) {
        note(std::string("carousel: internal error: ") + error.what() + ". Please report it.");
    } catch (...) {
        note("carousel: internal error. Please report it.");
    }
    return kExitFailed;
}
