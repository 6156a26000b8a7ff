#include "src/io/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "src/io/convert.hpp"
#include "src/io/file.hpp"

namespace carousel::io {
namespace {

using ::testing::HasSubstr;

/// A path that no other test process uses.
std::string own_file(const std::string& name) {
    return ::testing::TempDir() + "/" + std::to_string(::getpid()) + "_" + name;
}

/// A file with this header and so many zero bytes after it.
std::string file_bytes(const std::string& header, std::size_t content_bytes) {
    std::string bytes(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) {
        bytes[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
    }
    return bytes + header + std::string(content_bytes, '\0');
}

SafetensorsFile parse(const std::string& bytes) {
    return parse_safetensors(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(),
                             "t.safetensors");
}

std::string error_of(const std::string& bytes) {
    try {
        parse(bytes);
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kIo);
        return e.what();
    }
    return "(accepted)";
}

struct Malformed {
    const char* rule;
    std::string bytes;
    const char* sentence;  ///< part of the error
};

std::vector<Malformed> malformed_files() {
    const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
    std::string too_long = file_bytes("{}", 0);
    std::uint64_t n = 100'000'001;
    std::memcpy(too_long.data(), &n, 8);
    std::string huge = file_bytes("{}", 0);
    n = ~std::uint64_t{0};
    std::memcpy(huge.data(), &n, 8);
    std::string beyond_end = file_bytes("{}", 0);
    beyond_end[0] = 3;
    return {
        {"empty file", "", "it has 0 bytes"},
        {"shorter than the length", std::string(7, '\1'), "it has 7 bytes"},
        {"header over the limit", too_long, "limit of 100000000"},
        {"header length of all ones", huge, "limit of 100000000"},
        {"header beyond the end", beyond_end, "the file is truncated"},
        {"empty header", file_bytes("", 0), "does not begin with '{'"},
        {"leading space", file_bytes(" {}", 0), "does not begin with '{'"},
        {"a list", file_bytes("[]", 0), "does not begin with '{'"},
        {"not JSON", file_bytes("{]", 0), "not valid JSON"},
        {"JSON cut off", file_bytes("{\"a\":", 0), "not valid JSON"},
        {"something after the value", file_bytes("{} x", 0), "not valid JSON"},
        {"NUL padding", file_bytes(std::string("{}\0\0", 4), 0), "not valid JSON"},
        {"invalid UTF-8", file_bytes("{\"\xff\":1}", 0), "not valid JSON"},
        {"tensor twice", file_bytes("{" + a + "," + a + "}", 8), "\"a\" occurs twice"},
        {"tensor twice, one escaped",
         file_bytes("{" + a + R"(,"\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
         "\"a\" occurs twice"},
        {"field twice",
         file_bytes(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
         "\"dtype\" occurs twice"},
        {"metadata twice", file_bytes(R"({"__metadata__":{},"__metadata__":{}})", 0),
         "occurs twice"},
        {"metadata key twice", file_bytes(R"({"__metadata__":{"k":"1","k":"1"}})", 0),
         "\"k\" occurs twice"},
        {"metadata not an object", file_bytes(R"({"__metadata__":"x"})", 0),
         "__metadata__ is not an object"},
        {"metadata value not a string", file_bytes(R"({"__metadata__":{"k":1}})", 0),
         "value of 'k' is not a string"},
        {"entry not an object", file_bytes(R"({"a":3})", 0), "'a': its entry is not an object"},
        {"no dtype", file_bytes(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8),
         "'dtype' is missing"},
        {"no shape", file_bytes(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8),
         "'shape' is missing"},
        {"no data_offsets", file_bytes(R"({"a":{"dtype":"F32","shape":[2]}})", 8),
         "'data_offsets' is missing"},
        {"unknown dtype",
         file_bytes(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8),
         "unknown dtype 'F31'"},
        {"dtype not a string",
         file_bytes(R"({"a":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})", 8),
         "dtype is not a string"},
        {"shape not a list",
         file_bytes(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8),
         "shape is not a list"},
        {"negative size",
         file_bytes(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
         "shape holds -2"},
        {"fractional size",
         file_bytes(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8),
         "shape holds 2.0"},
        {"size as a string",
         file_bytes(R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})", 8),
         "shape holds \"2\""},
        {"size over 2^63",
         file_bytes(R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}})",
                    8),
         "shape holds 9223372036854775808"},
        {"product overflows",
         file_bytes(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                    0),
         "exceed 2^63 - 1"},
        {"bytes overflow",
         file_bytes(R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
                    0),
         "exceed 2^63 - 1"},
        {"three offsets",
         file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8),
         "not a list of two numbers"},
        {"negative offset",
         file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8),
         "data_offsets holds -8"},
        {"end before begin",
         file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
         "do not span the 8 bytes"},
        {"offsets and shape disagree",
         file_bytes(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
         "do not span the 12 bytes of shape [3] of F32"},
        {"does not start at 0",
         file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
         "leave a hole"},
        {"hole between tensors",
         file_bytes("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", 16),
         "'b': its bytes begin at 12, and leave a hole"},
        {"overlap",
         file_bytes("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
         "overlap"},
        {"same bytes twice",
         file_bytes("{" + a + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
         "overlap"},
        {"file too short", file_bytes("{" + a + "}", 7), "the file is truncated"},
        {"file too long", file_bytes("{" + a + "}", 9), "take 8 bytes, but 9 follow the header"},
        {"bytes without tensors", file_bytes("{}", 1), "take 0 bytes, but 1 follow"},
        {"nested deeply", file_bytes("{\"a\":" + std::string(100000, '['), 0), "deeper than 100"},
    };
}

TEST(SafetensorsReader, RefusesEveryMalformedFileAndSaysWhy) {
    for (const Malformed& m : malformed_files()) {
        const std::string error = error_of(m.bytes);
        EXPECT_THAT(error, HasSubstr(m.sentence)) << m.rule;
        EXPECT_THAT(error, HasSubstr("t.safetensors")) << m.rule;
    }
}

TEST(SafetensorsReader, RefusesTheSameFilesOnDisk) {
    const std::string path = own_file("malformed.safetensors");
    for (const Malformed& m : malformed_files()) {
        write_file_atomic(path, m.bytes);
        try {
            SafetensorsFile::open(path);
            ADD_FAILURE() << m.rule << " was accepted";
        } catch (const Error& e) {
            EXPECT_THAT(e.what(), HasSubstr(m.sentence)) << m.rule;
            EXPECT_THAT(e.what(), HasSubstr(path)) << m.rule;
        }
    }
    std::filesystem::remove(path);
}

TEST(SafetensorsReader, EveryTruncationOfAValidFileIsRefused) {
    const std::string whole = file_bytes(
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}  )", 8);
    EXPECT_EQ(error_of(whole), "(accepted)");
    for (std::size_t n = 0; n < whole.size(); ++n) {
        EXPECT_NE(error_of(whole.substr(0, n)), "(accepted)") << n << " bytes";
    }
}

TEST(SafetensorsReader, AcceptsWhatTheFormatAllows) {
    EXPECT_TRUE(parse(file_bytes("{}", 0)).tensors().empty());
    EXPECT_TRUE(parse(file_bytes("{}      ", 0)).tensors().empty());
    // A scalar, tensors without elements between others, in any order, all dtypes' names.
    const SafetensorsFile file =
        parse(file_bytes(R"({"z":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]},)"
                         R"("e":{"dtype":"F64","shape":[0,7],"data_offsets":[1,1]},)"
                         R"("a":{"dtype":"I64","shape":[1,1],"data_offsets":[1,9]},)"
                         R"("__metadata__":{"k":"v","":"\u00e9"}})",
                         9));
    ASSERT_EQ(file.tensors().size(), 3u);
    EXPECT_EQ(file.tensors()[0].name, "a");  // in order of name
    EXPECT_EQ(file.get("z").shape_text(), "[]");
    EXPECT_EQ(file.get("z").numel(), 1);
    EXPECT_EQ(file.get("e").numel(), 0);
    EXPECT_EQ(file.get("e").bytes, 0u);
    EXPECT_EQ(file.metadata().at("k"), "v");
    EXPECT_EQ(file.metadata().at(""), "\xc3\xa9");
    EXPECT_EQ(file.find("b"), nullptr);
    EXPECT_THROW(file.get("b"), Error);
    for (const char* dtype : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16",
                              "I32", "U32", "F32", "F64", "I64", "U64"}) {
        const std::string header =
            std::string(R"({"a":{"dtype":")") + dtype + R"(","shape":[0],"data_offsets":[0,0]}})";
        EXPECT_STREQ(stored_type_name(parse(file_bytes(header, 0)).get("a").type), dtype);
    }
}

TEST(SafetensorsReader, MissingFileAndFolderAreErrors) {
    EXPECT_THROW(SafetensorsFile::open("/nonexistent/x.safetensors"), Error);
    EXPECT_THROW(SafetensorsFile::open(::testing::TempDir()), Error);
}

TEST(SafetensorsWriter, RoundTripKeepsEverything) {
    const std::string path = own_file("roundtrip.safetensors");
    const std::vector<double> d{1.5, -0.0, 1e300};
    const std::vector<float> f{1.0f, 2.0f, 3.0f, 4.0f};
    const std::vector<std::int64_t> i{-1, 1LL << 40};
    const std::vector<std::uint8_t> u{1, 0, 255};
    const double scalar = 7.0;
    write_safetensors(path,
                      {{"u", DType::kU8, {3}, u.data()},
                       {"f \"quoted\"\n", DType::kF32, {2, 2}, f.data()},
                       {"d", DType::kF64, {3, 1}, d.data()},
                       {"i", DType::kI64, {2}, i.data()},
                       {"empty", DType::kF32, {0, 5}, nullptr},
                       {"scalar", DType::kF64, {}, &scalar}},
                      {{"a", "b"}, {"note", "\xc3\xa9\n"}});
    const SafetensorsFile file = SafetensorsFile::open(path);
    ASSERT_EQ(file.tensors().size(), 6u);
    EXPECT_EQ(std::memcmp(file.get("d").data, d.data(), 24), 0);
    EXPECT_EQ(std::memcmp(file.get("f \"quoted\"\n").data, f.data(), 16), 0);
    EXPECT_EQ(std::memcmp(file.get("i").data, i.data(), 16), 0);
    EXPECT_EQ(std::memcmp(file.get("u").data, u.data(), 3), 0);
    EXPECT_EQ(file.get("d").shape, (std::vector<std::int64_t>{3, 1}));
    EXPECT_EQ(file.get("empty").shape, (std::vector<std::int64_t>{0, 5}));
    EXPECT_EQ(file.metadata().size(), 2u);
    EXPECT_EQ(file.metadata().at("note"), "\xc3\xa9\n");
    for (const StoredTensor& t : file.tensors()) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data) % stored_type_bytes(t.type), 0u)
            << t.name;
    }
    const SafetensorsFile header = SafetensorsFile::open(path, SafetensorsFile::Content::kHeader);
    EXPECT_EQ(header.get("d").bytes, 24u);
    EXPECT_EQ(header.get("d").data, nullptr);
    std::filesystem::remove(path);
}

