#include "src/io/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "carousel/error.hpp"

namespace carousel::io {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void throw_io(const std::string& sentence, int error_number) {
    throw Error(ErrorCode::kIo,
                sentence + ": " + std::generic_category().message(error_number) + ".");
}

std::string folder_of(const std::string& path) {
    const fs::path parent = fs::path(path).parent_path();
    return parent.empty() ? "." : parent.string();
}

/// Writes all bytes; returns 0 or the errno of the write that failed.
int write_all(int fd, const void* data, std::size_t bytes) {
    const char* p = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t n = ::write(fd, p, bytes);
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno;
        }
        p += n;
        bytes -= static_cast<std::size_t>(n);
    }
    return 0;
}

/// Names of open temporary files, in memory that is never freed, because a signal handler reads it
/// at any moment. A file that finds no slot is only not removed by the handler.
struct UnfinishedFile {
    std::atomic<int> state{0};  ///< 0 free, 1 being filled in, 2 in use
    char path[1024] = {};
};
UnfinishedFile unfinished_files[16];

int add_unfinished(const std::string& path) noexcept {
    if (path.size() >= sizeof UnfinishedFile::path) return -1;
    for (int i = 0; i < 16; ++i) {
        int expected = 0;
        if (unfinished_files[i].state.compare_exchange_strong(expected, 1)) {
            std::memcpy(unfinished_files[i].path, path.c_str(), path.size() + 1);
            unfinished_files[i].state = 2;
            return i;
        }
    }
    return -1;
}

void remove_unfinished(int& slot) noexcept {
    if (slot >= 0) unfinished_files[slot].state = 0;
    slot = -1;
}

}  // namespace

void remove_unfinished_files() noexcept {
    for (UnfinishedFile& file : unfinished_files) {
        if (file.state == 2) ::unlink(file.path);
    }
}

std::string read_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw_io("cannot open '" + path + "'", errno);
    std::string content;
    struct stat info {};
    // The size is a hint: pipes have none, and a file may grow while it is read.
    if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        content.reserve(static_cast<std::size_t>(info.st_size));
    }
    std::string block(1 << 18, '\0');
    while (true) {
        const ssize_t n = ::read(fd, block.data(), block.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int error_number = errno;
            ::close(fd);
            throw_io("cannot read '" + path + "'", error_number);
        }
        if (n == 0) break;
        content.append(block, 0, static_cast<std::size_t>(n));
    }
    ::close(fd);
    return content;
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
    // A link is followed, so that what it points to is replaced and not the link. Anything but a
    // regular file stays: renaming over /dev/full would replace the device.
    std::error_code ignored;
    if (fs::is_symlink(path_, ignored)) {
        std::error_code failed;
        const fs::path target = fs::weakly_canonical(path_, failed);
        if (!failed) path_ = target.string();
    }
    const fs::file_status status = fs::status(path_, ignored);
    if (fs::is_directory(status)) {
        throw Error(ErrorCode::kIo, "cannot write '" + path + "': it is a folder.");
    }
    if (fs::exists(status) && !fs::is_regular_file(status)) {
        throw Error(ErrorCode::kIo, "cannot write '" + path +
                                        "': it is not a regular file, and only those can be "
                                        "replaced as a whole.");
    }
    static std::atomic<unsigned> counter{0};
    const fs::path name = fs::path(path_).filename();
    for (int attempt = 0; attempt < 100 && fd_ < 0; ++attempt) {
        temp_path_ = folder_of(path_) + "/." + name.string() + ".tmp-" +
                     std::to_string(::getpid()) + "-" + std::to_string(counter++);
        fd_ = ::open(temp_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd_ < 0 && errno != EEXIST) break;
    }
    if (fd_ < 0) throw_io("cannot write '" + path_ + "': no new file can be made there", errno);
    slot_ = add_unfinished(temp_path_);
    // The successor keeps the access rights of the file that it replaces.
    struct stat info {};
    if (::stat(path_.c_str(), &info) == 0) (void)::fchmod(fd_, info.st_mode & 07777);
}

