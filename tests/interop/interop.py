#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares this library with diffusers, both ways, on models with random weights; README.md beside this file tells more.

    python3 tests/interop/interop.py --build build [--work DIR] [--only WORD] [--images N]

Where torch or diffusers is missing, both are installed in a virtual environment in the work folder. Prints a table in
Markdown; the exit status is 1 if a row is over its limit.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import venv

try:
    import diffusers
    import numpy as np
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
    from diffusers.models.attention_processor import Attention
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D
    from safetensors.torch import load_file, save_file
    from torch.nn import functional
except ImportError:
    torch = None

LIMITS = {"layer": 1e-5, "output": 1e-5, "image": 1e-3}  # the first two relative to the largest value

SMALL = {  # what the variants below start from
    "sample_size": 16, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
GOOGLE = {"norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0,
          "attention_head_dim": None}
DOWN, ATTN_DOWN, UP, ATTN_UP = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"
CIFAR10 = GOOGLE | {
    "sample_size": 32, "block_out_channels": (128, 256, 256, 256),
    "down_block_types": (DOWN, ATTN_DOWN, DOWN, DOWN), "up_block_types": (UP, UP, ATTN_UP, UP)}
LARGE = GOOGLE | {  # celebahq-256, cat-256, ..., with a quarter of the channels
    "sample_size": 256, "block_out_channels": (32, 32, 64, 64, 128, 128),
    "down_block_types": 4 * (DOWN,) + (ATTN_DOWN, DOWN), "up_block_types": (UP, ATTN_UP) + 4 * (UP,)}

MODELS = {
    "CIFAR-10": {"unet": CIFAR10, "scheduler": {"variance_type": "fixed_large"}, "ancestral": 1000},
    "CIFAR-10, a quarter of the channels": {
        "unet": CIFAR10 | {"block_out_channels": (32, 64, 64, 64)}, "scheduler": {"variance_type": "fixed_large"},
        "ancestral": 1000},
    "256x256, a quarter of the channels": {"unet": LARGE, "ancestral": 25},
    "class-conditional": {"unet": SMALL | {"sample_size": 28, "in_channels": 1, "out_channels": 1,
                                           "num_class_embeds": 10}, "ancestral": 1000},
    "heads of 8, three levels of attention": {"unet": SMALL | {
        "block_out_channels": (16, 32, 48), "layers_per_block": 2, "down_block_types": 3 * (ATTN_DOWN,),
        "up_block_types": 3 * (ATTN_UP,)}},
    "heads of 64": {"unet": SMALL | {"block_out_channels": (64, 128), "attention_head_dim": 64}},
    "one head, 3 layers a block": {"unet": SMALL | {"attention_head_dim": None, "layers_per_block": 3}},
    "attention in the down path only": {"unet": SMALL | {"up_block_types": (UP, UP)}},
    "no attention in the middle": {"unet": SMALL | {"add_attention": False}},
    "no attention at all, one level": {"unet": SMALL | {
        "add_attention": False, "block_out_channels": (24,), "down_block_types": (DOWN,), "up_block_types": (UP,)}},
    "scale_shift": {"unet": SMALL | {"resnet_time_scale_shift": "scale_shift"}},
    "scale_shift, normed middle attention": {"unet": SMALL | {
        "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4}},
    "20x12, width 40, groups of 5": {"unet": SMALL | {
        "sample_size": (20, 12), "block_out_channels": (40, 80), "attention_head_dim": 5}},
    "centred input, scaled middle": {"unet": SMALL | {"center_input_sample": True, "mid_block_scale_factor": 1.7}},
    "names of 2022": {"unet": SMALL, "old_names": True},
    "pickled weights (.bin)": {"unet": SMALL, "safe_serialization": False},
    "cosine schedule, v prediction": {
        "unet": SMALL, "scheduler": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}},
    "trailing spacing, 37 steps": {"unet": SMALL, "scheduler": {"timestep_spacing": "trailing"}, "steps": 37},
    "linspace spacing, 37 steps": {"unet": SMALL, "scheduler": {"timestep_spacing": "linspace"}, "steps": 37},
    "leading spacing, 37 steps, offset 1": {"unet": SMALL, "scheduler": {"steps_offset": 1}, "steps": 37},
    "not clipped, predicts the image": {
        "unet": SMALL, "scheduler": {"clip_sample": False, "prediction_type": "sample"}},
    "dynamic thresholding": {"unet": SMALL, "scheduler": {"thresholding": True, "clip_sample": False}},
    "resampling by resnets": {"unet": SMALL | {"downsample_type": "resnet", "upsample_type": "resnet"}},
    "Fourier time embedding": {"unet": SMALL | {"time_embedding_type": "fourier"}},
    "GELU": {"unet": SMALL | {"act_fn": "gelu"}},
}
REFUSED = {"resampling by resnets", "Fourier time embedding", "GELU"}  # with one sentence


def use_environment(folder):
    """Starts this script again in a virtual environment that has torch and diffusers."""
    python = folder / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == folder.resolve():
        sys.exit(f"{folder}: found no torch or no diffusers after installing both, expected them")
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "diffusers", "numpy", "safetensors"], check=True)
    os.execv(python, [str(python), *sys.argv])


