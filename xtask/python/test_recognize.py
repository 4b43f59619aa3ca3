"""Tests of recognize.py that need no recognizer.

    python3 xtask/python/test_recognize.py
"""

import os
import sys
import types
import unittest
from unittest.mock import patch

# No cache in the folder of the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import recognize  # noqa: E402


class FakeWhisper:
    """Hears two segments in each file, and keeps what it was asked."""

    asked = []

    def __init__(self, model, **options):
        self.model = model

    def transcribe(self, path, **options):
        FakeWhisper.asked.append((self.model, path, options))
        return [types.SimpleNamespace(text=" Red red"), types.SimpleNamespace(text=" red. ")], None


class Whisper(unittest.TestCase):
    def test_files_are_heard_at_temperature_0_alone(self):
        FakeWhisper.asked = []
        stand_in = types.SimpleNamespace(WhisperModel=FakeWhisper)
        with patch.dict(sys.modules, faster_whisper=stand_in):
            heard = list(recognize.with_whisper("tiny.en", ["a.wav", "b.wav"]))
        self.assertEqual(heard, [("a.wav", "Red red red."), ("b.wav", "Red red red.")])
        self.assertEqual([path for _, path, _ in FakeWhisper.asked], ["a.wav", "b.wav"])
        for model, _, options in FakeWhisper.asked:
            self.assertEqual(model, "tiny.en")
            # A list of temperatures would be tried one after the other.
            self.assertEqual(options["temperature"], 0.0)
            self.assertIsInstance(options["temperature"], float)


class Letters(unittest.TestCase):
    def test_writings_of_spelled_words_are_letters(self):
        for text in ["M-I-L-K.", "MILK", "Em, I, L, K"]:
            self.assertEqual(recognize.spelled(text), "m i l k", text)


if __name__ == "__main__":
    unittest.main()
