#include "src/cli/tuned_products.hpp"

#include <filesystem>

#include "carousel/error.hpp"
#include "carousel/gemm_tuning.hpp"
#include "src/cli/common.hpp"
#include "src/io/file.hpp"

namespace carousel::cli {

CLI::Option* flag_tune_products(CLI::App& app, std::string& file) {
    return app
        .add_option(
            "--tune-products", file,
            "Time cuBLASLt's algorithms for each new matrix product and keep the fastest in "
            "this file, which later runs take them from; CUDA only [default: cuBLASLt's "
            "own choice]")
        ->type_name("FILE");
}

TunedProducts::TunedProducts(const Device& device, const std::string& file)
    : device_(device), file_(file) {
    if (file_.empty()) return;
    if (std::filesystem::exists(file_)) {
        stored_ = io::read_file(file_);
        load_gemm_choices(device_, stored_, file_);
    }
    set_gemm_tuning(device_, true);
}

TunedProducts::~TunedProducts() {
    if (file_.empty()) return;
    try {
        set_gemm_tuning(device_, false);
    } catch (const Error&) {
        // The device is gone, and its choices with it.
    }
}

void TunedProducts::store() {
    if (file_.empty()) return;
    const std::string text = gemm_choices(device_);
    if (text == stored_) return;
    io::write_file_atomic(file_, text);
    stored_ = text;
    note("algorithms of products are in " + file_);
}

}  // namespace carousel::cli
