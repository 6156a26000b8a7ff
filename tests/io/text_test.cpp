#include "src/data/text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "carousel/error.hpp"
#include "src/io/file.hpp"

namespace carousel::data {
namespace {

using ::testing::HasSubstr;

std::string decode_error(std::string_view bytes) {
    try {
        decode_utf8(bytes, "f.txt");
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kIo);
        return e.what();
    }
    return "(accepted)";
}

TEST(Utf8, EveryCodePointSurvivesARoundTrip) {
    std::string bytes;
    std::u32string expected;
    for (char32_t c = 1; c < 0x110000; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        append_utf8(bytes, c);
        expected.push_back(c);
    }
    const Text text = decode_utf8(bytes, "all");
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), text.code_points.begin(),
                           text.code_points.end()));
}

TEST(Utf8, RefusesIllFormedBytesWithTheirOffset) {
    const struct {
        const char* what;
        std::string_view bytes;
        const char* sentence;
    } cases[] = {
        {"stray continuation", "ab\x80", "0x80 at offset 2"},
        {"0xff", "\xff", "0xff at offset 0"},
        {"overlong slash", "a\xC0\xAF", "0xc0 at offset 1"},
        {"overlong, 3 bytes", "\xE0\x80\xAF", "0xe0 at offset 0"},
        {"overlong, 4 bytes", "\xF0\x80\x80\xAF", "0xf0 at offset 0"},
        {"surrogate", "\xED\xA0\x80", "0xed at offset 0"},
        {"above U+10FFFF", "\xF4\x90\x80\x80", "0xf4 at offset 0"},
        {"cut off, 2 bytes", "abc\xC3", "0xc3 at offset 3"},
        {"cut off, 4 bytes", "\xF0\x9F\x98", "0xf0 at offset 0"},
        {"second byte wrong", "\xC3(", "0xc3 at offset 0"},
        {"third byte wrong", "\xE2\x82(", "0xe2 at offset 0"},
        {"Latin-1", "caf\xE9 noir", "0xe9 at offset 3"},
        {"NUL", std::string_view("ELF\0x", 5), "0x00 at offset 3"},
    };
    for (const auto& c : cases) {
        const std::string error = decode_error(c.bytes);
        EXPECT_THAT(error, HasSubstr(c.sentence)) << c.what;
        EXPECT_THAT(error, HasSubstr("'f.txt' is not UTF-8 text")) << c.what;
    }
}

TEST(LoadText, JoinsFilesAndNamesTheFaultyOne) {
    const std::string own = ::testing::TempDir() + "/" + std::to_string(::getpid());
    const std::string a = own + "_a.txt";
    const std::string b = own + "_b.txt";
    io::write_file_atomic(a,
                          "\xc3\xa9"
                          "a\n");
    io::write_file_atomic(b, "b\nc");
    const Text text = load_text({a, b});
    EXPECT_EQ(std::u32string(text.code_points.begin(), text.code_points.end()), U"\u00e9a\nb\nc");
    EXPECT_EQ(text.where(1), "'" + a + "' at byte 2 (line 1)");
    EXPECT_EQ(text.where(3), "'" + b + "' at byte 0 (line 1)");
    EXPECT_EQ(text.where(5), "'" + b + "' at byte 2 (line 2)");

    io::write_file_atomic(b, "");
    try {
        load_text({a, b});
        ADD_FAILURE() << "an empty file was accepted";
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("'" + b + "' is empty"));
    }
    EXPECT_THROW(load_text({::testing::TempDir() + "/no_such_text"}), Error);
    EXPECT_THROW(load_text({::testing::TempDir()}), Error);
    EXPECT_THROW(load_text({}), Error);
    std::filesystem::remove(a);
    std::filesystem::remove(b);
}

