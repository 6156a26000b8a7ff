#pragma once

#include <source_location>
#include <string>

namespace carousel::simt {

/// "file.cu:123" of a return address in this program, by binutils' addr2line; without it, or without
/// debug information, the address.
std::string source_line(const void* return_address);

/// The same of a place the compiler knows.
std::string line_text(const std::source_location& at);

}  // namespace carousel::simt
