#!/usr/bin/env python3
# abi.py on headers with one change each: those that break a host are told, growth is not.
# Usage: abi_test.py COMPILER
import sys
import unittest
from pathlib import Path

import abi

COMPILER = sys.argv.pop() if len(sys.argv) > 1 else "cc"
HEADER = abi.HEADER.read_text()


def changed(old, new):
    if old not in HEADER:
        raise AssertionError(f"winnow.h has no longer '{old}'")
    return HEADER.replace(old, new, 1)


class AbiTest(unittest.TestCase):
    def test_what_breaks_a_host_is_told(self):
        for what, old, new in (
                ("a field is inserted", "  int32_t heads;      /*", "  int32_t first;\n  int32_t heads;      /*"),
                ("a field has another type", "  double scale;", "  float scale;"),
                ("two fields change places", "  uint64_t builds;      /* programs compiled */\n  uint64_t disk_hits; ",
                 "  uint64_t disk_hits;\n  uint64_t builds; "),
                ("a field has another name", "  int32_t total_q; /*", "  int32_t all_q; /*"),
                ("a number has another meaning", "WINNOW_SELECT = 1,", "WINNOW_SELECT = 7,"),
                ("a parameter has another type", "int32_t index,\n", "int64_t index,\n"),
                ("a parameter more", "winnow_engine_seal(winnow_engine *engine)", "winnow_engine_seal(winnow_engine *engine, int how)"),
                ("a function is gone", "WINNOW_API const char *winnow_version(void);", "")):
            with self.subTest(what):
                self.assertTrue(abi.difference(changed(old, new), COMPILER))

    def test_growth_is_not(self):
        for what, old, new in (
                ("a field is appended", "  uint64_t refused; ", "  uint64_t refused;\n  uint64_t later; "),
                ("an enumerator is appended", "  WINNOW_TUNED_GIVEN = 5", "  WINNOW_TUNED_LATER = 6,\n  WINNOW_TUNED_GIVEN = 5"),
                ("a function is added", "WINNOW_API const char *winnow_version(void);",
                 "WINNOW_API const char *winnow_version(void);\nWINNOW_API int winnow_later(void);")):
            with self.subTest(what):
                self.assertEqual(abi.difference(changed(old, new), COMPILER), "")


if __name__ == "__main__":
    unittest.main()
