// SPDX-License-Identifier: MIT
// forward CHECKPOINT_DIR IN.safetensors OUT.safetensors SAVED_DIR: runs a U-Net on x [N, C, H, W], t [N] and, where
// given, labels [N]; writes what each layer put out and `out`; saves the model again.
#include <cstdio>

#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>

namespace {

using namespace ddpm;
using Net = UNet<float, Cpu>;

Tensor<std::int32_t, Cpu> integers(const io::SafeTensors& file, const char* name) {
  const auto stored = file.as<std::int64_t>(name);
  const std::vector<std::int32_t> values(stored.begin(), stored.end());
  return {Cpu{}, {std::ssize(values)}, values};
}

// Tensors in torch's order, to be written.
class Results {
 public:
  void add(const std::string& name, const TensorView<float, Cpu>& y) {
    values_.push_back(io::detail::reorder(y.to_host(), y.shape(), io::detail::Direction::to_torch));
    tensors_.push_back({name, io::DType::f32, io::detail::torch_shape(y.shape()), values_.back().data()});
  }
  void write(const char* path) const { io::write_safetensors(path, tensors_); }

 private:
  std::vector<std::vector<float>> values_;
  std::vector<io::TensorToWrite> tensors_;
};

}  // namespace

int main(int argc, char** argv) try {
  check<ConfigError>(argc == 5, "found ", argc - 1,
                     " arguments, expected CHECKPOINT_DIR IN.safetensors OUT.safetensors SAVED_DIR");
  const auto model = io::load_diffusers<Net>(argv[1], Cpu{});
  const io::SafeTensors in{argv[2]};
  const auto& s = in.tensor("x").shape;
  const Shape shape{s.at(0), s.at(2), s.at(3), s.at(1)};
  const Tensor<float, Cpu> x{
      Cpu{}, shape, io::detail::reorder(in.as<float>("x"), shape, io::detail::Direction::from_torch)};
  const auto t = integers(in, "t");
  const auto labels = in.contains("labels") ? integers(in, "labels") : Tensor<std::int32_t, Cpu>{};
  Net::Cache cache;
  cache.labels = labels;
  Results results;
  const auto out = model.forward(x, t, cache);
  for (std::size_t i = 0; i < cache.activations.size(); ++i)
    results.add("layer." + std::to_string(i), cache.activations[i]);
  results.add("out", out);
  results.write(argv[3]);
  io::save_diffusers(argv[4], model, io::load_scheduler_config(argv[1]));
} catch (const std::exception& error) {
  std::fprintf(stderr, "forward: %s\n", error.what());
  return 1;
}
