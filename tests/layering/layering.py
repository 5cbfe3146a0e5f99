#!/usr/bin/env python3
# Reads the source tree and reports whatever breaks the order of the folders or one of the "only here" rules:
# includes against the arrows, an architecture number outside the facts table, a built-in method's name outside
# dialect/methods, the environment read outside its registry, long files, folders without a subject.
# Entry: a source tree. Exit: one line per violation on stdout; status 1 if there is any. Standard library only.
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

# Which folders a folder may include (its own always).
ALLOWED = {
    "dialect": set(),
    "templates": set(),
    "runtime": {"templates/Params.h"},
    "autotune": {"runtime"},
    "reference": {"runtime", "dialect"},
    "emulator": {"runtime", "templates/Params.h"},
    "compiler": {"dialect", "runtime", "templates"},
    "cmake": set(),
    "examples": {"runtime"},
    "tools": {"dialect", "compiler", "templates", "runtime", "autotune", "reference"},
    "tests": {"dialect", "compiler", "templates", "runtime", "autotune", "reference", "tools", "emulator"},
}
USES_MLIR = {"dialect", "compiler", "reference", "tools", "tests", "cmake"}
PRECOMPILED_HEADER = "cmake/MlirPch.h"  # MLIR headers and nothing else, so it counts as one
MLIR_HEADER = re.compile(r"^(mlir|mlir-c|llvm|llvm-c|clang)/")
# NVRTC knows the device headers by this folder, flat: "winnow/tile.cuh", "winnow/sm80.cuh".
DEVICE_PREFIX = "winnow/"
DEVICE_HOMES = ("templates/", "templates/arch/", "templates/core/", "templates/attend/", "templates/select/", "templates/step/")
# The project declares the few driver and NVRTC functions itself, so that it builds where no CUDA is installed; only a test
# may compare those declarations with the real headers.
CUDA_HEADER = re.compile(r"^(cuda|nvrtc|cudart|cuda_runtime|cuda_runtime_api|driver_types|torch/.*|ATen/.*)(\.h)?$")

CODE_SUFFIXES = {".cpp", ".h", ".c", ".cuh", ".td"}
TEXT_SUFFIXES = CODE_SUFFIXES | {".py", ".sh", ".mlir", ".cmake", ".in"}
TEXT_NAMES = {"CMakeLists.txt", "Makefile"}
MAX_LINES = 500
VAGUE_FOLDERS = {"util", "utils", "common", "support", "misc", "helpers"}

