#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "cli/tool.hpp"
#include "reference/rnn_reference.hpp"
#include "src/io/file.hpp"
#include "src/io/safetensors.hpp"

// `carousel run` from files to files, against the independent reference.

namespace carousel::testing_tool {
namespace {

using ::testing::HasSubstr;
using Shape = std::vector<std::int64_t>;

struct NamedTensor {
    std::string name;
    Shape shape;
    std::vector<double> values;
};

std::vector<double> numbers(std::int64_t n, double scale, std::uint64_t seed) {
    std::vector<double> v(static_cast<std::size_t>(n));
    std::uint64_t state = seed;
    for (double& value : v) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        // Numbers that f32 holds exactly, so that files of either type hold the same ones.
        value = static_cast<double>(
            static_cast<float>(scale * (static_cast<double>(state >> 11) * 0x1.0p-52 - 1.0)));
    }
    return v;
}

/// A problem of the reference with every option, from its sizes.
reference::Problem make_problem(reference::Cell cell, std::int64_t proj, std::int64_t layers,
                                std::int64_t directions, int biases) {
    reference::Problem p;
    p.cell = cell;
    p.T = 7;
    p.N = 4;
    p.I = 3;
    p.H = 5;
    p.P = proj;
    p.L = layers;
    p.D = directions;
    const std::int64_t rows = reference::gates_of(cell) * p.H;
    for (std::int64_t s = 0; s < layers * directions; ++s) {
        const auto seed = static_cast<std::uint64_t>(100 + 10 * s);
        reference::Weights w;
        w.w_ih = numbers(rows * p.layer_input_size(s / directions), 0.5, seed);
        w.w_hh = numbers(rows * p.output_size(), 0.5, seed + 1);
        if (biases > 0) w.b_ih = numbers(rows, 0.5, seed + 2);
        if (biases > 1) w.b_hh = numbers(rows, 0.5, seed + 3);
        if (proj > 0) w.w_hr = numbers(proj * p.H, 0.5, seed + 4);
        p.weights.push_back(w);
    }
    p.x = numbers(p.T * p.N * p.I, 1.0, 1);
    p.hx = numbers(layers * directions * p.N * p.output_size(), 1.0, 2);
    if (p.has_c()) p.cx = numbers(layers * directions * p.N * p.H, 1.0, 3);
    p.lengths = {7, 0, 3, 5};
    p.reset.assign(static_cast<std::size_t>(p.T * p.N), 0);
    p.reset[static_cast<std::size_t>(2 * p.N + 3)] = 1;
    p.reset[0] = 1;
    return p;
}

std::vector<NamedTensor> named(const reference::Problem& p,
                               const std::vector<reference::Weights>& weights,
                               const std::string& prefix) {
    std::vector<NamedTensor> tensors;
    const std::int64_t rows = reference::gates_of(p.cell) * p.H;
    for (std::int64_t s = 0; s < p.L * p.D; ++s) {
        const reference::Weights& w = weights[static_cast<std::size_t>(s)];
        const std::string end = "_l" + std::to_string(s / p.D) + (s % p.D == 1 ? "_reverse" : "");
        tensors.push_back(
            {prefix + "weight_ih" + end, {rows, p.layer_input_size(s / p.D)}, w.w_ih});
        tensors.push_back({prefix + "weight_hh" + end, {rows, p.output_size()}, w.w_hh});
        if (!w.b_ih.empty()) tensors.push_back({prefix + "bias_ih" + end, {rows}, w.b_ih});
        if (!w.b_hh.empty()) tensors.push_back({prefix + "bias_hh" + end, {rows}, w.b_hh});
        if (p.P > 0) tensors.push_back({prefix + "weight_hr" + end, {p.P, p.H}, w.w_hr});
    }
    return tensors;
}

/// A file under construction: floats in f64 or f32, and integers.
class FileContent {
public:
    explicit FileContent(DType dtype) : dtype_(dtype) {}
    void add(const NamedTensor& t) {
        std::string bytes;
        for (const double value : t.values) {
            const auto narrow = static_cast<float>(value);
            bytes.append(dtype_ == DType::kF64 ? reinterpret_cast<const char*>(&value)
                                               : reinterpret_cast<const char*>(&narrow),
                         dtype_bytes(dtype_));
        }
        add(t.name, dtype_, t.shape, bytes);
    }
    void add(const std::string& name, DType dtype, const Shape& shape, const std::string& bytes) {
        bytes_[name] = bytes;
        tensors_[name] = {name, dtype, shape, nullptr};
    }
    void add_mask(const reference::Problem& p) {
        add("lengths", DType::kI64, {p.N},
            std::string(reinterpret_cast<const char*>(p.lengths.data()), 8 * p.lengths.size()));
        add("reset", DType::kU8, {p.T, p.N}, std::string(p.reset.begin(), p.reset.end()));
    }
    void remove(const std::string& name) { tensors_.erase(name); }
    void write(const std::string& path) {
        std::vector<io::TensorToWrite> tensors;
        for (auto& [name, tensor] : tensors_) {
            tensor.data = bytes_[name].data();
            tensors.push_back(tensor);
        }
        io::write_safetensors(path, tensors);
    }

private:
    DType dtype_;
    std::map<std::string, std::string> bytes_;
    std::map<std::string, io::TensorToWrite> tensors_;
};

void expect_near(const io::SafetensorsFile& file, const std::string& name, const Shape& shape,
                 const std::vector<double>& expected, io::StoredType type, double tolerance) {
    const io::StoredTensor* t = file.find(name);
    ASSERT_NE(t, nullptr) << name << " is missing";
    EXPECT_EQ(t->type, type) << name;
    ASSERT_EQ(t->shape, shape) << name;
    std::vector<double> got(expected.size());
    io::convert_to(*t, DType::kF64, got.data(), file.path());
    double worst = 0.0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        worst = std::max(worst, std::fabs(got[i] - expected[i]) / (1.0 + std::fabs(expected[i])));
    }
    EXPECT_LE(worst, tolerance) << name;
}

