#include "src/io/file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "src/io/folder_lock.hpp"
#include "src/io/json.hpp"
#include "src/io/safetensors.hpp"

namespace carousel::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// An empty folder of its own.
class FileTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string name = ::testing::TempDir() + "/carousel_file_XXXXXX";
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        folder_ = name;
    }
    void TearDown() override { fs::remove_all(folder_); }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const auto& entry : fs::directory_iterator(folder_)) {
            found.push_back(entry.path().filename().string());
        }
        return found;
    }
    std::string folder_;
};

/// Runs `body` in a child process in which no file can grow over `bytes`: a full disk that any
/// machine can have. Returns the child's exit code.
int with_full_disk(std::size_t bytes, int (*body)(const std::string&), const std::string& path) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGXFSZ, SIG_IGN);
        rlimit limit{bytes, bytes};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        ::_exit(body(path));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(FileTest, AtomicWriteReplacesAndKeepsAccessRights) {
    write_file_atomic(path("a"), "one");
    ASSERT_EQ(::chmod(path("a").c_str(), 0640), 0);
    write_file_atomic(path("a"), "two");
    EXPECT_EQ(read_file(path("a")), "two");
    struct stat info {};
    ASSERT_EQ(::stat(path("a").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0640u);
    EXPECT_EQ(names(), std::vector<std::string>{"a"});
}

TEST_F(FileTest, AFolderHasOneOwnerAtATime) {
    {
        const FolderLock first(folder_);
        try {
            const FolderLock second(folder_);
            FAIL() << "two owners";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kIo);
            EXPECT_THAT(error.what(), HasSubstr("'" + folder_ + "' is in use"));
        }
    }
    const FolderLock again(folder_);
    EXPECT_TRUE(names().empty());
    EXPECT_THROW(FolderLock(path("missing")), Error);
}

TEST_F(FileTest, WithoutCommitNothingChanges) {
    write_file_atomic(path("a"), "one");
    {
        AtomicFile file(path("a"));
        file.write("two");
    }
    EXPECT_EQ(read_file(path("a")), "one");
    EXPECT_EQ(names(), std::vector<std::string>{"a"});
}

TEST_F(FileTest, FullDiskKeepsTheOldFileAndLeavesNoTemporary) {
    write_file_atomic(path("a"), "old content");
    const int code = with_full_disk(
        4096,
        [](const std::string& p) {
            const std::vector<float> big(100000, 1.0f);
            try {
                write_safetensors(p, {{"x", DType::kF32, {100000}, big.data()}});
            } catch (const Error& e) {
                const std::string what = e.what();
                return e.code() == ErrorCode::kIo && what.find(p) != std::string::npos &&
                               what.find("is unchanged") != std::string::npos
                           ? 0
                           : 2;
            }
            return 1;
        },
        path("a"));
    EXPECT_EQ(code, 0);
    EXPECT_EQ(read_file(path("a")), "old content");
    EXPECT_EQ(names(), std::vector<std::string>{"a"});
}

TEST_F(FileTest, FullDiskOnAFirstWriteLeavesNothing) {
    const int code = with_full_disk(
        10,
        [](const std::string& p) {
            try {
                write_file_atomic(p, std::string(1000, 'x'));
            } catch (const Error& e) {
                return std::string(e.what()).find("was removed") != std::string::npos ? 0 : 2;
            }
            return 1;
        },
        path("new"));
    EXPECT_EQ(code, 0);
    EXPECT_TRUE(names().empty());
}

TEST_F(FileTest, InterruptedWritesLeaveNoTemporary) {
    write_file_atomic(path("a"), "one");
    AtomicFile first(path("a"));
    AtomicFile second(path("b"));
    first.write("two");
    EXPECT_EQ(names().size(), 3u);
    remove_unfinished_files();
    EXPECT_EQ(names(), std::vector<std::string>{"a"});
    EXPECT_EQ(read_file(path("a")), "one");
}

TEST_F(FileTest, SymbolicLinkStaysALink) {
    write_file_atomic(path("target"), "one");
    fs::create_symlink(path("target"), path("link"));
    write_file_atomic(path("link"), "two");
    EXPECT_TRUE(fs::is_symlink(path("link")));
    EXPECT_EQ(read_file(path("target")), "two");
}

TEST_F(FileTest, RefusesFoldersDevicesAndMissingFolders) {
    const auto error = [](const std::string& p) {
        try {
            write_file_atomic(p, "x");
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("(written)");
    };
    EXPECT_THAT(error(folder_), HasSubstr("is a folder"));
    EXPECT_THAT(error("/dev/full"), HasSubstr("not a regular file"));
    EXPECT_TRUE(fs::is_character_file("/dev/full"));
    EXPECT_THAT(error(path("none/a")), HasSubstr("No such file or directory"));
    EXPECT_THROW(read_file(folder_), Error);
    EXPECT_THROW(read_file(path("none")), Error);
    write_file_atomic(path("file"), "x");
    EXPECT_THROW(make_folder(path("file/sub")), Error);
}

TEST_F(FileTest, LinesAreWholeAfterACrashAndAfterAFullDisk) {
    {
        LineFile lines(path("m.jsonl"));
        lines.append("{\"step\":1}");
        lines.append("{\"step\":2}");
    }
    EXPECT_EQ(read_lines(path("m.jsonl")),
              (std::vector<std::string>{"{\"step\":1}", "{\"step\":2}"}));
    write_file_atomic(path("m.jsonl"), "{\"step\":1}\n{\"st");  // a crash in the middle of a line
    {
        LineFile lines(path("m.jsonl"));
        lines.append("{\"step\":2}");
    }
    EXPECT_EQ(read_file(path("m.jsonl")), "{\"step\":1}\n{\"step\":2}\n");
    const int code = with_full_disk(
        30,
        [](const std::string& p) {
            try {
                LineFile(p).append("{\"step\":1234567890}");
            } catch (const Error&) {
                return 0;
            }
            return 1;
        },
        path("m.jsonl"));
    EXPECT_EQ(code, 0);
    EXPECT_EQ(read_file(path("m.jsonl")), "{\"step\":1}\n{\"step\":2}\n");
}

TEST(Json, RefusesDuplicatesAtAnyDepth) {
    EXPECT_THROW(parse_json(R"({"a":1,"a":2})", "c"), Error);
    EXPECT_THROW(parse_json(R"([{"x":{"a":1,"b":2,"a":3}}])", "c"), Error);
    EXPECT_EQ(parse_json(R"({"a":{"k":1},"b":{"k":2},"k":3})", "c")["b"]["k"], 2);
    EXPECT_EQ(parse_json_ordered(R"({"z":1,"a":2})", "c").begin().key(), "z");
    EXPECT_THROW(parse_json("{} {}", "c"), Error);
    EXPECT_THROW(parse_json("", "c"), Error);
}

}  // namespace
}  // namespace carousel::io
