// SPDX-License-Identifier: MIT
#include <ddpm/io/image_folder.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "catch_shim.hpp"
#include "io_support.hpp"
#include "jpeg_samples.hpp"

using namespace ddpm;
namespace fs = std::filesystem;

namespace {

using Bytes = std::vector<std::uint8_t>;

// A PNG of one colour, so that its bytes survive cropping and resizing.
void put_png(const fs::path& file, Bytes color, int height = 3, int width = 3) {
  Bytes pixels;
  for (int i = 0; i < height * width; ++i) pixels.insert(pixels.end(), color.begin(), color.end());
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary)
      << io::detail::encode_png(pixels.data(), height, width, static_cast<int>(color.size()), file.string());
}

// The first byte of each image; images of one colour are checked to be whole.
std::vector<int> first_bytes(const ImageSet& images) {
  std::vector<int> out;
  REQUIRE(std::ssize(images.pixels) == images.count * images.image_size());
  for (std::int64_t i = 0; i < images.count; ++i)
    out.push_back(images.pixels[static_cast<std::size_t>(i * images.image_size())]);
  return out;
}

const io::ImageFolderOptions gray2{.size = 2, .channels = 1};

const std::string cache_name = ".ddpm-cache-2x1.bin";

io::ImageFolderOptions skipping() {
  io::ImageFolderOptions options{.size = 2, .channels = 1};
  options.on_bad = io::OnBad::skip;
  return options;
}

std::string refusal(const fs::path& folder, const io::ImageFolderOptions& options) {
  const std::string text = failure([&] { io::image_folder(folder, options); });
  INFO(text);
  CHECK(mentions(text, ": found "));
  CHECK(mentions(text, ", expected "));
  return text;
}

}  // namespace

TEST_CASE("images of every kind and size, sorted by name, labelled by sub-folder", "[image_folder]") {
  const TemporaryFolder folder;
  put_png(folder / "dog/2.png", {50}, 7, 2);
  put_png(folder / "dog/1.PNG", {40, 40, 40}, 1, 1);
  put_png(folder / "cat/b/0.png", {30}, 64, 64);
  put_png(folder / "cat/a.png", {20}, 2, 9);
  put_png(folder / "cat.x/a.png", {35});
  put_png(folder / "Ape/z.png", {10});
  put_png(folder / ".hidden/a.png", {99});
  put_png(folder / "dog/._2.png", {99});
  folder.put("dog/notes.txt", "no image");
  folder.put("empty/notes.txt", "no image");
  for (const fs::path& path : {folder.path(), folder / "", folder / "dog/.."}) {
    INFO(path);
    const io::ImageFolder read = io::image_folder(path, {.size = 2, .channels = 1, .cache = "/dev/null"});
    CHECK(read.images.shape(read.images.count) == Shape{6, 2, 2, 1});
    CHECK(first_bytes(read.images) == std::vector<int>{10, 20, 30, 35, 40, 50});
    CHECK(read.images.labels == std::vector<std::int32_t>{0, 1, 1, 2, 3, 3});
    CHECK(read.classes == std::vector<std::string>{"Ape", "cat", "cat.x", "dog"});
    CHECK(read.skipped.empty());
  }
}

TEST_CASE("channels, crops and JPEG", "[image_folder]") {
  const TemporaryFolder folder;
  put_png(folder / "a.png", {10, 20, 30});
  put_png(folder / "b.png", {40});
  folder.put("c.jpeg", jpeg_samples::rgb);
  const io::ImageFolder rgb = io::image_folder(folder.path(), {.size = 12});
  CHECK(rgb.images.shape(3) == Shape{3, 12, 12, 3});
  const auto at = [&](std::size_t image, std::size_t i) {
    return rgb.images.pixels[image * 12 * 12 * 3 + i];
  };
  CHECK(Bytes{at(0, 0), at(0, 1), at(0, 2)} == Bytes{10, 20, 30});
  CHECK(Bytes{at(1, 0), at(1, 1), at(1, 2)} == Bytes{40, 40, 40});
  const io::Image whole = io::read_image(folder / "c.jpeg");  // 12x16: columns 2 to 13 are left
  for (std::size_t c = 0; c < 3; ++c) CHECK(at(2, c) == whole.data[3 * 2 + c]);
  CHECK(rgb.images.labels.empty());
  CHECK(rgb.classes.empty());
  const io::ImageFolder squeezed = io::image_folder(folder.path(), {.size = 12, .crop = io::Crop::none});
  CHECK(squeezed.images.pixels != rgb.images.pixels);
  CHECK(io::image_folder(folder.path(), {.size = 1, .channels = 1}).images.pixels.front() == 18);
}

TEST_CASE("no labels where an image lies in no sub-folder", "[image_folder]") {
  const TemporaryFolder folder;
  put_png(folder / "cat/a.png", {1});
  put_png(folder / "b.png", {2});
  const io::ImageFolder read = io::image_folder(folder.path(), gray2);
  CHECK(read.images.count == 2);
  CHECK(read.images.labels.empty());
  CHECK(read.classes.empty());
}

