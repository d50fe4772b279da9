#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes data/: a tiny class-conditional model of random weights, and what diffusers samples from a torch seed.

    python3 tests/examples/make_data.py          # needs torch, diffusers and safetensors
"""
import pathlib

import diffusers
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

DATA = pathlib.Path(__file__).parent / "data"


@torch.no_grad()
def samples(unet, scheduler, steps, **step):
    """Three images of class 1 from seed 7: a batch of two, then one, as from two calls of a pipeline."""
    generator, batches = torch.manual_seed(7), []
    scheduler.set_timesteps(steps)
    for size in (2, 1):
        x = torch.randn(size, unet.config.in_channels, *unet.config.sample_size, generator=generator)
        for t in scheduler.timesteps:
            output = unet(x, t, torch.full((size,), 1)).sample
            x = scheduler.step(output, t, x, generator=generator, **step).prev_sample
        batches.append(x)
    return torch.cat(batches)


def main():
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=(8, 12), in_channels=2, out_channels=2, block_out_channels=(8, 8), layers_per_block=1,
        norm_num_groups=4, attention_head_dim=4, num_class_embeds=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D")).eval()
    unet.conv_out.weight.data *= 0.1  # else the sampling multiplies rounding errors
    scheduler = DDPMScheduler(variance_type="fixed_large", timestep_spacing="trailing")
    unet.save_pretrained(DATA / "classes/unet")
    scheduler.save_pretrained(DATA / "classes/scheduler")
    origin = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    save_file({"samples": samples(unet, scheduler, 20)}, DATA / "ancestral_seed7.safetensors", origin)
    ddim = DDIMScheduler.from_config(scheduler.config, timestep_spacing="leading")
    save_file({"samples": samples(unet, ddim, 20, eta=0.5)}, DATA / "ddim_seed7.safetensors", origin)


if __name__ == "__main__":
    main()
