// SPDX-License-Identifier: MIT
#include <ddpm/io/safetensors.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "catch_shim.hpp"
#include "io_support.hpp"

using namespace ddpm;
using io::DType;
using io::SafeTensors;

namespace {

std::string length_prefix(std::uint64_t length) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out;
}

// A file of this header and this much data.
std::string file_of(const std::string& header, std::size_t data_size) {
  return length_prefix(header.size()) + header + std::string(data_size, 'x');
}

std::string tensor_json(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

// The sentence with which a file is refused.
std::string refusal(const TemporaryFolder& folder, const std::string& bytes) {
  const auto file = folder.put("hostile.safetensors", bytes);
  const std::string text = failure([&] { SafeTensors{file}; });
  INFO(text);
  CHECK(is_io_sentence(text, file));
  return text;
}

template <class T>
std::vector<T> read_back(const TemporaryFolder& folder, DType dtype, const void* data, std::int64_t count) {
  const std::vector<io::TensorToWrite> tensors = {{"t", dtype, {count}, data}};
  io::write_safetensors(folder / "one.safetensors", tensors);
  return SafeTensors(folder / "one.safetensors").as<T>("t");
}

}  // namespace

TEST_CASE("what is written is read back") {
  const TemporaryFolder folder;
  const std::vector<float> a = {1, -2.5f, 3e-20f, 4, 5, 6};
  const std::vector<std::uint8_t> b = {1, 2, 3};
  const std::vector<std::int64_t> c = {-7};
  const std::vector<io::TensorToWrite> tensors = {{"a", DType::f32, {2, 3}, a.data()},
                                                  {"b", DType::u8, {3}, b.data()},
                                                  {"c", DType::i64, {}, c.data()},
                                                  {"none", DType::f32, {0, 4}, nullptr}};
  io::write_safetensors(folder / "x.safetensors", tensors, {{"format", "pt"}, {"step", "12\n\"q\""}});

  const SafeTensors file(folder / "x.safetensors");
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"step", "12\n\"q\""}});
  CHECK(file.names().size() == 4);
  CHECK(file.contains("a"));
  CHECK_FALSE(file.contains("d"));
  CHECK(file.as<float>("a") == a);
  CHECK(file.as<std::int64_t>("b") == std::vector<std::int64_t>{1, 2, 3});
  CHECK(file.as<double>("c") == std::vector<double>{-7});
  CHECK(file.tensor("a").shape == std::vector<std::int64_t>{2, 3});
  CHECK(file.tensor("c").numel() == 1);
  CHECK(file.tensor("none").numel() == 0);

  SECTION("every tensor is aligned to its elements") {
    for (const std::string& name : file.names()) {
      const auto& tensor = file.tensor(name);
      CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % io::size_of(tensor.dtype) == 0);
    }
  }
  SECTION("the same input gives the same bytes, and nothing else is left behind") {
    io::write_safetensors(folder / "y.safetensors", tensors, {{"step", "12\n\"q\""}, {"format", "pt"}});
    CHECK(contents(folder / "x.safetensors") == contents(folder / "y.safetensors"));
    CHECK(folder.files() == 2);
  }
  SECTION("it outlives a move") {
    SafeTensors moved = SafeTensors(folder / "x.safetensors");
    const SafeTensors again = std::move(moved);
    CHECK(again.as<float>("a") == a);
  }
  SECTION("a tensor that is not there, or of the wrong kind") {
    CHECK(mentions(failure([&] { file.tensor("d"); }),
                   "found no tensor named \"d\", expected one of its 4 tensors"));
    CHECK(mentions(failure([&] { file.as<std::int64_t>("a"); }),
                   "\"a\" of type F32, expected an integer type"));
  }
  SECTION("every truncation is refused") {
    const std::string whole = contents(folder / "x.safetensors");
    for (std::size_t size = 0; size < whole.size(); ++size) refusal(folder, whole.substr(0, size));
    refusal(folder, whole + "x");
  }
}

