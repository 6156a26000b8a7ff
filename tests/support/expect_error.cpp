#include "tests/support/expect_error.hpp"

#include <gtest/gtest.h>

#include <cctype>

namespace carousel::test {
namespace {

bool holds_word(const std::string& sentence, const std::string& word) {
    const auto part_of_word = [&](std::size_t at) {
        if (at >= sentence.size()) return false;
        const unsigned char c = static_cast<unsigned char>(sentence[at]);
        return std::isalnum(c) != 0 || c == '_';
    };
    for (std::size_t at = sentence.find(word); at != std::string::npos;
         at = sentence.find(word, at + 1)) {
        const bool starts = at == 0 || !part_of_word(at - 1);
        if (starts && !part_of_word(at + word.size())) return true;
    }
    return false;
}

}  // namespace

std::string expect_error(ErrorCode code, const std::string& word,
                         const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        EXPECT_STREQ(error_code_name(error.code()), error_code_name(code)) << error.what();
        EXPECT_TRUE(holds_word(error.what(), word))
            << "the sentence does not name '" << word << "': " << error.what();
        EXPECT_GE(std::string(error.what()).size(), 20U) << "no sentence: " << error.what();
        return error.what();
    } catch (const std::exception& error) {
        ADD_FAILURE() << "not a carousel::Error: " << error.what();
        return error.what();
    }
    ADD_FAILURE() << "no error; expected " << error_code_name(code) << " naming '" << word << "'";
    return {};
}

}  // namespace carousel::test
