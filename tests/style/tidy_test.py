#!/usr/bin/env python3
# Tests the lint of groups: a fault in any file of a group, or in its header, is found as in a file that is checked alone, and
# files that cannot be read as one are checked all the same. Wants clang-tidy 22; runs in a small tree of its own.
import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import tidy
from groups import MOST_FILES, Names, groups

SHARED = "#pragma once\n#include <string>\n#include <vector>\n"
# One fault each of naming, of performance, of modernisation and of a bug, and the check that finds it.
FAULTS = {
    "readability-identifier-naming": "int Bad_Name() { return 1; }\n",
    "performance-unnecessary-value-param": "int byValue(std::vector<int> values) { return static_cast<int>(values.size()); }\n",
    "performance-for-range-copy": "int copies(const std::vector<std::string> &all) {\n  int sum = 0;\n  for (const std::string one : all)\n"
                                  "    sum += static_cast<int>(one.size());\n  return sum;\n}\n",
    "modernize-use-nullptr": "int *nothing() { return 0; }\n",
    "modernize-loop-convert": "int total(const std::vector<int> &all) {\n  int sum = 0;\n  for (size_t i = 0; i < all.size(); ++i)\n"
                              "    sum += all[i];\n  return sum;\n}\n",
    "bugprone-use-after-move": "size_t moved(std::string text) {\n  std::string other = std::move(text);\n"
                               "  return other.size() + text.size();\n}\n",
    "bugprone-reserved-identifier": "int __reserved = 1;\n",
    "readability-static-definition-in-anonymous-namespace": "namespace {\nstatic int again = 1;\n} // namespace\n",
    "bugprone-suspicious-include": '#include "runtime/Part.cpp"\n',
}


class Tidy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = tidy.ROOT
        self.addCleanup(setattr, tidy, "ROOT", root)
        tidy.ROOT = Path(folder.name).resolve()
        self.build = tidy.ROOT / "build"
        (self.build / "tidy").mkdir(parents=True)
        for path in (".clang-tidy", "tests/.clang-tidy"):
            self.write(path, (root / path).read_text())
        self.write("runtime/Shared.h", SHARED)
        self.write("runtime/Part.cpp", "// Only for an include.\n")

    def write(self, path, text):
        target = tidy.ROOT / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
        return target

    def check(self, sources):
        """The failures of sources that are read as one, and what was said of groups."""
        paths = [self.write(path, '#include "runtime/Shared.h"\n' + text) for path, text in sources.items()]
        (self.build / "compile_commands.json").write_text(json.dumps(
            [{"directory": str(self.build), "file": str(path), "command": f"clang++-22 -I{tidy.ROOT} -std=c++17 -o x.o -c {path}"}
             for path in paths]))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            return "".join(tidy.check(paths, self.build, "")), said.getvalue()

    def test_faults_are_found_in_every_file_of_a_group(self):
        wrapped = {check: f"namespace winnow {{\n{text}}} // namespace winnow\n" if "#" not in text else text
                   for check, text in FAULTS.items()}
        text = "".join(wrapped.values())
        for place in ("First.cpp", "Last.cpp", "Shared.h"):
            if place == "Shared.h":  # an include of a source file in a header would be reported there too
                self.write("runtime/Shared.h", SHARED + text)
            sources = {f"runtime/{name}": text if name == place else "" for name in ("First.cpp", "Second.cpp", "Last.cpp")}
            found, said = self.check(sources)
            self.assertEqual(said, "")
            for check in FAULTS:
                with self.subTest(place=place, check=check):
                    self.assertRegex(found, rf"runtime/{place}:\d+:\d+: error: .*\[{check}[],]")

    def test_clean_files_pass_and_are_remembered(self):
        found, said = self.check({"runtime/First.cpp": "", "runtime/Last.cpp": ""})
        self.assertEqual((found, said), ("", ""))
        self.assertEqual(len(list((self.build / "tidy").iterdir())), 2)

    def test_files_that_cannot_be_read_as_one_are_checked_in_parts(self):
        twice = "namespace winnow {\nint same() { return 1; }\n} // namespace winnow\n"
        found, said = self.check({"runtime/First.cpp": twice, "runtime/Last.cpp": twice + FAULTS["modernize-use-nullptr"]})
        self.assertRegex(said, "2 files cannot be read as one, so in halves: .*redefinition of 'same'")
        self.assertRegex(found, r"runtime/Last.cpp:\d+:\d+: error: .*modernize-use-nullptr")
        self.assertNotIn("First.cpp:", found)

    def test_a_file_that_does_not_compile_fails(self):
        self.assertIn("clang-diagnostic-error", self.check({"runtime/First.cpp": "int x = nowhere;\n"})[0])

    def test_names_that_keep_files_apart(self):
        functions = "namespace {\nint first() {\n  return 1;\n}\nint helper(int x) {\n  return x;\n}\n} // namespace\n"
        for text, other, agree in [
                (functions, functions, False),
                (functions, "int y = helper(1);\n", False),
                (functions, "int y = a.helper(1) + b::helper(1); // first()\n", True),
                ("static constexpr int kRows = 1, kColumns = 2;\n", "int y = kColumns;\n", False),
                ("static constexpr int kRows = 1; // kColumns\n", "constexpr int kColumns = 2;\n", True),
                ("namespace {\nclass Row final : public Base {\n};\n} // namespace\n", "Row row;\n", False),
                ("namespace {\nclass Row : public Base {\n};\n} // namespace\n", "class Column : public Base {\n};\n", True),
                ("int main() {\n}\n", "int main(int count, char **words) {\n}\n", False),
                ("#define TIMES 1\n", "int y = TIMES;\n", False),
                ("using namespace a;\n", "using namespace b;\n", False),
                ("using namespace a;\n", "", True)]:
            with self.subTest(text=text, other=other):
                self.assertEqual(Names(text).agree(Names(other)), agree)
                self.assertEqual(Names(other).agree(Names(text)), agree)

    def test_groups_are_of_one_kind_and_size(self):
        paths = [self.write(f"runtime/F{n}.cpp", "") for n in range(MOST_FILES + 3)]
        found = groups({path: str(place == 0) for place, path in enumerate(paths)})
        self.assertEqual([len(group) for group in found], [MOST_FILES, 2, 1])
        self.assertEqual(sorted(sum(found, [])), sorted(paths))


if __name__ == "__main__":
    unittest.main()
