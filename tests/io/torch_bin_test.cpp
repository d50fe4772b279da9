// SPDX-License-Identifier: MIT
#include <ddpm/io/torch_bin.hpp>

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "catch_shim.hpp"
#include "io/io_support.hpp"
#include "io/torch_support.hpp"

using namespace ddpm;
using namespace torch_support;
using io::TorchBin;

namespace {

std::filesystem::path data_file(const std::string& name) {
  return std::filesystem::path(__FILE__).parent_path() / "data" / name;
}

std::string refusal(const TemporaryFolder& folder, const std::string& bytes) {
  const auto file = folder.put("hostile.bin", bytes);
  const std::string text = failure([&] { TorchBin{file}; });
  INFO(text);
  CHECK(is_io_sentence(text, file));
  return text;
}

const std::string six_floats = [] {
  std::string bytes(24, '\0');
  for (int i = 0; i < 6; ++i) {
    const auto value = static_cast<float>(i);
    std::memcpy(bytes.data() + 4 * i, &value, 4);
  }
  return bytes;
}();

std::string floats(std::int64_t count = 6, const std::string& key = "0") {
  return storage("FloatStorage", key, count);
}

// A file of one tensor "t" over six floats.
std::string one(const std::string& value) { return torch_file(state_dict({{"t", value}}), {six_floats}); }
std::string one(std::int64_t offset, const std::vector<std::int64_t>& shape,
                const std::vector<std::int64_t>& strides) {
  return one(tensor(floats(), offset, shape, strides));
}

std::string bare(const std::string& pickle) { return torch_file("\x80\x02" + pickle, {six_floats}); }

const std::string good = one(0, {2, 3}, {3, 1});

}  // namespace

TEST_CASE("files of torch.save are read", "[torch_bin]") {
  for (const char* name : {"weights.bin", "weights_torch2.bin"}) {
    INFO(name);
    const TorchBin file(data_file(name));
    const auto values = [&](const std::string& tensor) { return file.as<double>(tensor); };
    using Values = std::vector<double>;
    CHECK(file.names() == std::vector<std::string>{"f32", "f16", "bf16", "f64", "i64", "bool", "scalar",
                                                   "empty", "channels_last", "transposed", "sliced", "shared",
                                                   "parameter"});
    Values images(24);
    std::iota(images.begin(), images.end(), 0);
    CHECK(values("f32") == images);
    CHECK(file.tensor("f32").shape == std::vector<std::int64_t>{2, 3, 2, 2});
    CHECK(values("f16") == Values{-1, 0, 1});
    CHECK(values("bf16") == Values{0, 1, 2});
    CHECK(values("f64") == Values{0, 1, 2, 3});
    CHECK(file.as<std::int64_t>("i64") == std::vector<std::int64_t>{-1, 0, 1});
    CHECK(values("bool") == Values{1, 0});
    CHECK(values("scalar") == Values{2.5});
    CHECK(file.tensor("scalar").shape.empty());
    CHECK(values("empty").empty());
    CHECK(file.tensor("empty").shape == std::vector<std::int64_t>{0, 3});
    CHECK(values("channels_last") == images);
    CHECK_FALSE(file.tensor("channels_last").strides.empty());
    CHECK(values("transposed") == Values{0, 3, 1, 4, 2, 5});
    CHECK(values("sliced") == Values{4, 6, 8, 10});
    CHECK(values("shared") == Values(images.begin() + 12, images.end()));
    CHECK(values("parameter") == Values{0, 1, 2, 3});
  }
}

TEST_CASE("what torch did not write as a state dict is named", "[torch_bin]") {
  CHECK(mentions(failure([] { TorchBin{data_file("module.bin")}; }),
                 R"(the Python object "torch.nn.modules.container.Sequential")"));
  CHECK(mentions(failure([] { TorchBin{data_file("legacy.bin")}; }), "found a bare pickle"));
  const TemporaryFolder folder;
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  CHECK(mentions(refusal(folder, tar), "found a tar archive"));
  CHECK(mentions(refusal(folder, ""), "no zip archive"));
  CHECK(mentions(refusal(folder, "PK"), "no end of a zip archive"));
  CHECK(mentions(refusal(folder, zip({{"x", "y"}})), "without data.pkl"));
  CHECK(mentions(refusal(folder, bare("N.")), "something else"));
  CHECK(mentions(refusal(folder, bare("].")), "something else"));
  CHECK(mentions(refusal(folder, torch_file("\x80\x04}.", {})), "protocol 4"));
  CHECK(mentions(refusal(folder, one("N")), "something else as \"t\""));
  CHECK(mentions(refusal(folder, one("}")), "something else as \"t\""));
}

