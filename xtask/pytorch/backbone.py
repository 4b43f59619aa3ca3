"""One position of a large backbone with small weights, as PyTorch has them.

int8 and int4 in the ways that PyTorch and its libraries know: products of bfloat16 rows with packed weights
(`packed`), weights that a compiler widens (`plain`), float32 rows that are rounded (`dynamic`), bfloat16 rows that
are rounded, with PyTorch's product of int8 matrices (`rounded`), or those of the library torchao (`torchao`). Ours
rounds rows, as `dynamic` and `rounded` do; the others round weights only. torchao also has a product of int8 rows with
int4 weights on a CPU, which its published wheels do not contain.
"""

import importlib.util
import sys
import warnings

import torch
from torch import nn

from models import Block

GROUP = 32


class Packed8(nn.Module):
    """bfloat16 rows with int8 weights, a scale a row of weights."""

    def __init__(self, source, packed):
        super().__init__()
        weight = source.weight.detach().float()
        scale = weight.abs().amax(1) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.bfloat16())
        self.packed = packed

    def forward(self, x):
        if self.packed:
            rows = torch._weight_int8pack_mm(x.flatten(0, -2), self.weight, self.scale)
            return rows.unflatten(0, x.shape[:-1])
        return nn.functional.linear(x, self.weight.to(x.dtype)) * self.scale


class Rounded8(nn.Module):
    """Rows rounded to int8 with int8 weights, a scale a row of each."""

    def __init__(self, source):
        super().__init__()
        weight = source.weight.detach().float()
        scale = weight.abs().amax(1) / 127
        # [inputs, outputs]
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8).T.contiguous())
        self.register_buffer("scale", scale.bfloat16())

    def forward(self, x):
        rows = x.flatten(0, -2).float()
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
        sums = torch._int_mm((rows / scale).round().to(torch.int8), self.weight)
        return (sums * scale * self.scale).to(x.dtype).unflatten(0, x.shape[:-1])


class Packed4(nn.Module):
    """bfloat16 rows with int4 weights, a scale a group of 32."""

    def __init__(self, source):
        super().__init__()
        weight = source.weight.detach().float()
        groups = weight.unflatten(1, (-1, GROUP))
        scale = groups.abs().amax(2).clamp_min(1e-8) / 7
        numbers = (groups / scale[..., None]).round().clamp(-8, 7) + 8
        numbers = numbers.flatten(1).to(torch.int32)
        self.register_buffer("weight", torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1))
        # [groups, outputs, scale and zero]
        scale = scale.T.bfloat16()
        self.register_buffer("scales", torch.stack((scale, torch.zeros_like(scale)), 2).contiguous())

    def forward(self, x):
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
        return product(x.flatten(0, -2), self.weight, GROUP, self.scales).unflatten(0, x.shape[:-1])


def replace_linears(module, make):
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, make(child))
        else:
            replace_linears(child, make)


def quantized(model, weights, way):
    """The model with weights of 8 or 4 bits."""
    if way == "torchao":
        if importlib.util.find_spec("torchao") is None:
            sys.exit("left out: torchao is not installed")
        from torchao import quantization as ao

        model = model.bfloat16()
        if weights == "int8":
            ao.quantize_(model, ao.Int8WeightOnlyConfig())
        else:
            # The one for a CPU; that of `quantization` wants a GPU.
            from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

            ao.quantize_(model, PrototypeInt4WeightOnlyConfig(group_size=GROUP))
    elif way == "dynamic":
        if weights == "int4":
            sys.exit("left out: dynamic quantization has no int4")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    elif way == "rounded":
        if weights == "int4":
            sys.exit("left out: PyTorch has no product of int4 with int8")
        replace_linears(model, Rounded8)
        model = model.bfloat16()
    elif weights == "int8":
        replace_linears(model, lambda source: Packed8(source, way == "packed"))
        model = model.bfloat16()
    else:
        replace_linears(model, Packed4)
        model = model.bfloat16()
    return model


class Backbone(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.blocks = nn.ModuleList([Block(s) for _ in range(s["depth"])])

    def forward(self, x, cos, sin, caches, place):
        for block, cache in zip(self.blocks, caches):
            x = block(x, cos, sin, cache, place)
        return x


def decoding(s, wrap, way, fixed_shapes):
    """A function that computes the next position. `wrap` compiles. With `fixed_shapes`, all positions have the same."""
    weights, capacity = s["weights"], s["positions"]
    # Weights are made in their final type block by block: float32 of the whole model might not fit.
    with torch.no_grad():
        model = Backbone({**s, "depth": 0}).eval()
        for _ in range(s["depth"]):
            block = nn.ModuleList([Block(s)]).requires_grad_(False)
            if weights == "bf16":
                block = block.bfloat16()
            elif weights in ("int8", "int4"):
                block = quantized(block, weights, way)
            model.blocks.append(block[0])
    rounded = weights != "f32" and way != "dynamic"
    dtype = torch.bfloat16 if rounded else torch.float32
    dim = s["width"] // s["heads"]
    shape = (1, s["kv_heads"], capacity, dim)
    caches = [tuple(torch.zeros(shape, dtype=dtype) for _ in range(2)) for _ in range(s["depth"])]
    angle = torch.arange(capacity)[:, None] / 10000 ** torch.linspace(0, 1, dim // 2)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    step, count = wrap(model), 0

    def unit():
        nonlocal count
        at = count % capacity
        x = torch.randn(1, 1, s["width"], dtype=dtype, device=cos.device)
        count += 1
        place = torch.tensor([at], device=cos.device) if fixed_shapes else at
        return step(x, cos[at : at + 1], sin[at : at + 1], caches, place)

    return unit
