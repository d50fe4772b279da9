// SPDX-License-Identifier: MIT
#include <ddpm/io/diffusers_config.hpp>
#include <ddpm/io/diffusers_folder.hpp>
#include <ddpm/io/scheduler.hpp>
#include <ddpm/io/scheduler_config.hpp>

#include <limits>
#include <string>

#include "catch_shim.hpp"
#include "io_support.hpp"

using namespace ddpm;

namespace {

const char* const cifar10_json = R"({
  "_class_name": "UNet2DModel",
  "_diffusers_version": "0.27.2",
  "sample_size": 32,
  "in_channels": 3,
  "out_channels": 3,
  "center_input_sample": false,
  "time_embedding_type": "positional",
  "freq_shift": 1,
  "flip_sin_to_cos": false,
  "down_block_types": [
    "DownBlock2D",
    "AttnDownBlock2D",
    "DownBlock2D",
    "DownBlock2D"
  ],
  "up_block_types": [
    "UpBlock2D",
    "UpBlock2D",
    "AttnUpBlock2D",
    "UpBlock2D"
  ],
  "block_out_channels": [
    128,
    256,
    256,
    256
  ],
  "layers_per_block": 2,
  "mid_block_scale_factor": 1,
  "downsample_padding": 0,
  "downsample_type": "conv",
  "upsample_type": "conv",
  "dropout": 0.0,
  "act_fn": "silu",
  "attention_head_dim": null,
  "norm_num_groups": 32,
  "attn_norm_num_groups": null,
  "norm_eps": 1e-06,
  "resnet_time_scale_shift": "default",
  "add_attention": true,
  "class_embed_type": null,
  "num_class_embeds": null,
  "num_train_timesteps": null
}
)";

// The sentence with which a config of two levels and this member is refused.
std::string refusal(const std::string& member) {
  const std::string levels =
      R"("block_out_channels":[32,64],"down_block_types":["DownBlock2D","AttnDownBlock2D"],)"
      R"("up_block_types":["UpBlock2D","UpBlock2D"])";
  const bool is_level_key = mentions(member, "block_out_channels") || mentions(member, "block_types");
  const std::string text = failure<ConfigError>(
      [&] { io::parse_unet_config("{" + (is_level_key ? "" : levels + ",") + member + "}", "config.json"); });
  INFO(member << " -> " << text);
  CHECK(text.starts_with("config.json: "));
  CHECK(mentions(text, ", expected "));
  CHECK_FALSE(mentions(text, "\n"));
  CHECK(text.size() < 400);
  return text;
}

std::string scheduler_refusal(const std::string& member) {
  const std::string text = failure<ConfigError>([&] { io::parse_scheduler_config("{" + member + "}"); });
  INFO(member << " -> " << text);
  CHECK(text.starts_with("scheduler_config.json: "));
  CHECK(mentions(text, ", expected "));
  return text;
}

}  // namespace

TEST_CASE("an empty config is UNet2DModel() of today") {
  const UNetConfig config = io::parse_unet_config("{}");
  CHECK(config == UNetConfig{});
  CHECK(config.attention_head_dim == 8);
  CHECK(config.norm_eps == 1e-5);
}

TEST_CASE("a config of diffusers is read, and written as diffusers writes it") {
  const UNetConfig config = io::parse_unet_config(cifar10_json);
  CHECK(config == UNetConfig::cifar10());
  CHECK(io::unet_config_json(config) == cifar10_json);
}

TEST_CASE("every value survives being written and read") {
  for (const UNetConfig& plain : {UNetConfig{}, UNetConfig::cifar10(), UNetConfig::fashion_mnist()})
    CHECK(io::parse_unet_config(io::unet_config_json(plain)) == plain);
  UNetConfig config = UNetConfig::cifar10();
  config.height = 48;
  config.width = 64;
  config.in_channels = 4;
  config.out_channels = 6;
  config.center_input_sample = true;
  config.freq_shift = 0.5;
  config.mid_block_scale_factor = 1.41421356;
  config.dropout = 0.1;
  config.attention_head_dim = 16;
  config.attn_norm_num_groups = 16;
  config.norm_eps = 1e-7;
  config.resnet_time_scale_shift = TimeScaleShift::scale_shift;
  config.add_attention = false;
  config.num_class_embeds = 10;
  CHECK(io::parse_unet_config(io::unet_config_json(config)) == config);
}