TEST_CASE("every truncation and every changed byte is refused or read", "[torch_bin]") {
  const TemporaryFolder folder;
  for (const char* name : {"weights.bin", "weights_torch2.bin"}) {
    const std::string whole = contents(data_file(name));
    for (std::size_t size = 0; size < whole.size(); ++size) refusal(folder, whole.substr(0, size));
    int refused = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ (i % 3 == 0 ? 0xff : 1 << i % 8));
      const auto file = folder.put("changed.bin", changed);
      const std::string text = failure([&] {
        const TorchBin bin(file);
        for (const std::string& tensor : bin.names()) bin.as<double>(tensor);
      });
      if (!text.empty()) CHECK(is_io_sentence(text, file));
      refused += text.empty() ? 0 : 1;
    }
    CHECK(refused > static_cast<int>(whole.size() / 10));
  }
}

TEST_CASE("tensors made by hand", "[torch_bin]") {
  const TemporaryFolder folder;
  const auto values = [&](const std::string& bytes) {
    return TorchBin(folder.put("x.bin", bytes)).as<float>("t");
  };
  using Values = std::vector<float>;
  CHECK(values(good) == Values{0, 1, 2, 3, 4, 5});
  CHECK(values(one(0, {3, 2}, {1, 3})) == Values{0, 3, 1, 4, 2, 5});
  CHECK(values(one(1, {2}, {4})) == Values{1, 5});
  CHECK(values(one(2, {1, 3}, {99, 1})) == Values{2, 3, 4});
  CHECK(values(one(0, {2, 2}, {0, 1})) == Values{0, 1, 0, 1});
  CHECK(values(one(0, {2, 1, 3}, {3, 7, 1})) == Values{0, 1, 2, 3, 4, 5});
  CHECK(values(one(6, {0}, {1})).empty());
  CHECK(values(one(99, {3, 0}, {1, 1})).empty());
  const std::string parameter =
      call(global("torch._utils", "_rebuild_parameter"), {tensor(floats(), 4, {2}, {1}), "\x88", "N"});
  CHECK(values(one(parameter)) == Values{4, 5});
  // BININT1, BININT2, BININT and a LONG1 of one byte; memos; then APPENDS, BINFLOAT, TUPLE1 and BUILD.
  const std::string shape = tuple({"K\x02", std::string("M\x01\0", 3)});
  const std::string strides = tuple({std::string("J\1\0\0\0", 5), "\x8a\x01\x01"});
  const std::string value =
      call(global("torch._utils", "_rebuild_tensor_v2"), {floats(), "K\1", shape, strides, "\x89", "N"});
  CHECK(values(bare("}q\1(" + text("t") + "q\2" + value +
                    "u](h\2G12345678e\x85"
                    "b.")) == Values{1, 2});
  const std::string key = little_endian(0x10002, 4);  // of LONG_BINPUT and LONG_BINGET; SETITEM
  CHECK(values(bare(text("t") + "r" + key + "}j" + key + value + "s.")) == Values{1, 2});
}

TEST_CASE("zip files that torch does not write, but that are sound", "[torch_bin]") {
  const TemporaryFolder folder;
  const std::string pickle = state_dict({{"t", tensor(floats(), 0, {6}, {1})}});
  const auto values = [&](const std::string& bytes) {
    return TorchBin(folder.put("x.bin", bytes)).as<float>("t");
  };
  const std::vector<float> expected{0, 1, 2, 3, 4, 5};
  CHECK(values(zip({{"a/data.pkl", pickle}, {"a/data/0", six_floats}}, Zip64::yes)) == expected);
  CHECK(values(zip({{"a/data.pkl", pickle, 8}, {"a/data/0", six_floats, 8}})) == expected);
  CHECK(values(zip({{"data.pkl", pickle}, {"data/0", six_floats}, {"byteorder", "little"}})) == expected);
  std::string with_comment = zip({{"a/data.pkl", pickle}, {"a/data/0", six_floats}});
  with_comment.replace(with_comment.size() - 2, 2, little_endian(4, 2));
  CHECK(values(with_comment + "note") == expected);
}

