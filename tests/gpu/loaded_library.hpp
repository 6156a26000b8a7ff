#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <string>

namespace carousel::test {

/// A shared library that is opened at run time and never closed, because its threads and kernels may
/// outlive the object. A test that needs it is skipped with reason() if it is not there.
class LoadedLibrary {
public:
    explicit LoadedLibrary(std::initializer_list<std::string> files) {
        for (const std::string& file : files) {
            handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
            if (handle_ != nullptr) return;
            const char* why = dlerror();
            reason_ += (reason_.empty() ? "" : "; ") + (why != nullptr ? std::string(why) : file);
        }
    }
    bool loaded() const noexcept { return handle_ != nullptr; }
    const std::string& reason() const noexcept { return reason_; }

    /// `function` becomes the library's; on failure reason() names it and loaded() turns false.
    template <class Function>
    void find(const char* name, Function*& function) {
        if (handle_ == nullptr) return;
        function = reinterpret_cast<Function*>(dlsym(handle_, name));
        if (function != nullptr) return;
        reason_ = std::string(name) + " is missing";
        handle_ = nullptr;
    }

private:
    void* handle_ = nullptr;
    std::string reason_;
};

}  // namespace carousel::test
