"""PyTorch's side of `cargo xtask bench`: the same work with the same sizes, written for speed with fused
attention, fused norms, `foreach` optimizers and no needless copies.

Reads `go` and `memory` from standard input, like the Rust side. The first argument is the description
of the workload. `--device cuda` runs it on a GPU. `--compile` uses torch.compile, and exits if the
workload does not support it. `--fused` uses the fused optimizer. `--bf16` computes under autocast in
bfloat16, with float32 weights. `--tf32` allows TF32 in matrix products. `--describe` only prints the
versions in use.
"""

import contextlib
import json
import math
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)


def swiglu_width(width, ratio):
    return int(width * ratio * 2 / 3 / 64) * 64


class SwiGlu(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        # One matrix product for gate and value.
        self.both = linear(width, 2 * inner)
        self.down = linear(inner, width)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def run_layer(layer, recompute, *inputs):
    """A layer; if `recompute`, its activations are computed again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        width, self.heads, self.kv_heads = s["width"], s["heads"], s["kv_heads"]
        self.head_dim = width // self.heads
        self.qkv = linear(width, (self.heads + 2 * self.kv_heads) * self.head_dim)
        self.proj = linear(width, width)
        self.mlp = SwiGlu(width, swiglu_width(width, s["mlp_ratio"]))
        self.width = width

    def forward(self, x, cos, sin, cache=None, position=0):
        batch, length, _ = x.shape
        qkv = self.qkv(F.rms_norm(x, (self.width,), eps=1e-6)).view(batch, length, -1, self.head_dim)
        q, k, v = qkv.transpose(1, 2).split([self.heads, self.kv_heads, self.kv_heads], 1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            cache[0][:, :, position : position + length] = k
            cache[1][:, :, position : position + length] = v
            k, v = (c[:, :, : position + length] for c in cache)
        grouped = self.heads != self.kv_heads
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None, enable_gqa=grouped)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(F.rms_norm(x, (self.width,), eps=1e-6))


class HeadLayer(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.modulation = linear(width, 3 * width)
        self.mlp = SwiGlu(width, inner)
        self.width = width

    def forward(self, x, condition):
        shift, scale, gate = self.modulation(condition).chunk(3, -1)
        inner = F.rms_norm(x, (self.width,), eps=1e-6) * (1 + scale) + shift
        return x + gate * self.mlp(inner)


class Head(nn.Module):
    def __init__(self, s):
        super().__init__()
        width = self.width = s["width"]
        self.recompute = s["recompute"]
        self.input = linear(s["latent_dim"], width, bias=True)
        self.time = nn.Sequential(linear(256, width), nn.SiLU(), linear(width, width))
        inner = swiglu_width(width, s["mlp_ratio"])
        self.layers = nn.ModuleList([HeadLayer(width, inner) for _ in range(s["head_depth"])])
        self.modulation = linear(width, 2 * width)
        self.output = linear(width, s["latent_dim"])
        steps = torch.arange(1000) / 1000
        bar = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
        # Also on the host, so that sampling need not wait for the GPU to read them.
        self.bars = bar.tolist()
        self.register_buffer("alpha", bar.sqrt())
        self.register_buffer("sigma", (1 - bar).sqrt())
        self.register_buffer("freq", torch.exp(-math.log(10000) * torch.arange(128) / 128))

    def embed(self, t):
        angle = t[:, None].float() * self.freq
        return self.time(torch.cat([angle.cos(), angle.sin()], -1).to(self.output.weight.dtype))

    def forward(self, noisy, time, condition):
        condition = F.silu(condition + time)
        x = self.input(noisy)
        for layer in self.layers:
            x = run_layer(layer, self.recompute, x, condition)
        shift, scale = self.modulation(condition).chunk(2, -1)
        return self.output(F.rms_norm(x, (self.width,), eps=1e-6) * (1 + scale) + shift)

    def loss(self, latents, condition):
        t = torch.randint(1000, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        alpha, sigma = self.alpha[t, None], self.sigma[t, None]
        prediction = self(alpha * latents + sigma * noise, self.embed(t), condition)
        return F.mse_loss(prediction, alpha * noise - sigma * latents)

    def sample(self, condition, noise, steps=20, guidance=2.0):
        """DPM-Solver++ 2M on both halves of the batch."""
        x, last, last_width = noise, None, None
        times = [round(999 * i / steps) for i in range(steps, 0, -1)]
        bars = [self.bars[t] for t in times] + [1.0]
        # One row per step, the same for all latents.
        dtype = self.output.weight.dtype
        embedded = self.embed(torch.tensor(times, device=noise.device))
        condition = condition.to(dtype)
        for i in range(steps):
            both = self(torch.cat([x, x]).to(dtype), embedded[i : i + 1], condition)
            conditional, null = both.float().chunk(2)
            v = null + guidance * (conditional - null)
            alpha, sigma = math.sqrt(bars[i]), math.sqrt(1 - bars[i])
            clean = alpha * x - sigma * v
            if i + 1 == steps:
                return clean
            next_alpha, next_sigma = math.sqrt(bars[i + 1]), math.sqrt(1 - bars[i + 1])
            width = math.log(next_alpha / next_sigma) - math.log(alpha / sigma)
            guess = clean if last is None else clean + 0.5 * width / last_width * (clean - last)
            x = next_sigma / sigma * x - next_alpha * math.expm1(-width) * guess
            last, last_width = clean, width


class ImageLm(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        width = s["width"]
        self.label = nn.Embedding(s["classes"] + 1, width)
        self.latent = linear(s["latent_dim"], width, bias=True)
        self.blocks = nn.ModuleList([Block(s) for _ in range(s["depth"])])
        self.condition = linear(width, width)
        self.head = Head(s)
        half = width // s["heads"] // 2
        angle = torch.arange(s["tokens"])[:, None] / 10000 ** torch.linspace(0, 1, half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def run(self, x, caches=None, position=0):
        length = x.shape[1]
        cos, sin = (t[position : position + length] for t in (self.cos, self.sin))
        for i, block in enumerate(self.blocks):
            if caches is None:
                x = run_layer(block, self.s["recompute"], x, cos, sin)
            else:
                x = block(x, cos, sin, caches[i], position)
        return self.condition(F.rms_norm(x, (self.s["width"],), eps=1e-6))

    def loss(self, labels, latents):
        x = torch.cat([self.label(labels)[:, None], self.latent(latents[:, :-1])], 1)
        hidden = self.run(x)
        draws = self.s["draws"]
        rows = latents.flatten(0, 1).repeat(draws, 1)
        return self.head.loss(rows, hidden.flatten(0, 1).repeat(draws, 1))

    def generate(self, labels):
        s = self.s
        batch, tokens = len(labels), s["tokens"]
        shape = (2 * batch, s["kv_heads"], tokens, s["width"] // s["heads"])
        empty = lambda: torch.zeros(shape, device=labels.device)
        caches = [(empty(), empty()) for _ in self.blocks]
        x = self.label(torch.cat([labels, torch.full_like(labels, s["classes"])]))[:, None]
        latents = []
        for position in range(tokens):
            hidden = self.run(x, caches, position)[:, 0]
            noise = torch.randn(batch, s["latent_dim"], device=labels.device)
            latent = self.head.sample(hidden, noise)
            latents.append(latent)
            x = self.latent(torch.cat([latent, latent]))[:, None]
        return torch.stack(latents, 1)


class MllmLm(ImageLm):
    """Text and pictures: a third of the documents each are for drawing, captioning, and text alone."""

    def __init__(self, s):
        length = s["text_tokens"] + s["tokens"] + 4
        super().__init__({**s, "classes": 0})
        del self.label
        width, half = s["width"], s["width"] // s["heads"] // 2
        vocabulary = s["vocabulary"] + 5
        self.token, self.vocabulary = nn.Embedding(vocabulary, width), linear(width, vocabulary)
        angle = torch.arange(length)[:, None] / 10000 ** torch.linspace(0, 1, half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def loss(self, tokens, latents):
        s, count = self.s, self.s["documents"]
        words, frames = s["text_tokens"], s["tokens"]
        x = self.token(tokens)
        drawn, seen = self.latent(latents).split(count)
        draw, caption, text = x.split(count)
        draw = torch.cat([draw[:, : words + 2], drawn, draw[:, words + 2 + frames :]], 1)
        caption = torch.cat([caption[:, :2], seen, caption[:, 2 + frames :]], 1)
        hidden = self.run(torch.cat([draw, caption, text]))
        draw, caption, text = hidden.split(count)
        draw_ids, caption_ids, text_ids = tokens.split(count)
        asked = [draw[:, : words + 1], draw[:, -2:-1], caption[:, 2 + frames : -1], text[:, :-1]]
        answers = [draw_ids[:, 1 : words + 2], draw_ids[:, -1:], caption_ids[:, 3 + frames :], text_ids[:, 1:]]
        asked, answers = (torch.cat([p.flatten(0, 1) for p in parts]) for parts in (asked, answers))
        token = F.cross_entropy(self.vocabulary(asked), answers)
        condition = draw[:, words + 1 : words + 1 + frames].flatten(0, 1)
        rows = latents[:count].flatten(0, 1)
        return self.head.loss(rows.repeat(s["draws"], 1), condition.repeat(s["draws"], 1)) + 0.1 * token


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


class Causal(nn.Module):
    """A causal convolution; with `past`, of one chunk of a stream."""

    def __init__(self, conv, pad):
        super().__init__()
        self.conv, self.pad = conv, pad

    def forward(self, x, past=None):
        if past is None:
            return self.conv(F.pad(x, (self.pad, 0)))
        before = past.get(self)
        x = F.pad(x, (self.pad, 0)) if before is None else torch.cat([before, x], -1)
        past[self] = x[..., -self.pad :]
        return self.conv(x)


class Transposed(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.stride = stride

    def forward(self, x, past=None):
        if past is None:
            return self.conv(x)[..., : -self.stride]
        before = past.get(self, torch.zeros_like(x[..., :1]))
        past[self] = x[..., -1:]
        return self.conv(torch.cat([before, x], -1))[..., self.stride : -self.stride]


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.ffn_norm = RmsNorm(width), RmsNorm(width)
        self.mixer = Causal(nn.Conv1d(width, width, 7, groups=width), 6)
        self.up, self.down = linear(width, 4 * width, True), linear(4 * width, width, True)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))
        self.ffn_gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x, past=None):
        mixed = self.mixer(self.norm(x.transpose(1, 2)).transpose(1, 2), past)
        x = x + mixed * self.gamma[:, None]
        fed = self.down(F.gelu(self.up(self.ffn_norm(x.transpose(1, 2)))))
        return x + (fed * self.ffn_gamma).transpose(1, 2)


class Residual(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class Pictures(nn.Module):
    """A convolutional image codec."""

    def __init__(self, s):
        super().__init__()
        base, dim, groups = s["width"], s["latent_dim"], s["norm_groups"]
        widths = [base, *(base * m for m in s["multipliers"])]
        blocks = lambda width: [Residual(width, groups) for _ in range(s["blocks"])]
        encoder = [nn.Conv2d(s["channels"], base, 3, padding=1)]
        for fine, coarse in zip(widths, widths[1:]):
            encoder += [nn.Conv2d(fine, coarse, 4, 2, 1), *blocks(coarse)]
        encoder.append(nn.Conv2d(widths[-1], dim, 1))
        decoder = [nn.Conv2d(dim, widths[-1], 1)]
        for fine, coarse in reversed(list(zip(widths, widths[1:]))):
            double = nn.Upsample(scale_factor=2, mode="nearest")
            decoder += [*blocks(coarse), double, nn.Conv2d(coarse, fine, 3, padding=1)]
        decoder += [nn.SiLU(), nn.Conv2d(base, s["channels"], 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def loss(self, pictures):
        z = self.encoder(pictures)
        z = z + 0.9375 * torch.randn(len(z), 1, 1, 1, device=z.device) * torch.randn_like(z)
        return F.mse_loss(self.decoder(z), pictures)


def mel_bands(window, bands, rate):
    mel = lambda hz: 2595 * math.log10(1 + hz / 700)
    edges = torch.linspace(0, mel(rate / 2), bands + 2)
    edges = 700 * (10 ** (edges / 2595) - 1)
    hz = torch.linspace(0, rate / 2, window // 2 + 1)[:, None]
    rise = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp_min(0).T.contiguous()  # [bands, bins]


class Spectra(nn.Module):
    """Mel and STFT losses at several resolutions."""

    def __init__(self, s):
        super().__init__()
        self.windows = [torch.hann_window(n) for n in s["windows"]]
        self.bands = [mel_bands(n, b, 16000) for n, b in zip(s["windows"], s["mel_bands"])]

    def level(self, x, window):
        n = len(window)
        hop = n // 4
        margin = n - hop
        x = F.pad(x, (margin, margin + -x.shape[-1] % hop))
        x = torch.stft(x, n, hop, window=window, center=False, return_complex=True)
        return (x.real.square() + x.imag.square() + 1e-10).sqrt() / math.sqrt(0.375 * n)

    def forward(self, decoded, signal):
        mel = stft = 0
        for window, bands in zip(self.windows, self.bands):
            real, fake = self.level(signal, window), self.level(decoded, window)
            log_mel = lambda x: (bands @ x).clamp_min(3e-3).log10()
            mel = mel + F.l1_loss(log_mel(fake), log_mel(real))
            log = lambda x: x.clamp_min(3e-3).log()
            stft = stft + F.l1_loss(log(fake), log(real)) + (fake - real).norm() / (real.norm() + 1e-6)
        return mel / len(self.windows), stft / len(self.windows)


class Speech(nn.Module):
    def __init__(self, s):
        super().__init__()
        widths, ratios, depths = s["widths"], s["ratios"], s["depths"]
        self.frames = s["frames_per_latent"]
        self.spectra = Spectra(s)
        dim = s["latent_dim"] // self.frames
        layers = lambda i: [Layer(widths[i]) for _ in range(depths[i])]
        encoder = [Causal(nn.Conv1d(1, widths[0], 7), 6), *layers(0)]
        for i, ratio in enumerate(ratios):
            conv = nn.Conv1d(widths[i], widths[i + 1], 2 * ratio, ratio)
            encoder += [Causal(conv, ratio), *layers(i + 1)]
        encoder.append(Causal(nn.Conv1d(widths[-1], dim, 7), 6))
        decoder = [Causal(nn.Conv1d(dim, widths[-1], 7), 6), *layers(len(ratios))]
        for i, ratio in reversed(list(enumerate(ratios))):
            decoder += [Transposed(widths[i + 1], widths[i], ratio), *layers(i)]
        decoder.append(Causal(nn.Conv1d(widths[0], 1, 7), 6))
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)

    def loss(self, signal):
        z = signal
        for module in self.encoder:
            z = module(z)
        mean = z.transpose(1, 2).unflatten(1, (-1, self.frames)).flatten(2)
        z = mean + 0.5 * torch.randn(len(mean), 1, 1, device=mean.device) * torch.randn_like(mean)
        decoded = self.decode(z)
        mel, stft = self.spectra(decoded[:, 0], signal[:, 0])
        waveform = F.l1_loss(decoded, signal)
        return 10 * waveform + 15 * mel + stft + 0.03 * mean.square().mean()

    def decode(self, z, past=None):
        z = z.unflatten(2, (self.frames, -1)).flatten(1, 2).transpose(1, 2)
        for module in self.decoder:
            z = module(z, past)
        return z


def value(flag, default):
    """The value of a flag on the command line."""
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else default


DEVICE = value("--device", "cpu")


def precision():
    """Context in which matrix products are in bfloat16, with `--bf16`."""
    if "--bf16" in sys.argv:
        return torch.autocast(DEVICE, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def finish():
    """Waits for the GPU."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def training(model, loss):
    """A training step: loss, gradients, clipping, AdamW, averaged weights."""
    parameters = list(model.parameters())
    how = {"fused": True} if "--fused" in sys.argv else {"foreach": True}
    optimizer = torch.optim.AdamW(parameters, 1e-3, (0.9, 0.98), weight_decay=0.01, **how)
    average = [p.detach().clone() for p in parameters]

    def step():
        optimizer.zero_grad(set_to_none=True)
        with precision():
            total = loss()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 0.005)

    return step


