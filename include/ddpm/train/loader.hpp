// SPDX-License-Identifier: MIT
// Loader: endless shuffled batches of an ImageSet on a device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include <ddpm/core/image_set.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/diffusion/diffusion.hpp>

namespace ddpm {

struct LoaderOptions {
  int batch = 128;
  bool labels = false;  // for a class-conditional model
  bool flip = false;    // mirror a random half; done while noising, by each sample's own random bit
};

// Sample k of the run is image k % count of the order of epoch k / count. An order depends on the seed and
// the epoch alone, so a run continues from its cursor exactly.
template <class T, Device D>
class Loader {
 public:
  Loader(ImageSet images, const D& device, const LoaderOptions& options, const Rng& rng)
      : images_(std::move(images)), options_(options), seed_(rng.seed) {
    check<ConfigError>(options.batch >= 1, "Loader: a batch of ", options.batch,
                       " images, expected at least 1");
    check<ConfigError>(images_.count >= 1, "Loader: there are no images");
    pixels_ = Tensor<std::uint8_t, D>(device, images_.shape(options.batch));
    check<ConfigError>(!options.labels || !images_.labels.empty(),
                       "Loader: labels asked for, the images have none");
    if (options.labels) labels_ = Tensor<std::int32_t, D>(device, {options.batch});
    staged_pixels_.resize(static_cast<std::size_t>(pixels_.numel()));
    staged_labels_.resize(static_cast<std::size_t>(options.batch));
    order_.resize(static_cast<std::size_t>(images_.count));
  }

  // The next batch; it is valid until the next call.
  Batch<T, D> next() {
    const std::int64_t size = images_.image_size();
    for (int i = 0; i < options_.batch; ++i, ++cursor_) {
      const std::int64_t image = image_of(cursor_);
      std::copy_n(images_.pixels.begin() + image * size, size, staged_pixels_.begin() + i * size);
      if (options_.labels)
        staged_labels_[static_cast<std::size_t>(i)] = images_.labels[static_cast<std::size_t>(image)];
    }
    pixels_.upload(staged_pixels_);
    if (options_.labels) labels_.upload(staged_labels_);
    return {.pixels = pixels_, .labels = labels_, .flip = options_.flip};
  }

  const ImageSet& images() const { return images_; }
  std::int64_t cursor() const { return cursor_; }  // samples handed out
  void seek(std::int64_t cursor) { cursor_ = cursor; }

 private:
  std::int64_t image_of(std::int64_t sample) {
    const std::int64_t epoch = sample / images_.count;
    if (epoch != shuffled_epoch_) shuffle(epoch);
    return order_[static_cast<std::size_t>(sample % images_.count)];
  }

  // Fisher-Yates, with the random words of this epoch.
  void shuffle(std::int64_t epoch) {
    const RandomPosition at{seed_, static_cast<std::uint64_t>(epoch), 0, RandomStream::shuffle};
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    for (std::size_t i = order_.size(); i > 1; --i) {
      const std::uint32_t word = random_words(at, static_cast<std::uint32_t>(i / 4)).word[i % 4];
      std::swap(order_[i - 1], order_[uniform_below(word, static_cast<std::uint32_t>(i))]);
    }
    shuffled_epoch_ = epoch;
  }

  ImageSet images_;
  LoaderOptions options_;
  std::uint64_t seed_;
  std::int64_t cursor_ = 0;
  std::int64_t shuffled_epoch_ = -1;
  std::vector<std::int64_t> order_;
  std::vector<std::uint8_t> staged_pixels_;
  std::vector<std::int32_t> staged_labels_;
  Tensor<std::uint8_t, D> pixels_;
  Tensor<std::int32_t, D> labels_;
};

template <Device D>
Loader(ImageSet, const D&, const LoaderOptions&, const Rng&) -> Loader<float, D>;

}  // namespace ddpm
