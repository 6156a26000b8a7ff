#include "src/backend/graph_key.hpp"

namespace carousel::cuda {

void GraphKey::append(const void* data, std::size_t size) {
    bytes_.append(static_cast<const char*>(data), size);
}

GraphKey& GraphKey::add(std::int64_t value) {
    append(&value, sizeof(value));
    return *this;
}

GraphKey& GraphKey::add(double value) {
    append(&value, sizeof(value));
    return *this;
}

GraphKey& GraphKey::add(const void* address) {
    append(&address, sizeof(address));
    return *this;
}

GraphKey& GraphKey::add(const std::string& text) {
    add(static_cast<std::int64_t>(text.size()));
    append(text.data(), text.size());
    return *this;
}

}  // namespace carousel::cuda
