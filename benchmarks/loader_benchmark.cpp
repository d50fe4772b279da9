// SPDX-License-Identifier: MIT
// Images per second on their way to a model: decoded from a folder, read from its cache, handed out in
// batches; and how much of a training step is spent waiting for them.
//
//   DDPM_THREADS=2 ./loader_benchmark
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/io/image_folder.hpp>

namespace {

using namespace ddpm;

ImageSet random_images(std::int64_t count, int side, int channels) {
  ImageSet set{{}, {}, count, side, side, channels};
  set.pixels.resize(static_cast<std::size_t>(count * set.image_size()));
  for (std::size_t i = 0; i < set.pixels.size(); ++i)
    set.pixels[i] =
        static_cast<std::uint8_t>(random_words({1, i / 4, 0, RandomStream::shuffle}, 0).word[i % 4]);
  return set;
}

// A folder of PNG files of 32x32x3, removed at the end.
class PngFolder {
 public:
  static constexpr int count = 10'000;

  PngFolder() : path_(std::filesystem::temp_directory_path() / "ddpm_loader_benchmark") {
    constexpr int side = 32;
    std::filesystem::create_directories(path_);
    const ImageSet set = random_images(count, side, 3);
    for (int i = 0; i < count; ++i) {
      const std::string name = path_ / (std::to_string(i) + ".png");
      std::ofstream(name, std::ios::binary) << io::detail::encode_png(
          &set.pixels[static_cast<std::size_t>(i * set.image_size())], side, side, 3, name);
    }
  }
  PngFolder(const PngFolder&) = delete;
  PngFolder& operator=(const PngFolder&) = delete;
  ~PngFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void read_folder(benchmark::State& state, const io::ImageFolderOptions& options) {
  static const PngFolder folder;
  io::image_folder(folder.path(), options);
  for (auto _ : state)
    benchmark::DoNotOptimize(io::image_folder(folder.path(), options).images.pixels.data());
  state.SetItemsProcessed(state.iterations() * PngFolder::count);
}

void next_batch(benchmark::State& state) {
  Loader loader{random_images(50'000, 32, 3), Cpu{}, {.batch = 128}, Rng{1}};
  for (auto _ : state) benchmark::DoNotOptimize(loader.next().pixels.data());
  state.SetItemsProcessed(state.iterations() * 128);
}

// The demo's model and batch.
void train_step(benchmark::State& state) {
  const Cpu device{Cpu::Convolution::fast};
  Rng rng{1};
  const UNetConfig config = UNetConfig::fashion_mnist();
  Loader loader{random_images(60'000, 28, 1), device, {.batch = 32}, rng};
  Diffusion diffusion{UNet<float, Cpu>{device, config, rng}, LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.lr = 1e-3, .grad_clip = 1}};
  const auto step = [&] {
    diffusion.train_step(loader.next(), rng);
    optimizer.step();
  };
  step();  // takes the memory, and starts the loader's thread
  const double waited = loader.waited();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) step();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  state.counters["waited_%"] = 100 * (loader.waited() - waited) / elapsed.count();
  state.SetItemsProcessed(state.iterations() * 32);
}

BENCHMARK_CAPTURE(read_folder, decoded, io::ImageFolderOptions{.cache = "/dev/null"})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(read_folder, cached, io::ImageFolderOptions{})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(next_batch)->UseRealTime();
BENCHMARK(train_step)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
