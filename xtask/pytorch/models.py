"""Our models as PyTorch has them, for `bench.py`: the same sizes and the same products, without needless copies."""

import math

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
        grouped, mask = self.heads != self.kv_heads, None
        if torch.is_tensor(position):
            # All shapes stay the same, so that a compiler makes one program for all positions.
            k, v = (c.index_copy_(2, position, new) for c, new in zip(cache, (k, v)))
            mask = (torch.arange(k.shape[2], device=x.device) <= position)[None, None, None]
        elif cache is not None:
            cache[0][:, :, position : position + length] = k
            cache[1][:, :, position : position + length] = v
            k, v = (c[:, :, : position + length] for c in cache)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=cache is None, enable_gqa=grouped)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(F.rms_norm(x, (self.width,), eps=1e-6))


class HeadLayer(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.modulation = linear(width, 3 * width)
        self.mlp = SwiGlu(width, inner)
        self.width = width

    def forward(self, x, condition):
        return self.modulated(x, self.modulation(condition))

    def modulated(self, x, modulation):
        shift, scale, gate = modulation.chunk(3, -1)
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
        return self.predict(x, self.modulation(condition))

    def predict(self, x, modulation):
        shift, scale = modulation.chunk(2, -1)
        return self.output(F.rms_norm(x, (self.width,), eps=1e-6) * (1 + scale) + shift)

    def loss(self, latents, condition):
        t = torch.randint(1000, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        alpha, sigma = self.alpha[t, None], self.sigma[t, None]
        prediction = self(alpha * latents + sigma * noise, self.embed(t), condition)
        return F.mse_loss(prediction, alpha * noise - sigma * latents)

    def sample(self, condition, noise, steps=20, guidance=2.0, ahead=False):
        """DPM-Solver++ 2M on both halves of the batch. With `ahead`, modulations of all steps are computed first, and
        both halves share the projection of their latents."""
        x, last, last_width = noise, None, None
        times = [round(999 * i / steps) for i in range(steps, 0, -1)]
        bars = [self.bars[t] for t in times] + [1.0]
        # One row per step, the same for all latents.
        dtype = self.output.weight.dtype
        embedded = self.embed(torch.tensor(times, device=noise.device))
        condition = condition.to(dtype)
        if ahead:
            conditions = F.silu(condition + embedded[:, None])  # [S, 2 N, D]
            modulations = [layer.modulation(conditions) for layer in self.layers]
            final = self.modulation(conditions)
        for i in range(steps):
            if ahead:
                hidden = self.input(x.to(dtype))
                hidden = torch.cat([hidden, hidden])
                for layer, modulation in zip(self.layers, modulations):
                    hidden = layer.modulated(hidden, modulation[i])
                both = self.predict(hidden, final[i])
            else:
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
        # Whether a step of generation has the same shapes at every position.
        self.fixed_shapes = False
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
        at = position if torch.is_tensor(position) else slice(position, position + length)
        cos, sin = self.cos[at], self.sin[at]
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
        places = [torch.tensor([p], device=labels.device) if self.fixed_shapes else p for p in range(tokens)]
        x = self.label(torch.cat([labels, torch.full_like(labels, s["classes"])]))[:, None]
        latents = []
        for position in range(tokens):
            hidden = self.run(x, caches, places[position])[:, 0]
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
    """A causal convolution; with `past`, of one chunk of a stream. `last` has channels as the last axis, where all
    but the depthwise convolution are one matrix product."""

    def __init__(self, conv, pad, last):
        super().__init__()
        self.conv, self.pad, self.last, self.key = conv, pad, last, ""

    def forward(self, x, past=None):
        before = None if past is None else past.get(self.key)
        if self.last:
            x = F.pad(x, (0, 0, self.pad, 0)) if before is None else torch.cat([before, x], 1)
        else:
            x = F.pad(x, (self.pad, 0)) if before is None else torch.cat([before, x], -1)
        if past is not None:
            past[self.key] = x[:, -self.pad :] if self.last else x[..., -self.pad :]
        return self.product(x) if self.last else self.conv(x)

    def product(self, x):
        """The convolution of `[B, T, C]`."""
        weight, bias, stride = self.conv.weight, self.conv.bias, self.conv.stride[0]
        kernel = weight.shape[2]
        if self.conv.groups > 1:
            length = x.shape[1] - self.pad
            return sum(x[:, k : k + length] * weight[:, 0, k] for k in range(kernel)) + bias
        if stride > 1:
            # The kernel is two strides long.
            blocks = x.reshape(len(x), -1, stride * x.shape[2])
            rows = torch.cat([blocks[:, :-1], blocks[:, 1:]], -1)
            return F.linear(rows, weight.transpose(1, 2).flatten(1), bias)
        return F.linear(x.unfold(1, kernel, 1).flatten(2), weight.flatten(1), bias)


class Transposed(nn.Module):
    """A transposed convolution whose kernel is two strides long."""

    def __init__(self, inputs, outputs, stride, last):
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.stride, self.last, self.key = stride, last, ""

    def forward(self, x, past=None):
        if self.last:
            return self.product(x, past)
        if past is None:
            return self.conv(x)[..., : -self.stride]
        before = past.get(self.key, torch.zeros_like(x[..., :1]))
        past[self.key] = x[..., -1:]
        return self.conv(torch.cat([before, x], -1))[..., self.stride : -self.stride]

    def product(self, x, past):
        """The same of `[B, T, C]`: the second half of a position's product is added to the next position's first."""
        weight, bias = self.conv.weight, self.conv.bias
        rows = x @ weight.transpose(1, 2).flatten(1)
        first, second = rows.chunk(2, -1)
        before = None if past is None else past.get(self.key)
        if before is None:
            before = torch.zeros_like(second[:, :1])
        if past is not None:
            past[self.key] = second[:, -1:]
        rows = first + torch.cat([before, second[:, :-1]], 1)
        return rows.unflatten(2, (self.stride, -1)).flatten(1, 2) + bias


class Layer(nn.Module):
    def __init__(self, width, last):
        super().__init__()
        self.norm, self.ffn_norm = RmsNorm(width), RmsNorm(width)
        self.mixer = Causal(nn.Conv1d(width, width, 7, groups=width), 6, last)
        self.up, self.down = linear(width, 4 * width, True), linear(4 * width, width, True)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))
        self.ffn_gamma = nn.Parameter(torch.full((width,), 0.1))
        self.last = last

    def forward(self, x, past=None):
        if self.last:
            x = x + self.mixer(self.norm(x), past) * self.gamma
            return x + self.down(F.gelu(self.up(self.ffn_norm(x)))) * self.ffn_gamma
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
        x = torch.view_as_real(torch.stft(x, n, hop, window=window, center=False, return_complex=True))
        return (x.square().sum(-1) + 1e-10).sqrt() / math.sqrt(0.375 * n)

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
    """The speech codec, on `[B, C, T]` or, with `last`, on `[B, T, C]`."""

    def __init__(self, s, last=False):
        super().__init__()
        widths, ratios, depths = s["widths"], s["ratios"], s["depths"]
        self.frames, self.last = s["frames_per_latent"], last
        self.spectra = Spectra(s)
        dim = s["latent_dim"] // self.frames
        layers = lambda i: [Layer(widths[i], last) for _ in range(depths[i])]
        causal = lambda inputs, outputs: Causal(nn.Conv1d(inputs, outputs, 7), 6, last)
        encoder = [causal(1, widths[0]), *layers(0)]
        for i, ratio in enumerate(ratios):
            conv = nn.Conv1d(widths[i], widths[i + 1], 2 * ratio, ratio)
            encoder += [Causal(conv, ratio, last), *layers(i + 1)]
        encoder.append(causal(widths[-1], dim))
        decoder = [causal(dim, widths[-1]), *layers(len(ratios))]
        for i, ratio in reversed(list(enumerate(ratios))):
            decoder += [Transposed(widths[i + 1], widths[i], ratio, last), *layers(i)]
        decoder.append(causal(widths[0], 1))
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        for index, module in enumerate(self.modules()):
            if isinstance(module, (Causal, Transposed)):
                module.key = f"past{index}"

    def encode(self, signal):
        """`[B, 1, T]` to `[B, T, C]`."""
        z = signal.transpose(1, 2) if self.last else signal
        for module in self.encoder:
            z = module(z)
        return z if self.last else z.transpose(1, 2)

    def loss(self, signal):
        mean = self.encode(signal).unflatten(1, (-1, self.frames)).flatten(2)
        z = mean + 0.5 * torch.randn(len(mean), 1, 1, device=mean.device) * torch.randn_like(mean)
        decoded = self.decode(z)
        mel, stft = self.spectra(decoded[:, 0], signal[:, 0])
        waveform = F.l1_loss(decoded, signal)
        return 10 * waveform + 15 * mel + stft + 0.03 * mean.square().mean()

    def decode(self, z, past=None):
        """`[B, T, Z]` to `[B, 1, T]`."""
        z = z.unflatten(2, (self.frames, -1)).flatten(1, 2)
        if not self.last:
            z = z.transpose(1, 2)
        for module in self.decoder:
            z = module(z, past)
        return z.transpose(1, 2) if self.last else z