struct RunCase {
    const char* cell_flag;
    reference::Cell cell;
    std::int64_t proj, layers, directions;
    int biases;
    const char* prefix;
};

class ToolRun : public ::testing::TestWithParam<RunCase> {};

TEST_P(ToolRun, ForwardAndBackwardMatchTheReference) {
    const RunCase& c = GetParam();
    const reference::Problem p = make_problem(c.cell, c.proj, c.layers, c.directions, c.biases);
    const std::int64_t states = p.L * p.D;
    const auto dy = numbers(p.T * p.N * p.D * p.output_size(), 1.0, 4);
    const auto dhy = numbers(states * p.N * p.output_size(), 1.0, 5);
    const auto dcy = p.has_c() ? numbers(states * p.N * p.H, 1.0, 6) : std::vector<double>{};
    const reference::Forward forward = reference::forward(p);
    const reference::Backward backward = reference::backward(p, forward, dy, dhy, dcy);
    const Shape h_shape{states, p.N, p.output_size()};
    const Shape c_shape{states, p.N, p.H};
    const TempFolder folder;

    for (const DType dtype : {DType::kF64, DType::kF32}) {
        FileContent weights(dtype);
        for (const NamedTensor& t : named(p, p.weights, c.prefix)) weights.add(t);
        if (std::string(c.prefix).find('.') != std::string::npos) {
            weights.add({"embedding.weight", {1, 2}, {1.0, 2.0}});
        }
        weights.write(folder.file("w.safetensors"));
        FileContent input(dtype);
        input.add({"x", {p.T, p.N, p.I}, p.x});
        input.add({"hx", h_shape, p.hx});
        input.add({"dy", {p.T, p.N, p.D * p.output_size()}, dy});
        input.add({"dhy", h_shape, dhy});
        if (p.has_c()) input.add({"cx", c_shape, p.cx});
        if (p.has_c()) input.add({"dcy", c_shape, dcy});
        input.add_mask(p);
        input.write(folder.file("in.safetensors"));
        const ToolResult result =
            run_tool({"run", "--cell", c.cell_flag, "--weights", folder.file("w.safetensors"),
                      "--input", folder.file("in.safetensors"), "--output",
                      folder.file("out.safetensors"), "--backward", "--device", "cpu"});
        ASSERT_EQ(result.exit_code, 0) << result.err;
        EXPECT_EQ(result.out, "");

        const auto out = io::SafetensorsFile::open(folder.file("out.safetensors"));
        const io::StoredType type = io::stored_type_of(dtype);
        const double tolerance = dtype == DType::kF64 ? 1e-12 : 2e-5;
        expect_near(out, "y", {p.T, p.N, p.D * p.output_size()}, forward.y(), type, tolerance);
        expect_near(out, "hy", h_shape, forward.hy, type, tolerance);
        expect_near(out, "dx", {p.T, p.N, p.I}, backward.dx, type, tolerance);
        expect_near(out, "dhx", h_shape, backward.dhx, type, tolerance);
        if (p.has_c()) expect_near(out, "cy", c_shape, forward.cy, type, tolerance);
        if (p.has_c()) expect_near(out, "dcx", c_shape, backward.dcx, type, tolerance);
        const auto grads = named(p, backward.dweights, "d_");
        for (const NamedTensor& t : grads) {
            expect_near(out, t.name, t.shape, t.values, type, tolerance);
        }
        EXPECT_EQ(out.tensors().size(), grads.size() + (p.has_c() ? 6u : 4u));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Cells, ToolRun,
    ::testing::Values(RunCase{"lstm", reference::Cell::kLstm, 2, 2, 2, 2, "model.rnn."},
                      RunCase{"lstm", reference::Cell::kLstm, 0, 1, 1, 1, ""},
                      RunCase{"gru", reference::Cell::kGruResetAfter, 0, 2, 1, 2, "rnn."},
                      RunCase{"gru_reset_before", reference::Cell::kGruResetBefore, 0, 1, 2, 1, ""},
                      RunCase{"rnn_tanh", reference::Cell::kTanh, 0, 3, 1, 0, "encoder_"},
                      RunCase{"rnn_relu", reference::Cell::kRelu, 0, 1, 1, 2, ""}));

/// A small GRU in files, each test changing one thing.
class ToolRunFiles : public ::testing::Test {
protected:
    ToolRunFiles() {
        for (const NamedTensor& t : named(problem_, problem_.weights, "")) weights_.add(t);
        input_.add({"x", {7, 4, 3}, problem_.x});
    }
    ToolResult run(std::vector<std::string> more = {}, const ToolOptions& options = {}) {
        weights_.write(folder_.file("w.safetensors"));
        input_.write(folder_.file("in.safetensors"));
        std::vector<std::string> args{"run",
                                      "--cell",
                                      cell_,
                                      "--weights",
                                      folder_.file("w.safetensors"),
                                      "--input",
                                      folder_.file("in.safetensors"),
                                      "--output",
                                      folder_.file("out.safetensors")};
        args.insert(args.end(), more.begin(), more.end());
        return run_tool(args, options);
    }
    void expect_failure(const char* sentence) {
        const ToolResult result = run();
        EXPECT_EQ(result.exit_code, 1) << result.err;
        EXPECT_THAT(result.err, HasSubstr(sentence));
        EXPECT_FALSE(std::filesystem::exists(folder_.file("out.safetensors")));
    }

    reference::Problem problem_ = make_problem(reference::Cell::kGruResetAfter, 0, 2, 1, 2);
    FileContent weights_{DType::kF64}, input_{DType::kF64};
    TempFolder folder_;
    std::string cell_ = "gru";
};

TEST_F(ToolRunFiles, UnbatchedIsABatchOfOne) {
    reference::Problem p = problem_;
    p.N = 1;
    p.x = numbers(p.T * p.I, 1.0, 9);
    p.hx = numbers(2 * p.H, 1.0, 10);
    p.lengths = {5};
    p.reset = {0, 0, 1, 0, 0, 0, 0};
    const reference::Forward forward = reference::forward(p);
    input_.add({"x", {p.T, p.I}, p.x});
    input_.add({"hx", {2, p.H}, p.hx});
    input_.add("lengths", DType::kI64, {1},
               std::string(reinterpret_cast<const char*>(p.lengths.data()), 8));
    input_.add("reset", DType::kU8, {p.T}, std::string(p.reset.begin(), p.reset.end()));
    ASSERT_EQ(run().exit_code, 0);
    const auto out = io::SafetensorsFile::open(folder_.file("out.safetensors"));
    expect_near(out, "y", {p.T, p.H}, forward.y(), io::StoredType::kF64, 1e-12);
    expect_near(out, "hy", {2, p.H}, forward.hy, io::StoredType::kF64, 1e-12);
    EXPECT_EQ(out.tensors().size(), 2u);
}

TEST_F(ToolRunFiles, DtypeIsThatOfXUnlessTheFlagSaysOtherwise) {
    FileContent narrow(DType::kF32);
    narrow.add({"x", {7, 4, 3}, problem_.x});
    narrow.write(folder_.file("in.safetensors"));
    input_ = narrow;  // weights stay f64
    ASSERT_EQ(run().exit_code, 0);
    EXPECT_EQ(io::SafetensorsFile::open(folder_.file("out.safetensors")).get("y").type,
              io::StoredType::kF32);
    ASSERT_EQ(run({"--dtype", "f64"}).exit_code, 0);
    reference::Problem p = problem_;
    p.hx.clear();
    p.lengths.clear();
    p.reset.clear();
    const auto out = io::SafetensorsFile::open(folder_.file("out.safetensors"));
    expect_near(out, "y", {7, 4, 5}, reference::forward(p).y(), io::StoredType::kF64, 1e-12);
    EXPECT_EQ(run({"--dtype", "i32"}).exit_code, 2);
    const ToolResult half = run({"--dtype", "f16"});
    EXPECT_EQ(half.exit_code, 1);
    EXPECT_THAT(half.err, HasSubstr("f16"));
}

TEST_F(ToolRunFiles, HalfPrecisionFilesAreWidened) {
    // 1.5 and -0.25 in both 16-bit formats; a sum over I = 1, H = 1 small enough to do by hand.
    const double w = 1.5, u = -0.25, x0 = 1.5, x1 = -0.25;
    const std::string f16_w("\x00\x3e", 2), bf16_u("\x80\xbe", 2);
    FileContent weights(DType::kF64);
    weights.add("weight_ih_l0", DType::kF16, {1, 1}, f16_w);
    weights.add("weight_hh_l0", DType::kBf16, {1, 1}, bf16_u);
    weights_ = weights;
    FileContent input(DType::kF64);
    input.add("x", DType::kF16, {2, 1}, std::string("\x00\x3e\x00\xb4", 4));
    input_ = input;
    cell_ = "rnn_tanh";
    ASSERT_EQ(run({"--dtype", "f64"}).exit_code, 0);
    const double h0 = std::tanh(w * x0);
    const auto out = io::SafetensorsFile::open(folder_.file("out.safetensors"));
    expect_near(out, "y", {2, 1}, {h0, std::tanh(w * x1 + u * h0)}, io::StoredType::kF64, 1e-14);
}

TEST_F(ToolRunFiles, HalfPrecisionInputWithoutDtypeSaysHowToConvertIt) {
    FileContent input(DType::kF64);
    input.add("x", DType::kF16, {1, 1, 3}, std::string("\x00\x3e\x00\xb4\x00\x3e", 6));
    input_ = input;
    expect_failure("x is f16, and the CPU computes in f32 and f64; add --dtype f32");
}
TEST_F(ToolRunFiles, AnOutputThatIsAnInputIsRefused) {
    weights_.write(folder_.file("w.safetensors"));
    input_.write(folder_.file("in.safetensors"));
    const std::string weights = io::read_file(folder_.file("w.safetensors"));
    std::filesystem::create_symlink("w.safetensors", folder_.file("link"));
    for (const char* name : {"w.safetensors", "in.safetensors", "link"}) {
        const ToolResult result =
            run_tool({"run", "--cell", cell_, "--weights", folder_.file("w.safetensors"), "--input",
                      folder_.file("in.safetensors"), "--output", folder_.file(name)});
        EXPECT_EQ(result.exit_code, 2) << name;
        EXPECT_THAT(result.err, HasSubstr("name another one")) << name;
    }
    EXPECT_EQ(io::read_file(folder_.file("w.safetensors")), weights);
}

TEST_F(ToolRunFiles, MissingTensorIsNamed) {
    weights_.remove("weight_hh_l1");
    expect_failure("tensor 'weight_hh_l1' is missing");
}
TEST_F(ToolRunFiles, MissingBiasOfOneLayerIsNamed) {
    weights_.remove("bias_hh_l1");
    expect_failure("tensor 'bias_hh_l1' is missing");
}
TEST_F(ToolRunFiles, MissingLayerInBetweenIsNamed) {
    weights_.add({"weight_ih_l900000", {15, 5}, numbers(75, 1.0, 1)});
    expect_failure("tensor 'weight_ih_l2' is missing");
}
TEST_F(ToolRunFiles, MisshapenTensorIsNamedWithBothShapes) {
    weights_.add({"weight_ih_l1", {15, 4}, numbers(60, 1.0, 1)});
    expect_failure("tensor 'weight_ih_l1' has shape [15,4], expected [15,5]");
}
TEST_F(ToolRunFiles, WrongCellIsSuspected) {
    cell_ = "lstm";
    expect_failure("Is --cell right?");
}
TEST_F(ToolRunFiles, ProjectionOfAGruIsRefused) {
    weights_.add({"weight_hr_l0", {2, 5}, numbers(10, 1.0, 1)});
    expect_failure("'weight_hr_l0' is a projection");
}
TEST_F(ToolRunFiles, UnknownTensorBesideTheWeightsIsNamed) {
    weights_.add({"weight_xx_l0", {2, 5}, numbers(10, 1.0, 1)});
    expect_failure("tensor 'weight_xx_l0' is unknown");
}
TEST_F(ToolRunFiles, SeveralStacksAreListedAndChosenByPrefix) {
    for (const NamedTensor& t : named(problem_, problem_.weights, "decoder.rnn.")) weights_.add(t);
    expect_failure("prefixes '', 'decoder.rnn.'");
    EXPECT_EQ(run({"--prefix", "decoder.rnn."}).exit_code, 0);
    const ToolResult none = run({"--prefix", "encoder."});
    EXPECT_EQ(none.exit_code, 1);
    EXPECT_THAT(none.err, HasSubstr("'encoder.'"));
}
TEST_F(ToolRunFiles, NoStackAtAll) {
    weights_ = FileContent(DType::kF64);
    weights_.add({"fc.weight", {2, 5}, numbers(10, 1.0, 1)});
    expect_failure("no tensor has a name of a recurrent layer");
}
TEST_F(ToolRunFiles, MissingXIsNamed) {
    input_.remove("x");
    expect_failure("tensor 'x' is missing");
}
TEST_F(ToolRunFiles, UnknownInputIsNamed) {
    input_.add({"h0", {2, 4, 5}, numbers(40, 1.0, 1)});
    expect_failure("tensor 'h0' is unknown");
}
TEST_F(ToolRunFiles, MisshapenInputsAreNamed) {
    input_.add({"hx", {2, 5, 4}, numbers(40, 1.0, 1)});
    expect_failure("tensor 'hx' has shape [2,5,4], expected [L*D,N,O] = [2,4,5]");
    input_.remove("hx");
    input_.add({"x", {7, 4, 2}, numbers(56, 1.0, 1)});
    expect_failure("tensor 'x' has shape [7,4,2], expected [T,N,I] = [7,4,3]");
    input_.add({"x", {84}, numbers(84, 1.0, 1)});
    expect_failure("tensor 'x' has shape [84]");
    input_.add({"x", {0, 4, 3}, {}});
    expect_failure("tensor 'x' has shape [0,4,3]");
}
TEST_F(ToolRunFiles, CellStateOfAGruIsRefused) {
    input_.add({"cx", {2, 4, 5}, numbers(40, 1.0, 1)});
    expect_failure("'cx' is given, but the cell gru has no cell state");
}
TEST_F(ToolRunFiles, LengthsBeyondTheSequenceAreRefused) {
    const std::vector<std::int64_t> lengths{7, 8, 0, 1};
    input_.add("lengths", DType::kI64, {4},
               std::string(reinterpret_cast<const char*>(lengths.data()), 32));
    expect_failure("tensor 'lengths' has 8 for sequence 1");
}
TEST_F(ToolRunFiles, FloatLengthsAreRefused) {
    input_.add({"lengths", {4}, {1, 2, 3, 4}});
    expect_failure("tensor 'lengths' is of type F64");
}

TEST_F(ToolRunFiles, FullDiskKeepsTheOldOutput) {
    weights_.write(folder_.file("w.safetensors"));
    io::write_file_atomic(folder_.file("out.safetensors"), "old");
    ToolOptions options;
    options.max_file_bytes = 100;
    const ToolResult result = run({}, options);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("is unchanged"));
    EXPECT_EQ(io::read_file(folder_.file("out.safetensors")), "old");
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
        ++files;
    }
    EXPECT_EQ(files, 3u);
}

}  // namespace
}  // namespace carousel::testing_tool