TEST_CASE("the bytes of a small file are known") {
  const TemporaryFolder folder;
  const float one = 1;
  const std::vector<io::TensorToWrite> tensors = {{"w", DType::f32, {1}, &one}};
  io::write_safetensors(folder / "x", tensors, {{"format", "pt"}});
  std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(contents(folder / "x") == length_prefix(header.size()) + header + std::string("\0\0\x80\x3f", 4));
}

TEST_CASE("an empty list of tensors is a file") {
  const TemporaryFolder folder;
  io::write_safetensors(folder / "x", std::vector<io::TensorToWrite>{});
  CHECK(SafeTensors(folder / "x").names().empty());
  CHECK(SafeTensors(folder.put("y", file_of("{}", 0))).names().empty());
}

TEST_CASE("all element types convert") {
  const TemporaryFolder folder;
  const std::uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff,
                                  0x7c00, 0xfc00, 0x7e01, 0x8000, 0x0400};
  const std::vector<float> h = read_back<float>(folder, DType::f16, halves, 10);
  CHECK(h[0] == 1);
  CHECK(h[1] == -2);
  CHECK(h[2] == 0x1p-24f);
  CHECK(h[3] == 1023 * 0x1p-24f);
  CHECK(h[4] == 65504);
  CHECK(h[5] == std::numeric_limits<float>::infinity());
  CHECK(h[6] == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(h[7]));
  CHECK((h[8] == 0 && std::signbit(h[8])));
  CHECK(h[9] == 0x1p-14f);

  const bf16 brain[] = {bf16(1.5f), bf16(-3.0f)};
  CHECK(read_back<double>(folder, DType::bf16, brain, 2) == std::vector<double>{1.5, -3});
  const double d[] = {0.1, -1e300};
  CHECK(read_back<double>(folder, DType::f64, d, 2) == std::vector<double>{0.1, -1e300});
  CHECK(read_back<float>(folder, DType::f64, d, 1) == std::vector<float>{0.1f});
  const std::int8_t i8[] = {-128, 127};
  CHECK(read_back<std::int64_t>(folder, DType::i8, i8, 2) == std::vector<std::int64_t>{-128, 127});
  const std::uint32_t u32[] = {4294967295u};
  CHECK(read_back<std::int64_t>(folder, DType::u32, u32, 1) == std::vector<std::int64_t>{4294967295});
  const std::int16_t i16[] = {-2};
  CHECK(read_back<float>(folder, DType::i16, i16, 1) == std::vector<float>{-2});
  const bool flags[] = {true, false};
  CHECK(read_back<std::int64_t>(folder, DType::boolean, flags, 2) == std::vector<std::int64_t>{1, 0});
  const std::uint64_t u64[] = {~std::uint64_t{0}};
  CHECK(mentions(failure([&] { read_back<std::int64_t>(folder, DType::u64, u64, 1); }), "above 2^63-1"));
}

TEST_CASE("data that is not aligned is read") {
  const TemporaryFolder folder;
  std::string bytes = file_of(R"({"t":)" + tensor_json("F32", "[2]", "[0,8]") + "}", 0);
  const float values[] = {1.25f, -8};
  bytes.append(reinterpret_cast<const char*>(values), sizeof values);
  bytes = length_prefix(bytes.size() - 16 + 1) + bytes.substr(8, bytes.size() - 16) + " " +
          bytes.substr(bytes.size() - 8);
  CHECK(SafeTensors(folder.put("odd", bytes)).as<float>("t") == std::vector<float>{1.25f, -8});
}

TEST_CASE("a header length that cannot be is refused") {
  const TemporaryFolder folder;
  CHECK(mentions(refusal(folder, ""), "found a file of 0 bytes"));
  for (const std::uint64_t length : {std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7,
                                     std::uint64_t{100'000'001}, std::uint64_t{3}, std::uint64_t{0}})
    refusal(folder, length_prefix(length) + "{}");
}

