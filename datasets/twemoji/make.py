"""Makes this folder's files from the npm package `emoji-datasource-twitter` 16.0.0.
Standard library only; the sheet is copied as it is.

    npm pack emoji-datasource-twitter@16.0.0 && tar xzf emoji-datasource-twitter-16.0.0.tgz
    python3 datasets/twemoji/make.py package datasets/twemoji
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path


def split(key):
    """One emoji in ten is held out, by its code points."""
    return "test" if hashlib.sha256(key.encode()).digest()[0] % 10 == 0 else "train"


def main(package, out):
    shutil.copyfile(package / "img/twitter/sheets-clean/32.png", out / "sheet-32.png")
    lines = []
    for emoji in json.loads((package / "emoji.json").read_text()):
        # Components (skin tones) are no emoji of their own.
        if not emoji["has_img_twitter"] or emoji["category"] == "Component":
            continue
        record = {
            "sheet": "sheet-32.png",
            "sheet_x": emoji["sheet_x"],
            "sheet_y": emoji["sheet_y"],
            "unified": emoji["unified"],
            "name": emoji["name"],
            "text": (emoji["name"] or emoji["short_name"]).lower(),
            "short_names": emoji["short_names"],
            "label": emoji["category"],
            "subcategory": emoji["subcategory"],
            "split": split(emoji["unified"]),
        }
        lines.append(json.dumps(record, ensure_ascii=False))
    (out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
