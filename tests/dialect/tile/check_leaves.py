"""Checks the leaves of dialect/tile/leaves against what is written about them elsewhere: every leaf has a line in the test
of its family, and is the device function of templates/ that it names, with the same template parameters and operands.

    check_leaves.py ROOT

Exit code 1 with a line for each fault."""
import re
import sys
from pathlib import Path

# Operands that several device types may stand for, and C++ types that the dialect calls otherwise.
UNIONS = {"Scores": {"RowScores", "TokenScores"}, "Ranks": {"BlockRanks", "RankPairs"},
          "Summaries": {"GlobalRows", "PagedRows", "SummaryImages"}, "KeyRows": {"GlobalRows", "PagedRows"},
          "SummaryRows": {"GlobalRows", "StreamedRows"},
          "LoadedRows": {"GlobalRows", "PagedRows", "StreamedRows", "OrderedRows", "TokenRows"},
          "AnyRows": {"GlobalRows", "PagedRows", "SummaryImages"},
          "Columns": {"QueryColumns", "StageColumns"}, "Heads": {"Pointer", "StridedHeads"}, "Lengths": {"Pointer", "KeyLengths"}}
# Device types of one template, which other names stand for.
NAMES = {"SummaryScores": {"RowScores", "TokenScores"}}
SCALARS = {"int": "I32", "unsigned": "I32", "long": "I32", "bool": "I1", "float": "F32"}


def split(text):
    """At the commas that stand in no brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "<([") - (char in ">)]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def leaves(path):
    """Of each leaf of a family: name, headers, template arguments, for each operand the types it may have."""
    pattern = r'Tile_Leaf<"(\w+)", "([^"]*)".*?\{(.*?)\n\}'
    for name, headers, body in re.findall(pattern, path.read_text(), re.S):
        found = re.search(r"arguments = \(ins (.*?)\);", body, re.S)
        arguments = [argument.split(":$") for argument in split(found[1])] if found else []
        templates = [word for kind, word in arguments if kind == "Template"]
        operands = []
        for kind, _ in arguments:
            if kind != "Template":
                inner = re.fullmatch(r"(?:Optional|[A-Z][a-z]+)<(.*)>", kind)
                kind = inner[1] if inner else kind
                union = re.fullmatch(r"AnyTypeOf<\[(.*)\]>", kind)
                operands.append(set(split(union[1])) if union else UNIONS.get(kind, {kind}))
        yield name, headers.split(", "), templates, operands


def spelling(parameter):
    """A template parameter as the dialect names it: int kRowTokens is row_tokens, class T is type."""
    word = parameter.split()[-1]
    word = word[1:] if re.match(r"k[A-Z]", word) else word
    word = {"T": "type", "TopK": "topk"}.get(word, word)
    return re.sub(r"(?<!^)([A-Z])", r"_\1", word).lower()


def operand(parameter):
    """The type of a parameter: a device type, a scalar, or None for a class that is deduced."""
    if "*" in re.sub(r"<.*>", "", parameter):
        return "Pointer"
    word = re.sub(r"^const ", "", parameter).split()[0].split("<")[0]
    return SCALARS.get(word, word)


def functions(text, name):
    """Template parameters and operand types of the device functions of that name."""
    pattern = r"(?:template <([^{};]*)>\s*)?__device__ __forceinline__[^;{}()]*?\b" + name + r"\(([^{};]*?)\)\s*\{"
    for templates, parameters in re.findall(pattern, text):
        # A parameter with a default serves other device functions; a leaf does without.
        operands = [operand(parameter) for parameter in split(parameters) if " = " not in parameter]
        yield [spelling(parameter) for parameter in split(templates)], operands


def fits(function, templates, operands):
    own, types = function
    if own[:len(templates)] != templates:
        return False
    if len(types) < len(operands):  # one that is optional
        operands = [kinds for kinds in operands if kinds != {"I32"}]
    return len(types) == len(operands) and all(
        kind in kinds or NAMES.get(kind, set()) & kinds or (kind in UNIONS and UNIONS[kind] <= kinds)
        for kind, kinds in zip(types, operands))


def main():
    root = Path(sys.argv[1])
    faults, count = [], 0
    for path in sorted((root / "dialect/tile/leaves").glob("*.td")):
        test = root / "tests/dialect/tile/leaves" / (path.stem + ".mlir")
        lines = test.read_text() if test.exists() else ""
        for name, headers, templates, operands in leaves(path):
            count += 1
            if not re.search(r"// CHECK: (const \w+ \w+ = )?" + name + r"(<.*>)?\(", lines):
                faults.append(f"{test}: no line for {name}")
            for header in headers:
                folder = root / "templates" / header  # or a file; a function of arch/ is in a header per level
                sources = sorted(folder.glob("s*.cuh")) if folder.is_dir() else [folder]
                found = [function for source in sources for function in functions(source.read_text(), name)]
                if not any(fits(function, templates, operands) for function in found):
                    faults.append(f"{path}: {name} is not what templates/{header} has: {found}")
    print("\n".join(faults) if faults else f"{count} leaves")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
