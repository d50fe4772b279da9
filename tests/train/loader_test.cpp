// SPDX-License-Identifier: MIT
// Loader: epochs, order, continuing, prefetching, labels and flips.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/train/loader.hpp>

#include "catch_shim.hpp"
#include "train/toy_model.hpp"

using namespace ddpm;

namespace {
std::atomic<std::int64_t> allocations = 0;  // by any thread of this program
}

[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size);
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* block = operator new(size, std::nothrow)) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept { std::free(block); }

namespace {

// Image i holds the bytes 6 i to 6 i + 5 and has the label 10 + i.
ImageSet numbered(int count) {
  ImageSet set;
  set.count = count;
  set.height = 1;
  set.width = 3;
  set.channels = 2;
  for (int i = 0; i < 6 * count; ++i) set.pixels.push_back(static_cast<std::uint8_t>(i));
  for (int i = 0; i < count; ++i) set.labels.push_back(10 + i);
  return set;
}

using Order = std::vector<int>;

// The images of the next batches, each checked to be whole.
template <class AnyLoader>
Order next_images(AnyLoader& loader, int batches) {
  Order images;
  for (int b = 0; b < batches; ++b) {
    const auto batch = loader.next();
    const auto pixels = batch.pixels.to_host();
    for (std::size_t i = 0; i < pixels.size(); i += 6) {
      for (std::size_t k = 0; k < 6; ++k) CHECK(pixels[i + k] == pixels[i] + k);
      images.push_back(pixels[i] / 6);
    }
  }
  return images;
}

Loader<float, Cpu> loader_of(int count, int batch, std::uint64_t seed) {
  return {numbered(count), Cpu{}, {.batch = batch}, Rng{seed}};
}

}  // namespace

TEST_CASE("an epoch has every image once", "[loader]") {
  auto loader = loader_of(20, 4, 1);
  Order previous;
  for (int epoch = 0; epoch < 5; ++epoch) {
    const Order order = next_images(loader, 5);
    CHECK(std::set<int>(order.begin(), order.end()).size() == 20);
    CHECK(order != previous);
    CHECK(!std::is_sorted(order.begin(), order.end()));
    previous = order;
  }
  CHECK(loader.cursor() == 100);
}

TEST_CASE("a batch goes on into the next epoch", "[loader]") {
  auto loader = loader_of(10, 4, 1);
  CHECK(loader.next().shape() == Shape{4, 1, 3, 2});
  loader.seek(0);
  const Order order = next_images(loader, 5);
  CHECK(std::set<int>(order.begin(), order.begin() + 10).size() == 10);
  CHECK(std::set<int>(order.begin() + 10, order.end()).size() == 10);
  auto whole = loader_of(3, 8, 1);  // a batch of more than two epochs
  const Order wrapped = next_images(whole, 1);
  for (int epoch = 0; epoch < 2; ++epoch)
    CHECK(std::set<int>(wrapped.begin() + 3 * epoch, wrapped.begin() + 3 * epoch + 3).size() == 3);
}

TEST_CASE("the order depends on the seed and the epoch alone", "[loader]") {
  auto fours = loader_of(20, 4, 7), fives = loader_of(20, 5, 7), others = loader_of(20, 4, 8);
  const Order order = next_images(fours, 10);
  CHECK(next_images(fives, 8) == order);
  CHECK(next_images(others, 10) != order);
  Loader<float, Reference> elsewhere(numbered(20), Reference{}, {.batch = 4}, Rng{7, 1000, 50});
  CHECK(next_images(elsewhere, 10) == order);
}

TEST_CASE("a loader continues from its cursor", "[loader]") {
  auto through = loader_of(20, 4, 3), continued = loader_of(20, 4, 3);
  next_images(through, 8);
  continued.seek(through.cursor());
  CHECK(next_images(continued, 6) == next_images(through, 6));
  through.seek(0);
  auto fresh = loader_of(20, 4, 3);
  CHECK(next_images(through, 3) == next_images(fresh, 3));
}

