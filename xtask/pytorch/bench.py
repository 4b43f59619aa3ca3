"""PyTorch's side of `cargo xtask bench`: the same work with the same sizes, in several ways to write it.

The first argument is the description of the workload. Like the Rust side, it reads from standard input
`go` (time a unit), `hot` (time a unit after others of its own), `cold` (time a unit after the caches were
emptied), `memory` (peak of the process) and `grown` (peak without what the process had after its imports).

`--device cuda`      runs it on a GPU
`--compile`          torch.compile with inductor; what only infers with frozen weights, on the CPU
`--cpp`              inductor's calls of kernels in C++ too
`--max-autotune`     inductor tries several kernels for each product, on the CPU its own in C++, and keeps the fastest
`--optimizer NAME`   AdamW as `foreach` (default), `fused`, or `flat`: fused, all parameters in one piece
`--fused`            the same as `--optimizer fused`
`--processes N`      parts of the batch in processes of their own on parts of the cores; gradients by gloo
`--threads N`        threads of each process
`--layout NAME`      of convolutions: channels `first` or `last`
`--linear NAME`      products with int8 and int4 weights: `packed` (default), `plain`, `dynamic`, `rounded`, `torchao`
`--ahead`            sampling: all solver steps of a latent in one program, modulations of all steps first
`--bf16`             computes under autocast in bfloat16, with float32 weights
`--tf32`             allows TF32 in matrix products
`--describe`         only prints the versions in use

A way that is not there ends with a line `left out: ...`.
"""

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# No folders beside the script.
sys.dont_write_bytecode = True

from backbone import decoding
from codec import streaming
from models import Block, Head, ImageLm, MllmLm, Pictures, Speech

# Units before a hot one.
WARMING = 3
# Buffer that empties the caches: at least this, and twice the largest cache.
LEAST_FLUSH_BYTES = 2**27
INFERENCE = ("sample", "sample-rounded", "speech-decode", "backbone-decode", "codec-stream")


def value(flag, default):
    """The value of a flag on the command line."""
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else default


DEVICE = value("--device", "cpu")
COMPILED = "--compile" in sys.argv
AHEAD = "--ahead" in sys.argv
PROCESSES = int(value("--processes", "1"))
RANK = int(value("--rank", "0"))
OPTIMIZER = "fused" if "--fused" in sys.argv else value("--optimizer", "foreach")


