#!/usr/bin/env python3
# Tests the test of links: each fault is planted once in a small tree and must be reported at its line; what only looks
# like a fault must pass. Standard library only.
import tempfile
import unittest
from pathlib import Path

from links import MOST_WORDS, faults

CLEAN = {
    "README.md": "# Top\n\n[a page](docs/a.md), [a place](docs/a.md#a-heading-with-code), [here](#top), [web](https://x.org/y.md)\n",
    "docs/a.md": "# A heading with `code`\n\n[up](../README.md) [folder](../src) ![picture](p.svg)\n\n[b]: ../src/b.cpp\n",
    "docs/p.svg": "<svg/>\n",
    "src/b.cpp": "// B.\n",
}


def reports(files):
    with tempfile.TemporaryDirectory() as folder:
        for path, text in {**CLEAN, **files}.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return faults(folder)


class Links(unittest.TestCase):
    def test_clean_tree_passes(self):
        self.assertEqual(reports({}), [])

    def test_faults_are_reported_at_their_line(self):
        for text, words in [("[x](gone.md)", "no such file"), ("[x](../src/gone.cpp)", "no such file"),
                            ("[x](a.md#nowhere)", "no such heading"), ("[x](#nowhere)", "no such heading"),
                            ("[x](/src/b.cpp)", "no relative link"), ("[x](../../b.cpp)", "out of the tree"),
                            ("![x](gone.svg)", "no such file"), ("[x]: gone.md", "no such file"),
                            ("[x](gone.md \"title\")", "no such file"), ("[x](<gone.md>)", "no such file")]:
            with self.subTest(text=text):
                found = reports({"docs/b.md": f"# B\n\nWords.\n{text}\n"})
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith("docs/b.md:4: "), found)
                self.assertIn(words, found[0])

    def test_code_and_comments_hold_no_links(self):
        for text in ("`[x](gone.md)`", "```\n[x](gone.md)\n```", "Words.\n\n    [x](gone.md)\n", "<!-- [x](gone.md) -->",
                     "    list[x](gone)\n"):
            with self.subTest(text=text):
                self.assertEqual(reports({"docs/b.md": f"# B\n\n{text}\n"}), [])

    def test_a_long_readme_is_reported(self):
        self.assertEqual(reports({"README.md": "# " + "word " * (MOST_WORDS - 1)}), [])
        found = reports({"README.md": "# " + "word " * MOST_WORDS})
        self.assertEqual(len(found), 1, found)
        self.assertIn(f"{MOST_WORDS + 1} words", found[0])


if __name__ == "__main__":
    unittest.main()