TEST_CASE("what is prepared ahead changes neither the order nor the cursor", "[loader][prefetch]") {
  auto plain = loader_of(23, 4, 3);
  const Order order = next_images(plain, 40);
  const auto from = [&](std::int64_t cursor, std::int64_t images) {
    return Order(order.begin() + cursor, order.begin() + cursor + images);
  };
  for (const int prefetch : {1, 2, 3, 20}) {
    INFO("prefetch " << prefetch);
    Loader<float, Cpu> loader(numbered(23), Cpu{}, {.batch = 4, .prefetch = prefetch}, Rng{3});
    CHECK(loader.cursor() == 0);
    CHECK(next_images(loader, 7) == from(0, 28));
    CHECK(loader.cursor() == 28);
    for (const std::int64_t cursor :
         {28, 0, 29, 22, 23, 91, 1}) {  // in an epoch, at its ends, back and forth
      loader.seek(cursor);
      CHECK(loader.cursor() == cursor);
      CHECK(next_images(loader, 3) == from(cursor, 12));
      CHECK(loader.cursor() == cursor + 12);
      Loader<float, Reference> other(numbered(23), Reference{}, {.batch = 3, .prefetch = prefetch}, Rng{3});
      other.seek(loader.cursor());
      CHECK(next_images(other, 2) == from(cursor + 12, 6));
    }
  }
}

TEST_CASE("a loader that is moved goes on", "[loader][prefetch]") {
  auto whole = loader_of(20, 4, 3), first = loader_of(20, 4, 3), second = loader_of(9, 2, 1);
  const Order order = next_images(whole, 9);
  CHECK(next_images(first, 3) == Order(order.begin(), order.begin() + 12));
  next_images(second, 1);
  second = std::move(first);  // while both prepare batches
  CHECK(next_images(second, 3) == Order(order.begin() + 12, order.begin() + 24));
  auto third = std::move(second);
  CHECK(next_images(third, 3) == Order(order.begin() + 24, order.end()));
  CHECK(third.cursor() == 36);
}

TEST_CASE("a loader that is not used, or no longer, ends at once", "[loader][prefetch]") {
  for (int i = 0; i < 200; ++i) {
    auto loader = loader_of(20, 4, 3);
    for (int batches = 0; batches < i % 4; ++batches) loader.next();
    if (i % 3 == 0) loader.seek(i);
  }
}

TEST_CASE("after the first batch nothing is allocated", "[loader][prefetch]") {
  Loader<float, Cpu> loader(numbered(20), Cpu{}, {.batch = 4, .classes = 30}, Rng{3});
  loader.next();
  const std::int64_t before = allocations, from_pool = Cpu{}.memory().requests;
  for (int i = 0; i < 50; ++i) loader.next();
  CHECK(allocations == before);
  CHECK(Cpu{}.memory().requests == from_pool);
}

