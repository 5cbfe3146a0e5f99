# Pages of reference from winnow.h and winnow.hpp: each declaration as code, its comment as prose, names as links. Serves
# tools/site/site.py. Entry: the text of a header in the style of those two (a comment stands before what it describes).
# Exit: Markdown. Standard library only.
import re
from typing import NamedTuple

COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
SKIPPED = re.compile(r'#(?!define \w+ [^_]).*|extern "C" \{|namespace \w+ \{|\}(?: //.*)?')
SECTIONS = ("Functions", "Structs and handles", "Enumerations and constants", "Callbacks", "Classes")


class Item(NamedTuple):
    name: str
    section: str
    comment: str
    code: str


def prose(comment):
    """The words of a /* comment */ as paragraphs."""
    lines = [line.strip().removeprefix("*").strip() for line in comment.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def end_of(text, begin):
    """Where a declaration ends: behind its semicolon, or behind the body of a function."""
    depth, at = 0, begin
    while at < len(text):
        if text.startswith("/*", at):
            at = text.index("*/", at) + 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0 and text[at - 1] == ";":
            return at
        if depth == 0 and text[at - 1] == "}" and not re.match(r"\s*\w*\s*;", text[at:]):
            return at
    return at


def without_bodies(code):
    """A class as its user sees it: no bodies of functions, nothing private."""
    code = re.sub(r"\n+(private|protected):.*(?=\n\};)", "", code, flags=re.DOTALL)
    kept, at = "", 0
    for match in re.finditer(r"\)(?: const)?(?: noexcept)?(?:\s*:(?:[^;{}]|(?<=\w)\{\})*)?\s*\{", code):
        if match.start() < at:
            continue
        end = end_of(code, match.end() - 1)
        signature = re.match(r"\)(?: const)?(?: noexcept)?", match.group(0)).group(0)
        kept += code[at:match.start()] + signature + ";"
        at = end
    return kept + code[at:]


def named(code):
    """Name and section of a declaration; nothing for one that is not part of the interface."""
    if match := re.match(r"#define (\w+)", code):
        return match.group(1), "Enumerations and constants"
    if match := re.match(r"typedef enum (\w+)", code):
        return match.group(1), "Enumerations and constants"
    if match := re.match(r"typedef [\w\s*]+\(\*(\w+)\)", code):
        return match.group(1), "Callbacks"
    if match := re.match(r"(?:typedef )?struct (\w+)", code):
        return match.group(1), "Structs and handles"
    if match := re.match(r"(?:template <[^>]*> )?class (?:\[\[\w+\]\] )?(\w+)", code):
        return match.group(1), "Classes"
    if match := re.match(r"(?:WINNOW_API|inline) [^(]*?(\w+)\(", code):
        return match.group(1), "Functions"
    raise ValueError(f"the reference does not know what this declares: {code[:80]}")


def items(header):
    """What a header declares, in its order."""
    text = header[header.index("#define WINNOW_"):].replace("\\\n", " ")
    text = text[text.index("\n"):]
    found, comment, at = [], "", 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif match := COMMENT.match(text, at):
            comment, at = prose(match.group(1)), match.end()
        elif match := SKIPPED.match(text, at):
            at = match.end()
        else:
            end = text.index("\n", at) if text[at] == "#" else end_of(text, at)
            code = re.sub(r"^WINNOW_API ", "", without_bodies(text[at:end]))
            name, section = named(text[at:end])
            found.append(Item(name, section, comment, code.strip()))
            comment, at = "", end
    return found


def linked(words, names, own):
    """Prose with the names of other declarations as links and those of constants as code."""
    def link(match):
        name = match.group(0)
        if name in names and name != own:
            return f"[`{name}`](#{name.lower()})"
        return f"`{name}`" if "_" in name else name
    return re.sub(r"\b(?:winnow|WINNOW)_\w+(?:\(\))?|\b[a-z]+_[a-z_]+\b", link, words.replace("<", "&lt;"))


def page(title, lead, header):
    """The page of a header. The struct that a handle's name stands for is declared twice: the longer text counts."""
    declared = {}
    for item in items(header):
        known = declared.get(item.name)
        if known is None or len(item.code) > len(known.code):
            declared[item.name] = item
    text = f"# {title}\n\n{lead}\n\n{linked(prose(COMMENT.search(header).group(1)), declared, '')}\n"
    for section in SECTIONS:
        for n, item in enumerate(each for each in declared.values() if each.section == section):
            text += f"\n## {section}\n" if n == 0 else ""
            text += f"\n### {item.name}\n\n{linked(item.comment, declared, item.name)}\n\n```c++\n{item.code}\n```\n"
    return text
