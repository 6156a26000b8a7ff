#include "tests/support/device_pass.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "carousel/error.hpp"

namespace carousel::test {
namespace {

constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kTf32, DType::kBf16, DType::kF16};

bool is_rounded(DType dtype) { return dtype != DType::kF64 && dtype != DType::kF32; }

}  // namespace

NamedTensors reference_for(const ShapeLine& line, const RnnData& data,
                           const NamedTensors& results) {
    const auto gates = results.find("gates");
    if (line.spec.cell != Cell::kRnnRelu || !is_rounded(line.spec.dtype) ||
        gates == results.end()) {
        return reference_all(data);
    }
    return reference_all(data, gates->second);
}

double device_tolerance(DType dtype, std::int64_t seq_len) {
    switch (dtype) {
        case DType::kTf32:
            return 2e-3;
        case DType::kBf16:
        case DType::kF16:
            return 2e-2;
        default:
            return tolerance(dtype, seq_len);
    }
}

std::vector<Algorithm> device_algorithms(const RnnSpec& spec) {
    if (spec.num_states() == 1) return {Algorithm::kStepwise};
    return {Algorithm::kStepwise, Algorithm::kWavefront};
}

void check_device_line(const ShapeLine& line, const Device& device) {
    const RnnData data = make_rnn_data_with_dropout(line);
    const NamedTensors inference = reference_forward(data, false);
    const bool own_kinks = line.spec.cell == Cell::kRnnRelu && is_rounded(line.spec.dtype);
    const NamedTensors training = own_kinks ? NamedTensors{} : reference_all(data);
    const double limit = device_tolerance(line.spec.dtype, line.seq_len);
    for (const Algorithm algorithm : device_algorithms(line.spec)) {
        SCOPED_TRACE(std::string(algorithm_name(algorithm)) + ", CAROUSEL_SHAPE='" + line.text +
                     "'");
        RnnRun trained(line, data, device, algorithm);
        const NamedTensors results = trained.training_and_backward();
        expect_close(results, own_kinks ? reference_for(line, data, results) : training, limit);

        RnnRun inferred(line, data, device, algorithm);
        inferred.inference();
        expect_close(inferred.forward_results(), inference, limit);
    }
}

void check_device_lines(const std::vector<ShapeLine>& lines, const Device& device) {
    for (const ShapeLine& line : lines) {
        try {
            check_device_line(line, device);
        } catch (const Error& error) {
            ADD_FAILURE() << error.what() << "\n" << line.text;
            // Nothing on this device works any more.
            if (error.code() == ErrorCode::kDeviceLost) return;
        } catch (const std::exception& error) {
            ADD_FAILURE() << error.what() << "\n" << line.text;
        }
    }
}

std::vector<ShapeLine> option_lines(Cell cell) {
    std::vector<ShapeLine> lines;
    for (const ShapeLine& line : load_shape_file("rnn_options.txt")) {
        if (line.spec.cell == cell) lines.push_back(line);
    }
    return lines;
}

ShapeLine with_dtype(const ShapeLine& line, DType dtype) {
    std::istringstream words(line.text);
    std::string word, text;
    while (words >> word) {
        bool names_dtype = false;
        for (const DType other : kDTypes) names_dtype = names_dtype || word == dtype_name(other);
        if (!names_dtype) text += word + " ";
    }
    return parse_shape_line(text + dtype_name(dtype));
}

std::vector<ShapeLine> dtype_lines(Cell cell) {
    const std::string name = cell_name(cell);
    const std::string projected = cell == Cell::kLstm ? " P5" : "";
    std::vector<ShapeLine> lines;
    for (const DType type : kDTypes) {
        const std::string dtype = dtype_name(type);
        lines.push_back(parse_shape_line(name + " T9 N5 I6 H8 L2 lengths reset " + dtype));
        lines.push_back(parse_shape_line(name + " T8 N4 I7 H9 L2 D2 dropout=0.3 seed3 " + dtype));
        lines.push_back(
            parse_shape_line(name + projected + " T7 N6 I8 H12 L3 batch_first seed5 " + dtype));
    }
    return lines;
}

}  // namespace carousel::test