TEST_CASE("zip files that lie are refused", "[torch_bin]") {
  const TemporaryFolder folder;
  const std::string pickle = state_dict({{"t", tensor(floats(), 0, {6}, {1})}});
  const auto refuse = [&](std::vector<ZipPart> parts, Zip64 zip64 = Zip64::no) {
    parts.insert(parts.begin(), {"a/data.pkl", pickle});
    return refusal(folder, zip(parts, zip64));
  };
  CHECK(mentions(refuse({}), "a storage that is not in the archive"));
  CHECK(mentions(refuse({{"b/data/0", six_floats}}), "a storage that is not in the archive"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 0, 0, 1234u}}), "a wrong checksum of \"a/data/0\""));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 8, 0, 1234u}}), "a wrong checksum"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 0, 1}}), "encrypted"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 12}}), "method 12"));
  CHECK(mentions(refuse({{"a/data/0", six_floats}, {"a/data/0", six_floats}}), "twice"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 0, 0, {}, 25u}}), "24 bytes for the 25"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 8, 0, {}, 23u}}), "damaged or surplus"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 8, 0, {}, 25u}}), "damaged or surplus"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 0, 0, {}, {}, 0u}}), "over byte 0"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 0, 0, {}, {}, 1u}}), "no entry"));
  CHECK(mentions(refuse({{"a/data/0", six_floats, 0, 0, {}, {}, ~std::uint64_t{0}}}, Zip64::yes), "at byte"));
  CHECK(mentions(refuse({{"a/data/0", six_floats}, {"a/byteorder", "big"}}), "byte order \"big\""));
  const std::string empty(200'000'000, '\0');
  CHECK(mentions(refuse({{"a/data/0", empty, 8}}), "inflates to 200000000 bytes"));
  CHECK(mentions(refusal(folder, zip({{"a/data.pkl", std::string(5'000'000, 'N'), 8}})),
                 "a pickle of 5000000"));
}

TEST_CASE("a bomb of many entries is refused as one", "[torch_bin]") {
  const TemporaryFolder folder;
  const std::string zeros(10'000'000, '\0');
  std::vector<std::pair<std::string, std::string>> tensors;
  std::vector<ZipPart> parts{{"a/data.pkl", ""}};
  for (const char* key : {"0", "1", "2"}) {
    tensors.emplace_back(key, tensor(floats(2'500'000, key), 0, {1}, {1}));
    parts.push_back({std::string("a/data/") + key, zeros, 8});
  }
  parts[0].data = state_dict(tensors);
  CHECK(mentions(refusal(folder, zip(parts)), "inflates to 10000000 bytes"));
}

TEST_CASE("pickles that do more than name tensors are refused", "[torch_bin]") {
  const TemporaryFolder folder;
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"posix", "system"},
                                                        {"builtins", "eval"},
                                                        {"torch", "load"},
                                                        {"torch", ""},
                                                        {"", ""},
                                                        {"torch", "FloatStorage.x"},
                                                        {"torch.FloatStorage", ""},
                                                        {"collections", "OrderedDic"}}) {
    INFO(module << ' ' << name);
    CHECK(mentions(refusal(folder, bare(global(module, name) + "(" + text("id") + "tR.")),
                   "the Python object \"" + module + "." + name));
  }
  // Every opcode but those of torch.save, whatever follows.
  const std::string known = std::string(
      ".N\x88\x89KMJ\x8aGX()t\x85\x86\x87]}aesuqrhj\x80"
      "cQRb",
      31);
  for (int code = 0; code < 256; ++code)
    if (known.find(static_cast<char>(code)) == std::string::npos)
      CHECK(mentions(refusal(folder, bare("}" + std::string(1, static_cast<char>(code)) + "4\n.")),
                     "the pickle opcode " + std::to_string(code)));
}

