# SPDX-License-Identifier: MIT
"""The cases of the programs in benchmarks/, in PyTorch: the other side of compare.py.

    PYTHON torch_cases.py NAME [--threads N] [--channels-last]

A line with a number of seconds is answered by one with the median seconds of a call over as long, and the peak memory
in KiB, as by PROGRAM --serve NAME.
"""
import argparse
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

import unet

CHANNELS_LAST = False


def image(*shape):
    x = torch.randn(shape)
    return x.contiguous(memory_format=torch.channels_last) if CHANNELS_LAST else x


def adamw(parameters):
    """The fastest of this version on a CPU: one loop, fused where there is one."""
    fused = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)
    return torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0, **({"fused": True} if fused else {"foreach": False}))


class Network:
    def __init__(self, name, batch):
        config = getattr(unet, name)()
        self.model = unet.UNet(config)
        if CHANNELS_LAST:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.x = image(batch, config.in_channels, config.sample_size, config.sample_size)
        self.t = torch.full((batch,), 500)
        self.optimizer = adamw(self.model.parameters())
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.alpha_bar = torch.cumprod(1 - beta, 0).float()

    @torch.inference_mode()
    def forward(self):
        self.model(self.x, self.t)

    def train(self):
        t = torch.randint(len(self.alpha_bar), self.t.shape)
        a = self.alpha_bar[t][:, None, None, None]
        noise = torch.randn_like(self.x)
        loss = F.mse_loss(self.model(a.sqrt() * self.x + (1 - a).sqrt() * noise, t), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    @torch.inference_mode()
    def sampling(self):
        """Algorithm 2 of Ho et al., from t = 500 to 499 with the posterior's variance."""
        here, there = self.alpha_bar[500].item(), self.alpha_bar[499].item()
        beta = 1 - here / there
        x0 = ((self.x - (1 - here) ** 0.5 * self.model(self.x, self.t)) / here ** 0.5).clamp(-1, 1)
        mean = there ** 0.5 * beta / (1 - here) * x0 + (1 - beta) ** 0.5 * (1 - there) / (1 - here) * self.x
        mean + ((1 - there) / (1 - here) * beta) ** 0.5 * torch.randn_like(self.x)


def extents(batch, sides, channels):
    """A tensor by the words of a case, as b16/32x32/128."""
    height, width = map(int, sides.split("x"))
    return int(batch[1:]), int(channels), height, width


def gradients(f, inputs, dy):
    """The backward pass of f alone, for some of its inputs."""
    y = f()
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def conv2d(op, *words):
    n, c, h, w = extents(*words)
    x, weight, bias, dy = image(n, c, h, w), image(c, c, 3, 3), torch.randn(c), image(n, c, h, w)
    if op == "conv2d":
        return lambda: F.conv2d(x, weight, bias, padding=1)
    mask = [op == "conv2d_dgrad", op == "conv2d_wgrad", False]
    return lambda: torch.ops.aten.convolution_backward(dy, x, weight, [c], [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
                                                       mask)


def linear(op, batch, widths):
    cin, cout = map(int, widths.split("to"))
    m = 256 * int(batch[1:])
    x, weight, bias, dy = torch.randn(m, cin), torch.randn(cout, cin), torch.randn(cout), torch.randn(m, cout)
    if op == "linear":
        return lambda: F.linear(x, weight, bias)
    return (lambda: dy @ weight) if op == "linear_dgrad" else (lambda: dy.t() @ x)


def group_norm(op, *words):
    x = image(*extents(*words))
    gamma, beta = torch.ones(x.shape[1]), torch.zeros(x.shape[1])
    if op == "group_norm":
        return lambda: F.silu(F.group_norm(x, 32, gamma, beta, 1e-6))
    inputs = [v.requires_grad_() for v in (x, gamma, beta)]
    return gradients(lambda: F.silu(F.group_norm(x, 32, gamma, beta, 1e-6)), inputs, torch.randn_like(x))


def attention(op, batch, sizes):
    tokens, dim = map(int, sizes.split("x"))
    q, k, v = (torch.randn(int(batch[1:]), 1, tokens, dim) for _ in range(3))

    def run():
        if hasattr(F, "scaled_dot_product_attention"):
            return F.scaled_dot_product_attention(q, k, v)
        scores = torch.baddbmm(q.new_empty(len(q), tokens, tokens), q[:, 0], k[:, 0].transpose(1, 2), beta=0,
                               alpha=dim ** -0.5)
        return torch.bmm(scores.softmax(-1), v[:, 0])

    if op == "attention":
        return run
    inputs = [a.requires_grad_() for a in (q, k, v)]
    return gradients(run, inputs, torch.randn_like(run()))


def adamw_step(op, *_):
    parameters = [p.requires_grad_() for p in unet.UNet(unet.cifar10()).parameters()]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return adamw(parameters).step


FAMILIES = {"conv2d": conv2d, "linear": linear, "group": group_norm, "attention": attention, "adamw": adamw_step}


def make(name):
    op, *words = name.split("/")
    if op in ("forward", "train", "sampling"):
        return getattr(Network(words[0], int(words[1][1:])), op)
    build = FAMILIES[op.split("_")[0]]
    if "backward" in op:
        return build(op, *words)
    with torch.inference_mode():
        return torch.inference_mode()(build(op, *words))


def main():
    global CHANNELS_LAST
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    CHANNELS_LAST = args.channels_last
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    call = make(args.name)
    for _ in range(2):
        call()
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        times, start = [], time.perf_counter()
        while not times or time.perf_counter() - start < float(line):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        print(statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)


if __name__ == "__main__":
    main()
