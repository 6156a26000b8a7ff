#include "bench/core/flags.hpp"

#include <cstdio>
#include <regex>
#include <sstream>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

[[noreturn]] void reject(const std::string& why) { throw Error(ErrorCode::kInvalidArgument, why); }

std::vector<Pass> parse_passes(const std::string& text) {
    std::vector<Pass> passes;
    for (const std::string& name : flag_list(text)) {
        flag_one_of("--pass", name, {"infer", "forward", "backward_data", "backward", "train"});
        for (const Pass pass : kPasses) {
            if (name == pass_name(pass)) passes.push_back(pass);
        }
    }
    return passes;
}

/// The words of one row that was given by flags.
struct OneRow {
    std::string cell = "lstm", words;
    bool given = false;
    std::map<char, std::string> sizes{{'N', "64"}, {'T', "64"}, {'H', "512"}};

    std::string line() const {
        std::string text = cell;
        for (const auto& [letter, value] : sizes) text += std::string(" ") + letter + value;
        return text + words;
    }
};

ProgramFlags common_flags(GridFlags& f, OneRow& one) {
    const auto size = [&one](char letter) -> TakeValue {
        return [&one, letter](const std::string&, const std::string& value) {
            one.sizes[letter] = value;
            one.given = true;
        };
    };
    const auto word = [&one](const char* name) -> TakeValue {
        return [&one, name](const std::string&, const std::string& value) {
            one.words += std::string(" ") + name + "=" + value;
        };
    };
    ProgramFlags common;
    common.switches = {
        {"--json", [&f] { f.json = true; }},
        {"--list", [&f] { f.list = true; }},
        {"--help", [&f] { f.help = true; }},
        {"-h", [&f] { f.help = true; }},
        {"--every-dtype", [&f] { f.every_dtype = true; }},
        {"--every-cell", [&f] { f.every_cell = true; }},
    };
    common.values = {
        {"--row", [&f](auto&, auto& v) { f.row = v; }},
        {"--shapes", [&f](auto&, auto& v) { f.shapes = v; }},
        {"--cell",
         [&one](auto&, auto& v) {
             one.cell = v;
             one.given = true;
         }},
        {"--hidden", size('H')},
        {"--input", size('I')},
        {"--batch", size('N')},
        {"--seq-len", size('T')},
        {"--layers", size('L')},
        {"--directions", size('D')},
        {"--reset", word("reset")},
        {"--lengths", word("lengths")},
        {"--dtype", [&f](auto&, auto& v) { f.dtypes = flag_list(v); }},
        {"--pass", [&f](auto&, auto& v) { f.passes = parse_passes(v); }},
        {"--pairs",
         [&f](auto& flag, auto& v) { f.min_pairs = static_cast<int>(flag_number(flag, v, 1.0)); }},
        {"--turn-ms", [&f](auto& flag, auto& v) { f.turn_ms = flag_number(flag, v, 0.0); }},
        {"--pass-ms", [&f](auto& flag, auto& v) { f.pass_ms = flag_number(flag, v, 0.0); }},
        {"--budget-s", [&f](auto& flag, auto& v) { f.budget_s = flag_number(flag, v, 0.0); }},
    };
    return common;
}

}  // namespace

double flag_number(const std::string& flag, const std::string& text, double least) {
    std::istringstream in(text);
    double value = 0.0;
    if (!(in >> value) || !in.eof() || !(value >= least && value <= 1e9)) {
        reject(flag + " is '" + text + "', which is no sensible number.");
    }
    return value;
}

std::vector<std::string> flag_list(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
    return parts;
}

std::string flag_one_of(const std::string& flag, const std::string& text,
                        const std::vector<std::string>& allowed) {
    std::string names;
    for (const std::string& name : allowed) {
        if (name == text) return text;
        names += (names.empty() ? "" : ", ") + name;
    }
    reject(flag + " is '" + text + "'; expected one of " + names + ".");
}