AtomicFile::~AtomicFile() {
    if (fd_ >= 0) {
        ::close(fd_);
        ::unlink(temp_path_.c_str());
    }
    remove_unfinished(slot_);
}

void AtomicFile::fail(const std::string& doing, int error_number) {
    ::close(fd_);
    fd_ = -1;
    ::unlink(temp_path_.c_str());
    std::error_code ignored;
    const bool had_one = fs::exists(path_, ignored);
    throw Error(ErrorCode::kIo, "cannot write '" + path_ + "': " + doing +
                                    " failed: " + std::generic_category().message(error_number) +
                                    (had_one ? "; the file that was there is unchanged."
                                             : "; the unfinished file was removed."));
}

void AtomicFile::write(const void* data, std::size_t bytes) {
    if (fd_ < 0) throw Error(ErrorCode::kInternal, "AtomicFile: write after commit or failure.");
    if (const int e = write_all(fd_, data, bytes)) {
        fail("writing " + std::to_string(bytes) + " bytes", e);
    }
}

void AtomicFile::commit() {
    if (fd_ < 0) throw Error(ErrorCode::kInternal, "AtomicFile: commit after commit or failure.");
    // EINVAL is the answer of file systems that have nothing to flush.
    if (::fsync(fd_) != 0 && errno != EINVAL) fail("flushing to the disk", errno);
    const int fd = fd_;
    // close() is where a network file system reports a full disk.
    if (::close(fd) != 0 && errno != EINTR) {
        const int error_number = errno;
        fd_ = ::open(temp_path_.c_str(), O_WRONLY | O_CLOEXEC);
        fail("closing", error_number);
    }
    fd_ = -1;
    if (::rename(temp_path_.c_str(), path_.c_str()) != 0) {
        const int error_number = errno;
        ::unlink(temp_path_.c_str());
        throw_io("cannot write '" + path_ + "': renaming the finished file failed", error_number);
    }
    // Without this the new name may be lost in a power cut. Some file systems cannot flush a
    // folder; the file itself is complete either way.
    const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        (void)::fsync(folder);
        ::close(folder);
    }
}

void write_file_atomic(const std::string& path, std::string_view content) {
    AtomicFile file(path);
    file.write(content);
    file.commit();
}

LineFile::LineFile(const std::string& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0) throw_io("cannot open '" + path + "' for appending", errno);
    off_t end = ::lseek(fd_, 0, SEEK_END);
    char last = '\n';
    while (end > 0 && ::pread(fd_, &last, 1, end - 1) == 1 && last != '\n') --end;
    if (end >= 0 && ::ftruncate(fd_, end) != 0 && errno != EINVAL) {
        const int error_number = errno;
        ::close(fd_);
        throw_io("cannot remove the unfinished last line of '" + path + "'", error_number);
    }
}

LineFile::~LineFile() { ::close(fd_); }

void LineFile::append(std::string_view line) {
    const std::string whole = std::string(line) + "\n";
    const off_t before = ::lseek(fd_, 0, SEEK_END);
    if (const int e = write_all(fd_, whole.data(), whole.size())) {
        if (before >= 0) (void)!::ftruncate(fd_, before);
        throw_io("cannot append a line to '" + path_ + "'", e);
    }
}

std::vector<std::string> read_lines(const std::string& path) {
    const std::string content = read_file(path);
    std::vector<std::string> lines;
    std::size_t begin = 0;
    while (begin < content.size()) {
        std::size_t end = content.find('\n', begin);
        if (end == std::string::npos) end = content.size();
        lines.push_back(content.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

void make_folder(const std::string& path) {
    std::error_code failed;
    fs::create_directories(path, failed);
    if (failed) {
        throw Error(ErrorCode::kIo,
                    "cannot make the folder '" + path + "': " + failed.message() + ".");
    }
}

}  // namespace carousel::io