TEST_CASE("pickles that do not hold together are refused", "[torch_bin]") {
  const TemporaryFolder folder;
  for (const char* pickle : {"",
                             ".",
                             "}",
                             "t.",
                             "u.",
                             "e.",
                             "a.",
                             "s.",
                             "(.",
                             "R.",
                             "NR.",
                             "b.",
                             "Nb.",
                             "Q.",
                             "q\1.",
                             "h\1.",
                             "N(NRt.",
                             "N(b.",
                             "}(Nu.",
                             "}Ns.",
                             "N(NNu.",
                             "NNNs.",
                             "NNa.",
                             "N(e.",
                             "\x85.",
                             "N\x86.",
                             "NN\x87.",
                             "cposix",
                             "cposix\nsystem",
                             "X",
                             "\x8a\x09"
                             "123456789N.",
                             "\x8a\xff",
                             "G1234567"})
    refusal(folder, bare(pickle));
  refusal(folder, bare("X\xff\xff\xff\xff"
                       "abc."));
  refusal(folder, bare("X" + std::string("\5\0\0\0", 4) + "abc."));
  refusal(folder, bare("r\xff\xff\xff\xff."));
  refusal(folder, bare("Nr\1\0\0\xffj\1\0\0\xfe."));
  refusal(folder, bare(std::string(1'000'000, '(')));
  refusal(folder, bare(std::string(1'000'000, ']') + std::string(999'999, 'a') + "."));
  refusal(folder, bare("}"
                       "q\1(" +
                       text("a") +
                       "h\1"
                       "u."));  // a dict that holds itself
  refusal(folder, bare("]q\1h\1a."));
}

TEST_CASE("tensors that cannot be are refused", "[torch_bin]") {
  const TemporaryFolder folder;
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const auto refuse = [&](std::int64_t offset, std::vector<std::int64_t> shape,
                          std::vector<std::int64_t> strides) {
    return refusal(folder, one(offset, shape, strides));
  };
  CHECK(mentions(refuse(0, {7}, {1}), "larger than its storage"));
  CHECK(mentions(refuse(1, {6}, {1}), "larger than its storage"));
  CHECK(mentions(refuse(0, {2, 3}, {4, 1}), "larger than its storage"));
  CHECK(mentions(refuse(0, {2, 3}, {1, 3}), "larger than its storage"));
  CHECK(mentions(refuse(6, {1}, {1}), "larger than its storage"));
  CHECK(mentions(refuse(6, {}, {}), "larger than its storage"));
  CHECK(mentions(refuse(0, {7}, {0}), "larger than its storage"));
  CHECK(mentions(refuse(-1, {1}, {1}), "no integer from 0"));
  CHECK(mentions(refuse(0, {-1}, {1}), "no integer from 0"));
  CHECK(mentions(refuse(0, {2}, {-1}), "no integer from 0"));
  CHECK(mentions(refuse(0, {2, 3}, {1}), "other axes than strides"));
  CHECK(mentions(refuse(0, {most}, {1}), "overflows"));
  CHECK(mentions(refuse(0, {most, most}, {1, 1}), "overflows"));
  CHECK(mentions(refuse(0, {3}, {most}), "strides that overflow"));
  CHECK(mentions(refuse(most, {2}, {1}), "strides that overflow"));
  CHECK(mentions(refuse(0, {1, 1, 1, 2, 2}, {1, 1, 1, 3, 1}), "more than four axes"));
  const std::vector<std::int64_t> eight(8, 1), nine(9, 1);
  CHECK(TorchBin(folder.put("x.bin", one(0, eight, eight))).tensor("t").shape == eight);
  CHECK(mentions(refuse(0, nine, nine), "at most 8 integers"));
  CHECK(mentions(refusal(folder, one(tensor(floats(5), 0, {1}, {1}))), "not as long as its entry"));
  CHECK(mentions(refusal(folder, one(tensor(floats(7), 0, {1}, {1}))), "not as long as its entry"));
  CHECK(mentions(refusal(folder, one(tensor(floats(most), 0, {1}, {1}))), "overflows"));
  CHECK(mentions(refusal(folder, one(tensor(floats(-6), 0, {1}, {1}))), "no integer from 0"));
  CHECK(mentions(refusal(folder, one(tensor(floats(6, "1"), 0, {1}, {1}))), "not in the archive"));
  CHECK(mentions(refusal(folder, one(tensor(floats(6, "../data.pkl"), 0, {1}, {1}))), "not in the archive"));
  CHECK(mentions(refusal(folder, one(tensor(storage("ComplexStorage", "0", 6), 0, {1}, {1}))),
                 "ComplexStorage"));
  CHECK(mentions(refusal(folder, one(tensor(text("0") + "Q", 0, {1}, {1}))), "without a storage"));
  CHECK(mentions(refusal(folder, one(tensor("N", 0, {1}, {1}))), "without a storage"));
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  CHECK(mentions(refusal(folder, one(call(rebuild, {}))), "without its arguments"));
  CHECK(mentions(refusal(folder, one(call(rebuild, {floats(), integer(0), integers({6})}))),
                 "without its arguments"));
  CHECK(mentions(refusal(folder, one(call(rebuild, {floats(), "N", integers({6}), integers({1})}))),
                 "no integer"));
  CHECK(mentions(refusal(folder, one(call(rebuild, {floats(), integer(0), integer(6), integers({1})}))),
                 "no tuple"));
  CHECK(
      mentions(refusal(folder, one(call(rebuild, {floats(), integer(0), tuple({text("6")}), integers({1})}))),
               "no integer"));
  CHECK(mentions(refusal(folder, one(rebuild + "NR")), "without its arguments"));
  CHECK(mentions(refusal(folder, one("NNR")), "something else"));
}

TEST_CASE("names of tensors in a pickle", "[torch_bin]") {
  const TemporaryFolder folder;
  const std::string value = tensor(floats(), 0, {6}, {1});
  CHECK(mentions(refusal(folder, torch_file(state_dict({{"a", value}, {"a", value}}), {six_floats})),
                 "\"a\" twice"));
  for (const std::string& name :
       {std::string("a\0b", 3), std::string("a\nb"), std::string("\xff"), std::string("\xc3\xa9")})
    CHECK(mentions(refusal(folder, torch_file(state_dict({{name, value}}), {six_floats})),
                   "no printable text"));
  CHECK(mentions(refusal(folder, bare("}(K\1" + value + "u.")), "no printable text"));
  CHECK(refusal(folder, torch_file(state_dict({{std::string(100'000, 'n'), "N"}}), {})).size() < 400);
}
