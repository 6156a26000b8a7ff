#include "bench/cpu/torch_side.hpp"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "carousel/error.hpp"

extern char** environ;

namespace carousel::bench {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kScript = CAROUSEL_SOURCE_DIR "/bench/torch_peer.py";

[[noreturn]] void refuse(const std::string& why) { throw Error(ErrorCode::kUnsupported, why); }

/// A folder of this process's own, removed with everything in it.
struct TemporaryFolder {
    TemporaryFolder() {
        std::string name = (fs::temp_directory_path() / "carousel-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) refuse("no temporary folder: " + name);
        path = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    fs::path path;
};

void write_file(const fs::path& path, const Buffer& data) {
    std::ofstream file(path, std::ios::binary);
    file.write(data.as<char>(), static_cast<std::streamsize>(data.bytes()));
    if (!file.flush()) refuse("cannot write " + path.string() + ": is the disk full?");
}

std::vector<double> read_floats(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::error_code missing;
    const auto bytes = fs::file_size(path, missing);
    if (!file || missing) return {};
    std::vector<float> values(bytes / sizeof(float));
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(bytes));
    return {values.begin(), values.end()};
}

}  // namespace

struct TorchProcess::Impl {
    Impl(const std::string& python, int num_threads) : name(python) {
        int to_child[2], from_child[2];
        if (pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0) {
            refuse("no pipe to a process for torch");
        }
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, to_child[0], STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&actions, from_child[1], STDOUT_FILENO);
        const std::string threads = std::to_string(num_threads);
        std::string words[] = {python, "-B", kScript, "--threads", threads};
        char* arguments[] = {words[0].data(), words[1].data(), words[2].data(),
                             words[3].data(), words[4].data(), nullptr};
        const int failed =
            posix_spawnp(&child, python.c_str(), &actions, nullptr, arguments, environ);
        posix_spawn_file_actions_destroy(&actions);
        close(to_child[0]);
        close(from_child[1]);
        requests = to_child[1];
        answers = fdopen(from_child[0], "r");
        if (failed != 0) {
            close(requests);
            std::fclose(answers);
            refuse(python + ": " + std::strerror(failed) +
                   "; bench/setup_torch.sh makes a python that has torch, --python names another");
        }
        std::signal(SIGPIPE, SIG_IGN);  // a child that died is told by its answers
        try {
            version = receive().at("torch_version");
        } catch (...) {
            end();
            throw;
        }
    }
    ~Impl() { end(); }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void end() {
        if (requests < 0) return;
        close(requests);
        requests = -1;
        std::fclose(answers);
        int status = 0;
        waitpid(child, &status, 0);
    }

    Json ask(const Json& request) {
        const std::string line = request.dump() + "\n";
        if (write(requests, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
            refuse_ended("");
        }
        return receive();
    }

    Json receive() {
        char* line = nullptr;
        std::size_t capacity = 0;
        const ssize_t length = getline(&line, &capacity, answers);
        const std::string text(line == nullptr || length < 0 ? "" : line);
        free(line);
        const Json answer = Json::parse(text, nullptr, false);
        if (answer.is_discarded() || !answer.is_object()) {
            refuse_ended(text);
        }
        if (answer.contains("error")) refuse("torch: " + answer.at("error").get<std::string>());
        return answer;
    }

    /// `said` is what it answered, if that was no answer.
    [[noreturn]] void refuse_ended(const std::string& said) const {
        refuse("the process for torch, " + name + " " + kScript + ", has ended" +
               (said.empty() ? "; what it wrote to stderr says why" : " with '" + said + "'"));
    }

    std::string name;  ///< of the python
    pid_t child = 0;
    int requests = -1;
    FILE* answers = nullptr;
    std::string version;
    int problems = 0;  ///< made so far: their ids
};

TorchProcess::TorchProcess(const std::string& python, int num_threads)
    : impl_(std::make_unique<Impl>(python, num_threads)) {}
TorchProcess::~TorchProcess() = default;
std::string TorchProcess::version() const { return impl_->version; }

struct TorchSide::Impl {
    TorchProcess::Impl& torch() { return process->impl(); }
    Json ask(const char* what, Json request = Json::object()) {
        request["ask"] = what;
        request["id"] = id;
        return torch().ask(request);
    }

    const Problem& problem;
    std::shared_ptr<TorchProcess> process;
    DType dtype;
    int id = 0;
    TemporaryFolder folder{};
};

TorchSide::TorchSide(const Problem& problem, std::shared_ptr<TorchProcess> process, DType dtype)
    : impl_(new Impl{problem, std::move(process), dtype}) {
    const GridCase& c = problem.grid_case;
    const RnnSpec& s = c.spec;
    if (s.dtype != DType::kF32) refuse("the comparator with torch takes rows in f32");
    if (s.proj_size > 0) refuse("the comparator with torch has no projections");
    Impl& m = *impl_;
    m.id = m.torch().problems++;
    const auto put = [&](const char* name, const Buffer& data) {
        if (data.bytes() > 0) write_file(m.folder.path / name, data);
    };
    put("weights", problem.weights);
    put("x", problem.x);
    put("hx", problem.hx);
    put("cx", problem.cx);
    put("dy", problem.dy);
    put("dhy", problem.dhy);
    put("dcy", problem.dcy);
    put("lengths", problem.lengths);
    m.ask("make", {{"folder", m.folder.path.string()},
                   {"cell", cell_name(s.cell)},
                   {"dtype", dtype_name(dtype)},
                   {"input", s.input_size},
                   {"hidden", s.hidden_size},
                   {"layers", s.num_layers},
                   {"bidirectional", s.bidirectional},
                   {"batch", c.batch_size},
                   {"seq_len", c.seq_len},
                   {"training", !c.inference_only}});
}

TorchSide::~TorchSide() {
    try {
        impl_->ask("drop");
    } catch (const std::exception&) {
        // The process has ended, and its memory with it.
    }
}

std::string TorchSide::name() const { return std::string("torch ") + dtype_name(impl_->dtype); }

void TorchSide::forward(StreamRef, bool training) {
    impl_->ask("run", {{"pass", training ? "forward" : "infer"}});
}

void TorchSide::backward(StreamRef, bool weights) {
    impl_->ask("run", {{"pass", weights ? "backward" : "backward_data"}});
}

void TorchSide::train(StreamRef) { impl_->ask("run", {{"pass", "train"}}); }

Outcome TorchSide::outcome(bool states_and_weights) {
    impl_->ask("outcome", {{"all", !states_and_weights}});
    const auto get = [&](const char* name) { return read_floats(impl_->folder.path / name); };
    Outcome o;
    o.hy = get("out_hy");
    o.dhx = get("out_dhx");
    o.dweights = get("out_dweights");
    if (states_and_weights) return o;
    o.y = get("out_y");
    o.cy = get("out_cy");
    o.dx = get("out_dx");
    o.dcx = get("out_dcx");
    return o;
}

std::optional<double> TorchSide::own_turn_ms(Pass pass, const TurnLengths& lengths) {
    return impl_
        ->ask("turn", {{"pass", pass_name(pass)},
                       {"lead_in_ms", lengths.lead_in_ms},
                       {"timed_ms", lengths.timed_ms}})
        .at("ms")
        .get<double>();
}

}  // namespace carousel::bench
