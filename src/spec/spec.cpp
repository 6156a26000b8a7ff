#include <cmath>
#include <limits>
#include <string>

#include "carousel/error.hpp"
#include "carousel/rnn_spec.hpp"

namespace carousel {

const char* cell_name(Cell cell) noexcept {
    switch (cell) {
        case Cell::kRnnTanh:
            return "rnn_tanh";
        case Cell::kRnnRelu:
            return "rnn_relu";
        case Cell::kLstm:
            return "lstm";
        case Cell::kGru:
            return "gru";
        case Cell::kGruResetBefore:
            return "gru_reset_before";
    }
    return "?";
}

Cell cell_parse(const std::string& text) {
    for (Cell cell :
         {Cell::kRnnTanh, Cell::kRnnRelu, Cell::kLstm, Cell::kGru, Cell::kGruResetBefore}) {
        if (text == cell_name(cell)) return cell;
    }
    throw Error(
        ErrorCode::kInvalidArgument,
        "cell is \"" + text + "\"; expected lstm, gru, gru_reset_before, rnn_tanh or rnn_relu");
}

int cell_num_gates(Cell cell) noexcept {
    switch (cell) {
        case Cell::kRnnTanh:
        case Cell::kRnnRelu:
            return 1;
        case Cell::kLstm:
            return 4;
        case Cell::kGru:
        case Cell::kGruResetBefore:
            return 3;
    }
    return 0;
}

bool cell_has_c(Cell cell) noexcept { return cell == Cell::kLstm; }

namespace {

[[noreturn]] void fail(const std::string& sentence) {
    throw Error(ErrorCode::kInvalidArgument, sentence);
}

// Names, shapes and steps are kept for every layer, so an absurd number must not be tried.
constexpr std::int64_t kMostLayers = 65536;

void check_positive(const char* name, std::int64_t value) {
    if (value < 1)
        fail(std::string(name) + " is " + std::to_string(value) + "; expected at least 1");
}

bool is_float(DType dtype) {
    switch (dtype) {
        case DType::kF32:
        case DType::kF64:
        case DType::kTf32:
        case DType::kBf16:
        case DType::kF16:
            return true;
        default:
            return false;
    }
}

const char* bias_name(BiasMode bias) {
    switch (bias) {
        case BiasMode::kNone:
            return "none";
        case BiasMode::kSingle:
            return "single";
        case BiasMode::kDouble:
            return "double";
    }
    return "?";
}

/// Every weight of the stack must be countable in 64 bits, in bytes of the widest type.
void check_countable(const RnnSpec& spec) {
    const double gates =
        static_cast<double>(spec.num_gates()) * static_cast<double>(spec.hidden_size);
    const double widest =
        static_cast<double>(spec.num_directions()) * static_cast<double>(spec.output_size());
    const double inputs = static_cast<double>(spec.input_size) + widest +
                          static_cast<double>(spec.output_size()) +
                          static_cast<double>(spec.hidden_size) + 2.0;
    const double total = gates * inputs * static_cast<double>(spec.num_states()) * 8.0;
    if (total > 0.5 * static_cast<double>(std::numeric_limits<std::int64_t>::max())) {
        fail("the weights of " + to_string(spec) +
             " do not fit 64-bit sizes; choose smaller sizes");
    }
}

}  // namespace

void validate(const RnnSpec& spec) {
    if (cell_num_gates(spec.cell) == 0) {
        fail("cell is " + std::to_string(static_cast<int>(spec.cell)) +
             "; expected one of the Cell enumerators");
    }
    if (!is_float(spec.dtype)) {
        fail(std::string("dtype is ") + dtype_name(spec.dtype) +
             "; expected a floating-point type: f32, f64, tf32, bf16 or f16");
    }
    check_positive("input_size", spec.input_size);
    check_positive("hidden_size", spec.hidden_size);
    check_positive("num_layers", spec.num_layers);
    if (spec.num_layers > kMostLayers) {
        throw Error(ErrorCode::kUnsupported, "num_layers is " + std::to_string(spec.num_layers) +
                                                 "; at most " + std::to_string(kMostLayers) +
                                                 " layers can be stacked");
    }
    if (spec.proj_size < 0) {
        fail("proj_size is " + std::to_string(spec.proj_size) +
             "; expected 0 (none) or a positive size");
    }
    if (spec.proj_size > 0 && spec.cell != Cell::kLstm) {
        fail("proj_size is " + std::to_string(spec.proj_size) + " with cell " +
             cell_name(spec.cell) + "; only lstm has a projection: set proj_size to 0");
    }
    if (spec.proj_size >= spec.hidden_size) {
        fail("proj_size is " + std::to_string(spec.proj_size) + ", hidden_size is " +
             std::to_string(spec.hidden_size) +
             "; expected proj_size < hidden_size, or 0 for none");
    }
    if (spec.bias != BiasMode::kNone && spec.bias != BiasMode::kSingle &&
        spec.bias != BiasMode::kDouble) {
        fail("bias is " + std::to_string(static_cast<int>(spec.bias)) +
             "; expected none, single or double");
    }
    if (!(spec.dropout >= 0.0 && spec.dropout < 1.0)) {
        fail("dropout is " + std::to_string(spec.dropout) + "; expected a probability in [0, 1)");
    }
    check_countable(spec);
}

std::string to_string(const RnnSpec& spec) {
    std::string text = std::string(cell_name(spec.cell)) + " " + dtype_name(spec.dtype) + " L" +
                       std::to_string(spec.num_layers) + " D" +
                       std::to_string(spec.num_directions()) + " I" +
                       std::to_string(spec.input_size) + " H" + std::to_string(spec.hidden_size);
    if (spec.proj_size > 0) text += " P" + std::to_string(spec.proj_size);
    text += std::string(" bias ") + bias_name(spec.bias);
    if (spec.dropout > 0) {
        std::string p = std::to_string(spec.dropout);
        p.erase(p.find_last_not_of('0') + 1);
        text += " dropout " + p;
    }
    return text;
}

}  // namespace carousel
