#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace carousel::train {

/// The parts of `text` between separators; "" has one empty part.
std::vector<std::string> split_text(const std::string& text, char separator);
/// A whole number or a decimal one, and nothing after it; InvalidArgument names `what`.
std::int64_t parse_integer(const std::string& text, const std::string& what);
double parse_number(const std::string& text, const std::string& what);
/// The shortest decimal text that reads back as the same number.
std::string number_text(double value);

}  // namespace carousel::train
