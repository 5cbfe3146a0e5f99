# Groups of source files that clang-tidy can read as one translation unit (tidy.py), so that it reads the headers that they
# share once. A name that one file keeps to itself and another uses for something else sets the two apart. This is told from
# the text, by LLVM's layout (no indentation inside a namespace), so it may err: to the one side a group is smaller than it
# could be, to the other it does not compile, which tidy.py notices.
import collections
import re

MOST_FILES = 16  # the group that needs the most memory takes 2.7 GB
IGNORED = re.compile(r'//.*|"(?:[^"\\\n]|\\.)*"')
UNNAMED = re.compile(r"^namespace \{$(.*?)^\} // namespace$", re.MULTILINE | re.DOTALL)
FILE_LOCAL = re.compile(r"^(?:static|constexpr|const|extern|struct|class|int main|int LLVMFuzzer\w+|#define)\b.*", re.MULTILINE)
NO_DEFINITION = re.compile(r"[^A-Za-z#]|#(?!define)|namespace|using namespace|static_assert|TEST|INSTANTIATE")
# Behind struct, class, enum or #define; else before a parenthesis, a value or a body.
DEFINED = re.compile(r"^(?:struct|class|enum(?: class)?|#define) (\w+).*|(?<![\w:])(?<!= )([A-Za-z_]\w*)\s*(?:[={[]|$)")
NO_NAMES = {"sizeof", "void", "__attribute__"}
# A type or a constant, or what is called; not a member.
USED = re.compile(r"(?<![\w.:>])(?:(k?[A-Z]\w*)|([a-z]\w*)(?=\())")
OPENED = re.compile(r"^using namespace .*", re.MULTILINE)


class Names:
    """What the text of a file says about names."""

    def __init__(self, text):
        lines = IGNORED.sub("", "\n".join(UNNAMED.findall(text) + FILE_LOCAL.findall(text))).splitlines()
        heads = [re.split(r"\(|;$", line)[0] for line in lines if line and not NO_DEFINITION.match(line)]
        self.own = {first or second for head in heads for first, second in DEFINED.findall(head)} - NO_NAMES
        self.used = self.own | {first or second for first, second in USED.findall(IGNORED.sub("", text))}
        self.opened = set(OPENED.findall(text))

    def agree(self, other):
        return (self.own.isdisjoint(other.used) and other.own.isdisjoint(self.used)
                and (self.opened <= other.opened or other.opened <= self.opened))


def groups(kinds):
    """Groups of paths, the largest first. `kinds` says for each path what the files of a group have in common."""
    names = {path: Names(path.read_text()) for path in kinds}
    alike = collections.defaultdict(list)
    for path, kind in kinds.items():
        alike[kind].append(path)
    result = []
    for paths in alike.values():
        # Files that agree with the fewest others are placed first, which leaves the fewest groups.
        paths.sort(key=lambda path: sum(names[path].agree(names[other]) for other in paths))
        found = []
        for path in paths:
            for group in found:
                if len(group) < MOST_FILES and all(names[path].agree(names[other]) for other in group):
                    group.append(path)
                    break
            else:
                found.append([path])
        result += found
    return sorted(result, key=len, reverse=True)
