#include <memory>

#include "src/cli/bench_case.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"

namespace carousel::cli {
namespace {

struct ExplainOptions {
    RnnCaseFlags flags;
    bool json = false;
};

int explain_rnn(const ExplainOptions& options) {
    bool first = true;
    for (RnnCase& c : expand(options.flags)) {
        const RnnPlan plan = RnnPlan::create(c.spec, c.plan);
        if (options.json) {
            c.plan.num_threads = plan.options().num_threads;
            nlohmann::ordered_json line = c.to_json();
            line["algorithm"] = algorithm_name(plan.options().algorithm);
            line["workspace_bytes"] = plan.workspace_bytes();
            line["reserve_bytes"] = plan.reserve_bytes();
            line["plan"] = plan.describe();
            print_line(line.dump());
        } else {
            if (!first) print_line("");
            std::string text = plan.describe();
            while (!text.empty() && text.back() == '\n') text.pop_back();
            print_line(text);
        }
        first = false;
    }
    return kExitDone;
}

}  // namespace

void add_explain(CLI::App& app, Context& context) {
    CLI::App* command = app.add_subcommand("explain", "Prints how something would be run");
    command->require_subcommand(1);
    CLI::App* rnn = command->add_subcommand(
        "rnn", "Prints the plan of a recurrent layer: algorithm, steps, memory");
    auto options = std::make_shared<ExplainOptions>();
    add_rnn_case_flags(*rnn, options->flags);
    flag_json(*rnn, options->json);
    rnn->callback(
        [&context, options] { context.action = [options] { return explain_rnn(*options); }; });
}

}  // namespace carousel::cli
