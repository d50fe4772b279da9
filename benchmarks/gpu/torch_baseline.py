#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What gpu_benchmark measures, in PyTorch: a forward pass, a step of training with AdamW and an average of the weights, and
a step of ancestral sampling of the CIFAR-10 U-Net, or of that in a diffusers config.json; and the ops that cuDNN has in its
graph API only: attention, which PyTorch takes from cuDNN where it can, and group norm with SiLU.

    python3 torch_baseline.py --out torch.json
    python3 torch_baseline.py --config CONFIG --device cpu --batch 2 --runs 2 --out torch.json

  eager   float, as the modules are written; convolutions in TF32, which is PyTorch's default
  tuned   bf16 by autocast, channels_last, torch.compile max-autotune with its CUDA graphs, fused AdamW
  ops     bf16 and float on channels_last tensors, group norm by torch.compile; caches are flushed before each run

The file is written anew after every row, so one that was cut short holds what was measured.
"""
import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import time

import torch
import torch._functorch.config
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
import unet  # noqa: E402

ATTENTION = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
torch._functorch.config.donated_buffer = False  # a backward pass is run many times


class Network:
    """One U-Net with what its training and sampling need on the device."""

    def __init__(self, config, args, tuned):
        self.tuned, self.device = tuned, args.device
        size = config.sample_size if isinstance(config.sample_size, list) else 2 * [config.sample_size]
        torch.manual_seed(0)
        model = unet.UNet(config).to(args.device)
        if tuned:
            model = model.to(memory_format=torch.channels_last)
        self.parameters = list(model.parameters())
        self.averages = [p.detach().clone() for p in self.parameters]
        self.model = torch.compile(model, mode="max-autotune") if tuned else model
        self.optimizer = torch.optim.AdamW(self.parameters, lr=2e-4, weight_decay=0, fused=tuned)
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.beta = beta.float().to(args.device)
        self.alpha_bar = torch.cumprod(1 - beta, 0).float().to(args.device)
        self.pixels = torch.randint(256, (args.batch, config.in_channels, *size), dtype=torch.uint8,
                                    device=args.device)
        self.x = self.layout(torch.randn(self.pixels.shape, device=args.device))
        self.t = torch.full((args.batch,), 500, device=args.device)

    def layout(self, x):
        return x.contiguous(memory_format=torch.channels_last) if self.tuned else x

    def predict(self, x, t):
        if self.tuned:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device, torch.bfloat16) if self.tuned else contextlib.nullcontext():
            return self.model(x, t)

    def unet_forward(self):
        with torch.no_grad():
            self.predict(self.x, self.t)

    def training_step(self):
        x0 = self.layout(self.pixels.float() / 127.5 - 1)
        x0 = torch.where((torch.rand(len(x0), 1, 1, 1, device=self.device) < 0.5), x0.flip(3), x0)
        t = torch.randint(len(self.alpha_bar), self.t.shape, device=self.device)
        a = self.alpha_bar[t][:, None, None, None]
        noise = torch.randn_like(x0)
        loss = F.mse_loss(self.predict(a.sqrt() * x0 + (1 - a).sqrt() * noise, t).float(), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 1e-4)

    def sampling_step(self):
        with torch.no_grad():
            eps = self.predict(self.x, self.t).float()
            i = self.t[0]
            a, b = self.alpha_bar[i], self.beta[i]
            before = self.alpha_bar[i - 1]
            x0 = ((self.x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
            mean = before.sqrt() * b / (1 - a) * x0 + (1 - b).sqrt() * (1 - before) / (1 - a) * self.x
            self.x.copy_(mean + (b * (1 - before) / (1 - a)).sqrt() * torch.randn_like(self.x))


class Norm:
    """SiLU of a group norm of the U-Net: [N, C, size, size] in channels_last."""

    def __init__(self, args, dtype, size, channels):
        self.x = torch.randn(args.batch, channels, size, size, device=args.device, dtype=dtype).to(
            memory_format=torch.channels_last).requires_grad_()
        self.dy = torch.randn_like(self.x)
        self.weights = [torch.randn(channels, device=args.device, dtype=dtype, requires_grad=True) for _ in range(2)]
        self.op = torch.compile(lambda x, gamma, beta: F.silu(F.group_norm(x, 32, gamma, beta, 1e-6)))

    def inputs(self):
        return [self.x, *self.weights]

    def forward(self):
        return self.op(*self.inputs())


class Attention:
    """Of one head of 256 channels, its operands rows of one tensor."""

    def __init__(self, args, dtype, tokens):
        self.qkv = torch.randn(args.batch, 1, tokens, 3 * 256, device=args.device, dtype=dtype, requires_grad=True)
        self.dy = torch.randn(args.batch, 1, tokens, 256, device=args.device, dtype=dtype)

    def inputs(self):
        return [self.qkv]

    def forward(self):
        with sdpa_kernel(ATTENTION, set_priority=True):
            return F.scaled_dot_product_attention(*self.qkv.chunk(3, -1))


def measure_ops(args, report):
    flush = torch.empty(256 << 20, dtype=torch.uint8, device=args.device)
    cases = [(f"attention/{{}}/{{}}/{tokens}_tokens_256", Attention, (tokens,)) for tokens in (256, 16)]
    cases += [(f"group_norm_silu/{{}}/{{}}/{size}x{size}_{channels}", Norm, (size, channels)) for size, channels in (
        (32, 128), (32, 256), (32, 384), (16, 256), (16, 512), (8, 256), (4, 256))]
    for dtype, word in (torch.bfloat16, "bf16"), (torch.float32, "float"):
        for name, op, shape in cases:
            problem = op(args, dtype, *shape)
            y = problem.forward()
            steps = {"forward": problem.forward, "backward": lambda: torch.autograd.grad(
                y, problem.inputs(), problem.dy, retain_graph=True)}
            for step in steps:
                report(name.format(step, word), measure(steps[step], args, flush.zero_))


def seconds(device, step):
    if device == "cpu":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure(step, args, prepare=lambda: None):
    for _ in range(args.warm_up):
        step()
    times = []
    for _ in range(args.runs):
        prepare()
        times.append(seconds(args.device, step))
    return 1e3 * statistics.median(times)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", help="diffusers config.json of the network; without: CIFAR-10")
    add("--batch", type=int, default=128)
    add("--runs", type=int, default=21)
    add("--warm-up", type=int, default=5, help="runs before")
    add("--device", choices=["cuda", "cpu"], default="cuda")
    add("--out", required=True, help="JSON file to write")
    return parser.parse_args()


def main():
    args = parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU found: not run")
        sys.exit(77)
    config = unet.read_config(args.config) if args.config else unet.cifar10()
    result = {"context": {"torch": torch.__version__, "batch": args.batch, "device": args.device}, "benchmarks": []}
    if args.device == "cuda":
        result["context"]["card"] = torch.cuda.get_device_name()

    def report(name, ms):
        result["benchmarks"].append({"name": name, "median_ms": ms})
        pathlib.Path(args.out).write_text(json.dumps(result, indent=1))
        print(f"{name}  {ms:.4f} ms", flush=True)

    for kind in ["eager", "tuned"]:
        network = Network(config, args, kind == "tuned")
        for name in ["unet_forward", "training_step", "sampling_step"]:
            report(f"{name}/{kind}", measure(getattr(network, name), args))
    measure_ops(args, report)


if __name__ == "__main__":
    main()
