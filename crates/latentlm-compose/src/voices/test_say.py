"""Tests of say.py that need no synthesizer."""

import json
import os
import sys
import unittest

# No cache in the folder of the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import say  # noqa: E402


class Fake:
    """Says "abc" as three samples."""

    def say(self, voice, text, speed, seed):
        if voice != "fake":
            raise ValueError("no voice " + voice)
        return 8000, say.array.array("h", [1, -2, 300]), [0.5, 1.25][: seed]


class Times(unittest.TestCase):
    def test_groups_of_phonemes_are_words(self):
        ends = say.word_ends("ɪt wʌz dɑːk", ["It", "was", "dark."], None)
        self.assertEqual(ends, [2, 6, 11])

    def test_a_group_of_two_words_is_divided(self):
        alone = {"of": "ʌv", "the": "ðə", "house": "haʊs"}
        phonemes = "ʌvðə haʊs"
        ends = say.word_ends(phonemes, list(alone), alone.get)
        # A space belongs to the word behind it.
        self.assertEqual(ends, [2, 4, 9])
        # Sounds change beside others: "ðɪ" before a vowel.
        self.assertEqual(say.divide("ʌvðɪ iːvnɪŋ", ["ʌv", "ðə", "iːvnɪŋ"]), [2, 4, 11])

    def test_a_word_without_phonemes_ends_where_the_one_before_does(self):
        self.assertEqual(say.divide("abcd", ["ab", "", "cd"]), [2, 2, 4])
        self.assertEqual(say.divide("ab", ["ab", "x"]), [2, 2])

    def test_phonemes_have_the_marks_of_their_words(self):
        self.assertEqual(say.with_marks("wɛl ɪt", ["Well,", "it"]), "wɛl, ɪt")
        self.assertEqual(say.with_marks("ʌvðə", ["of", "the."]), "ʌvðə.")

    def test_events_of_espeak_are_starts_of_words(self):
        words = "It was of the house.".split()
        # "of the" is one word for it: "the" begins where its share of the letters does.
        events = [(1, 0), (4, 100), (8, 300), (15, 550)]
        ends = say.espeak_ends(words, events, 900)
        self.assertEqual(ends, [100, 300, 400, 550, 900])
        # A number is several words of its own: the first counts.
        ends = say.espeak_ends(["in", "1984", "it"], [(1, 5), (4, 50), (4, 80), (9, 200)], 300)
        self.assertEqual(ends, [50, 200, 300])
        self.assertEqual(say.espeak_ends(["ab", "cd"], [], 100), [50, 100])


class Answers(unittest.TestCase):
    def ask(self, **changes):
        request = {"voice": "fake", "text": "a b", "speed": 1.0, "seed": 2, **changes}
        head, _, rest = say.answer(Fake(), request).partition(b"\n")
        return json.loads(head), rest

    def test_samples_follow_the_times(self):
        head, rest = self.ask()
        self.assertEqual(head, {"rate": 8000, "samples": 3, "ends": [0.5, 1.25]})
        self.assertEqual(rest, b"\x01\x00\xfe\xff\x2c\x01")

    def test_what_fails_is_told(self):
        self.assertEqual(self.ask(voice="x"), ({"error": "no voice x"}, b""))
        self.assertEqual(self.ask(seed=1)[0], {"error": "1 ends of 2 words"})


class Models(unittest.TestCase):
    def test_outputs_are_appended(self):
        path = os.path.abspath(__file__)
        with open(path, "rb") as file:
            content = file.read()
        # Field 7 (graph) of field 12 (output) of field 1 (name); then lengths of two bytes.
        self.assertEqual(say.with_outputs(path, ["/x"]), content + b"\x3a\x06\x62\x04\x0a\x02/x")
        long = say.with_outputs(path, ["y" * 130])[len(content) :]
        self.assertEqual(long[:9], b"\x3a\x88\x01\x62\x85\x01\x0a\x82\x01")


if __name__ == "__main__":
    unittest.main()
