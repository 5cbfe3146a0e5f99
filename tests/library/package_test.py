#!/usr/bin/env python3
# The Debian packages of this build, made by cpack: which files are in which of the three, what they say they depend on,
# held against what the binaries in them need, and, unpacked into a folder as no root would do it, the programs of others
# that are built against them by pkg-config and by find_package. Nothing is installed.
# Entry: a build folder whose libraries and tool are built. Exit: status 1 and what is wrong.
import argparse
import re
import sys
import tempfile
from pathlib import Path

from install_test import by_pkg_config, expect, run

# By package: what must be in it, and what it must depend on.
PACKAGES = {
    "libwinnow0": (["lib/**/libwinnow.so.[0-9]*"], r"libc6 \(>= 2\.35\)"),
    "winnow": (["bin/winnow", "lib/**/libwinnow_compiler.so*", "share/winnow/methods/infllm_v2.mlir"], r"libc6 \(>= 2\.35\)"),
    "libwinnow-dev": (["include/winnow.h", "include/winnow.hpp", "lib/**/libwinnow.so", "lib/**/cmake/winnow/winnowConfig.cmake",
                       "lib/**/cmake/winnow/winnowConfigVersion.cmake", "lib/**/cmake/winnow/winnowTargets.cmake",
                       "lib/**/pkgconfig/winnow.pc"], r"libwinnow0 \(= VERSION\)"),
}
LIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
PROJECT = """cmake_minimum_required(VERSION 3.22)
project(consumer C)
find_package(winnow REQUIRED COMPONENTS compiler)
add_executable(consumer ${SOURCE})
target_link_libraries(consumer PRIVATE winnow::winnow)
get_target_property(tool winnow::tool LOCATION)
get_target_property(compiler winnow::compiler LOCATION)
message(STATUS "tool ${tool} compiler ${compiler}")
"""


def packed(build, scratch):
    """The packages by name. They are made without compression, which takes longer than the rest of this test."""
    folder = scratch / "packages"
    run("cpack", "--config", build / "CPackConfig.cmake", "-G", "DEB", "-B", folder, "-D", "CPACK_DEBIAN_COMPRESSION_TYPE=none")
    packages = {run("dpkg-deb", "-f", file, "Package").strip(): file for file in folder.glob("*.deb")}
    if set(packages) != set(PACKAGES):
        sys.exit(f"cpack made {sorted(packages)}, not {sorted(PACKAGES)}")
    return packages


def declared(packages):
    for name, (_, depends) in PACKAGES.items():
        fields = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", packages[name]).splitlines() if re.match(r"[\w-]+: ", line))
        if not re.fullmatch(r"\d+\.\d+\.\d+", fields["Version"]):
            sys.exit(f"{name} has the version {fields['Version']}")
        if not re.search(depends.replace("VERSION", re.escape(fields["Version"])), fields.get("Depends", "")):
            sys.exit(f"{name} depends on '{fields.get('Depends')}', which has no {depends}")


def unpacked(packages, scratch):
    """The root that all of them are unpacked into, and which packages each file is of."""
    root, owners = scratch / "root", {}
    for name, file in packages.items():
        for line in run("dpkg-deb", "-c", file).splitlines():
            mode, owner, *_, path = line.split(" -> ")[0].split()
            if owner != "root/root" or "w" in mode[4:] and mode[0] != "l":
                sys.exit(f"{name}: {line}")
            if mode[0] != "d":
                owners.setdefault(path.removeprefix("."), []).append(name)
        run("dpkg-deb", "-x", file, root)
    for path, names in owners.items():
        if len(names) > 1 or not path.startswith("/usr/"):
            sys.exit(f"{path} is in {names}")
    for name, (patterns, _) in PACKAGES.items():
        own = {path for path, names in owners.items() if names == [name]}
        for pattern in [*patterns, f"share/doc/{name}/copyright"]:
            found = ["/" + str(file.relative_to(root)) for file in (root / "usr").glob(pattern)]
            if not found or not set(found) <= own:
                sys.exit(f"{pattern} is not in {name}, which has:\n" + "\n".join(sorted(own)))
    return root


def self_contained(root):
    """Binaries need libc6 alone, no later version of it than is declared, and nothing of the folder they were built in."""
    binaries = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink() and file.read_bytes()[:4] == b"\x7fELF"]
    if len(binaries) != 3:
        sys.exit(f"the packages hold {len(binaries)} binaries: {binaries}")
    for file in binaries:
        told = run("readelf", "-dV", file)
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", told))
        if not needed <= LIBC:
            sys.exit(f"{file.name} needs {needed - LIBC}, which its package does not depend on")
        versions = [tuple(map(int, version.split("."))) for version in re.findall(r"Name: GLIBC_([\d.]+)", told)]
        if not versions or max(versions) > (2, 35):
            sys.exit(f"{file.name} needs glibc {max(versions, default=None)}, its package says 2.35")
        if "RUNPATH" in told or "RPATH" in told:
            sys.exit(f"{file.name} has a run path:\n{told}")


def by_find_package(prefix, scratch, compiler):
    project = scratch / "consumer"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(PROJECT)
    told = run("cmake", "-G", "Ninja", "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_COMPILER={compiler}",
               f"-DSOURCE={scratch / 'plain.c'}")
    tool, library = re.search(r"tool (\S+) compiler (\S+)", told).groups()
    for path in (tool, library):
        if prefix not in Path(path).parents:
            sys.exit(f"find_package gives {path}, which is not in {prefix}")
    run("cmake", "--build", project / "build")
    expect(run(project / "build/consumer"), "no CUDA driver")
    expect(run(tool, "methods"), "infllm_v2")


def main():
    parser = argparse.ArgumentParser(description="Makes the Debian packages of a build and builds programs against them.")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--cc", default="cc")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        packages = packed(arguments.build, scratch)
        declared(packages)
        root = unpacked(packages, scratch)
        self_contained(root)
        by_pkg_config(root / "usr", scratch, arguments.cc)
        by_find_package(root / "usr", scratch, arguments.cc)
    return 0


if __name__ == "__main__":
    sys.exit(main())