TEST_CASE("more classes than a byte counts", "[image_folder]") {
  const TemporaryFolder folder;
  for (int i = 0; i < 300; ++i)
    put_png(folder / (std::to_string(1000 + i) + "/x.png"), {static_cast<std::uint8_t>(i)});
  const io::ImageFolder read = io::image_folder(folder.path(), gray2);
  CHECK(read.classes.size() == 300);
  CHECK(read.images.labels[299] == 299);
  CHECK(read.images.pixels.back() == 299 % 256);
}

TEST_CASE("folders without images are refused", "[image_folder]") {
  const TemporaryFolder folder;
  CHECK(mentions(refusal(folder.path(), gray2), "found no .png, .jpg or .jpeg file"));
  CHECK(mentions(refusal(folder / "absent", gray2), "absent: found an error"));
  folder.put("file.png", "x");
  refusal(folder / "file.png", gray2);
  fs::remove(folder / "file.png");
  put_png(folder / "a/x.png", {1});
  fs::create_directory_symlink(folder.path(), folder / "a/back");
  CHECK(mentions(refusal(folder.path(), gray2), "no link that leads back"));
  for (const int size : {0, -1, 1 << 15})
    CHECK_THROWS_AS(io::image_folder(folder.path(), {.size = size}), ConfigError);
  for (const int channels : {0, 2, 4})
    CHECK_THROWS_AS(io::image_folder(folder.path(), {.channels = channels}), ConfigError);
}

TEST_CASE("links are followed", "[image_folder]") {
  const TemporaryFolder elsewhere, folder;
  put_png(elsewhere / "x.png", {7});
  fs::create_directory_symlink(elsewhere.path(), folder / "cat");
  fs::create_directory(folder / "dog");
  fs::create_symlink(elsewhere / "x.png", folder / "dog/y.png");
  const io::ImageFolder read = io::image_folder(folder.path(), gray2);
  CHECK(first_bytes(read.images) == std::vector<int>{7, 7});
  CHECK(read.classes == std::vector<std::string>{"cat", "dog"});
}

TEST_CASE("a bad file is named, or left out", "[image_folder]") {
  const TemporaryFolder folder;
  for (const int i : {0, 1, 2, 3, 4})
    put_png(folder / ("cat/" + std::to_string(i) + ".png"), {static_cast<std::uint8_t>(i)});
  put_png(folder / "dog/0.png", {5});
  const std::string good = contents(folder / "cat/1.png");
  folder.put("cat/1.png", good.substr(0, good.size() / 2));
  fs::remove(folder / "cat/3.png");
  fs::create_symlink("nowhere", folder / "cat/3.png");
  folder.put("ant/bad.jpg", "");
  const std::string text = refusal(folder.path(), gray2);
  CHECK((mentions(text, "cat/1.png: ") || mentions(text, "cat/3.png: ") || mentions(text, "ant/bad.jpg: ")));
  CHECK(!fs::exists(folder / cache_name));
  for (int again = 0; again < 2; ++again) {  // decoded, then from the cache
    const io::ImageFolder read = io::image_folder(folder.path(), skipping());
    CHECK(first_bytes(read.images) == std::vector<int>{0, 2, 4, 5});
    CHECK(read.images.labels == std::vector<std::int32_t>{1, 1, 1, 2});
    CHECK(read.classes == std::vector<std::string>{"ant", "cat", "dog"});
    REQUIRE(read.skipped.size() == 3);
    CHECK(is_io_sentence(read.skipped[0], folder / "ant/bad.jpg"));
    CHECK(is_io_sentence(read.skipped[1], folder / "cat/1.png"));
    CHECK(is_io_sentence(read.skipped[2], folder / "cat/3.png"));
  }
  refusal(folder.path(), gray2);  // a cache without them does not hide them
  for (const char* name : {"cat", "dog"}) fs::remove_all(folder / name);
  CHECK(mentions(refusal(folder.path(), skipping()), "found 1 files of which none can be read"));
}

TEST_CASE("the number of threads changes nothing", "[image_folder]") {
  const TemporaryFolder folder;
  for (int i = 0; i < 100; ++i)
    put_png(folder / (std::to_string(i) + ".png"), {static_cast<std::uint8_t>(i)}, 5 + i % 7, 9);
  const int threads = ThreadPool::instance().threads();
  std::vector<Bytes> pixels;
  for (const int count : {1, 2, 7}) {
    ThreadPool::instance().resize(count);
    pixels.push_back(io::image_folder(folder.path(), {.size = 4, .cache = "/dev/null"}).images.pixels);
  }
  ThreadPool::instance().resize(threads);
  CHECK(pixels[0] == pixels[1]);
  CHECK(pixels[0] == pixels[2]);
}

namespace {

// Three images, and a cache of them. The files can be changed behind the cache's back: same size, same time.
struct CachedFolder {
  TemporaryFolder folder;
  io::ImageFolderOptions options = gray2;

