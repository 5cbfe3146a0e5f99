#!/usr/bin/env python3
# Tests the layering test: each rule is broken once in a small planted tree and must be reported, at its line;
# the same tree without the plant, and the look-alikes that are allowed, must pass.
import tempfile
import unittest
from pathlib import Path

from layering import violations

CLEAN = {
    "dialect/methods/sample_select.mlir": "// A method.\n",
    "dialect/methods/dense.mlir": "// A method.\n",
    "dialect/select/Select.td": '// Ops.\nlet summary = "as sample_select does";\nlet description = [{ sample_select }];\n',
    "dialect/select/Select.h": '// Ops.\n#include "mlir/IR/Dialect.h"\n#include "dialect/select/SelectOps.h.inc"\n',
    "templates/Params.h": "/* Shared. */\n",
    "templates/core/tile.cuh": '// Leaves.\n#include "winnow/Params.h"\n',
    "templates/arch/sm89.cuh": '// Leaves.\n#include "winnow/sm80.cuh"\n#include "winnow/tile.cuh"\n',
    "templates/arch/sm80.cuh": "// Leaves.\n#if __CUDA_ARCH__ >= 800\n#endif\n",
    "runtime/device/Target.cpp": '// Facts.\nconst char *row = "sm_80";\n',
    "runtime/Environment.cpp": '// Registry.\nchar *home = getenv("HOME");\n',
    "runtime/program/Launcher.cpp": '// For sm_90a, sample_select and getenv.\n#include "templates/Params.h"\n#include <vector>\n',
    "compiler/driver/Compile.cpp": '// Meets.\n#include "dialect/select/Select.h"\n#include "runtime/program/Launcher.cpp"\n'
                            'const char *url = "http://dense.example//x"; // sample_select\nbool dense_len = false;\n',
    "tools/main.cpp": '// CLI.\n#include "compiler/driver/Compile.cpp"\nconst char *archs = "sm_80,sm_90a";\n',
    "tests/ATest.cpp": '// Test.\n#include "runtime/program/Launcher.cpp"\nconst char *arch = "sm_80";\n',
}


def reports(files):
    with tempfile.TemporaryDirectory() as folder:
        for path, text in {**CLEAN, **files}.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return violations(folder)


class Layering(unittest.TestCase):
    def test_clean_tree_passes(self):
        self.assertEqual(reports({}), [])

    def expect(self, path, text, words):
        """`text` in file `path` gives exactly one violation, in that file, with `words` in it."""
        found = reports({path: text})
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(path), found)
        self.assertIn(words, found[0])

    def test_arrows(self):
        for path, header in [
                ("runtime/A.cpp", "compiler/driver/Compile.cpp"), ("runtime/A.cpp", "dialect/select/Select.h"),
                ("runtime/A.cpp", "../dialect/select/Select.h"), ("runtime/A.cpp", "templates/core/tile.cuh"),
                ("dialect/A.cpp", "runtime/program/Launcher.cpp"), ("dialect/A.td", "templates/Params.h"),
                ("templates/a.cuh", "runtime/program/Launcher.cpp"), ("autotune/A.cpp", "cmake/A.h"), ("autotune/A.cpp", "compiler/driver/Compile.cpp"),
                ("autotune/A.cpp", "templates/Params.h"), ("compiler/A.cpp", "tools/main.cpp"),
                ("compiler/A.cpp", "tests/ATest.cpp"), ("runtime/A.cpp", "tools/main.cpp")]:
            with self.subTest(path=path, header=header):
                keyword = "include" if path.endswith(".td") else "#include"
                self.expect(path, f'// A.\n{keyword} "{header}"\n', "must not include")

    def test_line_is_named(self):
        found = reports({"runtime/A.cpp": '// A.\n\n#include "dialect/select/Select.h"\n'})
        self.assertTrue(found[0].startswith("runtime/A.cpp:3:"), found)

    def test_no_llvm_below_the_compiler(self):
        for folder in ("runtime", "templates", "autotune"):
            self.expect(f"{folder}/A.h", '// A.\n#include <llvm/ADT/StringRef.h>\n', "without LLVM")
            self.expect(f"{folder}/A.h", '// A.\n#include "cmake/MlirPch.h"\n', "without LLVM")

    def test_no_cuda_headers(self):
        self.expect("runtime/A.cpp", "// A.\n#include <cuda.h>\n", "declares what it needs")
        self.assertEqual(reports({"tests/A.cpp": "// A.\n#include <cuda.h>\n"}), [])

    def test_unknown_include_and_folder(self):
        self.expect("runtime/A.cpp", '// A.\n#include "Gone.h"\n', "not found")
        self.expect("extra/A.cpp", "// A.\n#include <vector>\n", "no place in the order")

    def test_architecture_numbers(self):
        for line in ('auto a = "sm_90a";', 'auto a = "compute_80";', "#if __CUDA_ARCH__ >= 800", "int sm90;"):
            with self.subTest(line=line):
                self.expect("compiler/A.cpp", f"// A.\n{line}\n", "facts table")
        self.expect("compiler/A.cpp", "// A.\nbool b = major >= 9;\n", "feature")
        self.expect("tools/A.cpp", '// A.\nbool b = arch == "sm_80";\n', "feature")
        self.expect("tools/A.cpp", "// A.\nbool b = target.major == 8;\n", "feature")

    def test_method_names(self):
        for line in ('auto m = "sample_select";', "void buildSampleSelect();", 'auto m = "dense";', 'auto m = "@dense";'):
            with self.subTest(line=line):
                self.expect("compiler/A.cpp", f"// A.\n{line}\n", "names the method")
        self.expect("dialect/A.td", '// A.\nlet mnemonic = "sample_select";\n', "names the method")
        self.expect("compiler/CMakeLists.txt", "embed(sample_select.mlir)\n", "names the method")

    def test_environment(self):
        self.expect("tools/A.cpp", '// A.\nauto h = std::getenv("HOME");\n', "environment")

    def test_long_file(self):
        self.expect("runtime/A.cpp", "// A.\n" * 501, "501 lines")
        self.assertEqual(reports({"runtime/A.cpp": "// A.\n" * 500}), [])

    def test_vague_folder(self):
        self.expect("runtime/utils/A.cpp", "// A.\n", "'utils'")

    def test_opening_comment(self):
        self.expect("runtime/A.cpp", "int a;\n", "what the file is")

    def test_comment_marks_in_strings_hide_nothing(self):
        self.expect("compiler/A.cpp", '// A.\nauto u = "//"; auto a = "sm_80";\n', "facts table")

    def test_empty_tree_does_not_pass(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertNotEqual(violations(folder), [])


if __name__ == "__main__":
    unittest.main()
