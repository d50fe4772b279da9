// SPDX-License-Identifier: MIT
// Folders of a small model: written, read in every format, and refused.
#include <ddpm/io/diffusers.hpp>

#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "io/io_support.hpp"
#include "io/torch_support.hpp"

using namespace ddpm;
using io::DType;

namespace {

// Parameters of each kind, under names of a U-Net; the configuration gives the number of channels.
template <class T, class D>
class Net {
 public:
  using value_type = T;
  using device_type = D;

  Net(const D& device, const UNetConfig& config)
      : config_(config),
        parameters_(device),
        weight_(parameters_.add({c(), 3, 3, c() / 2}, {})),
        bias_(parameters_.add({c()}, {})),
        query_(parameters_.add({c(), c()}, {})),
        out_(parameters_.add({c(), c()}, {})) {
    parameters_.allocate();
  }

  const D& device() const { return parameters_.device(); }
  const UNetConfig& config() const { return config_; }
  ParameterBuffer<T, D>& parameters() { return parameters_; }
  Tensor<T, D> predict(const TensorView<T, D>& x, const TensorView<std::int32_t, D>&) const {
    return Tensor<T, D>::zeros(device(), x.shape());
  }
  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    f(prefix + "conv_in.weight", weight_);
    f(prefix + "conv_in.bias", bias_);
    f(prefix + "mid_block.attentions.0.to_q.weight", query_);
    f(prefix + "mid_block.attentions.0.to_out.0.weight", out_);
  }

 private:
  int c() const { return config_.block_out_channels.front(); }

  UNetConfig config_;
  ParameterBuffer<T, D> parameters_;
  Parameter<T, D> weight_, bias_, query_, out_;
};

using Float = Net<float, Cpu>;

constexpr int channels = 6;

UNetConfig config() {
  UNetConfig config;
  config.block_out_channels = {channels};
  config.down_blocks = {DownBlock::plain};
  config.up_blocks = {UpBlock::plain};
  config.norm_num_groups = 2;
  config.attention_head_dim = 3;
  return config;
}

// Value i of the flat buffer is i / 8, so that every format holds it exactly.
Float numbered() {
  Float model(Cpu{}, config());
  std::vector<float> values(static_cast<std::size_t>(model.parameters().values().numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 256) / 8;
  model.parameters().values().upload(values);
  return model;
}

template <class M>
std::vector<std::vector<float>> values_of(const M& model) {
  std::vector<std::vector<float>> all;
  model.visit("", [&](const std::string&, const auto& parameter) {
    const auto values = parameter.value().to_host();
    all.emplace_back(values.begin(), values.end());
  });
  return all;
}

// What a file holds of the model, in torch's order.
struct Stored {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

std::vector<Stored> torch_tensors(const Float& model) {
  std::vector<Stored> all;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    Stored stored{name, io::detail::torch_shape(parameter.shape()), {}};
    const Shape& s = parameter.shape();
    const auto ours = parameter.value().to_host();
    stored.values = ours;
    if (s.rank() == 4)
      for (std::int64_t i = 0; i < s.numel(); ++i) {  // by its definition: [O, I, H, W] from [O, H, W, I]
        const std::int64_t w = i % s[2], h = i / s[2] % s[1], in = i / (s[1] * s[2]) % s[3],
                           o = i / (s[1] * s[2] * s[3]);
        stored.values[static_cast<std::size_t>(i)] =
            ours[static_cast<std::size_t>(((o * s[1] + h) * s[2] + w) * s[3] + in)];
      }
    all.push_back(std::move(stored));
  });
  return all;
}

template <class T>
std::string bytes_as(const std::vector<float>& values) {
  std::vector<T> converted;
  for (const float value : values) converted.push_back(T(value));
  return {reinterpret_cast<const char*>(converted.data()), converted.size() * sizeof(T)};
}

// An IEEE half of a multiple of 1/8 below 32, from its definition.
struct HalfBits {
  std::uint16_t bits = 0;
  explicit HalfBits(float value) {
    int exponent = 0;
    const float fraction =
        std::frexp(value, &exponent);  // value = fraction * 2^exponent, 0.5 <= fraction < 1
    if (value != 0)
      bits = static_cast<std::uint16_t>((exponent + 14) << 10 | (static_cast<int>(fraction * 2048) & 0x3ff));
  }
};

template <class T>
void write_as(const std::filesystem::path& path, DType dtype, const std::vector<Stored>& tensors) {
  std::vector<std::string> bytes;
  for (const Stored& tensor : tensors) bytes.push_back(bytes_as<T>(tensor.values));
  std::vector<io::TensorToWrite> list;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    list.push_back({tensors[i].name, dtype, tensors[i].shape, bytes[i].data()});
  io::write_safetensors(path, list, {{"format", "pt"}});
}