TEST(Vocabulary, IdsAreRanksOfCodePoints) {
    const Text text = decode_utf8(
        "ba\xf0\x9f\x98\x80"
        "a\n\xc3\xa9",
        "t");
    const Vocabulary v = Vocabulary::from_text(text);
    EXPECT_EQ(v.to_utf8(), "\nab\xc3\xa9\xf0\x9f\x98\x80");
    EXPECT_EQ(v.encode(text), (std::vector<std::int32_t>{2, 1, 4, 1, 0, 3}));
    EXPECT_EQ(v.decode(v.encode(text)),
              "ba\xf0\x9f\x98\x80"
              "a\n\xc3\xa9");
    EXPECT_EQ(v, Vocabulary::from_utf8(v.to_utf8(), "saved"));
    EXPECT_EQ(v, Vocabulary::from_text(decode_utf8("\n\xc3\xa9\xf0\x9f\x98\x80"
                                                   "ab",
                                                   "t")));
    EXPECT_THROW(v.code_point(5), Error);
    EXPECT_THROW(v.code_point(-1), Error);
    EXPECT_THROW(Vocabulary::from_utf8("ba", "saved"), Error);
    EXPECT_THROW(Vocabulary::from_utf8("aa", "saved"), Error);
    EXPECT_THROW(Vocabulary::from_utf8("a\xff", "saved"), Error);
}

TEST(Vocabulary, UnknownCharacterIsNamedWithItsPlace) {
    const Vocabulary v = Vocabulary::from_text(decode_utf8("abc\n", "t"));
    try {
        v.encode(decode_utf8("ab\nc\xc3\xa9", "new.txt"));
        ADD_FAILURE() << "an unknown character was accepted";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kIo);
        EXPECT_THAT(e.what(), HasSubstr("'new.txt' at byte 4 (line 2)"));
        EXPECT_THAT(e.what(), HasSubstr("U+00E9 '\xc3\xa9'"));
    }
    try {
        v.encode(decode_utf8("x", "--prompt", ErrorCode::kInvalidArgument));
        ADD_FAILURE() << "an unknown character was accepted";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    }
}

TEST(Splits, ParseChecksTheRules) {
    const SplitFractions f = SplitFractions::parse("0.8,0.2");
    EXPECT_EQ(f.test, 0.0);
    EXPECT_EQ(SplitFractions::parse(f.to_string()).validation, 0.2);
    for (const char* wrong : {"", "1", "0.5,0.6", "0,0.5,0.5", "0.9,0.1,", "0.9,0.05,0.05,0", "a,b",
                              "1.5,-0.5", "0.9,nan", "0.5, 0.4"}) {
        EXPECT_THROW(SplitFractions::parse(wrong), Error) << wrong;
    }
}

TEST(Splits, CoverTheTextInOrder) {
    for (const std::int64_t n : {100, 101, 999, 12345}) {
        const TextSplits s = split_tokens(n, {0.9, 0.05, 0.05}, 4, 2);
        EXPECT_EQ(s.train.begin, 0);
        EXPECT_EQ(s.train.end, s.validation.begin);
        EXPECT_EQ(s.validation.end, s.test.begin);
        EXPECT_EQ(s.test.end, n);
        EXPECT_NEAR(static_cast<double>(s.train.size()), 0.9 * static_cast<double>(n), 1.0);
    }
    const TextSplits all = split_tokens(10, {1.0, 0.0, 0.0}, 9, 1);
    EXPECT_EQ(all.train.size(), 10);
    EXPECT_EQ(all.validation.size(), 0);
    const TextSplits two = split_tokens(100, {0.9, 0.1, 0.0}, 4, 2);
    EXPECT_EQ(two.test.size(), 0);
    EXPECT_EQ(two.validation.end, 100);
}

TEST(Splits, TooShortSaysTheExactLengthThatWouldDo) {
    const SplitFractions cases[] = {{0.9, 0.05, 0.05}, {0.8, 0.2, 0.0}, {1.0, 0.0, 0.0}};
    for (const SplitFractions& f : cases) {
        for (const std::int64_t seq_len : {1, 7, 64}) {
            for (const std::int64_t batch : {1, 3, 64}) {
                try {
                    split_tokens(1, f, seq_len, batch);
                    ADD_FAILURE() << "one character was enough";
                } catch (const Error& e) {
                    EXPECT_EQ(e.code(), ErrorCode::kIo);
                    const std::string what = e.what();
                    const std::string mark = "must have at least ";
                    const std::int64_t needed =
                        std::stoll(what.substr(what.find(mark) + mark.size()));
                    EXPECT_NO_THROW(split_tokens(needed, f, seq_len, batch)) << what;
                    EXPECT_THROW(split_tokens(needed - 1, f, seq_len, batch), Error) << what;
                }
            }
        }
    }
}

}  // namespace
}  // namespace carousel::data