INCLUDE = re.compile(r'^[ \t]*#?[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
ARCH_HOMES = ("runtime/device/Target.cpp", "templates/arch/")
ARCH_NAME = re.compile(r"\b(?:sm|compute)_?\d{2,3}[af]?\b|__CUDA_ARCH__")
ARCH_COMPARED = re.compile(
    r"\b(?:major|minor|sm|smVersion|computeCapability|capability)(?:\(\))?\s*(?:[<>]=?|[=!]=)\s*\d"
    r'|\barch(?:\(\))?\s*[=!]=\s*"(?:sm|compute)_')
ENVIRONMENT_HOME = "runtime/Environment.cpp"
ENVIRONMENT = re.compile(r"\b(?:secure_)?getenv\b|\bGetEnv\b|\benviron\b")
METHOD_FREE = ("dialect/", "compiler/", "runtime/", "templates/", "autotune/")
# Names of methods that are words of the field too: these count only as a whole string, "dense" or "@dense".
ORDINARY_WORDS = {"dense"}

# Comments and literals of C++ and TableGen; the literal alternatives keep a "//" inside a string alive.
TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'", re.DOTALL)
# What TableGen prints into manuals.
TABLEGEN_PROSE = re.compile(r'\[\{.*?\}\]|(?<=summary = )"[^"\n]*"', re.DOTALL)
STRING = re.compile(r'"((?:\\.|[^"\\\n])*)"')


def blanked(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def without_prose(path, text):
    """The code of a file with comments and manual text blanked out; line numbers stay."""
    code = TOKEN.sub(lambda m: blanked(m) if m.group(0).startswith(("//", "/*")) else m.group(0), text)
    return TABLEGEN_PROSE.sub(blanked, code) if path.endswith(".td") else code


def source_files(root):
    """Paths of the tree's own files: what git knows or would add, or everything where there is no git."""
    git = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True) if (root / ".git").exists() else None
    if git is not None and git.returncode == 0:
        found = git.stdout.splitlines()
    else:
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = [f for f in folders if not f.startswith((".", "build"))]
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(f for f in found if (root / f).is_file())


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def include_violations(root, path, code):
    top = path.split("/")[0]
    allowed = ALLOWED.get(top)
    for match in INCLUDE.finditer(code):
        name = match.group(1) or match.group(2)
        where = f"{path}:{line_of(code, match.start())}"
        if allowed is None:
            yield f"{where}: code in '{top}', a folder that has no place in the order"
            return
        if top == "templates" and name.startswith(DEVICE_PREFIX):
            homes = [home + name.removeprefix(DEVICE_PREFIX) for home in DEVICE_HOMES]
            name = next((home for home in homes if (root / home).is_file()), name)
        if MLIR_HEADER.match(name) or name == PRECOMPILED_HEADER:
            if top not in USES_MLIR:
                yield f"{where}: {top} must not include {name}: it builds without LLVM"
        elif CUDA_HEADER.match(name):
            if top != "tests":
                yield f"{where}: {name}: Winnow declares what it needs of CUDA itself"
        elif match.group(1):
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
            target = beside if (root / beside).is_file() else os.path.normpath(name)
            to = target.split("/")[0]
            if "/" not in target or to not in ALLOWED:
                if not target.endswith(".inc"):  # an .inc beside its user is generated
                    yield f"{where}: {name} is not found in the tree"
            elif to != top and to not in allowed and target not in allowed:
                yield f"{where}: {top} must not include {target}"


def architecture_violations(path, code):
    if path.startswith(ARCH_HOMES) or path.startswith("tests/"):
        return
    for match in ARCH_NAME.finditer(code):
        # The command line may name architectures in defaults and help, as strings.
        in_tool_text = path.startswith("tools/") and not match.group(0).startswith("__")
        if not in_tool_text:
            yield f"{path}:{line_of(code, match.start())}: '{match.group(0)}' outside the facts table of runtime/device/Target.cpp"
    for match in ARCH_COMPARED.finditer(code):
        yield f"{path}:{line_of(code, match.start())}: compares an architecture; ask a Target for the feature"


def environment_violations(path, code):
    if path == ENVIRONMENT_HOME or path.startswith("tests/"):  # a test passes its environment on
        return
    for match in ENVIRONMENT.finditer(code):
        yield f"{path}:{line_of(code, match.start())}: reads the environment outside {ENVIRONMENT_HOME}"


def method_violations(path, code, methods):
    if not path.startswith(METHOD_FREE) or path.startswith("dialect/methods/"):
        return
    for method in methods:
        complaint = f"names the method '{method}' outside dialect/methods"
        if method in ORDINARY_WORDS:
            for match in STRING.finditer(code):
                if match.group(1).removeprefix("@").removesuffix(".mlir") == method:
                    yield f"{path}:{line_of(code, match.start())}: {complaint}"
        else:  # in strings and identifiers: infllm_v2, k_infllm_v2, buildInfllmV2
            camel = "".join(part.capitalize() for part in method.split("_"))
            pattern = rf"(?<![A-Za-z0-9]){re.escape(method)}(?![a-z0-9])|{re.escape(camel)}(?![a-z0-9])"
            for match in re.finditer(pattern, code):
                yield f"{path}:{line_of(code, match.start())}: {complaint}"


def violations(root):
    """Every violation in the tree, as "path:line: sentence"."""
    root = Path(root)
    files = source_files(root)
    methods = sorted(Path(f).stem for f in files if re.fullmatch(r"dialect/methods/[^/]+\.mlir", f))
    found = []
    if not methods:
        found.append("dialect/methods: no method found; is this the source tree?")
    for path in files:
        name = os.path.basename(path)
        for folder in path.split("/")[:-1]:
            if folder.lower() in VAGUE_FOLDERS:
                found.append(f"{path}: a folder named '{folder}'; a helper lives with its user")
        if Path(name).suffix not in TEXT_SUFFIXES and name not in TEXT_NAMES:
            continue
        text = (root / path).read_text(encoding="utf-8", errors="replace")
        lines = text.count("\n")
        if lines > MAX_LINES:
            found.append(f"{path}: {lines} lines; split it by concern ({MAX_LINES} at most)")
        if Path(name).suffix in CODE_SUFFIXES:
            code = without_prose(path, text)
            if not text.lstrip().startswith(("//", "/*")):
                found.append(f"{path}:1: begins without a comment that says what the file is")
            found += include_violations(root, path, code)
            found += architecture_violations(path, code)
            found += environment_violations(path, code)
            found += method_violations(path, code, methods)
        elif name == "CMakeLists.txt":
            found += method_violations(path, re.sub(r"#[^\n]*", "", text), methods)
    return found


def main():
    parser = argparse.ArgumentParser(description="Checks the order of the folders.")
    parser.add_argument("root", type=Path, nargs="?", default=Path(__file__).resolve().parents[2])
    found = violations(parser.parse_args().root)
    for line in found:
        print(line)
    print(f"layering: {len(found)} violations", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
