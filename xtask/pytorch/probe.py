"""The rates that PyTorch reaches on a GPU, as one line of JSON.

    python probe.py --device cuda [--small]

`rates` are the TFLOP/s of a large product of random matrices for each number type. `copy` is the GB/s
of a copy inside the GPU's memory; bytes read and bytes written both count. `--small` uses sizes for a
CPU.
"""

import json
import sys
import time

import torch

SMALL = "--small" in sys.argv
DEVICE = sys.argv[sys.argv.index("--device") + 1] if "--device" in sys.argv else "cpu"
SIDE = 512 if SMALL else 8192
COPIED_BYTES = 2**24 if SMALL else 2**32
REPEATS = 10


def finish():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(work):
    """Mean time of a call, after three warm-up calls."""
    for _ in range(3):
        work()
    finish()
    started = time.perf_counter()
    for _ in range(REPEATS):
        work()
    finish()
    return (time.perf_counter() - started) / REPEATS


def product_tflops(dtype, precision):
    torch.set_float32_matmul_precision(precision)
    # Random numbers: products of zeros draw less power and run faster than real ones.
    a, b = (torch.randn(SIDE, SIDE, device=DEVICE).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * SIDE**3 / seconds(lambda: torch.matmul(a, b, out=out)) / 1e12


def copy_gb_s():
    source = torch.ones(COPIED_BYTES // 4, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / seconds(lambda: target.copy_(source)) / 1e9


def main():
    torch.manual_seed(0)
    found = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if DEVICE == "cuda":
        card = torch.cuda.get_device_properties(0)
        found["name"] = card.name
        found["memory_mib"] = card.total_memory // 2**20
        found["capability"] = f"{card.major}.{card.minor}"
        found["multiprocessors"] = card.multi_processor_count
    found["rates"] = {
        "bf16": product_tflops(torch.bfloat16, "highest"),
        "tf32": product_tflops(torch.float32, "high"),
        "f32": product_tflops(torch.float32, "highest"),
    }
    found["copy"] = copy_gb_s()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
