#pragma once

#include <functional>

#include <CLI/CLI.hpp>

// One function per command: declares its flags on `app` and, when the command is chosen, leaves
// what to do in `context.action`. The action returns an exit code of common.hpp; main catches its
// errors.

namespace carousel::cli {

struct Context {
    std::function<int()> action;
};

void add_train(CLI::App& app, Context& context);
void add_sample(CLI::App& app, Context& context);
void add_eval(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_explain(CLI::App& app, Context& context);
void add_inspect(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);

}  // namespace carousel::cli