std::string grid_flags_help() {
    return "  --row REGEX        only rows whose line the expression finds, e.g. 'id=FRH6 '\n"
           "  --shapes FILE      another file of rows\n"
           "  --cell, --hidden, --input, --batch, --seq-len, --layers, --directions, --dtype,\n"
           "  --reset P, --lengths P\n"
           "                     one row instead; --dtype also for rows of a grid\n"
           "  --every-dtype, --every-cell\n"
           "                     all that the rows list [default: the first of each]\n"
           "  --pass LIST        of infer,forward,backward_data,backward,train [default: all]\n"
           "  --list             print the rows that would run, and why others would not\n"
           "  --json             JSON lines instead of a table\n";
}

void parse_flags(const std::vector<std::string>& arguments, const ProgramFlags& program,
                 GridFlags& f) {
    OneRow one;
    ProgramFlags known = common_flags(f, one);
    known.switches.insert(program.switches.begin(), program.switches.end());
    known.values.insert(program.values.begin(), program.values.end());
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& flag = arguments[i];
        f.command_line += (i == 0 ? "" : " ") + flag;
        if (const auto found = known.switches.find(flag); found != known.switches.end()) {
            found->second();
        } else if (const auto take = known.values.find(flag); take != known.values.end()) {
            if (i + 1 >= arguments.size()) reject(flag + " needs a value; see --help.");
            f.command_line += " " + arguments[i + 1];
            take->second(flag, arguments[++i]);
        } else {
            reject("unknown flag " + flag + "; see --help.");
        }
    }
    if (one.given) {
        f.line = one.line();
        if (!f.dtypes.empty()) {
            f.line += " dtypes=";
            for (std::size_t i = 0; i < f.dtypes.size(); ++i) {
                f.line += (i == 0 ? "" : ",") + f.dtypes[i];
            }
        }
        const GridRow row = parse_grid_row("flags", f.line);  // bad values are named here
        for (const std::string& dtype : row.dtypes) {
            const GridCase c = make_case(row, "", dtype);
            if (!c.not_yet.empty()) reject("flags: " + c.not_yet + ".");
        }
    } else if (!one.words.empty()) {
        reject("--reset and --lengths belong to a row given by --cell or --hidden.");
    }
}

std::vector<GridCase> cases_of(const GridFlags& flags) {
    std::vector<GridCase> cases;
    if (!flags.line.empty()) {
        const GridRow row = parse_grid_row("flags", flags.line);
        for (const std::string& dtype : row.dtypes) cases.push_back(make_case(row, "", dtype));
        return cases;
    }
    std::regex wanted;
    try {
        wanted = std::regex(flags.row);
    } catch (const std::regex_error&) {
        reject("--row is '" + flags.row + "', which is no regular expression.");
    }
    for (const GridRow& row : read_grid(flags.shapes)) {
        if (!in_grid(row, flags.grid) || !std::regex_search(row.text, wanted)) continue;
        const std::vector<std::string> first_dtype{row.dtypes.front()};
        const std::vector<std::string> first_cell{row.cells.front()};
        for (const std::string& cell : flags.every_cell ? row.cells : first_cell) {
            for (const std::string& dtype : !flags.dtypes.empty() ? flags.dtypes
                                            : flags.every_dtype   ? row.dtypes
                                                                  : first_dtype) {
                cases.push_back(make_case(row, cell, dtype));
            }
        }
    }
    if (cases.empty()) {
        reject("no row of " + flags.shapes + " is in --grid " + flags.grid + " and matches '" +
               flags.row + "'.");
    }
    return cases;
}

void list_cases(const std::vector<GridCase>& cases) {
    for (const GridCase& c : cases) {
        std::printf("%s: %s\n", c.name().c_str(),
                    (c.not_yet.empty() ? c.row.text : c.not_yet).c_str());
    }
}

}  // namespace carousel::bench
