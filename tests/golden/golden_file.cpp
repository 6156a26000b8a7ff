#include "tests/golden/golden_file.hpp"

#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <stdexcept>

namespace carousel::test {
namespace {

class GoldenReader {
public:
    explicit GoldenReader(const std::string& path) : path_(path), file_(path) {
        if (!file_) throw std::runtime_error("cannot read " + path);
    }

    std::vector<GoldenCase> read() {
        std::vector<GoldenCase> cases;
        std::string line;
        while (next(line)) {
            if (line.empty() || line[0] == '#') continue;
            std::istringstream words(line);
            std::string word;
            words >> word;
            if (word != "case") fail("expected 'case'");
            cases.push_back(read_case(rest(words)));
        }
        if (cases.empty()) fail("no case");
        return cases;
    }

private:
    [[noreturn]] void fail(const std::string& what) const {
        throw std::runtime_error(path_ + ":" + std::to_string(number_) + ": " + what);
    }
    bool next(std::string& line) {
        ++number_;
        return static_cast<bool>(std::getline(file_, line));
    }
    static std::string rest(std::istringstream& words) {
        std::string text;
        std::getline(words >> std::ws, text);
        return text;
    }

    GoldenCase read_case(const std::string& name) {
        GoldenCase golden;
        golden.name = name;
        std::string line;
        while (next(line)) {
            std::istringstream words(line);
            std::string word;
            words >> word;
            if (word == "end") return golden;
            if (word == "line") {
                golden.line = parse_shape_line(rest(words));
            } else if (word == "lengths") {
                std::int64_t length = 0;
                while (words >> length) golden.lengths.push_back(length);
            } else if (word == "tensor") {
                read_tensor(words, golden);
            } else {
                fail("unknown word '" + word + "'");
            }
        }
        fail("case without 'end'");
    }

    void read_tensor(std::istringstream& words, GoldenCase& golden) {
        std::string name;
        std::string shape;
        words >> name >> shape;
        std::size_t count = 1;
        std::istringstream sizes(shape);
        std::string size;
        while (std::getline(sizes, size, ',')) count *= std::stoul(size);
        std::string line;
        if (!next(line)) fail("tensor without values");
        std::istringstream numbers(line);
        std::vector<double> values;
        std::string number;
        while (numbers >> number) values.push_back(std::stod(number));
        if (values.size() != count) fail("tensor " + name + " lacks values");
        golden.tensors[name] = std::move(values);
    }

    std::string path_;
    std::ifstream file_;
    int number_ = 0;
};

void poison(const reference::Problem& p, std::vector<double>& values) {
    const std::int64_t features = static_cast<std::int64_t>(values.size()) / (p.T * p.N);
    for (std::size_t e = 0; e < values.size(); ++e) {
        const std::int64_t row = static_cast<std::int64_t>(e) / features;
        if (row / p.N >= p.length(row % p.N)) values[e] = std::numeric_limits<double>::quiet_NaN();
    }
}

}  // namespace

RnnData GoldenCase::data() const {
    const auto find = [this](const std::string& tensor) {
        const auto found = tensors.find(tensor);
        return found == tensors.end() ? std::vector<double>() : found->second;
    };
    RnnData data;
    reference::Problem& p = data.problem;
    p = make_problem(line.spec, line.seq_len, line.batch_size);
    p.lengths = lengths;
    p.x = find("x");
    p.hx = find("hx");
    p.cx = find("cx");
    data.dy = find("dy");
    data.dhy = find("dhy");
    data.dcy = find("dcy");
    for (std::int64_t s = 0; s < line.spec.num_states(); ++s) {
        reference::Weights w;
        w.w_ih = find(param_name("weight_ih", s, p.D));
        w.w_hh = find(param_name("weight_hh", s, p.D));
        w.b_ih = find(param_name("bias_ih", s, p.D));
        w.b_hh = find(param_name("bias_hh", s, p.D));
        w.w_hr = find(param_name("weight_hr", s, p.D));
        p.weights.push_back(std::move(w));
    }
    poison(p, p.x);
    if (!data.dy.empty()) poison(p, data.dy);
    return data;
}

NamedTensors GoldenCase::expected() const {
    const std::set<std::string> inputs = {"x", "hx", "cx", "dy", "dhy", "dcy"};
    NamedTensors outputs;
    for (const auto& [tensor, values] : tensors) {
        const bool weight =
            tensor.compare(0, 7, "weight_") == 0 || tensor.compare(0, 5, "bias_") == 0;
        if (!weight && inputs.count(tensor) == 0) outputs[tensor] = values;
    }
    return outputs;
}

std::vector<GoldenCase> load_golden_file(const std::string& name) {
    return GoldenReader(std::string(CAROUSEL_TEST_DIR) + "/golden/" + name).read();
}

}  // namespace carousel::test
