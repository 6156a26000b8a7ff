#include <algorithm>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/io/safetensors.hpp"

namespace carousel::cli {
namespace {

struct InspectOptions {
    std::string file;
    bool json = false;
};

std::string padded(std::string text, std::size_t width) {
    if (text.size() < width) text.append(width - text.size(), ' ');
    return text;
}

/// Text of a file as it may go to a terminal: control characters, which could steer it, become '?'.
std::string printable(std::string text) {
    for (char& c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) c = '?';
    }
    return text;
}

std::string json_line(const nlohmann::ordered_json& json) {
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void print_json(const io::SafetensorsFile& file) {
    for (const auto& [key, value] : file.metadata()) {
        print_line(json_line({{"metadata", key}, {"value", value}}));
    }
    for (const io::StoredTensor& t : file.tensors()) {
        print_line(json_line({{"name", t.name},
                              {"dtype", io::stored_type_name(t.type)},
                              {"shape", t.shape},
                              {"bytes", t.bytes}}));
    }
}

void print_table(const io::SafetensorsFile& file) {
    std::size_t name_width = 4;
    std::size_t shape_width = 5;
    std::uint64_t bytes = 0;
    std::int64_t elements = 0;
    for (const io::StoredTensor& t : file.tensors()) {
        name_width = std::max(name_width, t.name.size());
        shape_width = std::max(shape_width, t.shape_text().size());
        bytes += t.bytes;
        elements += t.numel();
    }
    print_line(padded("name", name_width) + "  dtype    " + padded("shape", shape_width) +
               "  bytes");
    for (const io::StoredTensor& t : file.tensors()) {
        print_line(padded(printable(t.name), name_width) + "  " +
                   padded(io::stored_type_name(t.type), 7) + "  " +
                   padded(t.shape_text(), shape_width) + "  " + std::to_string(t.bytes));
    }
    for (const auto& [key, value] : file.metadata()) {
        print_line("metadata " + printable(key) + " = " + printable(value));
    }
    note(std::to_string(file.tensors().size()) + " tensors, " + std::to_string(elements) +
         " elements, " + bytes_text(bytes));
}

}  // namespace

void add_inspect(CLI::App& app, Context& context) {
    CLI::App* command =
        app.add_subcommand("inspect", "Lists the tensors and the metadata of a safetensors file");
    auto options = std::make_shared<InspectOptions>();
    command->add_option("FILE", options->file, "A .safetensors file")->required();
    flag_json(*command, options->json);
    command->callback([&context, options] {
        context.action = [options] {
            const auto file =
                io::SafetensorsFile::open(options->file, io::SafetensorsFile::Content::kHeader);
            if (options->json) {
                print_json(file);
            } else {
                print_table(file);
            }
            return kExitDone;
        };
    });
}

}  // namespace carousel::cli
