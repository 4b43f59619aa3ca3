"""Prints the similarity of voices: one line per file, path, tab, similarity to the first file's voice (1: the same).

    python voices.py reference.wav other.wav

Needs the package `resemblyzer`.
"""

import sys

import numpy
from resemblyzer import VoiceEncoder, preprocess_wav


def main(paths):
    encoder = VoiceEncoder("cpu", verbose=False)
    voices = [encoder.embed_utterance(preprocess_wav(path)) for path in paths]
    for path, voice in zip(paths, voices):
        print(f"{path}\t{numpy.dot(voices[0], voice):.4f}")


main(sys.argv[1:])
