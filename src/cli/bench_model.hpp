#pragma once

#include <CLI/CLI.hpp>

#include "src/cli/commands.hpp"

namespace carousel::cli {

/// Adds `bench lm` and `bench sample`: one whole training step of a language model on synthetic
/// ids, and one sampled token.
void add_bench_model(CLI::App& bench, Context& context);

}  // namespace carousel::cli
