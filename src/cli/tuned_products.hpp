#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "carousel/device.hpp"

// --tune-products: the algorithms of matrix products chosen by timing, kept in a file.

namespace carousel::cli {

CLI::Option* flag_tune_products(CLI::App& app, std::string& file);

/// Tunes the products of a device as long as it lives, from and to a file; nothing without one.
class TunedProducts {
public:
    /// Takes the choices in `file` if it is there, and switches timing on. Errors: Unsupported:
    /// `device` is the CPU; InvalidArgument: the choices are of another device or version, or
    /// damaged; Io.
    TunedProducts(const Device& device, const std::string& file);
    /// Switches timing off again; what store() did not write is in use, but not kept.
    ~TunedProducts();
    TunedProducts(const TunedProducts&) = delete;
    TunedProducts& operator=(const TunedProducts&) = delete;

    /// Writes all choices, if any are new, and says so.
    void store();

private:
    Device device_;
    std::string file_;
    std::string stored_;  ///< what the file holds
};

}  // namespace carousel::cli
