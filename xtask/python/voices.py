"""Prints the similarity of voices: one line per file, path, tab, similarity to the first file's voice (1: the same).

    python voices.py reference.wav other.wav

Files without a voice get `nan`. Needs the package `resemblyzer`.
"""

import sys
import wave

import numpy
from resemblyzer import VoiceEncoder, preprocess_wav

# Shorter sounds have no voice: one frame of the encoder's spectrum needs as many.
LEAST_SAMPLES = 400


def is_empty(path):
    """Whether a WAV file has no samples, as speech that ends at once. Other formats are left to who reads them."""
    try:
        with wave.open(path) as file:
            return file.getnframes() == 0
    except (EOFError, wave.Error):
        return False


def main(paths):
    encoder = VoiceEncoder("cpu", verbose=False)

    def voice(path):
        if is_empty(path):
            return None
        try:
            sound = preprocess_wav(path)
        except ValueError:
            return None
        return encoder.embed_utterance(sound) if len(sound) >= LEAST_SAMPLES else None

    voices = [voice(path) for path in paths]
    for path, own in zip(paths, voices):
        known = voices[0] is not None and own is not None
        print(f"{path}\t{numpy.dot(voices[0], own) if known else float('nan'):.4f}")


main(sys.argv[1:])