def sampling(work):
    """Work without gradients."""

    def unit():
        with torch.inference_mode(), precision():
            work()

    return unit


def prepare(s, compiled):
    kind = s["kind"]
    wrap = torch.compile if compiled else lambda f: f
    if kind == "image-lm-step":
        model = ImageLm(s)
        labels = torch.arange(s["batch"]) % s["classes"]
        latents = torch.randn(s["batch"], s["tokens"], s["latent_dim"])
        loss = wrap(model.loss)
        return training(model, lambda: loss(labels, latents))
    if kind == "mllm-lm-step":
        model = MllmLm(s)
        length = s["text_tokens"] + s["tokens"] + 4
        tokens = torch.randint(s["vocabulary"], (3 * s["documents"], length))
        latents = torch.randn(2 * s["documents"], s["tokens"], s["latent_dim"])
        loss = wrap(model.loss)
        return training(model, lambda: loss(tokens, latents))
    if kind == "head-step":
        model = Head(s)
        rows = s["batch"] * s["tokens"] * s["draws"]
        latents, condition = torch.randn(rows, s["latent_dim"]), torch.randn(rows, s["width"])
        loss = wrap(model.loss)
        return training(model, lambda: loss(latents, condition))
    if kind in ("sample", "sample-rounded"):
        model = ImageLm(s)
        if kind == "sample-rounded":
            for parameter in model.head.parameters():
                parameter.data = parameter.data.bfloat16()
        if compiled:
            model.head.forward = torch.compile(model.head.forward)
        labels = torch.arange(s["batch"]) % s["classes"]
        return sampling(lambda: model.generate(labels))
    if kind == "picture-codec-step":
        # The fastest layout for convolutions on a CPU.
        model = Pictures(s).to(memory_format=torch.channels_last)
        pictures = torch.randn(s["batch"], s["channels"], s["image_size"], s["image_size"])
        pictures = pictures.to(memory_format=torch.channels_last)
        loss = wrap(model.loss)
        return training(model, lambda: loss(pictures))
    if kind == "speech-codec-step":
        model = Speech(s)
        samples = s["frames"] * s["frames_per_latent"] * math.prod(s["ratios"])
        signal = torch.randn(s["batch"], 1, samples)
        loss = wrap(model.loss)
        return training(model, lambda: loss(signal))
    if compiled:
        sys.exit(f"{kind} is not written for torch.compile")
    model, past = Speech(s), {}
    latent = lambda: torch.randn(s["batch"], 1, s["latent_dim"], device=DEVICE)
    return sampling(lambda: model.decode(latent(), past))


def threads():
    """As many threads as the Rust side uses. PyTorch's default is one per physical core."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def describe():
    if DEVICE == "cuda":
        card = torch.cuda.get_device_name()
        return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, on {card}"
    return f"PyTorch {torch.__version__} on the CPU, {torch.get_num_threads()} threads"


def peak_bytes():
    if DEVICE == "cuda":
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    torch.set_num_threads(threads())
    if "--describe" in sys.argv:
        print(describe())
        return
    if "--tf32" in sys.argv:
        torch.set_float32_matmul_precision("high")
    # Times all convolution algorithms in the first units and keeps the fastest.
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    # The default device of new tensors.
    with torch.device(DEVICE):
        unit = prepare(json.loads(sys.argv[1]), "--compile" in sys.argv)
    for line in sys.stdin:
        if line.strip() == "go":
            started = time.perf_counter()
            unit()
            finish()
            print((time.perf_counter() - started) * 1e3, flush=True)
        else:
            print(peak_bytes(), flush=True)


if __name__ == "__main__":
    main()
