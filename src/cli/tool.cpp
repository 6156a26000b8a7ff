#include "src/cli/tool.hpp"

#include <algorithm>
#include <iostream>
#include <numeric>
#include <sstream>

#include "carousel/error.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"

// Registers the commands, parses, runs the chosen one; says what is wrong with a command line.

namespace carousel::cli {
namespace {

/// Edit distance that counts an exchange of neighbours as one edit.
std::size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
    std::iota(d[0].begin(), d[0].end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        for (std::size_t j = 1; j <= b.size(); ++j) {
            d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1,
                                d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
            }
        }
    }
    return d[a.size()][b.size()];
}

/// The candidate that `word` was probably meant to be, or "".
std::string closest(const std::string& word, const std::vector<std::string>& candidates) {
    std::string best;
    std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const std::string& candidate : candidates) {
        std::size_t distance = edit_distance(word, candidate);
        // What was only cut short or written out is closer than its length says.
        if (candidate.rfind(word, 0) == 0 || word.rfind(candidate, 0) == 0) {
            distance = std::min<std::size_t>(distance, 2);
        }
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

std::vector<std::string> flags_of(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    return names;
}

/// The command (of any depth) that the words choose, walking from `app`.
const CLI::App& chosen_command(const CLI::App& app, const std::vector<std::string>& words,
                               std::size_t& next) {
    for (; next < words.size(); ++next) {
        const std::string& word = words[next];
        if (word.rfind('-', 0) == 0) return app;
        for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
            if (sub->get_name() == word) return chosen_command(*sub, words, ++next);
        }
        return app;
    }
    return app;
}

/// What is wrong with the words, where this can be said better than by the parser: a command or a
/// flag that does not exist, with the one that was probably meant.
std::string explain_usage(const CLI::App& app, const std::vector<std::string>& words) {
    std::size_t next = 0;
    const CLI::App& command = chosen_command(app, words, next);
    const auto subs = command.get_subcommands([](const CLI::App*) { return true; });
    if (!subs.empty() && next == words.size()) {
        std::string names;
        for (const CLI::App* sub : subs) names += (names.empty() ? "" : ", ") + sub->get_name();
        return "a subcommand is required: " + names;
    }
    if (!subs.empty() && next < words.size() && words[next].rfind('-', 0) != 0) {
        std::vector<std::string> names;
        for (const CLI::App* sub : subs) names.push_back(sub->get_name());
        const std::string meant = closest(words[next], names);
        return "there is no command '" + words[next] + "'" +
               (meant.empty() ? "." : "; did you mean '" + meant + "'?");
    }
    const std::vector<std::string> flags = flags_of(command);
    for (std::size_t i = next; i < words.size(); ++i) {
        if (words[i] == "--") break;
        if (words[i].rfind("--", 0) != 0) continue;
        const std::string flag = words[i].substr(0, words[i].find('='));
        if (std::find(flags.begin(), flags.end(), flag) != flags.end()) continue;
        const std::string meant = closest(flag, flags);
        return "'" + command.get_name() + "' has no flag " + flag +
               (meant.empty() ? "." : "; did you mean " + meant + "?");
    }
    return "";
}

/// What the values of a flag are called.
std::string kind_of(const CLI::App& command, const std::string& flag) {
    const CLI::Option* option = command.get_option_no_throw(flag);
    const std::string type = option == nullptr ? "" : option->get_type_name();
    if (type.rfind("INT", 0) == 0 || type.rfind("UINT", 0) == 0) return "a whole number";
    return type.rfind("FLOAT", 0) == 0 ? "a number" : "the kind of value it takes";
}

/// The parser's own sentence, or a plainer one.
std::string readable(const CLI::App& command, std::string sentence) {
    const std::string no_number = "Could not convert: ";  // followed by "--flag = value"
    const std::size_t equals = sentence.find(" = ");
    if (sentence.rfind(no_number, 0) == 0 && equals != std::string::npos) {
        const std::string flag = sentence.substr(no_number.size(), equals - no_number.size());
        return flag + " is '" + sentence.substr(equals + 3) + "', which is not " +
               kind_of(command, flag) + ".";
    }
    const std::string twice = ": At Most 1 required but received ";
    if (const std::size_t at = sentence.find(twice); at != std::string::npos) {
        return sentence.substr(0, at) + " takes one value and got " +
               sentence.substr(at + twice.size()) + "; give it once.";
    }
    if (const std::size_t missing = sentence.find(": 1 required "); missing != std::string::npos)
        return sentence.substr(0, missing) + " needs a value.";
    return sentence;
}

int fail_usage(const CLI::App& app, const std::vector<std::string>& words,
               const CLI::ParseError& error) {
    std::size_t next = 0;
    const CLI::App& command = chosen_command(app, words, next);
    std::string sentence = explain_usage(app, words);
    if (sentence.empty()) sentence = readable(command, error.what());
    std::string path = command.get_name();
    for (const CLI::App* p = command.get_parent(); p != nullptr; p = p->get_parent()) {
        path = p->get_name() + " " + path;
    }
    note("carousel: " + sentence);
    note("Run '" + path + " --help' for the flags and their defaults.");
    return kExitUsage;
}

}  // namespace

int run_tool(const std::vector<std::string>& words) {
    CLI::App app("Trains, runs and measures recurrent sequence models.", "carousel");
    app.set_version_flag("--version", std::string("carousel ") + CAROUSEL_VERSION);
    app.require_subcommand(1);
    app.get_formatter()->column_width(36);
    app.footer(
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n"
        "Data goes to stdout, everything for people to stderr.");
    Context context;
    add_train(app, context);
    add_sample(app, context);
    add_eval(app, context);
    add_run(app, context);
    add_bench(app, context);
    add_explain(app, context);
    add_inspect(app, context);
    add_doctor(app, context);

    try {
        std::vector<std::string> reversed(words.rbegin(), words.rend());
        app.parse(reversed);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() != 0) return fail_usage(app, words, error);
        std::ostringstream text;  // --help and --version
        app.exit(error, text, text);
        print(text.str());
        flush_output();
        return kExitDone;
    }
    const int code = context.action();
    flush_output();
    return code;
}

}  // namespace carousel::cli
