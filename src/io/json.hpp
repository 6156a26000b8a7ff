#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace carousel::io {

/// Parses JSON strictly: a key that occurs twice in one object is an error, as is anything after
/// the value. `name` stands in the sentence. Io says what is wrong and at which byte.
nlohmann::json parse_json(std::string_view text, const std::string& name);

/// As above, but keeps the order in which keys were written.
nlohmann::ordered_json parse_json_ordered(std::string_view text, const std::string& name);

}  // namespace carousel::io
