"""Tests of recognize.py that need no recognizer.

    python3 xtask/python/test_recognize.py
"""

import os
import sys
import tempfile
import types
import unittest
import wave
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
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def sound(self, name, count):
        """A file of `count` samples of silence."""
        path = os.path.join(self.folder.name, name)
        with wave.open(path, "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(bytes(2 * count))
        return path

    def test_files_are_heard_at_temperature_0_alone(self):
        FakeWhisper.asked = []
        stand_in = types.SimpleNamespace(WhisperModel=FakeWhisper)
        paths = [self.sound("a.wav", 1), self.sound("b.wav", 160)]
        with patch.dict(sys.modules, faster_whisper=stand_in):
            heard = list(recognize.with_whisper("tiny.en", paths))
        self.assertEqual(heard, [(path, "Red red red.") for path in paths])
        self.assertEqual([path for _, path, _ in FakeWhisper.asked], paths)
        for model, _, options in FakeWhisper.asked:
            self.assertEqual(model, "tiny.en")
            # A list of temperatures would be tried one after the other.
            self.assertEqual(options["temperature"], 0.0)
            self.assertIsInstance(options["temperature"], float)

    def test_nothing_is_heard_in_a_file_without_samples(self):
        FakeWhisper.asked = []
        stand_in = types.SimpleNamespace(WhisperModel=FakeWhisper)
        empty, other = self.sound("empty.wav", 0), self.sound("other.wav", 1)
        # What the module `wave` can't read is left to Whisper.
        compressed = os.path.join(self.folder.name, "sound.mp3")
        with open(compressed, "wb") as file:
            file.write(b"ID3")
        with patch.dict(sys.modules, faster_whisper=stand_in):
            heard = dict(recognize.with_whisper("tiny.en", [empty, other, compressed]))
        self.assertEqual(heard, {empty: "", other: "Red red red.", compressed: "Red red red."})
        self.assertEqual([path for _, path, _ in FakeWhisper.asked], [other, compressed])


class FakeMoonshine:
    """Hears the number of samples, the largest one and the rate, and keeps what it was asked."""

    asked = []

    def __init__(self, model, arch, options):
        FakeMoonshine.asked.append((model, arch, options))

    def transcribe_without_streaming(self, sound, rate):
        lines = [f" {len(sound)} samples", f"of {max(sound)} at {rate} "]
        return types.SimpleNamespace(lines=[types.SimpleNamespace(text=text) for text in lines])


class Moonshine(unittest.TestCase):
    def test_files_are_heard_as_a_whole(self):
        FakeMoonshine.asked = []
        stand_in = types.SimpleNamespace(
            Transcriber=FakeMoonshine,
            ModelArch=types.SimpleNamespace(TINY="tiny"),
            get_model_path=lambda name: f"models/{name}",
        )
        with tempfile.TemporaryDirectory() as folder, patch.dict(sys.modules, moonshine_voice=stand_in):
            paths = [os.path.join(folder, name) for name in ["a.wav", "empty.wav"]]
            for path, pcm in zip(paths, [b"\x00\x40\x00\xc0\x00\x00", b""]):
                with wave.open(path, "wb") as file:
                    file.setparams((1, 2, 16_000, 0, "NONE", ""))
                    file.writeframes(pcm)
            heard = list(recognize.with_moonshine("packaged", paths))
        # 0x4000 of 0x8000 is a half.
        self.assertEqual(heard, [(paths[0], "3 samples of 0.5 at 16000"), (paths[1], "")])
        self.assertEqual(FakeMoonshine.asked, [("models/tiny-en", "tiny", recognize.WHOLE)])
        self.assertEqual(recognize.WHOLE["vad_threshold"], "0")


class Letters(unittest.TestCase):
    def test_writings_of_spelled_words_are_letters(self):
        for text in ["M-I-L-K.", "MILK", "Em, I, L, K"]:
            self.assertEqual(recognize.spelled(text), "m i l k", text)


if __name__ == "__main__":
    unittest.main()
