"""Prints how natural recordings sound: one line per file, path, tab, mean opinion score from 1 to 5 (DNSMOS P.808).

    python natural.py one.wav two.wav

Recordings without any sound get `nan`. Needs the packages `speechmos`, `librosa`, `onnxruntime` and `requests`.
"""

import sys
import wave

import numpy
from speechmos import dnsmos

RATE_HZ = 16_000


def samples(path):
    with wave.open(path) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE_HZ):
            raise SystemExit(f"{path}: not 16-bit mono at {RATE_HZ} Hz")
        return numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16) / 32768


def score(sound):
    # The package repeats a short sound until it is long enough, and would never end with an empty one.
    if not sound.any():
        return float("nan")
    return dnsmos.run(sound, RATE_HZ)["p808_mos"]


def main(paths):
    for path in paths:
        print(f"{path}\t{score(samples(path)):.4f}")


main(sys.argv[1:])