TEST(SafetensorsWriter, BytesAreExactAndDoNotDependOnTheOrderGiven) {
    const std::string path = own_file("exact.safetensors");
    const float b = 1.0f;
    const std::uint8_t a = 7;
    const std::int64_t c = 2;
    write_safetensors(
        path, {{"a", DType::kU8, {1}, &a}, {"b", DType::kF32, {1}, &b}, {"c", DType::kI64, {}, &c}},
        {{"y", "2"}, {"x", "1"}});
    const std::string first = read_file(path);
    const std::string header = R"({"__metadata__":{"x":"1","y":"2"},)"
                               R"("c":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                               R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                               R"("a":{"dtype":"U8","shape":[1],"data_offsets":[12,13]}})";
    const std::size_t padded = (header.size() + 7) / 8 * 8;
    ASSERT_EQ(first.size(), 8 + padded + 13);
    EXPECT_EQ(first.substr(8, padded), header + std::string(padded - header.size(), ' '));
    EXPECT_EQ(static_cast<unsigned char>(first[0]), padded & 0xff);
    EXPECT_EQ(first.substr(8 + padded), std::string("\2\0\0\0\0\0\0\0\0\0\x80\x3f\7", 13));

    write_safetensors(
        path, {{"c", DType::kI64, {}, &c}, {"a", DType::kU8, {1}, &a}, {"b", DType::kF32, {1}, &b}},
        {{"x", "1"}, {"y", "2"}});
    EXPECT_EQ(read_file(path), first);
    std::filesystem::remove(path);
}

