#pragma once

#include <string>

namespace carousel::io {

/// Keeps a folder for its owner: a second lock on the same folder, by this process or another one, fails
/// as long as the first lives. It ends with the process, however that ends, and leaves no file. On file
/// systems that have no locks it keeps nobody away.
class FolderLock {
public:
    /// Io: the folder cannot be opened, or is in use.
    explicit FolderLock(const std::string& path);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

private:
    int fd_ = -1;
};

}  // namespace carousel::io