// A folder with the configuration alone.
std::filesystem::path unet_folder(const TemporaryFolder& folder) {
  io::write_unet_config(folder.put("unet/config.json", ""), config());
  return folder / "unet";
}

std::string load_failure(const TemporaryFolder& folder) {
  const std::string text = failure([&] { io::load_diffusers<Float>(folder.path(), Cpu{}); });
  INFO(text);
  CHECK(mentions(text, ": found "));
  CHECK(mentions(text, ", expected "));
  CHECK(text.size() < 700);
  CHECK_FALSE(mentions(text, "\n"));
  return text;
}

}  // namespace

TEST_CASE("a folder is written and read", "[diffusers]") {
  const TemporaryFolder folder;
  const Float model = numbered();
  io::SchedulerConfig scheduler;
  scheduler.class_name = "DDIMScheduler";
  scheduler.prediction_type = "v_prediction";
  io::save_diffusers(folder.path(), model, scheduler, {.step = 1200, .data_range = {0, 1}});

  CHECK(values_of(io::load_diffusers<Float>(folder.path(), Cpu{})) == values_of(model));
  CHECK(values_of(io::load_diffusers<Net<double, Reference>>(folder.path(), Reference{})) ==
        values_of(model));
  CHECK(values_of(io::load_diffusers<Float>(folder / "unet", Cpu{})) == values_of(model));
  CHECK(io::load_scheduler_config(folder.path()) == scheduler);
  CHECK(io::load_options(folder.path()).prediction == Prediction::v);
  CHECK(io::load_schedule(folder.path()).steps() == 1000);
  CHECK(io::read_unet_config(folder / "unet/config.json") == config());
  CHECK(contents(folder / "model_index.json") ==
        "{\n  \"_class_name\": \"DDIMPipeline\",\n  \"_diffusers_version\": \"0.27.2\",\n  \"scheduler\": [\n"
        "    \"diffusers\",\n    \"DDIMScheduler\"\n  ],\n  \"unet\": [\n    \"diffusers\",\n    "
        "\"UNet2DModel\"\n"
        "  ]\n}\n");

  const io::SafeTensors file(folder / "unet/diffusion_pytorch_model.safetensors");
  CHECK(file.metadata() ==
        std::map<std::string, std::string>{
            {"format", "pt"}, {"library_version", "0.1.0"}, {"step", "1200"}, {"data_range", "[0, 1]"}});
  for (const Stored& tensor : torch_tensors(model)) {
    INFO(tensor.name);
    CHECK(file.tensor(tensor.name).shape == tensor.shape);
    CHECK(file.as<float>(tensor.name) == tensor.values);
  }
  io::save_diffusers(folder.path(), model, {});
  CHECK(io::load_options(folder.path()).prediction == Prediction::epsilon);
  CHECK(mentions(contents(folder / "model_index.json"), "DDPMPipeline"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
    CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("the weights of a model of bf16 are read and written as floats", "[diffusers]") {
  const TemporaryFolder floats, halves;
  Float model = numbered();
  affine(model.parameters().values(), 1 + 0x1p-12, 0, model.parameters().values());
  io::save_diffusers(floats.path(), model, {});
  const auto loaded = io::load_diffusers<Net<bf16, Cpu>>(floats.path(), Cpu{});
  CHECK(values_of(loaded) == values_of(model));
  CHECK(values_of(loaded) != values_of(numbered()));
  loaded.visit("", [](const std::string&, const auto& parameter) {
    const auto values = parameter.value().to_host();
    CHECK(parameter.operand().to_host() == std::vector<bf16>(values.begin(), values.end()));
  });
  io::save_diffusers(halves.path(), loaded, {});
  const char* file = "unet/diffusion_pytorch_model.safetensors";
  CHECK(contents(halves / file) == contents(floats / file));
}

TEST_CASE("weights of every type and in every file are read", "[diffusers]") {
  const TemporaryFolder folder;
  const Float model = numbered();
  const auto tensors = torch_tensors(model);
  const auto unet = unet_folder(folder);
  const auto weights = unet / "diffusion_pytorch_model.safetensors";
  const auto check = [&] {
    const Float loaded = io::load_diffusers<Float>(folder.path(), Cpu{});
    CHECK(values_of(loaded) == values_of(model));
    CHECK(const_cast<Float&>(loaded).parameters().gradients().empty());
  };
  SECTION("f64") { write_as<double>(weights, DType::f64, tensors); }
  SECTION("f32") { write_as<float>(weights, DType::f32, tensors); }
  SECTION("f16") { write_as<HalfBits>(weights, DType::f16, tensors); }
  SECTION("bf16") { write_as<bf16>(weights, DType::bf16, tensors); }
  SECTION("the variant fp16") {
    write_as<HalfBits>(unet / "diffusion_pytorch_model.fp16.safetensors", DType::f16, tensors);
  }
  SECTION("shards") {
    write_as<float>(unet / "first.safetensors", DType::f32, {tensors[0], tensors[2]});
    write_as<bf16>(unet / "second.safetensors", DType::bf16, {tensors[1], tensors[3]});
    folder.put(
        "unet/diffusion_pytorch_model.safetensors.index.json",
        R"({"metadata":{"total_size":1},"weight_map":{"conv_in.weight":"first.safetensors",)"
        R"("mid_block.attentions.0.to_q.weight":"first.safetensors","conv_in.bias":"second.safetensors",)"
        R"("mid_block.attentions.0.to_out.0.weight":"second.safetensors"}})");
  }
  SECTION("old names, with weights of 1x1 convolutions") {
    auto old = tensors;
    old[2].name = "mid_block.attentions.0.query.weight";
    old[3].name = "mid_block.attentions.0.proj_attn.weight";
    for (const std::size_t i : {2u, 3u}) old[i].shape = {channels, channels, 1, 1};
    write_as<float>(weights, DType::f32, old);
  }
  check();
}

TEST_CASE("weights in a file of torch are read, whatever their strides", "[diffusers]") {
  using namespace torch_support;
  const TemporaryFolder folder;
  const Float model = numbered();
  const auto tensors = torch_tensors(model);
  const auto unet = unet_folder(folder);
  // conv_in.weight lies as [O, H, W, I], as our own buffer does; to_q.weight is transposed and a 1x1
  // convolution.
  const auto ours = values_of(model);
  std::vector<float> query(ours[2].size());
  for (std::size_t i = 0; i < query.size(); ++i) query[i % channels * channels + i / channels] = ours[2][i];
  const std::string pickle = state_dict(
      {{"conv_in.weight",
        tensor(storage("FloatStorage", "0", channels * 27), 0, {channels, 3, 3, 3}, {27, 1, 9, 3})},
       {"conv_in.bias", tensor(storage("HalfStorage", "1", channels), 0, {channels}, {1})},
       {"mid_block.attentions.0.query.weight",
        tensor(storage("FloatStorage", "2", 36), 0, {channels, channels, 1, 1}, {1, channels, 1, 1})},
       {"mid_block.attentions.0.proj_attn.weight",
        tensor(storage("BFloat16Storage", "3", 36), 0, {channels, channels}, {channels, 1})}});
  folder.put("unet/diffusion_pytorch_model.bin",
             torch_file(pickle, {bytes_as<float>(ours[0]), bytes_as<HalfBits>(ours[1]),
                                 bytes_as<float>(query), bytes_as<bf16>(ours[3])}));
  CHECK(values_of(io::load_diffusers<Float>(folder.path(), Cpu{})) == ours);
  write_as<float>(unet / "diffusion_pytorch_model.safetensors", DType::f32, {});
  CHECK(mentions(load_failure(folder), "found 0 tensors, 4 missing"));  // safetensors are preferred
}

TEST_CASE("all tensors that do not fit are listed at once", "[diffusers]") {
  const TemporaryFolder folder;
  const Float model = numbered();
  const auto weights = unet_folder(folder) / "diffusion_pytorch_model.safetensors";
  auto tensors = torch_tensors(model);
  tensors[0].shape = {channels, 3, 9, 1};
  tensors[1].name = "conv_in.bios";
  tensors.push_back({"mid_block.attentions.0.query.weight", {1}, {1}});
  tensors.push_back({"x\x01\n", {1}, {1}});
  write_as<float>(weights, DType::f32, tensors);
  Float untouched = numbered();
  const std::string text = failure([&] { io::load_parameters(io::SafeTensors(weights), untouched); });
  CHECK(
      text ==
      weights.string() +
          ": found 6 tensors, 1 missing (conv_in.bias), 3 unknown (\"mid_block.attentions.0.query.weight\", "
          "\"conv_in.bios\", \"x??\"), 1 misshapen (conv_in.weight F32 [6, 3, 9, 1] for [6, 3, 3, 3]), "
          "expected the 4 of the model");
  CHECK(values_of(untouched) == values_of(model));

  tensors.resize(4);
  for (int i = 0; i < 10; ++i) tensors.push_back({"extra." + std::to_string(i), {1}, {1}});
  write_as<float>(weights, DType::f32, tensors);
  CHECK(mentions(load_failure(folder), "\"extra.0\", \"extra.1\" and 8 more)"));

  write_as<std::int32_t>(weights, DType::i32, torch_tensors(model));
  CHECK(mentions(load_failure(folder), "4 misshapen (conv_in.weight I32 [6, 3, 3, 3] for [6, 3, 3, 3], "));
}

TEST_CASE("an index of shards that lies is refused", "[diffusers]") {
  const TemporaryFolder folder;
  const auto tensors = torch_tensors(numbered());
  const auto unet = unet_folder(folder);
  write_as<float>(unet / "a.safetensors", DType::f32, tensors);
  write_as<float>(unet / "b.safetensors", DType::f32, {tensors[0]});
  folder.put("outside.safetensors", contents(unet / "a.safetensors"));
  const auto index = [&](const std::string& json) {
    folder.put("unet/diffusion_pytorch_model.safetensors.index.json", json);
    return load_failure(folder);
  };
  CHECK(mentions(index("{}"), "no object weight_map"));
  CHECK(mentions(index(R"({"weight_map":[]})"), "no object weight_map"));
  CHECK(mentions(index(R"({"weight_map":{}})"), "found 0 tensors, 4 missing"));
  CHECK(mentions(index(R"({"weight_map":{"conv_in.weight":1}})"), "1 as the file"));
  for (const char* name : {"../outside.safetensors", "/etc/passwd", "sub/a.safetensors", "a.bin", "",
                           "x\\u0000.safetensors", "x\\\\y.safetensors"})
    CHECK(mentions(index(std::string(R"({"weight_map":{"conv_in.weight":")") + name + "\"}}"),
                   "in the same folder"));
  CHECK(mentions(index(R"({"weight_map":{"conv_in.weight":"c.safetensors"}})"),
                 "c.safetensors: found an error"));
  CHECK(mentions(index(R"({"weight_map":{"conv_in.bias":"b.safetensors"}})"),
                 "no \"conv_in.bias\" in b.safetensors"));
  CHECK(mentions(index(R"({"weight_map":{"conv_in.bias":"a.safetensors","conv_in.weight":"b.safetensors"}})"),
                 "\"conv_in.weight\" twice"));
}

TEST_CASE("a full disk leaves the old checkpoint as it was", "[diffusers]") {
  const TemporaryFolder folder;
  const Float model = numbered();
  io::save_diffusers(folder.path(), model, {}, {.step = 1});
  const auto all_files = [&] {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
      if (entry.is_regular_file()) files[entry.path().string()] = contents(entry.path());
    return files;
  };
  const auto before = all_files();
  CHECK(before.size() == 4);
  Float other = numbered();
  other.parameters().values().zero();

  // A file may grow to `limit` bytes and no further, as on a disk that fills up there.
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const auto size = std::filesystem::file_size(folder / "unet/diffusion_pytorch_model.safetensors");
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{size / 2}, rlim_t{size - 1}}) {
    const rlimit tight{limit, old.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const std::string text = failure([&] { io::save_diffusers(folder.path(), other, {}, {.step = 2}); });
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
    INFO(limit << ": " << text);
    CHECK(mentions(text, ": found an error in writing "));
    CHECK(mentions(text, "File too large"));
    CHECK_FALSE(mentions(text, "\n"));
    CHECK(all_files() == before);
  }
  std::signal(SIGXFSZ, old_handler);
  io::save_diffusers(folder.path(), other, {}, {.step = 2});
  CHECK(all_files() != before);
}

TEST_CASE("a folder that cannot be written to", "[diffusers]") {
  const TemporaryFolder folder;
  const auto file = folder.put("file", "x");
  const std::string text = failure([&] { io::save_diffusers(file, numbered(), {}); });
  CHECK(is_io_sentence(text, file / "unet"));
  CHECK(
      mentions(failure<ConfigError>([&] { io::save_diffusers(folder / "new", numbered(), {.beta_end = 7}); }),
               "beta_end is 7"));
  CHECK(folder.files() == 1);
}

TEST_CASE("every changed byte of a small checkpoint is refused or read", "[diffusers]") {
  const TemporaryFolder folder;
  const auto weights = unet_folder(folder) / "diffusion_pytorch_model.safetensors";
  write_as<bf16>(weights, DType::bf16, torch_tensors(numbered()));
  const std::string whole = contents(weights);
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  for (std::size_t i = 0; i < 8 + header; ++i)
    for (const int change : {1, 0x20, 0x80}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ change);
      folder.put("unet/diffusion_pytorch_model.safetensors", changed);
      const std::string text = failure([&] { io::load_diffusers<Float>(folder.path(), Cpu{}); });
      if (!text.empty()) CHECK(text.starts_with(weights.string() + ": found "));
    }
}
