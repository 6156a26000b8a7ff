#include "bench/core/done_rows.hpp"

#include <fstream>

#include <nlohmann/json.hpp>

namespace carousel::bench {

namespace {

std::string key(const std::string& name, bool l2_flushed) {
    return name + (l2_flushed ? " flushed" : " warm");
}

}  // namespace

DoneRows::DoneRows(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) read(path);
}

void DoneRows::read(const std::string& path) {
    std::ifstream file(path);
    std::string text;
    while (std::getline(file, text)) {
        const auto line = nlohmann::json::parse(text, nullptr, false);
        if (!line.is_object() || !line.contains("row")) continue;
        const std::string name = line.value("row", "") + " " + line.value("cell", "") + " " +
                                 line.value("dtype", "") + " " + line.value("line", "");
        // A row that was skipped as a whole does not say for which L2.
        const std::string l2 = line.value("l2", "");
        if (l2 != "flushed") done_.insert(key(name, false));
        if (l2 != "warm") done_.insert(key(name, true));
    }
}

bool DoneRows::has(const GridCase& c, bool l2_flushed) const {
    return done_.count(key(c.name() + " " + c.row.text, l2_flushed)) > 0;
}

}  // namespace carousel::bench
