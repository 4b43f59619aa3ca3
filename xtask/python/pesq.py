"""Prints the quality of copies of recordings: one line per pair, path of the copy, tab, wideband PESQ (ITU-T P.862.2).

    python pesq.py original.wav copy.wav another.wav its-copy.wav

Pairs that are too short or too silent get `nan`. Needs the packages `numpy` and `pesq`.
"""

import sys
import wave
from pathlib import Path

# This file has the same name as the package, and Python searches this folder first.
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
