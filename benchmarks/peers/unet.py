# SPDX-License-Identifier: MIT
"""UNet2DModel of diffusers in plain PyTorch, with its structure and parameter names; its proof is
train_fashion_mnist.py --self-test."""
import json
import math
import pathlib
import sys
import types

import torch
import torch.nn.functional as F
from torch import nn

DEFAULTS = {  # of UNet2DModel, for the keys that a config leaves out
    "sample_size": None, "in_channels": 3, "out_channels": 3, "center_input_sample": False, "freq_shift": 0,
    "flip_sin_to_cos": True, "down_block_types": ["DownBlock2D"] + 3 * ["AttnDownBlock2D"],
    "up_block_types": 3 * ["AttnUpBlock2D"] + ["UpBlock2D"], "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2, "mid_block_scale_factor": 1, "downsample_padding": 1, "dropout": 0.0,
    "attention_head_dim": 8, "norm_num_groups": 32, "attn_norm_num_groups": None, "norm_eps": 1e-5,
    "add_attention": True}
ONLY = {  # what this script does not vary
    "act_fn": "silu", "downsample_type": "conv", "upsample_type": "conv", "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional", "class_embed_type": None, "num_class_embeds": None}
BLOCKS = {"DownBlock2D": False, "AttnDownBlock2D": True, "UpBlock2D": False, "AttnUpBlock2D": True}


def make_config(**given):
    return types.SimpleNamespace(**(DEFAULTS | given))


def read_config(path):
    given = json.loads(pathlib.Path(path).read_text())
    for key, value in ONLY.items():
        if given.get(key, value) != value:
            sys.exit(f"{path}: {key} is {given[key]!r}, this script knows only {value!r}")
    return make_config(**{key: value for key, value in given.items() if key in DEFAULTS})


class ResnetBlock(nn.Module):
    def __init__(self, c, cin, cout, scale=1.0):
        super().__init__()
        self.norm1 = nn.GroupNorm(c.norm_num_groups, cin, eps=c.norm_eps)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * c.block_out_channels[0], cout)
        self.norm2 = nn.GroupNorm(c.norm_num_groups, cout, eps=c.norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None
        self.scale = scale

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        return x + h if self.scale == 1 else (x + h) / self.scale


class Attention(nn.Module):
    def __init__(self, c, channels, groups, scale=1.0):
        super().__init__()
        self.head_dim = c.attention_head_dim or channels
        self.group_norm = nn.GroupNorm(groups, channels, eps=c.norm_eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.scale = scale

    def forward(self, x):
        n, channels, height, width = x.shape
        h = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (f(h).unflatten(2, (-1, self.head_dim)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        if hasattr(F, "scaled_dot_product_attention"):  # torch 2
            h = F.scaled_dot_product_attention(q, k, v)
        else:
            q, k, v = (a.reshape(-1, height * width, self.head_dim) for a in (q, k, v))
            none = q.new_empty(q.shape[0], height * width, height * width)
            scores = torch.baddbmm(none, q, k.transpose(1, 2), beta=0, alpha=self.head_dim ** -0.5)
            h = torch.bmm(scores.softmax(-1), v).unflatten(0, (n, -1))
        h = self.to_out[0](h.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(n, channels, height, width)
        return x + h if self.scale == 1 else (x + h) / self.scale


class Downsample(nn.Module):
    def __init__(self, channels, padding):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.asymmetric = padding == 0

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """One level of either path: resnets of the given input channels, each with its attention or none."""

    def __init__(self, c, inputs, out, attends):
        super().__init__()
        if attends:
            self.attentions = nn.ModuleList(Attention(c, out, c.norm_num_groups) for _ in inputs)
        self.resnets = nn.ModuleList(ResnetBlock(c, cin, out) for cin in inputs)

    def layer(self, i, x, temb):
        x = self.resnets[i](x, temb)
        return self.attentions[i](x) if hasattr(self, "attentions") else x


class Middle(nn.Module):
    def __init__(self, c, channels):
        super().__init__()
        scale, groups = c.mid_block_scale_factor, c.attn_norm_num_groups or c.norm_num_groups
        self.attentions = nn.ModuleList([Attention(c, channels, groups, scale)] if c.add_attention else [])
        self.resnets = nn.ModuleList(ResnetBlock(c, channels, channels, scale) for _ in range(2))

    def forward(self, x, temb):
        x = self.resnets[0](x, temb)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x, temb)


class TimeEmbedding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, e):
        return self.linear_2(F.silu(self.linear_1(e)))


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config = c
        widths, layers = c.block_out_channels, c.layers_per_block
        self.conv_in = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0])
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]
        for i, out in enumerate(widths):
            inputs = [widths[max(i - 1, 0)]] + (layers - 1) * [out]
            self.down_blocks.append(Block(c, inputs, out, BLOCKS[c.down_block_types[i]]))
            skips += layers * [out]
            if i + 1 < len(widths):
                self.down_blocks[i].downsamplers = nn.ModuleList([Downsample(out, c.downsample_padding)])
                skips.append(out)
        self.mid_block = Middle(c, widths[-1])
        hidden = widths[-1]
        for i, out in enumerate(reversed(widths)):
            inputs = [(hidden if j == 0 else out) + skips.pop() for j in range(layers + 1)]
            self.up_blocks.append(Block(c, inputs, out, BLOCKS[c.up_block_types[i]]))
            if i + 1 < len(widths):
                self.up_blocks[i].upsamplers = nn.ModuleList([Upsample(out)])
            hidden = out
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, widths[0], eps=c.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], c.out_channels, 3, padding=1)
        self.initialize()

    def initialize(self):
        """As Ho et al.: uniform by the average of fan in and fan out, and residual branches that begin near zero."""
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif p.dim() > 1:
                last = name.endswith(("conv2.weight", "to_out.0.weight", "conv_out.weight"))
                fan = 0.5 * (p.shape[0] + p.shape[1]) * p[0, 0].numel()
                limit = math.sqrt(3 * (1e-10 if last else 1.0) / fan)
                nn.init.uniform_(p, -limit, limit)

    def sinusoids(self, t):
        c = self.config
        half = c.block_out_channels[0] // 2
        i = torch.arange(half, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(10000) * i / (half - c.freq_shift))
        angles = t[:, None].float() * frequencies[None]
        parts = [angles.sin(), angles.cos()]
        e = torch.cat(parts[::-1] if c.flip_sin_to_cos else parts, dim=1)
        return F.pad(e, (0, 1)) if c.block_out_channels[0] % 2 else e

    def forward(self, x, t):
        temb = self.time_embedding(self.sinusoids(t).to(x.dtype))
        x = self.conv_in(2 * x - 1 if self.config.center_input_sample else x)
        skips = [x]
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, x, temb)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block(x, temb)
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, torch.cat([x, skips.pop()], dim=1), temb)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def cifar10():
    """UNetConfig::cifar10(): google/ddpm-cifar10-32."""
    return make_config(
        sample_size=32, block_out_channels=[128, 256, 256, 256],
        down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"], attention_head_dim=None,
        norm_eps=1e-6, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1)


def small():
    """4.02 M parameters, for gray images of 32 x 32: the small network of ../unet_benchmark.cpp."""
    return make_config(
        sample_size=32, in_channels=1, out_channels=1, block_out_channels=[32, 64, 128],
        down_block_types=["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"], attention_head_dim=None, norm_num_groups=8)