TEST(SafetensorsWriter, RefusesWhatCannotBeRead) {
    const std::string path = own_file("refused.safetensors");
    const float v = 0.0f;
    const auto code = [&](std::vector<TensorToWrite> tensors) {
        try {
            write_safetensors(path, std::move(tensors));
        } catch (const Error& e) {
            return e.code();
        }
        return ErrorCode::kOk;
    };
    EXPECT_EQ(code({{"a", DType::kF32, {1}, &v}, {"a", DType::kF32, {1}, &v}}),
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(code({{"__metadata__", DType::kF32, {1}, &v}}), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code({{"a", DType::kF32, {-1}, &v}}), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code({{"\xff", DType::kF32, {1}, &v}}), ErrorCode::kInvalidArgument);
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Convert, EveryF16AndBf16SurvivesARoundTrip) {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto b = static_cast<std::uint16_t>(bits);
        const double h = f16_to_f64(b);
        const double g = bf16_to_f64(b);
        if (!std::isnan(h)) {
            EXPECT_EQ(f64_to_f16(h), b);
        }
        if (std::isnan(h)) {
            EXPECT_TRUE(std::isnan(f16_to_f64(f64_to_f16(h))));
        }
        if (!std::isnan(g)) {
            EXPECT_EQ(f64_to_bf16(g), b);
        }
        // A bfloat16 is the upper half of a float.
        float upper = 0.0f;
        const std::uint32_t word = bits << 16;
        std::memcpy(&upper, &word, 4);
        if (!std::isnan(g)) {
            EXPECT_EQ(static_cast<double>(upper), g);
        }
    }
}