TEST_CASE("the meaning of absent, null and lists") {
  const auto parse = [](const std::string& json) { return io::parse_unet_config(json); };
  CHECK_FALSE(parse(R"({"attention_head_dim":null})").attention_head_dim.has_value());
  CHECK(parse(R"({"sample_size":[16,24]})").width == 24);
  CHECK(parse(R"({"sample_size":null})").height == 0);
  CHECK(parse(R"({"act_fn":"swish"})") == UNetConfig{});
  CHECK(parse(R"({"num_class_embeds":10})").num_class_embeds == 10);
  // Keys of releases since 0.27.
  CHECK(parse(R"({"mid_block_type":"UNetMidBlock2D","time_embedding_dim":null})") == UNetConfig{});
  CHECK(parse(R"({"time_embedding_dim":896})") == UNetConfig{});
  CHECK(parse(R"({"num_train_timesteps":1000,"_name_or_path":"x","_anything":[1]})") == UNetConfig{});
  CHECK(parse(R"({"add_attention":false,"attention_head_dim":7,"down_block_types":["DownBlock2D"],)"
              R"("up_block_types":["UpBlock2D"],"block_out_channels":[32]})")
            .attention_head_dim == 7);  // never used, so it divides nothing
}

TEST_CASE("a config that cannot be honoured is refused") {
  CHECK(refusal(R"("_class_name":"UNet2DConditionModel")") ==
        "config.json: _class_name is \"UNet2DConditionModel\", expected \"UNet2DModel\"");
  CHECK(refusal(R"("downsample_padding":2)") ==
        "config.json: downsample_padding is 2, expected an integer from 0 to 1");
  CHECK(mentions(refusal(R"("act_fn":"gelu")"), "act_fn is \"gelu\", expected \"silu\" or \"swish\""));
  CHECK(mentions(refusal(R"("attention_head_dim":24)"),
                 "attention_head_dim is 24, expected a divisor of the 64"));
  CHECK(mentions(refusal(R"("norm_num_groups":24)"), "norm_num_groups is 24, expected a divisor of the 32"));
  CHECK(mentions(refusal(R"("resnet_skip_time_act":true)"), "\"resnet_skip_time_act\""));
  for (const char* member : {R"("time_embedding_type":"fourier")",
                             R"("time_embedding_type":"learned")",
                             R"("downsample_type":"resnet")",
                             R"("upsample_type":"resnet")",
                             R"("mid_block_type":null)",
                             R"("mid_block_type":"UNetMidBlock2DCrossAttn")",
                             R"("time_embedding_dim":64)",
                             R"("class_embed_type":"timestep")",
                             R"("class_embed_type":"identity")",
                             R"("class_embed_type":0)",
                             R"("resnet_time_scale_shift":"ada_group")",
                             R"("sample_size":0)",
                             R"("sample_size":-32)",
                             R"("sample_size":32.0)",
                             R"("sample_size":[32])",
                             R"("sample_size":[32,32,32])",
                             R"("sample_size":"32")",
                             R"("sample_size":[32,0])",
                             R"("in_channels":0)",
                             R"("out_channels":-1)",
                             R"("in_channels":3.5)",
                             R"("in_channels":null)",
                             R"("in_channels":true)",
                             R"("in_channels":9999999999999)",
                             R"("in_channels":18446744073709551615)",
                             R"("layers_per_block":0)",
                             R"("layers_per_block":[2,2])",
                             R"("center_input_sample":0)",
                             R"("flip_sin_to_cos":"true")",
                             R"("freq_shift":null)",
                             R"("freq_shift":16)",
                             R"("norm_eps":0)",
                             R"("norm_eps":-1e-5)",
                             R"("norm_eps":"1e-5")",
                             R"("dropout":1)",
                             R"("dropout":-0.1)",
                             R"("mid_block_scale_factor":0)",
                             R"("attention_head_dim":0)",
                             R"("attention_head_dim":8.0)",
                             R"("attention_head_dim":128)",
                             R"("attn_norm_num_groups":48)",
                             R"("norm_num_groups":null)",
                             R"("num_class_embeds":0)",
                             R"("num_class_embeds":-3)",
                             R"("add_attention":null)"})
    refusal(member);
}

