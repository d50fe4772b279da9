// SPDX-License-Identifier: MIT
#include <ddpm/io/cifar10.hpp>

#include <zlib.h>

#include <string>

#include "catch_shim.hpp"
#include "io_support.hpp"

using namespace ddpm;

namespace {

constexpr std::size_t plane = 1024;

// A record whose red, green and blue count up from three different values.
std::string record(int label, int seed) {
  std::string out(1, static_cast<char>(label));
  for (std::size_t channel = 0; channel < 3; ++channel)
    for (std::size_t pixel = 0; pixel < plane; ++pixel)
      out += static_cast<char>(static_cast<std::size_t>(seed) + 50 * channel + pixel % 100);
  return out;
}

std::string refusal(const std::filesystem::path& file) {
  const std::string text = failure([&] { io::read_cifar10(file); });
  INFO(text);
  CHECK(is_io_sentence(text, file));
  return text;
}

}  // namespace

TEST_CASE("planes become channels") {
  const TemporaryFolder folder;
  const std::string bytes = record(3, 0) + record(9, 5);
  const ImageSet set = io::read_cifar10(folder.put("x.bin", bytes));
  CHECK(set.count == 2);
  CHECK(set.shape(2) == Shape{2, 32, 32, 3});
  CHECK(set.labels == std::vector<std::int32_t>{3, 9});
  CHECK(set.pixels.size() == 2 * 3 * plane);
  for (const std::size_t image : {0u, 1u})
    for (const std::size_t pixel : {0u, 1u, 33u, 1023u})
      for (const std::size_t channel : {0u, 1u, 2u}) {
        const auto expected = static_cast<std::uint8_t>(bytes[image * 3073 + 1 + channel * plane + pixel]);
        CHECK(set.pixels[(image * plane + pixel) * 3 + channel] == expected);
      }

  gzFile file = gzopen((folder / "x.bin.gz").c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  CHECK(io::read_cifar10(folder / "x.bin.gz").pixels == set.pixels);
  const std::string packed = contents(folder / "x.bin.gz");
  for (std::size_t size = 0; size < packed.size(); ++size)
    refusal(folder.put("cut.gz", packed.substr(0, size)));
}

TEST_CASE("a folder gives its five training files in order, or the test file") {
  const TemporaryFolder folder;
  for (const int i : {5, 4, 3, 2, 1})
    folder.put("cifar-10-batches-bin/data_batch_" + std::to_string(i) + ".bin", record(i, 0));
  CHECK(io::cifar10(folder.path()).labels == std::vector<std::int32_t>{1, 2, 3, 4, 5});
  CHECK(io::cifar10(folder / "cifar-10-batches-bin").count == 5);
  const std::string text = failure([&] { io::cifar10(folder.path(), io::Split::test); });
  CHECK(is_io_sentence(text, folder / "cifar-10-batches-bin"));
  folder.put("cifar-10-batches-bin/test_batch.bin", record(7, 0));
  CHECK(io::cifar10(folder.path(), io::Split::test).labels == std::vector<std::int32_t>{7});
  std::filesystem::remove(folder / "cifar-10-batches-bin/data_batch_3.bin");
  CHECK(mentions(failure([&] { io::cifar10(folder.path()); }), "no data_batch_3.bin"));
}

TEST_CASE("files of another layout are refused") {
  const TemporaryFolder folder;
  const std::string whole = record(1, 0);
  CHECK(mentions(refusal(folder.put("x", "")), "found no data"));
  for (const std::size_t size : {1u, 2u, 1024u, 1025u, 3071u, 3072u})
    refusal(folder.put("x", whole.substr(0, size)));
  CHECK(mentions(refusal(folder.put("x", whole + "\x01")), "a last record of 1 bytes, expected 3073 bytes"));
  CHECK(mentions(refusal(folder.put("x", whole + record(10, 0))), "label 10 in record 1"));
  refusal(folder / "absent");
  refusal(folder.path());
}
