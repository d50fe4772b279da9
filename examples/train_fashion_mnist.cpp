// SPDX-License-Identifier: MIT
// Trains a DDPM on Fashion-MNIST (or another folder of IDX files) and samples from it; train_fashion_mnist --help lists
// the options.
#include <csignal>
#include <fstream>

#include "target.hpp"

#include <ddpm/io.hpp>

namespace example {

using namespace ddpm;

struct Options {
  Target target;
  std::string data = "/usr/share/datasets/fashion-mnist";
  std::filesystem::path out = "demo";
  double minutes = 10;
  long long steps = 0;  // 0: as many as there is time for
  int batch = 32;
  double lr = 2e-3;
  int warmup = 200;
  double ema = 0.999;
  std::uint64_t seed = 42;
};

constexpr int steps_per_line = 50;  // of metrics.jsonl

volatile std::sig_atomic_t interrupted = 0;

// Everything a run leaves behind, in one folder.
class Output {
 public:
  Output(const Options& options) : folder_(options.out) {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    metrics_.open(folder_ / "metrics.jsonl");
    check<IoError>(!error && metrics_.good(), folder_.string(),
                   ": found no way to write there, expected a folder that can be written");
  }

  void step(long long step, double loss, double lr, double rate) {
    steps_.push_back(double(step));
    losses_.push_back(loss);
    line(message("{\"step\": ", step, ", \"loss\": ", loss, ", \"lr\": ", lr,
                 ", \"images_per_second\": ", rate, "}"));
  }
  void line(const std::string& json) {
    metrics_ << json << std::endl;
    check<IoError>(metrics_.good(), (folder_ / "metrics.jsonl").string(),
                   ": found no room to write, expected a disk with space left");
  }
  void plot() const {
    if (losses_.size() > 1)
      io::write_line_plot(folder_ / "loss.png", steps_, losses_,
                          {.title = "training loss",
                           .x_label = "step",
                           .y_label = "eps-MSE",
                           .log_y = true,
                           .smoothing = 0.9});
  }
  std::filesystem::path file(const char* name) const { return folder_ / name; }

