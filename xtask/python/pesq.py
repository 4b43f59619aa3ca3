"""Says how much recordings suffered: a line a pair, the second's path, tab, wideband PESQ (ITU-T P.862.2).

    python pesq.py original.wav copy.wav another.wav its-copy.wav

Pairs too short or too silent for it get `nan`. Needs the packages `numpy` and `pesq`.
"""

import sys
import wave
from pathlib import Path

# This file has the package's name, and its folder would be searched first.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import numpy
from pesq import PesqError, pesq

RATE_HZ = 16_000


def samples(path):
    with wave.open(path) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE_HZ):
            raise SystemExit(f"{path}: not 16-bit mono at {RATE_HZ} Hz")
        return numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)


def score(original, copy):
    try:
        return pesq(RATE_HZ, samples(original), samples(copy), "wb")
    except (PesqError, ValueError):
        return float("nan")


def main(paths):
    if len(paths) % 2:
        raise SystemExit("pairs of files, please: one has no second")
    for original, copy in zip(paths[::2], paths[1::2]):
        print(f"{copy}\t{score(original, copy):.4f}")


main(sys.argv[1:])