TEST_CASE("levels that do not fit together are refused") {
  CHECK(mentions(refusal(R"("block_out_channels":[32,64])"), "expected 2 as in block_out_channels"));
  CHECK(mentions(refusal(R"("down_block_types":["DownBlock2D","CrossAttnDownBlock2D"])"),
                 "CrossAttnDownBlock2D"));
  CHECK(mentions(refusal(R"("up_block_types":["SkipUpBlock2D"])"), "SkipUpBlock2D"));
  for (const char* member :
       {R"("block_out_channels":[])", R"("block_out_channels":32)", R"("block_out_channels":[32,"64",64,64])",
        R"("block_out_channels":[32,0,64,64])", R"("block_out_channels":[224,448,672,672.0])",
        R"("block_out_channels":null)", R"("down_block_types":[])", R"("down_block_types":"DownBlock2D")",
        R"("down_block_types":[1])", R"("up_block_types":["DownBlock2D"])", R"("up_block_types":[null])"})
    refusal(member);
}

TEST_CASE("what is no config at all is an IoError") {
  for (const char* text :
       {"", "null", "[]", "{", "{\"norm_eps\":NaN}", "{\"norm_eps\":1e999}", "{\"a\":1,\"a\":1}"}) {
    INFO(text);
    CHECK(is_io_sentence(failure([&] { io::parse_unet_config(text); }), "config.json"));
    if (!mentions(text, "NaN"))  // which a scheduler may have, see below
      CHECK(is_io_sentence(failure([&] { io::parse_scheduler_config(text); }), "scheduler_config.json"));
  }
  CHECK(mentions(failure([&] { io::parse_unet_config("{\"a\":" + std::string(1'000'000, '[')); }), "deeper"));
  const TemporaryFolder folder;
  CHECK(is_io_sentence(failure([&] { io::read_unet_config(folder / "x"); }), folder / "x"));
}

TEST_CASE("schedulers: defaults and round trip") {
  CHECK(io::parse_scheduler_config("{}") == io::SchedulerConfig{});
  CHECK_FALSE(io::parse_scheduler_config("{}").is_ddim());
  const auto ddim = io::parse_scheduler_config(R"({"_class_name":"DDIMScheduler"})");
  CHECK(ddim.is_ddim());
  CHECK(ddim.set_alpha_to_one);
  CHECK(io::parse_scheduler_config(io::scheduler_config_json(ddim)) == ddim);

  io::SchedulerConfig config;
  config.num_train_timesteps = 3;
  config.trained_betas = {0.1, 0.2, 0.3};
  config.beta_start = 0.00085;
  config.beta_end = 0.012;
  config.beta_schedule = "scaled_linear";
  config.variance_type = "fixed_large";
  config.clip_sample = false;
  config.clip_sample_range = 2;
  config.prediction_type = "v_prediction";
  config.thresholding = true;
  config.dynamic_thresholding_ratio = 0.9;
  config.sample_max_value = 1.5;
  config.timestep_spacing = "trailing";
  config.steps_offset = 1;
  config.rescale_betas_zero_snr = true;
  CHECK(io::parse_scheduler_config(io::scheduler_config_json(config)) == config);
}

TEST_CASE("a scheduler is written as diffusers writes it") {
  CHECK(io::scheduler_config_json({}) == R"({
  "_class_name": "DDPMScheduler",
  "_diffusers_version": "0.27.2",
  "num_train_timesteps": 1000,
  "beta_start": 0.0001,
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "trained_betas": null,
  "variance_type": "fixed_small",
  "clip_sample": true,
  "prediction_type": "epsilon",
  "thresholding": false,
  "dynamic_thresholding_ratio": 0.995,
  "clip_sample_range": 1.0,
  "sample_max_value": 1.0,
  "timestep_spacing": "leading",
  "steps_offset": 0,
  "rescale_betas_zero_snr": false
}
)");
}

