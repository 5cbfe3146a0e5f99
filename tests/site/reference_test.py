#!/usr/bin/env python3
# The reference of the headers (tools/site/c_reference.py): nothing that is exported is left out, and text that it does not
# know is refused. Standard library only.
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/site"))
import c_reference

GUARDED = "/* Lead. */\n#define WINNOW_X\n"


class ReferenceTest(unittest.TestCase):
    def test_every_function_and_struct_has_an_entry(self):
        header = (ROOT / "runtime/api/winnow.h").read_text()
        page = c_reference.page("C", "", header)
        for name in re.findall(r"WINNOW_API [^(]*?(winnow_\w+)\(|\}\s*(winnow_\w+);", header):
            self.assertIn(f"\n### {''.join(name)}\n", page)
        self.assertIn("Enqueues the program on `stream`", page)
        self.assertIn("const int32_t *seq_k;      /* [batch] keys of each sequence", page)

    def test_every_class_has_an_entry_and_no_bodies(self):
        page = c_reference.page("C++", "", (ROOT / "runtime/api/winnow.hpp").read_text())
        for name in ("Status", "Result", "Spec", "Program", "Engine", "loadCompiler"):
            self.assertIn(f"\n### {name}\n", page)
        self.assertNotIn("private:", page)
        self.assertNotIn("return ", page)
        self.assertIn("Result(T made);\n  Result(Status failed);", page)

    def test_names_of_others_are_links_and_its_own_is_none(self):
        page = c_reference.page("X", "", GUARDED + "/* See winnow_b, not winnow_a. */\nWINNOW_API int winnow_a(void);\n"
                                                   "WINNOW_API int winnow_b(void);\n")
        self.assertIn("See [`winnow_b`](#winnow_b), not `winnow_a`.", page)

    def test_what_it_does_not_know_is_refused(self):
        with self.assertRaises(ValueError):
            c_reference.page("X", "", GUARDED + "union winnow_x { int a; };\n")


if __name__ == "__main__":
    unittest.main()
