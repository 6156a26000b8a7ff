#pragma once

#include <functional>
#include <string>

#include "carousel/error.hpp"

namespace carousel::test {

/// Fails unless `call` throws carousel::Error with this code and a sentence that holds `word` as a
/// whole word (x does not match in "max"). Returns the sentence.
std::string expect_error(ErrorCode code, const std::string& word,
                         const std::function<void()>& call);

}  // namespace carousel::test
