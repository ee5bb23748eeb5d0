"""Set the image, the workspace and the corpus in all files of this folder at once, and list what is left to edit:

    python cluster_configs/set_values.py --registry ghcr.io/acme --tag 0.1.0 --workspace s3://acme-maps/news \
        --corpus s3://acme-raw/news/

It may be called again with other values. Comments and all other lines stay as they are.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

HERE = Path(__file__).parent
IMAGE = re.compile(r"[\w.\-/:]+/latentscale-(cpu|gpu|vllm)(?::([\w.\-]+))?(?=\s|$)")
TAG = re.compile(r"^(\s*newTag:\s*)\S+", re.MULTILINE)


def files(folder: Path) -> list[Path]:
    """The files that hold values."""
    return sorted([*folder.glob("kuberay/*.yaml"), *folder.glob("plain/*.yaml"), *folder.glob("plain/*.env")])


def current(folder: Path) -> tuple[str, str]:
    """The workspace and the corpus that the files name now."""
    text = (folder / "kuberay" / "job.yaml").read_text(encoding="utf-8")
    found = [re.search(rf"^\s*{key}:\s*(\S+)", text, re.MULTILINE) for key in ("out", "sources")]
    workspace, corpus = (one[1] if one else "" for one in found)
    return workspace, corpus


def changed(
    text: str, folder: Path, *, registry: str | None, tag: str | None, workspace: str | None, corpus: str | None
) -> str:
    """The text of one file with the new values."""

    def image(match: re.Match[str]) -> str:
        whole = match[0].removesuffix(f":{match[2]}") if match[2] else match[0]
        name = f"{registry}/latentscale-{match[1]}" if registry else whole
        held = tag or match[2]
        return f"{name}:{held}" if match[2] else name

    text = IMAGE.sub(image, text)
    if tag:
        text = TAG.sub(rf"\g<1>{tag}", text)
    old_workspace, old_corpus = current(folder)
    for old, new in ((old_workspace, workspace), (old_corpus, corpus)):
        if new:
            text = re.sub(rf"{re.escape(old)}(?=[\s\"']|$)", lambda _, new=new: new, text)
    return text


def main() -> None:
    """Write the files, and print the lines that still have a mark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", help="where the images are, without their names: ghcr.io/acme")
    parser.add_argument("--tag", help="version of the images")
    parser.add_argument("--workspace", help="s3://BUCKET/MAP")
    parser.add_argument("--corpus", help="s3://BUCKET/FOLDER/")
    parser.add_argument("--folder", type=Path, default=HERE, help=argparse.SUPPRESS)
    given = parser.parse_args()
    values = {name: getattr(given, name) for name in ("registry", "tag", "workspace", "corpus")}
    texts = {path: path.read_text(encoding="utf-8") for path in files(given.folder)}
    new = {path: changed(text, given.folder, **values) for path, text in texts.items()}
    for path, text in new.items():
        if text != texts[path]:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(given.folder)} changed")
    for path, text in new.items():
        for number, line in enumerate(text.splitlines(), 1):
            if "# EDIT" in line and "image:" not in line:
                print(f"to look at: {path.relative_to(given.folder)}:{number}: {line.strip()}")


if __name__ == "__main__":
    main()
