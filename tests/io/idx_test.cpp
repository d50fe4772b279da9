// SPDX-License-Identifier: MIT
#include <ddpm/io/idx.hpp>

#include <zlib.h>

#include <string>
#include <vector>

#include "catch_shim.hpp"
#include "io_support.hpp"

using namespace ddpm;

namespace {

std::string big_endian(std::vector<std::uint32_t> words) {
  std::string out;
  for (const std::uint32_t word : words)
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(word >> shift & 0xff);
  return out;
}

std::string image_file() { return big_endian({0x803, 2, 2, 3}) + "abcdefghijkl"; }
std::string label_file() { return big_endian({0x801, 2}) + std::string("\x07\x01", 2); }

std::filesystem::path put_gz(const TemporaryFolder& folder, const std::string& name,
                             const std::string& bytes) {
  const std::filesystem::path path = folder / name;
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return path;
}

std::string refusal(const std::filesystem::path& file) {
  const std::string text = failure([&] { io::read_idx_images(file); });
  INFO(text);
  CHECK(is_io_sentence(text, file));
  return text;
}

}  // namespace

TEST_CASE("images and labels are read, plain and compressed") {
  const TemporaryFolder folder;
  const auto check_set = [](const ImageSet& set) {
    CHECK(set.count == 2);
    CHECK(set.height == 2);
    CHECK(set.width == 3);
    CHECK(set.channels == 1);
    CHECK(std::string(set.pixels.begin(), set.pixels.end()) == "abcdefghijkl");
    CHECK(set.labels == std::vector<std::int32_t>{7, 1});
  };
  check_set(io::read_idx(folder.put("i", image_file()), folder.put("l", label_file())));
  check_set(io::read_idx(put_gz(folder, "i.gz", image_file()), put_gz(folder, "l.gz", label_file())));
  CHECK(io::read_idx_images(folder.put("none", big_endian({0x803, 0, 28, 28}))).pixels.empty());
}

TEST_CASE("a folder is searched for both spellings") {
  const TemporaryFolder folder;
  folder.put("train-images-idx3-ubyte", image_file());
  put_gz(folder, "train-labels-idx1-ubyte.gz", label_file());
  CHECK(io::fashion_mnist(folder.path()).count == 2);
  const std::string text = failure([&] { io::fashion_mnist(folder.path(), io::Split::test); });
  CHECK(is_io_sentence(text, folder.path()));
  CHECK(mentions(text, "no t10k-images-idx3-ubyte"));
  CHECK(mentions(failure([&] { io::fashion_mnist(folder / "missing"); }),
                 "package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist"));
}

TEST_CASE("every truncation is refused") {
  const TemporaryFolder folder;
  const std::string whole = image_file();
  for (std::size_t size = 0; size < whole.size(); ++size) refusal(folder.put("x", whole.substr(0, size)));
  const std::string packed = contents(put_gz(folder, "whole.gz", whole));
  for (std::size_t size = 0; size < packed.size(); ++size) {
    INFO(size);
    refusal(folder.put("x.gz", packed.substr(0, size)));
  }
  const std::string labels = label_file();
  for (std::size_t size = 0; size < labels.size(); ++size) {
    const auto file = folder.put("l", labels.substr(0, size));
    CHECK(is_io_sentence(failure([&] { io::read_idx_labels(file); }), file));
  }
}

TEST_CASE("damage within compressed data is refused") {
  const TemporaryFolder folder;
  std::string packed = contents(put_gz(folder, "whole.gz", image_file()));
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // in the checksum
  CHECK(mentions(refusal(folder.put("x.gz", packed)), "found an error"));
}

TEST_CASE("what is no IDX file of images is refused") {
  const TemporaryFolder folder;
  CHECK(mentions(refusal(folder.put("x", label_file())), "magic number 2049, expected 2051"));
  CHECK(mentions(refusal(folder.put("x", image_file() + "x")), "more data"));
  refusal(put_gz(folder, "x.gz", image_file() + "x"));
  refusal(folder.put("x", std::string(16, '\0')));
  refusal(folder.path());
  refusal(folder / "absent");
  const auto file = folder.put("x", image_file());
  CHECK(is_io_sentence(failure([&] { io::read_idx_labels(file); }), file));
}

TEST_CASE("sizes that overflow or lie are refused without taking the memory") {
  const TemporaryFolder folder;
  const std::uint32_t most = 0xffffffffu;
  refusal(folder.put("x", big_endian({0x803, most, most, most})));
  refusal(folder.put("x", big_endian({0x803, 1u << 31, 1u << 31, 4}) + "abcd"));
  refusal(folder.put("x", big_endian({0x803, 1, 0, 4})));
  refusal(folder.put("x", big_endian({0x803, 1, 4, 0})));
  CHECK(mentions(refusal(folder.put("x", big_endian({0x803, most, 1u << 15, 1u << 15}) + "abcd")),
                 "the end after 4 bytes of pixels"));
  const auto file = folder.put("l", big_endian({0x801, most}));
  CHECK(is_io_sentence(failure([&] { io::read_idx_labels(file); }), file));
}

TEST_CASE("as many labels as images") {
  const TemporaryFolder folder;
  const auto labels = folder.put("l", big_endian({0x801, 1}) + "\x07");
  const auto images = folder.put("i", image_file());
  CHECK(mentions(failure([&] { io::read_idx(images, labels); }), "found 1 labels, expected 2"));
}