def precision():
    """Context in which matrix products are in bfloat16, with `--bf16`."""
    if "--bf16" in sys.argv:
        return torch.autocast(DEVICE, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def finish():
    """Waits for the GPU."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def wrap(function):
    return torch.compile(function, dynamic=False) if COMPILED else function


class Flat:
    """Parameters as views of one piece of memory, and their gradients as views of another."""

    def __init__(self, parameters):
        count = sum(p.numel() for p in parameters)
        self.weights = nn.Parameter(torch.empty(count))
        self.weights.grad = torch.zeros(count)
        at = 0
        for p in parameters:
            weight, gradient = (
                whole[at : at + p.numel()].as_strided(p.size(), p.stride(), at)
                for whole in (self.weights.detach(), self.weights.grad)
            )
            weight.copy_(p.detach())
            p.data, p.grad = weight, gradient
            at += p.numel()


def training(model, loss):
    """A training step: loss, gradients, clipping, AdamW, averaged weights."""
    parameters = list(model.parameters())
    flat = OPTIMIZER == "flat"
    if flat:
        parameters = [Flat(parameters).weights]
    how = {"foreach": True} if OPTIMIZER == "foreach" else {"fused": True}
    optimizer = torch.optim.AdamW(parameters, 1e-3, (0.9, 0.98), weight_decay=0.01, **how)
    average = [p.detach().clone() for p in parameters]

    def share():
        """Averages the gradients of all processes."""
        if PROCESSES > 1:
            for p in parameters:
                torch.distributed.all_reduce(p.grad)
                p.grad.div_(PROCESSES)

    def step():
        # Views of a flat gradient stay: what is added to them is added there.
        optimizer.zero_grad(set_to_none=not flat)
        with precision():
            total = loss()
        total.backward()
        share()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 0.005)

    return step


def inferring(work):
    """Work without gradients."""

    def unit():
        with torch.inference_mode(), precision():
            work()

    return unit


def own_part(s):
    """Sizes of this process's part of the batch."""
    name = "documents" if "documents" in s else "batch"
    if PROCESSES > 1:
        if s.get(name, 1) % PROCESSES:
            sys.exit(f"left out: a batch of {s.get(name, 1)} in {PROCESSES} processes")
        s = {**s, name: s[name] // PROCESSES}
    return s


def prepare(s):
    kind = s["kind"]
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
    if kind == "picture-codec-step":
        # Usually the fastest layout for convolutions on a CPU.
        first = value("--layout", "last") == "first"
        layout = torch.contiguous_format if first else torch.channels_last
        model = Pictures(s).to(memory_format=layout)
        pictures = torch.randn(s["batch"], s["channels"], s["image_size"], s["image_size"])
        pictures = pictures.to(memory_format=layout)
        loss = wrap(model.loss)
        return training(model, lambda: loss(pictures))
    if kind == "speech-codec-step":
        model = Speech(s, value("--layout", "first") == "last")
        samples = s["frames"] * s["frames_per_latent"] * math.prod(s["ratios"])
        signal = torch.randn(s["batch"], 1, samples)
        loss = wrap(model.loss)
        return training(model, lambda: loss(signal))
    if kind == "attention":
        return attending(s)
    return inferring(inference(s))


def attending(s):
    """A block forward and backward over one long sequence, with gradients of the weights and of the input."""
    block, length, half = Block(s), s["positions"], s["width"] // s["heads"] // 2
    angle = torch.arange(length)[:, None] / 10000 ** torch.linspace(0, 1, half)
    cos, sin = angle.cos(), angle.sin()
    x = torch.randn(1, length, s["width"], requires_grad=True)
    run = wrap(block)

    def fused():
        # The fused kernel or an error: the other one on a CPU would hold all scores at the same time.
        return sdpa_kernel(SDPBackend.FLASH_ATTENTION) if DEVICE == "cpu" else contextlib.nullcontext()

    def unit():
        x.grad = None
        block.zero_grad()
        with fused(), precision():
            loss = run(x, cos, sin).square().sum()
        loss.backward()

    return unit


def inference(s):
    if s["kind"] in ("sample", "sample-rounded"):
        model = ImageLm(s).eval()
        # With `--bf16`, autocast rounds float32 weights.
        if s["kind"] == "sample-rounded" and "--bf16" not in sys.argv:
            for parameter in model.head.parameters():
                parameter.data = parameter.data.bfloat16()
        model.fixed_shapes = COMPILED
        if AHEAD:
            model.head.sample = wrap(functools.partial(model.head.sample, ahead=True))
        else:
            model.head.forward = wrap(model.head.forward)
        model.run = wrap(model.run)
        labels = torch.arange(s["batch"]) % s["classes"]
        return lambda: model.generate(labels)
    if s["kind"] == "speech-decode":
        model, past = Speech(s, value("--layout", "first") == "last").eval(), {}
        decode = wrap(model.decode)
        return lambda: decode(torch.randn(s["batch"], 1, s["latent_dim"], device=DEVICE), past)
    if s["kind"] == "backbone-decode":
        return decoding(s, wrap, value("--linear", "packed"), COMPILED)
    if s["kind"] == "codec-stream":
        # With `--bf16`, autocast rounds float32 weights.
        rounded = s["weights"] == "bf16" and "--bf16" not in sys.argv
        return streaming(s, wrap, value("--layout", "first") == "last", rounded)
    sys.exit(f"left out: no workload {s['kind']}")


def cores():
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def take_cores():
    """Takes this process's part of the cores. As many threads as the Rust side uses: PyTorch's default is one per
    physical core."""
    own = cores()
    if PROCESSES > 1:
        count = max(len(own) // PROCESSES, 1)
        own = own[RANK * count :][:count] or own[:count]
        os.sched_setaffinity(0, own)
    torch.set_num_threads(int(value("--threads", len(own))))


def describe():
    if DEVICE == "cuda":
        card = torch.cuda.get_device_name()
        return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, on {card}"
    try:
        torchao = f", torchao {importlib.metadata.version('torchao')}"
    except importlib.metadata.PackageNotFoundError:
        torchao = ""
    return f"PyTorch {torch.__version__}{torchao} on the CPU, {torch.get_num_threads()} threads"


def resident_bytes(field):
    """A line of the process's status: `VmRSS` now, `VmHWM` the peak."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines[field].split()[0]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


IMPORTED_BYTES = resident_bytes("VmRSS")


def peak_bytes():
    if DEVICE == "cuda":
        return torch.cuda.max_memory_reserved()
    return resident_bytes("VmHWM")


def grown_bytes():
    """Peak memory without what importing PyTorch took."""
    return peak_bytes() if DEVICE == "cuda" else peak_bytes() - IMPORTED_BYTES


def cache_bytes():
    """The largest cache, or 0 if the system does not say."""
    try:
        with open("/sys/devices/system/cpu/cpu0/cache/index3/size") as size:
            return int(size.read().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 0


def flush():
    """Empties the caches: reads and writes more than they hold."""
    if flush.buffer is None:
        count = max(LEAST_FLUSH_BYTES, 2 * cache_bytes()) // 8
        flush.buffer = torch.zeros(count, dtype=torch.int64, device="cpu")
    flush.buffer.add_(1)


flush.buffer = None


class Peers:
    """The other processes of this side. Each does what it is told and answers a number."""

    def __init__(self):
        self.others = []
        if PROCESSES == 1:
            return
        meeting = value("--meeting", None)
        if RANK == 0:
            self.folder = tempfile.TemporaryDirectory()
            meeting = self.folder.name + "/meeting"
            for rank in range(1, PROCESSES):
                words = [sys.executable, *sys.argv, "--rank", str(rank), "--meeting", meeting]
                pipe = subprocess.PIPE
                self.others.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True))
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=RANK, world_size=PROCESSES
        )

    def tell(self, word):
        for other in self.others:
            other.stdin.write(word + "\n")
            other.stdin.flush()

    def answers(self):
        lines = [other.stdout.readline() for other in self.others]
        if not all(lines):
            sys.exit("a process of this side ended; its error stands above")
        return sum(map(float, lines))

    def together(self, word, work):
        """Own work and that of the others at the same time."""
        self.tell(word)
        own = work()
        return own, self.answers()


def serve(unit, peers):
    """Answers every line of standard input with a number."""

    def timed():
        started = time.perf_counter()
        peers.together("go", unit)
        finish()
        return (time.perf_counter() - started) * 1e3

    for line in sys.stdin:
        word = line.strip()
        if word == "hot":
            for _ in range(WARMING):
                peers.together("go", unit)
        elif word == "cold":
            peers.together("flush", flush)
        if word == "flush":
            answer = flush() or 0
        elif word == "memory":
            answer = sum(peers.together(word, peak_bytes))
        elif word == "grown":
            answer = sum(peers.together(word, grown_bytes))
        else:
            answer = timed()
        print(answer, flush=True)


def main():
    if "--describe" in sys.argv:
        take_cores()
        print(describe())
        return
    s = own_part(json.loads(sys.argv[1]))
    peers = Peers()
    take_cores()
    if "--tf32" in sys.argv:
        torch.set_float32_matmul_precision("high")
    if COMPILED and DEVICE == "cpu":
        import torch._inductor.config as inductor

        # Weights that do not change are laid out once.
        inductor.freezing = s["kind"] in INFERENCE
        inductor.cpp_wrapper = "--cpp" in sys.argv
        inductor.max_autotune = "--max-autotune" in sys.argv
    # Times all convolution algorithms in the first units and keeps the fastest.
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    # The default device of new tensors.
    with torch.device(DEVICE):
        unit = prepare(s)
    serve(unit, peers)


if __name__ == "__main__":
    main()
