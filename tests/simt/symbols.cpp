#include "simt/symbols.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <map>

extern "C" const char __executable_start;  // the linker's

namespace carousel::simt {

namespace {

/// addr2line, started once: most of its time goes into reading the program.
class Addr2line {
public:
    Addr2line() {
        int to[2];
        int from[2];
        if (pipe(to) != 0 || pipe(from) != 0) {
            return;
        }
        char program[4096];
        const ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
        if (length <= 0) {
            return;
        }
        program[length] = '\0';
        const pid_t child = fork();
        if (child == 0) {
            dup2(to[0], STDIN_FILENO);
            dup2(from[1], STDOUT_FILENO);
            for (const int fd : {to[0], to[1], from[0], from[1]}) {
                close(fd);
            }
            execlp("addr2line", "addr2line", "-s", "-e", program, static_cast<char*>(nullptr));
            _exit(1);
        }
        close(to[0]);
        close(from[1]);
        if (child > 0) {
            question_ = fdopen(to[1], "w");
            answer_ = fdopen(from[0], "r");
        }
    }

    std::string line_of(std::uintptr_t offset) {
        char number[32];
        std::snprintf(number, sizeof(number), "0x%zx", static_cast<std::size_t>(offset));
        char line[1024];
        if (question_ == nullptr || std::fprintf(question_, "%s\n", number) < 0 ||
            std::fflush(question_) != 0 || std::fgets(line, sizeof(line), answer_) == nullptr) {
            return number;
        }
        std::string result = line;
        result = result.substr(0, result.find_first_of(" \n"));
        return result.starts_with("??") ? number : result;
    }

private:
    std::FILE* question_ = nullptr;
    std::FILE* answer_ = nullptr;
};

}  // namespace

std::string source_line(const void* return_address) {
    static auto* addr2line = new Addr2line;
    static auto* known = new std::map<std::uintptr_t, std::string>;
    // The address after a call may belong to the next line.
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(return_address) - 1 -
                                  reinterpret_cast<std::uintptr_t>(&__executable_start);
    const auto [it, fresh] = known->try_emplace(offset);
    if (fresh) {
        it->second = addr2line->line_of(offset);
    }
    return it->second;
}

std::string line_text(const std::source_location& at) {
    const std::string file = at.file_name();
    const std::size_t slash = file.rfind('/');
    return (slash == std::string::npos ? file : file.substr(slash + 1)) + ":" +
           std::to_string(at.line());
}

}  // namespace carousel::simt