  CachedFolder() {
    for (const int i : {1, 2, 3}) put_png(name(i), {static_cast<std::uint8_t>(10 * i)});
    CHECK(read() == std::vector<int>{10, 20, 30});
  }
  fs::path name(int i) const { return folder / (std::to_string(i) + ".png"); }
  fs::path cache() const { return folder / cache_name; }
  std::vector<int> read() const { return first_bytes(io::image_folder(folder.path(), options).images); }
  void change_unnoticed() const {
    const auto time = fs::last_write_time(name(2));
    const auto size = fs::file_size(name(2));
    put_png(name(2), {77});
    REQUIRE(fs::file_size(name(2)) == size);
    fs::last_write_time(name(2), time);
  }
};

}  // namespace

TEST_CASE("a valid cache is used, and rebuilt when the folder changes", "[image_folder][cache]") {
  const CachedFolder f;
  CHECK(f.folder.files() == 4);  // and no temporary file
  f.change_unnoticed();
  CHECK(f.read() == std::vector<int>{10, 20, 30});
  SECTION("a time") {
    fs::last_write_time(f.name(3), fs::last_write_time(f.name(3)) + std::chrono::nanoseconds(1));
    CHECK(f.read() == std::vector<int>{10, 77, 30});
  }
  SECTION("a size") {
    const auto time = fs::last_write_time(f.name(3));
    std::ofstream(f.name(3), std::ios::app) << "more";
    fs::last_write_time(f.name(3), time);
    CHECK(f.read() == std::vector<int>{10, 77, 30});
  }
  SECTION("a name") {
    fs::rename(f.name(3), f.name(0));
    CHECK(f.read() == std::vector<int>{30, 10, 77});
  }
  SECTION("a file more") {
    put_png(f.name(4), {40});
    CHECK(f.read() == std::vector<int>{10, 77, 30, 40});
  }
  SECTION("a file less") {
    fs::remove(f.name(1));
    CHECK(f.read() == std::vector<int>{77, 30});
  }
  SECTION("an option") {
    const io::ImageFolderOptions other{.size = 2, .channels = 1, .crop = io::Crop::none};
    CHECK(first_bytes(io::image_folder(f.folder.path(), other).images) == std::vector<int>{10, 77, 30});
  }
  SECTION("no cache") {
    const io::ImageFolderOptions other{.size = 2, .channels = 1, .cache = "/dev/null"};
    CHECK(first_bytes(io::image_folder(f.folder.path(), other).images) == std::vector<int>{10, 77, 30});
  }
}

TEST_CASE("the folder may be moved with its cache", "[image_folder][cache]") {
  const CachedFolder f;
  f.change_unnoticed();
  const TemporaryFolder other;
  fs::rename(f.folder.path(), other / "moved");
  CHECK(first_bytes(io::image_folder(other / "moved", gray2).images) == std::vector<int>{10, 20, 30});
  fs::rename(other / "moved", f.folder.path());
}

TEST_CASE("a damaged cache is rebuilt", "[image_folder][cache]") {
  const CachedFolder f;
  const std::string whole = contents(f.cache());
  const std::string key = whole.substr(0, whole.size() - 3 * (2 * 2 + 1) - 4);
  f.change_unnoticed();
  const auto loaded = [&](const std::string& bytes) {
    io::detail::DecodedImages images(3, 2 * 2);
    images.load(f.folder.put("cache", bytes), key);
    return images.present();
  };
  CHECK(loaded(whole) == 3);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    INFO(i << " of " << whole.size());
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
    CHECK(loaded(changed) == 0);
    CHECK(loaded(whole.substr(0, i)) == 0);
  }
  CHECK(loaded(whole + "x") == 0);
  f.folder.put(cache_name, whole.substr(1));
  CHECK(f.read() == std::vector<int>{10, 77, 30});
  f.folder.put(cache_name, whole);
  CHECK(f.read() == std::vector<int>{10, 20, 30});
}

TEST_CASE("a cache that cannot be written is done without", "[image_folder][cache]") {
  CachedFolder f;
  for (const fs::path& cache :
       {f.folder / "absent/cache.bin", f.folder.path(), fs::path("/proc/cache.bin")}) {
    INFO(cache);
    f.options.cache = cache;
    CHECK(f.read() == std::vector<int>{10, 20, 30});
  }
  CHECK(f.folder.files() == 4);
  f.options.cache = f.folder / "own.bin";
  CHECK(f.read() == std::vector<int>{10, 20, 30});
  CHECK(fs::exists(f.options.cache));
}

TEST_CASE("a file that was bad is tried again", "[image_folder][cache]") {
  const TemporaryFolder folder;
  put_png(folder / "a.png", {1});
  put_png(folder / "b.png", {2});
  const std::string good = contents(folder / "b.png");
  const auto time = fs::last_write_time(folder / "b.png");
  folder.put("b.png", std::string(good.size(), 'x'));
  fs::last_write_time(folder / "b.png", time);
  CHECK(first_bytes(io::image_folder(folder.path(), skipping()).images) == std::vector<int>{1});
  folder.put("b.png", good);
  fs::last_write_time(folder / "b.png", time);
  for (int again = 0; again < 2; ++again)
    CHECK(first_bytes(io::image_folder(folder.path(), skipping()).images) == std::vector<int>{1, 2});
}
