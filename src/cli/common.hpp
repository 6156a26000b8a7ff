#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "carousel/device.hpp"
#include "carousel/error.hpp"
#include "carousel/rnn_spec.hpp"
#include "carousel/tensor.hpp"

// What all commands share: exit codes, output, interruption, and the flags that mean the same
// everywhere. Human text goes to stderr, data to stdout.

namespace carousel::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;  ///< an Error other than InvalidArgument
inline constexpr int kExitUsage = 2;   ///< wrong flags: CLI11's own complaints, InvalidArgument
inline constexpr int kExitInterrupted = 130;

/// Writes to stdout (data) and checks that it arrived: Io on a full disk; a reader that went away
/// (EPIPE) throws ReaderGone, which main turns into a quiet exit.
void print(std::string_view text);
void print_line(std::string_view text);  ///< print, newline, flush
void flush_output();
struct ReaderGone {};

/// Writes a line of human text to stderr.
void note(std::string_view text);

/// A path as a shell reads it back.
std::string shell_quoted(const std::string& path);
/// This program as it was called, for commands that people copy.
void set_program(const char* name);
std::string program();

/// From now on Ctrl-C (and SIGTERM) only sets a flag; another one, 0.3 s later or more, ends the
/// program at once.
/// Without this call they end it, with exit code 130.
void catch_interrupts();
bool interrupted() noexcept;

/// Shared flags. The variable's value at the time of the call is the default that --help shows.
CLI::Option* flag_device(CLI::App& app, std::string& device);     ///< --device cpu|cuda|auto
CLI::Option* flag_threads(CLI::App& app, int& threads);           ///< --threads, 0 = by cores
CLI::Option* flag_dtype(CLI::App& app, std::string& dtype);       ///< --dtype
CLI::Option* flag_seed(CLI::App& app, std::uint64_t& seed);       ///< --seed
CLI::Option* flag_json(CLI::App& app, bool& json);                ///< --json
CLI::Option* flag_cell(CLI::App& app, std::string& cell);         ///< --cell
CLI::Option* flag_hidden(CLI::App& app, std::int64_t& hidden);    ///< --hidden
CLI::Option* flag_layers(CLI::App& app, std::int64_t& layers);    ///< --layers
CLI::Option* flag_batch(CLI::App& app, std::int64_t& batch);      ///< --batch
CLI::Option* flag_seq_len(CLI::App& app, std::int64_t& seq_len);  ///< --seq-len

/// The same as comma-separated lists, each value of which is tried (bench).
CLI::Option* flag_threads(CLI::App& app, std::vector<int>& threads);
CLI::Option* flag_dtype(CLI::App& app, std::vector<std::string>& dtype);
CLI::Option* flag_cell(CLI::App& app, std::vector<std::string>& cell);
CLI::Option* flag_hidden(CLI::App& app, std::vector<std::int64_t>& hidden);
CLI::Option* flag_layers(CLI::App& app, std::vector<std::int64_t>& layers);
CLI::Option* flag_batch(CLI::App& app, std::vector<std::int64_t>& batch);
CLI::Option* flag_seq_len(CLI::App& app, std::vector<std::int64_t>& seq_len);

/// Checks of numbers, each value of a list.
CLI::Validator above_zero();
CLI::Validator at_least_zero();

/// The type that --dtype names, one that layers compute in; InvalidArgument lists them.
DType layer_dtype(const std::string& text);

/// The device that --device names; Unsupported, with the reason, if it cannot be used here.
Device resolve_device(const std::string& text);

/// "1.5 GiB", "12.0 KiB", "17 B".
std::string bytes_text(std::uint64_t bytes);

}  // namespace carousel::cli
