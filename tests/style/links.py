#!/usr/bin/env python3
# Reads every page (.md) of the tree and reports relative links whose file or heading is not there, links to places outside
# the tree, and a README that has grown too long to be read first.
# Entry: a source tree. Exit: one line per fault on stdout; status 1 if there is any. Standard library only.
import argparse
import re
import sys
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "layering"))
from layering import source_files  # what git knows or would add

README, MOST_WORDS = "README.md", 900

FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[ \t]*$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n)+")
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)  # https:, mailto:


def blanked(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def prose(text):
    """The text with code and comments blanked out; line numbers stay."""
    for pattern in (FENCE, COMMENT, INDENTED, SPAN):
        text = pattern.sub(blanked, text)
    return text


def anchors(text):
    """What the headings of a page are called in links to them."""
    found = set()
    for heading in HEADING.findall(COMMENT.sub(blanked, FENCE.sub(blanked, text))):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        count = 0
        while (name if count == 0 else f"{name}-{count}") in found:
            count += 1
        found.add(name if count == 0 else f"{name}-{count}")
    return found


def problem_of(root, page, target, texts):
    """What is wrong with a link of a page; nothing where it leads somewhere."""
    if ELSEWHERE.match(target):
        return None
    path, _, fragment = unquote(target).partition("#")
    if path.startswith("/"):
        return "is no relative link"
    place = (root / page).parent / path if path else root / page
    if root.resolve() not in (place.resolve(), *place.resolve().parents):
        return "leads out of the tree"
    if not place.exists():
        return "is dead: there is no such file"
    if fragment and place.suffix == ".md":
        name = place.resolve()
        if name not in texts:
            texts[name] = anchors(place.read_text(encoding="utf-8"))
        if fragment not in texts[name]:
            return "is dead: that page has no such heading"
    return None


def faults(root):
    """Every fault in the tree, as "path:line: sentence"."""
    root = Path(root)
    pages = [path for path in source_files(root) if path.endswith(".md")]
    found, texts = [], {}
    if not pages:
        found.append("no page found; is this the source tree?")
    for page in pages:
        text = (root / page).read_text(encoding="utf-8")
        for match in LINK.finditer(prose(text)):
            target = match.group(1) or match.group(2)
            if problem := problem_of(root, page, target, texts):
                found.append(f"{page}:{text.count(chr(10), 0, match.start()) + 1}: the link {target} {problem}")
        if page == README and (words := len(text.split())) > MOST_WORDS:
            found.append(f"{page}: {words} words; {MOST_WORDS} at most, since it is read first: move the rest into docs/")
    return found


def main():
    parser = argparse.ArgumentParser(description="Checks the links of all pages and the length of the README.")
    parser.add_argument("root", type=Path, nargs="?", default=Path(__file__).resolve().parents[2])
    found = faults(parser.parse_args().root)
    for line in found:
        print(line)
    print(f"links: {len(found)} faults", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