TEST_CASE("the time that next() has waited", "[loader][prefetch]") {
  const auto start = std::chrono::steady_clock::now();
  auto loader = loader_of(20, 4, 3);
  CHECK(loader.waited() == 0);
  loader.next();
  const double once = loader.waited();
  CHECK(once > 0);
  for (int i = 0; i < 50; ++i) loader.next();
  CHECK(loader.waited() > once);
  loader.seek(0);
  CHECK(loader.waited() > once);
  CHECK(loader.waited() < std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

TEST_CASE("every place of a shuffle is equally likely", "[loader]") {
  const int images = 5, seeds = 4000;
  std::vector<int> counts(images * images);
  for (int seed = 0; seed < seeds; ++seed) {
    auto loader = loader_of(images, images, static_cast<std::uint64_t>(seed));
    const auto pixels = loader.next().pixels.to_host();
    for (int place = 0; place < images; ++place)
      ++counts[static_cast<std::size_t>(place * images + pixels[static_cast<std::size_t>(6 * place)] / 6)];
  }
  for (const int count : counts) CHECK(std::abs(count - seeds / images) < 5 * 26);  // deviation 25.3
}

TEST_CASE("labels travel with their images where they are asked for", "[loader]") {
  auto without = loader_of(6, 4, 1);
  CHECK(without.next().labels.empty());
  Loader<float, Cpu> with(numbered(6), Cpu{}, {.batch = 4, .classes = 16}, Rng{1});
  for (int i = 0; i < 4; ++i) {
    const auto batch = with.next();
    const auto pixels = batch.pixels.to_host();
    const auto labels = batch.labels.to_host();
    REQUIRE(labels.size() == 4);
    for (std::size_t n = 0; n < 4; ++n) CHECK(labels[n] == 10 + pixels[6 * n] / 6);
  }
}

TEST_CASE("labels that the model does not know are refused", "[loader]") {
  const auto refusal = [](const ImageSet& images, int classes) -> std::string {
    try {
      Loader loader(images, Cpu{}, {.batch = 4, .classes = classes}, Rng{1});
    } catch (const ConfigError& error) {
      return error.what();
    }
    return {};
  };
  CHECK(refusal(numbered(6), 16).empty());
  CHECK(refusal(numbered(6), 1000).empty());
  CHECK(refusal(numbered(6), 15) ==
        "Loader: image 5 has label 15, expected 0 to 14 for a model of 15 classes");
  CHECK(refusal(numbered(6), -1) == "Loader: -1 classes asked for, expected at least 0");
  ImageSet negative = numbered(6);
  negative.labels[3] = -1;
  CHECK(refusal(negative, 16) == "Loader: image 3 has label -1, expected 0 to 15 for a model of 16 classes");
  ImageSet large = numbered(6);
  large.labels[0] = 70000;
  CHECK(refusal(large, 70001).empty());
  ImageSet unlabelled = numbered(6);
  unlabelled.labels.clear();
  CHECK(refusal(unlabelled, 16) ==
        "Loader: 0 labels given for 6 images, expected one each for a model of 16 classes");
}

TEST_CASE("flips mirror a half of the images, each by its own bit", "[loader][flip]") {
  Loader loader{numbered(20), Cpu{}, {.batch = 20, .flip = true}, Rng{1}};
  CHECK_FALSE(loader_of(20, 4, 1).next().flip);
  const auto batch = loader.next();
  CHECK(batch.flip);
  const auto pixels = batch.pixels.to_host();
  const Diffusion diffusion{train_support::ToyModel<float, Cpu>(Cpu{}, 2), LinearSchedule{}};
  const auto t = Tensor<std::int32_t, Cpu>::zeros(Cpu{}, {20});
  const auto noise = Tensor<float, Cpu>::zeros(Cpu{}, batch.shape());
  const Tensor<float, Cpu> xt(Cpu{}, batch.shape());
  diffusion.add_noise(batch, t, noise, xt);
  int flipped = 0;
  const auto signal = static_cast<float>(diffusion.levels().signal(0));
  for (int n = 0; n < 20; ++n) {
    const auto at = [&](int column, int channel) {
      return static_cast<std::size_t>(6 * n + 2 * column + channel);
    };
    const bool mirrored = xt.data()[at(0, 0)] > xt.data()[at(2, 0)];
    flipped += mirrored;
    for (int column = 0; column < 3; ++column)
      for (int channel = 0; channel < 2; ++channel) {
        const std::uint8_t byte = pixels[at(mirrored ? 2 - column : column, channel)];
        CHECK(xt.data()[at(column, channel)] ==
              Approx(signal * (static_cast<float>(byte) / 127.5f - 1)).margin(1e-6));
      }
  }
  CHECK(flipped > 2);
  CHECK(flipped < 18);
}

TEST_CASE("a loader feeds the training of a model", "[loader]") {
  Loader loader{numbered(8), Cpu{}, {.batch = 4}, Rng{1}};
  UNetConfig config;
  config.in_channels = config.out_channels = 2;
  config.block_out_channels = {4};
  config.down_blocks = {DownBlock::plain};
  config.up_blocks = {UpBlock::plain};
  config.norm_num_groups = 2;
  config.attention_head_dim.reset();
  Diffusion diffusion{UNet<float, Cpu>(Cpu{}, config, Rng{1}), LinearSchedule{}};
  Rng rng{1};
  CHECK(std::isfinite(diffusion.train_step(loader.next(), rng).value()));
}

TEST_CASE("what a loader refuses", "[loader]") {
  CHECK_THROWS_AS(loader_of(4, 0, 1), ConfigError);
  CHECK_THROWS_AS(loader_of(0, 4, 1), ConfigError);
  CHECK_THROWS_AS(Loader(numbered(4), Cpu{}, {.batch = 4, .prefetch = 0}, Rng{1}), ConfigError);
  auto loader = loader_of(4, 4, 1);
  CHECK_THROWS_AS(loader.seek(-1), ConfigError);
  ImageSet cut = numbered(4);
  cut.pixels.pop_back();
  CHECK_THROWS_AS(Loader(cut, Cpu{}, {.batch = 4}, Rng{1}), ShapeError);
}
