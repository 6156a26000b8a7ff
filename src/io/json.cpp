#include "src/io/json.hpp"

#include <set>
#include <vector>

#include "carousel/error.hpp"

namespace carousel::io {

namespace {

/// Parses with the library's callback, which sees every key before its value; a set per open object
/// finds a key that comes twice.
template <class Json>
Json parse(std::string_view text, const std::string& name) {
    // The library takes a NUL for the end of the input, and would not see what follows it.
    if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
        throw Error(ErrorCode::kIo, "'" + name + "' is not valid JSON: a NUL byte at offset " +
                                        std::to_string(nul) + ".");
    }
    std::vector<std::set<std::string>> open_objects;
    const auto on_event = [&](int depth, typename Json::parse_event_t event, Json& parsed) {
        using Event = typename Json::parse_event_t;
        // A limit, because the library recurses when it destroys nested values.
        if (depth > 100) {
            throw Error(ErrorCode::kIo, "'" + name + "': JSON nested deeper than 100 levels.");
        }
        if (event == Event::object_start) {
            open_objects.emplace_back();
        } else if (event == Event::object_end) {
            open_objects.pop_back();
        } else if (event == Event::key) {
            const auto& key = parsed.template get_ref<const std::string&>();
            if (!open_objects.back().insert(key).second) {
                throw Error(ErrorCode::kIo,
                            "'" + name + "': the key " +
                                Json(key).dump(-1, ' ', false, Json::error_handler_t::replace) +
                                " occurs twice in one object.");
            }
        }
        return true;
    };
    try {
        return Json::parse(text.begin(), text.end(), on_event);
    } catch (const nlohmann::json::exception& e) {
        // "[json.exception.parse_error.101] parse error at line 1, column 5: ..." without its tag.
        std::string what = e.what();
        if (const std::size_t tag = what.find("] "); tag != std::string::npos) {
            what.erase(0, tag + 2);
        }
        throw Error(ErrorCode::kIo, "'" + name + "' is not valid JSON: " + what + ".");
    }
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& name) {
    return parse<nlohmann::json>(text, name);
}

nlohmann::ordered_json parse_json_ordered(std::string_view text, const std::string& name) {
    return parse<nlohmann::ordered_json>(text, name);
}

}  // namespace carousel::io