def size_of(unet):
    size = unet.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def rename_as_in_2022(unet):
    """Gives the projections of attention the names, and the file the look, of a checkpoint before diffusers 0.17."""
    path = unet / "diffusion_pytorch_model.safetensors"
    new = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = load_file(path)
    for name in list(weights):
        for now, then in new.items():
            if now in name:
                weights[name.replace(now, then)] = weights.pop(name)
    save_file(weights, path, metadata={"format": "pt"})


def fit_last_layer(unet, scheduler):
    """Fits the last layer, by least squares over the random layers before it, to what a trained model predicts.

    With nothing but random weights a sampling of 50 steps multiplies rounding errors by a million: diffusers in float32
    is then as far from diffusers in float64 as from any other program.
    """
    features = []
    hook = unet.conv_out.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    (height, width), channels = size_of(unet), unet.config.out_channels
    products, sums = 0, 0
    images, batch = (8, 1) if height * width > 4096 else (32, 8)
    for i in range(images // batch):
        t = torch.linspace(0, scheduler.config.num_train_timesteps - 1, images).long()[i::images // batch]
        x0 = functional.interpolate(2 * torch.randn(batch, channels, 4, 4), (height, width), mode="bilinear").clamp(-1, 1)
        noise = torch.randn_like(x0)
        target = {"epsilon": noise, "sample": x0, "v_prediction": scheduler.get_velocity(x0, noise, t)}
        unet(scheduler.add_noise(x0, noise, t), t, torch.arange(batch) if unet.config.num_class_embeds else None)
        taps = functional.unfold(features.pop(), 3, padding=1).transpose(1, 2).flatten(0, 1).double()
        taps = torch.cat([taps, torch.ones(len(taps), 1, dtype=taps.dtype)], 1)
        products += taps.T @ taps
        sums += taps.T @ target[scheduler.config.prediction_type].flatten(2).transpose(1, 2).flatten(0, 1).double()
    hook.remove()
    ridge = 1e-4 * products.diagonal().mean() * torch.eye(len(products), dtype=products.dtype)
    fitted = torch.linalg.solve(products + ridge, sums).T
    unet.conv_out.weight.copy_(fitted[:, :-1].reshape(unet.conv_out.weight.shape))
    unet.conv_out.bias.copy_(fitted[:, -1])


def create(spec, folder):
    """A pipeline of random weights (but for the last layer), saved by diffusers."""
    torch.manual_seed(1)
    unet = UNet2DModel(**spec["unet"]).eval()
    scheduler = DDPMScheduler(**spec.get("scheduler", {}))
    fit_last_layer(unet, scheduler)
    DDPMPipeline(unet, scheduler).save_pretrained(folder, safe_serialization=spec.get("safe_serialization", True))
    if spec.get("old_names"):
        rename_as_in_2022(folder / "unet")
    return unet, scheduler


def outputs_of_layers(unet, run):
    """What run() returns, and what each layer put out, in the order in which they ran."""
    outputs = []
    hooks = [module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
             for module in unet.modules()
             if isinstance(module, (ResnetBlock2D, Attention, Downsample2D, Upsample2D)) or module is unet.conv_in]
    result = run()
    for hook in hooks:
        hook.remove()
    return result, outputs


def generate(unet, scheduler, steps, seed, images, label):
    """The images in [0, 1] that the pipelines make from torch.manual_seed(seed), and for classes their loop."""
    generator = torch.manual_seed(seed)
    if label is None:
        pipeline = (DDIMPipeline if isinstance(scheduler, DDIMScheduler) else DDPMPipeline)(unet, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(batch_size=images, generator=generator, num_inference_steps=steps, output_type="np").images
    x = torch.randn((images, unet.config.in_channels, *size_of(unet)), generator=generator)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, torch.full((images,), label)).sample, t, x, generator=generator).prev_sample
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


class Refused(Exception):
    """What one of our programs said before it stopped."""


COLUMNS = ("worst layer", "output", "saved by us", "ddim", "ancestral")


class Comparison:
    """One model, in a folder of its own."""

    def __init__(self, name, spec, options):
        self.name, self.spec, self.options = name, spec, options
        self.folder = options.work / "".join(c if c.isalnum() else "_" for c in name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / "diffusers"
        self.cells, self.passes = {}, True

    def note(self, column, error, limit, rest=""):
        within = error <= limit  # False for NaN
        self.passes &= within
        self.cells[column] = (f"{error:.1e}" if within else f"**{error:.1e}**") + rest
        print(f"{self.name}: {column} {self.cells[column]}", file=sys.stderr)

    def ours(self, program, *arguments):
        path = self.options.build / program
        done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise Refused(done.stderr.strip().splitlines()[-1])

    @staticmethod
    def relative(ours, theirs):
        return ((ours - theirs).abs().max() / theirs.abs().max()).item()

    def forward(self, unet):
        """Layer by layer, and back: what we save is what diffusers loads."""
        torch.manual_seed(2)
        inputs = {"x": torch.randn(2, unet.config.in_channels, *size_of(unet)), "t": torch.tensor([3, 741])}
        if unet.config.num_class_embeds:
            inputs["labels"] = torch.tensor([0, unet.config.num_class_embeds - 1])
        save_file(inputs, self.folder / "in.safetensors")
        run = lambda model: model(inputs["x"], inputs["t"], inputs.get("labels")).sample
        theirs, layers = outputs_of_layers(unet, lambda: run(unet))
        saved = self.folder / "saved"
        self.ours("tests/interop/interop_forward", self.checkpoint, self.folder / "in.safetensors",
                  self.folder / "out.safetensors", saved)
        ours = load_file(self.folder / "out.safetensors")
        if len(ours) != len(layers) + 1:
            raise RuntimeError(f"found {len(ours) - 1} layers, diffusers ran {len(layers)}")
        errors = [self.relative(ours[f"layer.{i}"], layer) for i, layer in enumerate(layers)]
        self.note("worst layer", max(errors), LIMITS["layer"], f" of {len(layers)}")
        self.note("output", self.relative(ours["out"], theirs), LIMITS["output"])
        reloaded = DDPMPipeline.from_pretrained(saved).unet.eval()
        self.note("saved by us", (run(reloaded) - theirs).abs().max().item(), 0)

    def sampling(self, unet, scheduler, sampler, steps):
        images, label = self.options.images, 7 if unet.config.num_class_embeds else None
        theirs = generate(unet, scheduler, steps, 0, images, label)
        raw = self.folder / f"{sampler}.safetensors"
        self.ours("examples/sample", self.checkpoint, "--sampler", sampler, "--steps", steps, "--torch-cpu-seed",
                  "--seed", 0, "--count", images, "--batch", images, "--raw", raw,
                  *(["--class", label] if label is not None else []))
        ours = (load_file(raw)["samples"] / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        levels = np.abs((ours * 255).round() - (theirs * 255).round())
        self.note(sampler, float(np.abs(ours - theirs).max()), LIMITS["image"],
                  f", {steps} steps; {np.count_nonzero(levels)} of {levels.size} bytes differ"
                  + (f" by {levels.max():.0f}" if levels.any() else ""))

    def run(self):
        """The row of the table."""
        try:
            unet, scheduler = create(self.spec, self.checkpoint)
            self.forward(unet)
            self.sampling(unet, DDIMScheduler.from_config(scheduler.config), "ddim", self.spec.get("steps", 50))
            self.sampling(unet, scheduler, "ancestral", self.spec.get("ancestral", self.spec.get("steps", 100)))
        except Refused as error:
            self.passes = self.name in REFUSED
            refusal = str(error).replace(f"{self.checkpoint}/", "")
            self.cells = {COLUMNS[0]: refusal if self.passes else f"**{refusal}**"}
        return "| " + " | ".join([self.name, *(self.cells.get(column, "") for column in COLUMNS)]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default="build", help="where cmake built the programs")
    parser.add_argument("--work", type=pathlib.Path, default="build/interop", help="folder for what is made")
    parser.add_argument("--only", default="", help="compare models whose name has this word")
    parser.add_argument("--images", type=int, default=2, help="images of each sampling")
    options = parser.parse_args()
    if torch is None:
        use_environment(options.work / "venv")
    torch.set_grad_enabled(False)
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    comparisons = [Comparison(name, spec, options) for name, spec in MODELS.items() if options.only in name]
    rows = [comparison.run() for comparison in comparisons]
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, diffusers {diffusers.__version__}, images of each "
          f"sampling: {options.images}. Limits: {', '.join(f'{what} {limit:g}' for what, limit in LIMITS.items())}.\n")
    print("| model | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (1 + len(COLUMNS)))
    print("\n".join(rows))
    sys.exit(not all(comparison.passes for comparison in comparisons))


if __name__ == "__main__":
    main()