TEST_CASE("schedulers that cannot be honoured are refused") {
  CHECK(mentions(scheduler_refusal(R"("variance_type":"fixed_large_log")"), "fixed_large_log"));
  for (const char* member : {R"("_class_name":"PNDMScheduler")",
                             R"("num_train_timesteps":0)",
                             R"("num_train_timesteps":1e3)",
                             R"("beta_start":0)",
                             R"("beta_end":1.5)",
                             R"("beta_end":"0.02")",
                             R"("beta_schedule":"cosine")",
                             R"("trained_betas":[0.1])",
                             R"("trained_betas":0.1)",
                             R"("num_train_timesteps":1,"trained_betas":[2])",
                             R"("num_train_timesteps":1,"trained_betas":["x"])",
                             R"("clip_sample":1)",
                             R"("clip_sample_range":0)",
                             R"("prediction_type":"flow")",
                             R"("dynamic_thresholding_ratio":0)",
                             R"("sample_max_value":-1)",
                             R"("timestep_spacing":"even")",
                             R"("steps_offset":-1)",
                             R"("steps_offset":1000)",
                             R"("variance_type":"learned")",
                             R"("variance_type":"learned_range")",
                             R"("variance_type":null)",
                             R"("beta_start":NaN)",
                             R"("beta_end":-Infinity)",
                             R"("_class_name":"DDIMScheduler","beta_schedule":"sigmoid")",
                             R"("_class_name":"DDIMScheduler","set_alpha_to_one":1)",
                             R"("sigma_data":0.5)"})
    scheduler_refusal(member);
  CHECK(scheduler_refusal(R"("variance_type":"learned_range")") ==
        "scheduler_config.json: variance_type is \"learned_range\", expected \"fixed_small\" or "
        "\"fixed_small_log\" or \"fixed_large\"");
}

TEST_CASE("the multistep solver is read where it is DDIM") {
  // As diffusers 0.42 writes it, Python's infinity included.
  const std::string json = R"({
    "_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1", "algorithm_type": "dpmsolver++",
    "beta_end": 0.02, "beta_schedule": "scaled_linear", "beta_start": 0.0001, "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": false, "final_sigmas_type": "sigma_min", "flow_shift": 1.0, "lambda_min_clipped": -Infinity,
    "lower_order_final": true, "num_train_timesteps": 1000, "prediction_type": "epsilon",
    "rescale_betas_zero_snr": false, "sample_max_value": 1.0, "solver_order": 1, "solver_type": "midpoint",
    "steps_offset": 0, "thresholding": false, "time_shift_type": "exponential", "timestep_spacing": "trailing",
    "trained_betas": null, "use_beta_sigmas": false, "use_dynamic_shifting": false,
    "use_exponential_sigmas": false, "use_flow_sigmas": false, "use_karras_sigmas": false,
    "use_lu_lambdas": false, "variance_type": null})";
  const io::SchedulerConfig config = io::parse_scheduler_config(json);
  CHECK(config.is_dpm());
  CHECK(config.beta_schedule == "scaled_linear");
  CHECK_FALSE(config.clip_sample);
  CHECK_FALSE(config.set_alpha_to_one);
  CHECK(io::parse_scheduler_config(io::scheduler_config_json(config)) == config);

  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = json;
    text.replace(text.find(from), from.size(), to);
    return failure<ConfigError>([&] { io::parse_scheduler_config(text); });
  };
  CHECK(mentions(changed("\"solver_order\": 1", "\"solver_order\": 2"), "solver_order is 2, expected 1"));
  CHECK(mentions(changed("\"solver_order\": 1,", ""), "solver_order is 2, expected 1"));
  CHECK(mentions(changed("dpmsolver++", "sde-dpmsolver++"), "algorithm_type"));
  CHECK(mentions(changed("\"trailing\"", "\"linspace\""),
                 "timestep_spacing is \"linspace\", expected \"trailing\""));
  CHECK(mentions(changed("\"timestep_spacing\": \"trailing\",", ""), "timestep_spacing is \"linspace\""));
  CHECK(mentions(changed("-Infinity", "-5.1"), "lambda_min_clipped is -5.1"));
  CHECK(mentions(changed("\"use_karras_sigmas\": false", "\"use_karras_sigmas\": true"),
                 "use_karras_sigmas is true"));
  CHECK(mentions(changed("\"variance_type\": null", "\"variance_type\": \"learned\""), "variance_type"));
}

