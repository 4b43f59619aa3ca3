"""Makes this folder from the Debian packages that README.md names.

    python3 datasets/voice/make.py UNPACKED datasets/voice
"""

import gzip
import json
import re
import subprocess
import sys
import wave
from array import array
from pathlib import Path

RATE = 16_000
FRAME = RATE // 100
KEPT = 5 * FRAME  # silence left at both ends
BELOW_PEAK = 0.01  # 40 dB

DAYS = "sunday monday tuesday wednesday thursday friday saturday".split()
MONTHS = (
    "january february march april may june july august september october november december"
).split()
SENTENCE_BYTES = 4_700_000  # what is left of the folder's share
SECONDS = (1.6, 6.0)
# Prompts whose recording says something else than their transcript, by ear of two recognizers.
DOUBTFUL = {"pbx-invalidpark"}
# Held out, one sentence in four of the chosen ones.
HELD_OUT_EVERY = 4


def transcripts(path):
    """Name and text of every recording."""
    for line in gzip.open(path, "rt"):
        name, separator, text = line.strip().partition(": ")
        if separator and not line.startswith(";"):
            yield name, text


def words(text):
    """Lower case, no punctuation; None where something is not spoken as it is written."""
    text = text.lower().replace("-", " ").replace("...", " ")
    text = re.sub(r"[.,!?;:\"]", " ", text)
    if re.search(r"[^a-z' ]", text):
        return None
    return " ".join(text.split())


def group(name, text):
    """What a single word is to the composer of utterances, if anything."""
    folder, _, stem = name.partition("/")
    if folder == "letters" and len(stem) == 1:
        return "letter"
    if folder == "phonetic":
        return "phonetic"
    if folder != "digits":
        return None
    if re.fullmatch(r"[0-9]|oh", stem):
        return "digit"
    if re.fullmatch(r"[1-9][0-9]|hundred|thousand", stem):
        return "number"
    if re.fullmatch(r"h-([1-9]|1[0-9]|20|30)", stem):
        return "ordinal"
    if text in DAYS:
        return "day"
    if text in MONTHS:
        return "month"
    return None


def decode(path):
    """Samples of a G.722 recording, silence at both ends cut."""
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", path, "-ar", str(RATE)]
    pcm = subprocess.run([*command, "-f", "s16le", "-"], check=True, capture_output=True).stdout
    samples = array("h", pcm)
    peak = max(map(abs, samples))
    loud = [
        index
        for index in range(len(samples) // FRAME)
        if max(map(abs, samples[index * FRAME : (index + 1) * FRAME])) > BELOW_PEAK * peak
    ]
    start = max(0, loud[0] * FRAME - KEPT)
    return samples[start : (loud[-1] + 1) * FRAME + KEPT]


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


def main(unpacked, out):
    share = unpacked / "usr/share"
    sounds = share / "asterisk/sounds/en_US_f_Allison"
    listed = share / "doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    clips, sentences = [], []
    for name, text in sorted(transcripts(listed)):
        text = words(text)
        path = sounds / f"{name}.g722"
        if not text or name in DOUBTFUL or not path.exists():
            continue
        kind = group(name, text)
        if kind:
            clips.append((name, text, kind, decode(path)))
        elif "/" not in name and len(text.split()) > 3:
            samples = decode(path)
            if SECONDS[0] <= len(samples) / RATE <= SECONDS[1]:
                sentences.append((name, text, samples))
    # Those that say most in their time come first.
    sentences.sort(key=lambda s: (-len(set(s[1].split())) / len(s[2]), s[0]))
    lines, taken = [], 0
    for name, text, kind, samples in clips:
        write(out / f"{name}.wav", samples)
        lines.append({"audio": f"{name}.wav", "text": text, "group": kind, "split": "train"})
    for index, (name, text, samples) in enumerate(sentences):
        taken += 2 * len(samples)
        if taken > SENTENCE_BYTES:
            break
        split = "test" if index % HELD_OUT_EVERY == 0 else "train"
        write(out / f"sentences/{name}.wav", samples)
        lines.append({"audio": f"sentences/{name}.wav", "text": text, "split": split})
    with open(out / "metadata.jsonl", "w") as file:
        for line in lines:
            file.write(json.dumps({**line, "speaker": "allison"}) + "\n")


main(Path(sys.argv[1]), Path(sys.argv[2]))
