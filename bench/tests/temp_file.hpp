#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace carousel::bench {

/// The name of a file of this process alone, which does not exist yet and is removed at the end.
class TempFile {
public:
    explicit TempFile(const std::string& name)
        : path_(testing::TempDir() + "/" + std::to_string(getpid()) + "_" + name) {
        std::remove(path_.c_str());
    }
    ~TempFile() { std::remove(path_.c_str()); }
    TempFile(const TempFile&) = delete;
    TempFile& operator=(const TempFile&) = delete;
    const std::string& path() const noexcept { return path_; }

private:
    std::string path_;
};

}  // namespace carousel::bench
