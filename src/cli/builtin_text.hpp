#pragma once

#include <string_view>

namespace carousel::cli {

/// The project's own sources, joined: what `train` learns when no text is given.
std::string_view builtin_text();

}  // namespace carousel::cli
