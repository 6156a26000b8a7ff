#include "src/io/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "carousel/error.hpp"

namespace carousel::io {

FolderLock::FolderLock(const std::string& path) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd_ < 0) {
        throw Error(ErrorCode::kIo, "cannot open the folder '" + path +
                                        "': " + std::generic_category().message(errno) + ".");
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(fd_);
        throw Error(
            ErrorCode::kIo,
            "'" + path +
                "' is in use: another process is writing there. Wait until it has ended, or "
                "name another folder.");
    }
}

FolderLock::~FolderLock() { ::close(fd_); }

}  // namespace carousel::io
