#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// Files: whole reads, atomic writes, appended lines. Every failure is an Error(kIo) that names the
// file and says what the system answered.

namespace carousel::io {

/// The bytes of a regular file (or pipe). Io: missing, a directory, unreadable.
std::string read_file(const std::string& path);

/// A file that appears under its name whole or not at all: bytes go to a temporary file in the same
/// folder; commit() flushes file and folder to the disk and renames. Without commit(), or after a
/// failure such as a full disk, the temporary file is removed and what was at `path` stays.
class AtomicFile {
public:
    explicit AtomicFile(const std::string& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(const void* data, std::size_t bytes);
    void write(std::string_view text) { write(text.data(), text.size()); }
    void commit();

private:
    [[noreturn]] void fail(const std::string& doing, int error_number);

    std::string path_;  ///< destination, symbolic links resolved
    std::string temp_path_;
    int fd_ = -1;
    int slot_ = -1;  ///< where remove_unfinished_files finds the temporary file
};

/// Removes the temporary files of all AtomicFiles that are open now. For a signal handler that is
/// about to end the process: async-signal-safe.
void remove_unfinished_files() noexcept;

/// AtomicFile for content at hand.
void write_file_atomic(const std::string& path, std::string_view content);

/// A text file that grows by whole lines (metrics.jsonl). Each append is one write of line and
/// newline; if it fails the file is cut back to what it was, so it never ends in half a line.
class LineFile {
public:
    /// Opens `path` for appending and makes it if it is missing; a last line without newline, the
    /// trace of a crash, is cut off.
    explicit LineFile(const std::string& path);
    ~LineFile();
    LineFile(const LineFile&) = delete;
    LineFile& operator=(const LineFile&) = delete;
    void append(std::string_view line);

private:
    std::string path_;
    int fd_ = -1;
};

/// The lines of a file, without their newlines.
std::vector<std::string> read_lines(const std::string& path);

/// Makes a folder and its parents. Io if that fails or a file is in the way.
void make_folder(const std::string& path);

}  // namespace carousel::io