TEST(Convert, NarrowingRoundsToNearestEven) {
    EXPECT_EQ(f64_to_f16(1.0 + 0x1p-11), 0x3c00);            // a tie, to even: 1
    EXPECT_EQ(f64_to_f16(1.0 + 0x1p-11 + 0x1p-40), 0x3c01);  // rounding twice would give 1
    EXPECT_EQ(f64_to_f16(1.0 + 3 * 0x1p-11), 0x3c02);        // a tie, to even: up
    EXPECT_EQ(f64_to_f16(65519.99), 0x7bff);                 // the largest
    EXPECT_EQ(f64_to_f16(65520.0), 0x7c00);                  // infinity
    EXPECT_EQ(f64_to_f16(0x1p-25), 0x0000);                  // half the smallest: to even
    EXPECT_EQ(f64_to_f16(0x1.8p-25), 0x0001);
    EXPECT_EQ(f64_to_f16(-0x1.ff8p-15), 0x83ff);  // largest subnormal
    EXPECT_EQ(f64_to_bf16(1.0 + 0x1p-8), 0x3f80);
    EXPECT_EQ(f64_to_bf16(1.0 + 0x1p-8 + 0x1p-30), 0x3f81);
    EXPECT_EQ(f64_to_bf16(-3.4e38), 0xff80);
}

TEST(Convert, TensorsConvertOrSayWhyNot) {
    const auto tensor = [](StoredType type, const void* data, std::int64_t n) {
        StoredTensor t;
        t.name = "t";
        t.type = type;
        t.shape = {n};
        t.data = static_cast<const std::uint8_t*>(data);
        t.bytes = stored_type_bytes(type) * static_cast<std::size_t>(n);
        return t;
    };
    const std::uint16_t halves[2] = {0x3c00, 0xc000};
    float f[2];
    convert_to(tensor(StoredType::kF16, halves, 2), DType::kF32, f, "x");
    EXPECT_EQ(f[0], 1.0f);
    EXPECT_EQ(f[1], -2.0f);
    const std::int32_t ints[2] = {5, -1};
    std::int64_t wide[2];
    convert_to(tensor(StoredType::kI32, ints, 2), DType::kI64, wide, "x");
    EXPECT_EQ(wide[1], -1);
    const std::uint8_t flags[2] = {1, 0};
    std::uint8_t bytes[2];
    convert_to(tensor(StoredType::kBool, flags, 2), DType::kU8, bytes, "x");
    EXPECT_EQ(bytes[0], 1);
    const std::uint64_t big[1] = {std::numeric_limits<std::uint64_t>::max()};
    EXPECT_THROW(convert_to(tensor(StoredType::kI32, ints, 2), DType::kU8, bytes, "x"), Error);
    EXPECT_THROW(convert_to(tensor(StoredType::kU64, big, 1), DType::kI64, wide, "x"), Error);
    EXPECT_THROW(convert_to(tensor(StoredType::kI32, ints, 2), DType::kF32, f, "x"), Error);
    EXPECT_THROW(convert_to(tensor(StoredType::kF32, f, 2), DType::kI64, wide, "x"), Error);
}

}  // namespace
}  // namespace carousel::io