 private:
  std::filesystem::path folder_;
  std::ofstream metrics_;
  std::vector<double> steps_, losses_;
};

// The eps-MSE of the averaged weights on images that were not trained on, each seen once.
template <class Process, class Net>
double held_out_loss(const Process& process, const Net& average, ImageSet images, std::uint64_t seed) {
  constexpr int batch = 100;
  Rng rng{seed};
  const std::int64_t batches = images.count / batch;
  Loader loader{std::move(images), process.model().device(), {.batch = batch}, rng};
  double sum = 0;
  for (std::int64_t i = 0; i < batches; ++i) sum += process.loss(average, loader.next(), rng).value();
  return sum / double(batches);
}

// Eight images on their way from noise: one row each, left to right.
template <class Net>
void write_denoising(const std::filesystem::path& path, const Denoiser<Net>& denoiser, const Shape& image,
                     Rng rng) {
  constexpr int images = 8, columns = 10, steps = 50;
  const std::int64_t size = image[1] * image[2] * image[3];
  std::vector<float> cells(static_cast<std::size_t>(images * columns * size));
  const auto keep = [&](const Sampling<Net>& sampling) {
    if (sampling.done() % (steps / columns) != 0) return;
    const auto x = sampling.x().to_host();
    const std::int64_t column = sampling.done() / (steps / columns) - 1;
    for (std::int64_t i = 0; i < images; ++i)
      std::copy_n(x.begin() + i * size, size, cells.begin() + (i * columns + column) * size);
  };
  denoiser.sample({images, image[1], image[2], image[3]}, rng, Ddim{.steps = steps}, keep);
  io::write_grid(path, cells, {images * columns, image[1], image[2], image[3]}, columns);
}

template <class Process, class Average, class Images>
void train(const Options& o, Process& process, Average& ema, Images& loader, Output& output) {
  AdamW optimizer{process.model(), {.lr = o.lr, .grad_clip = 1}};
  TrainingStep train_step{process, optimizer, &ema};
  Rng rng{o.seed};
  ProgressBar bar{"training"};
  const Shape grid{64, loader.images().height, loader.images().width, loader.images().channels};
  char details[96] = "";
  double next_preview = 0.25, recent_losses = 0;
  for (long long step = 1;; ++step) {
    const double progress = o.steps ? double(step - 1) / double(o.steps) : bar.elapsed() / (60 * o.minutes);
    if (progress >= 1 || interrupted) break;
    optimizer.options().lr = linear_warmup(cosine_decay(o.lr, 0.02 * o.lr, progress), step, o.warmup);
    const double loss = train_step(loader.next(), rng).value();
    check<Error>(std::isfinite(loss), "train: the loss is ", loss, " at step ", step, ", try a lower --lr");
    const double rate = double(step) * o.batch / bar.elapsed();
    recent_losses += loss;
    if (step % steps_per_line == 0)
      output.step(step, std::exchange(recent_losses, 0) / steps_per_line, optimizer.options().lr, rate);
    std::snprintf(details, sizeof details, "step %lld  loss %.4f  %.0f images/s", step, loss, rate);
    bar.update(progress, details);
    if (progress >= next_preview) {
      next_preview += 0.25;
      io::write_grid(output.file("samples.png"), process.with(ema.model()).sample(grid, rng, Ddim{}), 8);
    }
  }
  if (!interrupted) bar.complete(details);
}

template <class Process, class Net>
void sample(const Process& process, const Net& average, const Options& o, const Shape& image,
            const Output& output) {
  Rng rng{o.seed + 1};
  const auto samples =
      process.with(average).sample({256, image[1], image[2], image[3]}, rng, Ddim{.steps = 50});
  io::write_grid(output.file("samples.png"), samples.slice(0, 64), 8);
  const auto values = samples.to_host();
  const io::TensorToWrite tensor{
      "samples", io::DType::f32, {256, image[1], image[2], image[3]}, values.data()};
  io::write_safetensors(output.file("samples.safetensors"), {&tensor, 1},
                        {{"layout", "NHWC"}, {"range", "-1 to 1"}});
  write_denoising(output.file("denoising.png"), process.with(average), image, rng);
}

template <Element T, Device D>
int run(const Options& o, const D& device) {
  const Rng rng{o.seed};
  Output output{o};
  Loader loader{io::fashion_mnist(o.data), device, {.batch = o.batch}, rng};
  const ImageSet& images = loader.images();
  UNetConfig config = UNetConfig::fashion_mnist();
  config.height = images.height, config.width = images.width;
  Diffusion process{UNet<T, D>{device, config, rng}, LinearSchedule{}};
  Ema ema{process.model(), o.ema, {.warmup = true}};

  train(o, process, ema, loader, output);
  io::save_diffusers(output.file("checkpoint"), ema.model(), io::SchedulerConfig{});
  const auto saved = io::load_diffusers<UNet<T, D>>(output.file("checkpoint"),
                                                    device);  // what was written is what will be read
  output.plot();
  sample(process, saved, o, images.shape(1), output);
  const double loss = held_out_loss(process, saved, io::fashion_mnist(o.data, io::Split::test), o.seed + 2);
  output.line(message("{\"held_out_eps_mse\": ", loss, ", \"images_seen\": ", loader.cursor(), "}"));
  std::printf("held-out eps-MSE %.4f after %lld images; see %s\n", loss,
              static_cast<long long>(loader.cursor()), output.file("samples.png").string().c_str());
  return interrupted ? 128 + interrupted : 0;
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("--data", o.data, "folder of IDX files");
  app.add_option("--out", o.out, "folder for pictures, metrics and the checkpoint");
  app.add_option("--minutes", o.minutes, "how long to train")->check(CLI::Range(0.01, 1e5));
  app.add_option("--steps", o.steps, "how many steps to train, in place of --minutes")
      ->check(CLI::Range(1, 1000000000));
  app.add_option("--batch", o.batch, "images in a step")->check(CLI::Range(1, 4096));
  app.add_option("--lr", o.lr, "peak learning rate")->check(CLI::Range(1e-6, 1.0));
  app.add_option("--warmup", o.warmup, "steps of linear warmup")->check(CLI::Range(0, 1000000));
  app.add_option("--ema", o.ema, "decay of the averaged weights")->check(CLI::Range(0.0, 0.99999));
  add_target(app, o.target);
  app.add_option("--seed", o.seed, "seed of every random number");
}

}  // namespace example

int main(int argc, char** argv) try {
  const auto note = [](int signal) { example::interrupted = signal; };
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
  example::Options options;
  CLI::App app{"Train a DDPM on Fashion-MNIST and sample from it."};
  app.option_defaults()->always_capture_default();
  example::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  return example::run_on_target(options, ddpm::Cpu{ddpm::Cpu::Convolution::fast});
} catch (const std::exception& error) {
  std::fprintf(stderr, "\ntrain_fashion_mnist: %s\n", error.what());
  return 1;
}