TEST_CASE("keys that another scheduler left behind mean nothing") {
  const auto config = io::parse_scheduler_config(
      R"({"_class_name":"DDIMScheduler","variance_type":"learned","skip_prk_steps":true,"solver_order":3,)"
      R"("lambda_min_clipped":-Infinity,"use_karras_sigmas":true})");
  CHECK(config == io::parse_scheduler_config(R"({"_class_name":"DDIMScheduler"})"));
  CHECK(io::parse_scheduler_config(R"({"set_alpha_to_one":false})") == io::SchedulerConfig{});
}

TEST_CASE("what would not be read is not written") {
  CHECK(mentions(failure<ConfigError>([] { io::scheduler_config_json({.variance_type = "fixed"}); }),
                 "variance_type"));
  CHECK(mentions(failure<ConfigError>([] { io::scheduler_config_json({.class_name = "Scheduler"}); }),
                 "_class_name"));
  CHECK(mentions(failure<ConfigError>([] { io::scheduler_config_json({.beta_end = 2}); }), "beta_end"));
}

TEST_CASE("a configuration becomes a schedule and a sampler") {
  io::SchedulerConfig config;
  config.variance_type = "fixed_large";
  config.clip_sample_range = 2;
  config.timestep_spacing = "trailing";
  config.steps_offset = 3;
  const Ancestral ancestral = io::ancestral_of(config, 20);
  CHECK(ancestral.steps == 20);
  CHECK(ancestral.variance == Variance::fixed_large);
  CHECK(ancestral.clip == 2);
  CHECK(ancestral.threshold.ratio == 0);
  CHECK(ancestral.spacing == Spacing::trailing);
  CHECK(ancestral.offset == 3);
  CHECK(std::get<Ancestral>(io::sampler_of(config)).steps == 0);
  config.variance_type = "fixed_small_log";
  config.clip_sample = false;
  CHECK(io::ancestral_of(config).variance == Variance::fixed_small);
  CHECK(io::ancestral_of(config).clip == no_clip);

  config.class_name = "DDIMScheduler";
  config.set_alpha_to_one = false;
  config.thresholding = true;
  config.sample_max_value = 1.5;
  const Ddim ddim = std::get<Ddim>(io::sampler_of(config));
  CHECK(ddim.steps == 50);
  CHECK(ddim.eta == 0);
  CHECK_FALSE(ddim.rederive_eps);
  CHECK_FALSE(ddim.alpha_to_one);
  CHECK(ddim.previous == Previous::diffusers);
  CHECK(ddim.threshold.ratio == 0.995);
  CHECK(ddim.threshold.largest == 1.5);
  config.class_name = "DPMSolverMultistepScheduler";
  CHECK(std::get<Ddim>(io::sampler_of(config, 7)).rederive_eps);
  CHECK(std::get<Ddim>(io::sampler_of(config, 7)).previous == Previous::visited);
  CHECK(std::get<Ddim>(io::sampler_of(config, 7)).steps == 7);

  for (const char* key : {"beta_schedule", "prediction_type", "timestep_spacing", "variance_type"}) {
    const io::SchedulerConfig wrong{
        .beta_schedule = "x", .variance_type = "x", .prediction_type = "x", .timestep_spacing = "x"};
    const std::string name = key;
    CHECK(mentions(failure<ConfigError>([&] {
                     if (name == "beta_schedule") io::schedule_of(wrong);
                     if (name == "prediction_type") io::prediction_of(wrong);
                     if (name == "timestep_spacing") io::spacing_of(wrong);
                     if (name == "variance_type") io::variance_of(wrong);
                   }),
                   name + " is \"x\", expected "));
  }
  CHECK(io::prediction_of({.prediction_type = "v_prediction"}) == Prediction::v);
  const auto rescaled = io::schedule_of({.rescale_betas_zero_snr = true});
  CHECK(rescaled.steps() == 1000);
  CHECK(rescaled.beta(999) == 1);
  CHECK(io::schedule_of({.num_train_timesteps = 2, .trained_betas = {0.1, 0.3}}).betas ==
        std::vector{0.1, 0.3});
}

