// SPDX-License-Identifier: MIT
// Loader: endless shuffled batches of an ImageSet on a device, prepared while the step before runs.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/core/image_set.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/train/prefetcher.hpp>

namespace ddpm {

struct LoaderOptions {
  int batch = 128;
  int classes = 0;    // of a class-conditional model; 0: batches come without labels
  bool flip = false;  // mirror a random half; done while noising, by each sample's own random bit
  int prefetch = 2;   // batches prepared ahead, at least 1
};

namespace detail {

struct HostBatch {
  std::vector<std::uint8_t> pixels;  // [N, H, W, C]
  std::vector<std::int32_t> labels;  // [N], or empty
};

// The batches of a Loader in host memory.
class BatchStream {
 public:
  BatchStream(ImageSet images, const LoaderOptions& options, std::uint64_t seed)
      : images_(std::move(images)), options_(options), seed_(seed) {
    check<ConfigError>(options.batch >= 1, "Loader: a batch of ", options.batch,
                       " images asked for, expected at least 1");
    check<ConfigError>(options.classes >= 0, "Loader: ", options.classes,
                       " classes asked for, expected at least 0");
    check<ConfigError>(options.prefetch >= 1, "Loader: a prefetch of ", options.prefetch,
                       " batches asked for, expected at least 1");
    check<ConfigError>(images_.count >= 1 && images_.image_size() >= 1,
                       "Loader: there are no images, expected at least 1");
    check(std::ssize(images_.pixels) == images_.count * images_.image_size(),
          "Loader: ", images_.pixels.size(), " bytes of pixels given for images of ",
          images_.shape(images_.count));
    if (options.classes != 0) check_labels();
    order_.resize(static_cast<std::size_t>(images_.count));
  }

  const ImageSet& images() const { return images_; }
  const LoaderOptions& options() const { return options_; }

  // Waits for the next batch, which is valid until pop().
  const HostBatch& front() {
    if (!queue_) start();
    return queue_->front();
  }
  void pop() {
    queue_->pop();
    cursor_ += options_.batch;
  }

  std::int64_t cursor() const { return cursor_; }
  void seek(std::int64_t cursor) {
    check<ConfigError>(cursor >= 0, "Loader: a cursor of ", cursor, " given, expected at least 0");
    queue_.reset();
    cursor_ = cursor;
  }

 private:
  void check_labels() const {
    check<ConfigError>(std::ssize(images_.labels) == images_.count, "Loader: ", images_.labels.size(),
                       " labels given for ", images_.count, " images, expected one each for a model of ",
                       options_.classes, " classes");
    for (std::size_t i = 0; i < images_.labels.size(); ++i)
      check<ConfigError>(images_.labels[i] >= 0 && images_.labels[i] < options_.classes, "Loader: image ", i,
                         " has label ", images_.labels[i], ", expected 0 to ", options_.classes - 1,
                         " for a model of ", options_.classes, " classes");
  }

  void start() {
    HostBatch batch;
    batch.pixels.resize(static_cast<std::size_t>(options_.batch * images_.image_size()));
    if (options_.classes != 0) batch.labels.resize(static_cast<std::size_t>(options_.batch));
    queue_.emplace(std::vector(static_cast<std::size_t>(options_.prefetch), batch),
                   [this, sample = cursor_](HostBatch& to) mutable {
                     fill(to, sample);
                     sample += options_.batch;
                   });
  }

  // Runs on the queue's thread, which alone uses the order while it lives.
  void fill(HostBatch& batch, std::int64_t first) {
    const std::int64_t size = images_.image_size();
    for (std::int64_t i = 0; i < options_.batch; ++i) {
      const std::int64_t image = image_of(first + i);
      std::copy_n(images_.pixels.begin() + image * size, size, batch.pixels.begin() + i * size);
      if (!batch.labels.empty())
        batch.labels[static_cast<std::size_t>(i)] = images_.labels[static_cast<std::size_t>(image)];
    }
  }

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
  std::optional<Prefetcher<HostBatch>> queue_;  // last: its thread uses the rest
};

}  // namespace detail

// Sample k of the run is image k % count of the order of epoch k / count. An order depends on the seed and
// the epoch alone, so a run continues from its cursor exactly, whatever was prepared ahead. After the first
// batch nothing is allocated. Not thread-safe; a thread of the loader's own copies images, every call to the
// device is made by next().
template <class T, Device D>
class Loader {
 public:
  Loader(ImageSet images, const D& device, const LoaderOptions& options, const Rng& rng)
      : stream_(std::make_unique<detail::BatchStream>(std::move(images), options, rng.seed)),
        pixels_(device, this->images().shape(options.batch)) {
    if (options.classes != 0) labels_ = Tensor<std::int32_t, D>(device, {options.batch});
  }

  // The next batch; it is valid until the next call.
  Batch<T, D> next() {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    const detail::HostBatch& batch = stream_->front();
    waited_ += std::chrono::duration<double>(Clock::now() - start).count();
    pixels_.upload(batch.pixels);
    if (!labels_.empty()) labels_.upload(batch.labels);
    stream_->pop();
    return {.pixels = pixels_, .labels = labels_, .flip = options().flip};
  }

  const ImageSet& images() const { return stream_->images(); }
  const LoaderOptions& options() const { return stream_->options(); }
  std::int64_t cursor() const { return stream_->cursor(); }  // samples handed out
  void seek(std::int64_t cursor) { stream_->seek(cursor); }
  double waited() const { return waited_; }  // seconds that next() has waited for images

 private:
  std::unique_ptr<detail::BatchStream> stream_;  // at an address that its thread can rely on
  Tensor<std::uint8_t, D> pixels_;
  Tensor<std::int32_t, D> labels_;
  double waited_ = 0;
};

template <Device D>
Loader(ImageSet, const D&, const LoaderOptions&, const Rng&) -> Loader<float, D>;

}  // namespace ddpm
