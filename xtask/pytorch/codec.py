"""The published speech codec in a stream as PyTorch has it: all convolutions keep their contexts between latents."""

import math

import torch
from torch import nn

from models import Causal, Layer, Transposed


def half(s, dim, encodes, last):
    """The modules of the encoder or decoder, made one after the other."""
    widths = [s["width"] << i for i in range(len(s["depths"]))]
    stages = list(enumerate(s["ratios"]))
    layers = lambda i: (Layer(widths[i], last) for _ in range(s["depths"][i]))
    dense = lambda inputs, outputs: Causal(nn.Conv1d(inputs, outputs, 7), 6, last)
    if encodes:
        yield dense(1, widths[0])
        yield from layers(0)
        for i, ratio in stages:
            conv = nn.Conv1d(widths[i], widths[i + 1], 2 * ratio, ratio)
            yield Causal(conv, ratio, last)
            yield from layers(i + 1)
        yield dense(widths[-1], dim)
    else:
        yield dense(dim, widths[-1])
        yield from layers(len(stages))
        for i, ratio in reversed(stages):
            yield Transposed(widths[i + 1], widths[i], ratio, last)
            yield from layers(i)
        yield dense(widths[0], 1)


def laid_out(module):
    """A module for channels last. Weights that its product rearranges lie in that order, so that no call moves them."""
    transposed = isinstance(module, Transposed)
    if transposed or isinstance(module, Causal) and module.conv.stride[0] > 1:
        weight = module.conv.weight.detach().transpose(1, 2).contiguous()
        module.conv.weight = nn.Parameter(weight.transpose(1, 2), requires_grad=False)
    return module


class Codec(nn.Module):
    """Decoder, semantic encoder, or both, on `[B, C, T]` or, with `last`, on `[B, T, C]`."""

    def __init__(self, s, last, dtype):
        super().__init__()
        self.decodes = s["halves"] != "encode"
        self.last = last
        halves = []
        if self.decodes:
            halves.append(half(s, s["latent_dim"], False, last))
        if s["halves"] != "decode":
            halves.append(half(s, s["semantic_dim"], True, last))
        self.chain = nn.ModuleList()
        for made in halves:
            for module in made:
                # In its type before the next is made: float32 of all might not fit.
                module = module.requires_grad_(False).to(dtype)
                self.chain.append(laid_out(module) if last else module)
        for index, module in enumerate(self.modules()):
            if isinstance(module, (Causal, Transposed)):
                module.key = f"past{index}"

    def forward(self, x, past):
        """Latents `[B, T, Z]`, or sound `[B, 1, N]` if nothing is decoded."""
        if self.decodes != self.last:
            x = x.transpose(1, 2)
        for module in self.chain:
            x = module(x, past)
        return x


def streaming(s, wrap, last, rounded):
    """A function that computes the next latent of a stream. `wrap` compiles."""
    dtype = torch.bfloat16 if rounded else torch.float32
    with torch.no_grad():
        codec = Codec(s, last, dtype).eval()
    length = s["latent_dim"] if codec.decodes else math.prod(s["ratios"])
    device = next(codec.parameters()).device
    step, past = wrap(codec), {}

    def unit():
        x = torch.randn(1, 1, length, dtype=dtype, device=device)
        if not past:
            # Contexts have their shapes before a compiler sees them: it makes one program.
            codec(x, past)
        return step(x, past)

    return unit