TEST_CASE("keys of old schedulers keep their meaning") {
  CHECK(io::parse_scheduler_config(R"({"predict_epsilon":false})").prediction_type == "sample");
  CHECK(io::parse_scheduler_config(R"({"predict_epsilon":true,"tensor_format":"pt"})").prediction_type ==
        "epsilon");
}

TEST_CASE("both layouts of a folder are found") {
  const TemporaryFolder folder;
  CHECK(is_io_sentence(failure([&] { io::find_unet_config(folder.path()); }), folder.path()));
  SECTION("flat") {
    folder.put("config.json", "{}");
    CHECK(io::find_unet_config(folder.path()) == folder / "config.json");
    CHECK_FALSE(io::find_scheduler_config(folder.path()).has_value());
    CHECK(mentions(failure([&] { io::find_unet_weights(folder.path()); }), "found no weights"));
    for (const char* name : {"diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.fp16.safetensors",
                             "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors.index.json",
                             "diffusion_pytorch_model.safetensors"}) {  // in rising order
      folder.put(name, "");
      CHECK(io::find_unet_weights(folder.path()) == folder / name);
    }
    folder.put("scheduler_config.json", "{}");
    CHECK(io::find_unet_weights(folder.path()) == folder / "diffusion_pytorch_model.safetensors");
    CHECK(io::find_scheduler_config(folder.path()) == folder / "scheduler_config.json");
  }
  SECTION("pipeline") {
    folder.put("model_index.json", "{}");
    CHECK(mentions(failure([&] { io::find_unet_config(folder.path()); }), "this pipeline"));
    folder.put("unet/config.json", "{}");
    folder.put("unet/diffusion_pytorch_model.safetensors", "");
    folder.put("scheduler/scheduler_config.json", "{}");
    CHECK(io::find_unet_config(folder.path()) == folder / "unet/config.json");
    CHECK(io::find_unet_weights(folder.path()) == folder / "unet/diffusion_pytorch_model.safetensors");
    CHECK(io::find_scheduler_config(folder.path()) == folder / "scheduler/scheduler_config.json");
  }
}

TEST_CASE("configs are written to files") {
  const TemporaryFolder folder;
  io::write_unet_config(folder / "config.json", UNetConfig::cifar10());
  io::write_scheduler_config(folder / "scheduler_config.json", {});
  CHECK(contents(folder / "config.json") == cifar10_json);
  CHECK(io::read_unet_config(io::find_unet_config(folder.path())) == UNetConfig::cifar10());
  CHECK(io::read_scheduler_config(folder / "scheduler_config.json") == io::SchedulerConfig{});
  CHECK(is_io_sentence(failure([] { io::write_unet_config("/dev/full", {}); }), "/dev/full"));
}

TEST_CASE("old attention names become new ones") {
  CHECK(io::canonical_name("mid_block.attentions.0.query.weight") == "mid_block.attentions.0.to_q.weight");
  CHECK(io::canonical_name("down_blocks.1.attentions.1.key.bias") == "down_blocks.1.attentions.1.to_k.bias");
  CHECK(io::canonical_name("up_blocks.2.attentions.0.value.weight") ==
        "up_blocks.2.attentions.0.to_v.weight");
  CHECK(io::canonical_name("mid_block.attentions.0.proj_attn.bias") ==
        "mid_block.attentions.0.to_out.0.bias");
  for (const char* name :
       {"mid_block.attentions.0.to_out.0.bias", "mid_block.attentions.0.group_norm.weight", "conv_in.weight",
        "query.weight", "", ".", "attentions.", ".key", "a.attentions.0.query"})
    CHECK(io::canonical_name(name) == name);
}