TEST_CASE("JSON that is not a header is refused") {
  const TemporaryFolder folder;
  for (const char* header :
       {"[]", "null", "1", "\"a\"", " {}", "{", "{}}", "{\"a\":}", "{\"a\":NaN}", "{\"a\":Infinity}",
        "{\"a\":1e999}", "{\"a\":-1e999}", "{\"\xff\":1}", "{\"a\":1,}", "{} x", "{/**/}"})
    refusal(folder, file_of(header, 0));
}

TEST_CASE("deep nesting is refused before the stack is in danger") {
  const TemporaryFolder folder;
  const std::string deep(1'000'000, '[');
  CHECK(mentions(refusal(folder, file_of("{\"a\":" + deep, 0)), "deeper than"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  CHECK(mentions(refusal(folder, file_of(objects, 0)), "deeper than"));
}

TEST_CASE("entries that are not tensors are refused") {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& entry, std::size_t data_size) {
    return refusal(folder, file_of("{\"t\":" + entry + "}", data_size));
  };
  for (const char* entry :
       {"1", "null", "[]", "{}", R"({"dtype":"F32"})", R"({"dtype":1,"shape":[],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":4,"data_offsets":[0,4]})", R"({"dtype":"F32","shape":[1]})"})
    refuse(entry, 4);
  CHECK(mentions(refuse(tensor_json("F33", "[1]", "[0,4]"), 4), "of dtype \"F33\""));
  refuse(tensor_json("f32", "[1]", "[0,4]"), 4);
  for (const char* shape : {"[-1]", "[1.0]", "[\"1\"]", "[null]", "[[1]]", "[2]", "[]", "[0]", "[1e0]",
                            "[18446744073709551615]", "[18446744073709551616]"}) {
    INFO(shape);
    refuse(tensor_json("F32", shape, std::string(shape) == "[]" ? "[0,3]" : "[0,4]"),
           std::string(shape) == "[]" ? 3 : 4);
  }
  for (const char* offsets :
       {"[0]", "[0,4,4]", "[4,0]", "[-4,0]", "[0,5]", "[1,5]", "[0,18446744073709551615]",
        "[9223372036854775807,9223372036854775807]", "[18446744073709551612,0]", "[0.0,4.0]", "{}"})
    refuse(tensor_json("F32", "[1]", offsets), 4);
}

TEST_CASE("sizes that overflow are refused") {
  const TemporaryFolder folder;
  for (const char* shape : {"[4294967296,4294967296]", "[9223372036854775807,2]", "[2305843009213693952,2]",
                            "[4611686018427387904]", "[9223372036854775807,9223372036854775807,0]"}) {
    INFO(shape);
    CHECK(mentions(refusal(folder, file_of("{\"t\":" + tensor_json("F32", shape, "[0,0]") + "}", 0)),
                   "overflows"));
  }
}

TEST_CASE("tensors that overlap, leave holes or repeat are refused") {
  const TemporaryFolder folder;
  const auto two = [&](const std::string& first, const std::string& second, std::size_t data_size) {
    return refusal(folder, file_of("{\"a\":" + tensor_json("F32", "[1]", first) +
                                       ",\"b\":" + tensor_json("F32", "[1]", second) + "}",
                                   data_size));
  };
  two("[0,4]", "[0,4]", 4);
  two("[0,4]", "[2,6]", 6);
  two("[0,4]", "[8,12]", 12);
  two("[4,8]", "[8,12]", 12);
  two("[0,4]", "[4,8]", 9);
  const std::string tensor = tensor_json("F32", "[1]", "[0,4]");
  CHECK(mentions(refusal(folder, file_of("{\"a\":" + tensor + ",\"a\":" + tensor + "}", 4)), "\"a\" twice"));
  CHECK(mentions(refusal(folder, file_of(R"({"a":{"dtype":"F32","dtype":"F64"}})", 4)), "\"dtype\" twice"));
}

TEST_CASE("tensors may stand in the header in any order") {
  const TemporaryFolder folder;
  const auto file = folder.put("x", file_of("{\"b\":" + tensor_json("U8", "[2]", "[4,6]") +
                                                ",\"a\":" + tensor_json("U8", "[4]", "[0,4]") +
                                                ",\"c\":" + tensor_json("U8", "[0]", "[4,4]") + "}",
                                            6));
  CHECK(SafeTensors(file).names() == std::vector<std::string>{"a", "c", "b"});
}

TEST_CASE("metadata must be strings") {
  const TemporaryFolder folder;
  refusal(folder, file_of(R"({"__metadata__":[]})", 0));
  refusal(folder, file_of(R"({"__metadata__":{"a":1}})", 0));
  CHECK(SafeTensors(folder.put("x", file_of(R"({"__metadata__":{}})", 0))).metadata().empty());
}

TEST_CASE("a name full of tricks still gives one short line") {
  const TemporaryFolder folder;
  const std::string name = "\\n\\u001b[31m" + std::string(100'000, 'n');
  CHECK(refusal(folder, file_of("{\"" + name + "\":1}", 0)).size() < 400);
}

TEST_CASE("files that cannot be opened") {
  const TemporaryFolder folder;
  CHECK(is_io_sentence(failure([&] { SafeTensors{folder / "absent"}; }), folder / "absent"));
  CHECK(is_io_sentence(failure([&] { SafeTensors{folder.path()}; }), folder.path()));
  CHECK(is_io_sentence(failure([&] { SafeTensors{"/dev/zero"}; }), "/dev/zero"));
}

TEST_CASE("what cannot be written leaves the old file as it was") {
  const TemporaryFolder folder;
  const std::vector<float> data(1000, 1.0f);
  const auto attempt = [&](const std::filesystem::path& path, std::vector<io::TensorToWrite> tensors,
                           const std::map<std::string, std::string>& metadata = {}) {
    const std::string text = failure([&] { io::write_safetensors(path, tensors, metadata); });
    INFO(text);
    CHECK(is_io_sentence(text, path));
    return text;
  };
  const io::TensorToWrite good{"a", DType::f32, {1000}, data.data()};
  const auto old = folder.put("old.safetensors", "old");
  attempt(old, {good, good});
  attempt(old, {{"__metadata__", DType::f32, {1000}, data.data()}});
  attempt(old, {{"a", DType::f32, {-1}, data.data()}});
  attempt(old, {{"a", DType::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}, data.data()}});
  attempt(old, {{"a", DType::f32, {2}, nullptr}});
  attempt(old, {{"\xff", DType::f32, {1000}, data.data()}});
  attempt(old, {good}, {{"key", "\xc3"}});
  CHECK(contents(old) == "old");
  CHECK(folder.files() == 1);
  attempt(folder / "missing/x.safetensors", {good});
  attempt(folder.path(), {good});
  CHECK(mentions(attempt("/dev/full", {good}), "writing"));
  CHECK(std::filesystem::is_character_file("/dev/full"));
}

TEST_CASE("an old file is replaced, also through a link") {
  const TemporaryFolder folder;
  const float one = 1;
  const std::vector<io::TensorToWrite> tensors = {{"a", DType::f32, {1}, &one}};
  const auto old = folder.put("old", "old");
  std::filesystem::create_symlink(old, folder / "link");
  const SafeTensors before = [&] {
    io::write_safetensors(old, tensors);
    return SafeTensors(old);
  }();
  const float two = 2;
  io::write_safetensors(folder / "link", std::vector<io::TensorToWrite>{{"a", DType::f32, {1}, &two}});
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(SafeTensors(old).as<float>("a") == std::vector<float>{2});
  CHECK(before.as<float>("a") == std::vector<float>{1});  // a reader keeps the file it opened
  io::write_safetensors("/dev/null", tensors);
}
