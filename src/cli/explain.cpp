#include <memory>

#include "src/backend/cuda/device_caps.hpp"
#include "src/backend/cuda/rnn_backend.hpp"
#include "src/cli/bench_case.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"

namespace carousel::cli {
namespace {

struct ExplainOptions {
    RnnCaseFlags flags;
    bool json = false;
};

/// "h200" and the like: a device of a machine elsewhere, given by its published figures.
bool names_a_model(const std::string& device) {
    return device != "cpu" && device != "auto" && device.rfind("cuda", 0) != 0;
}

cuda::RnnExplanation explanation_of(RnnCase& c, const std::string& device) {
    if (names_a_model(device)) return cuda::explain_rnn(c.spec, c.plan, cuda::known_device(device));
    const RnnPlan plan = RnnPlan::create(c.spec, c.plan);
    c.plan.num_threads = plan.options().num_threads;
    return {plan.options().algorithm, plan.workspace_bytes(), plan.reserve_bytes(),
            plan.describe()};
}

int explain_rnn(const ExplainOptions& options) {
    const std::string& device = options.flags.device;
    bool first = true;
    for (RnnCase& c :
         names_a_model(device) ? expand(options.flags, Device::cuda()) : expand(options.flags)) {
        cuda::RnnExplanation plan = explanation_of(c, device);
        if (options.json) {
            nlohmann::ordered_json line = c.to_json();
            if (names_a_model(device)) line["device"] = device;
            line["algorithm"] = algorithm_name(plan.algorithm);
            line["workspace_bytes"] = plan.workspace_bytes;
            line["reserve_bytes"] = plan.reserve_bytes;
            line["plan"] = plan.text;
            print_line(line.dump());
        } else {
            if (!first) print_line("");
            while (!plan.text.empty() && plan.text.back() == '\n') plan.text.pop_back();
            print_line(plan.text);
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
    rnn->get_option("--device")
        ->description(
            "Device to plan for: cpu, cuda, cuda:<index>, auto (the best), or a model that need "
            "not "
            "be here, by its published figures: h200, h100, a100, ...");
    flag_json(*rnn, options->json);
    rnn->callback(
        [&context, options] { context.action = [options] { return explain_rnn(*options); }; });
}

}  // namespace carousel::cli
