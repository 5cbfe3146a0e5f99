#!/usr/bin/env python3
# Installs this build into a new prefix and uses it as somebody else would: the examples, as a project of their own by
# find_package, and a C program by pkg-config; then runs them, on a driver of host memory where they ask for a GPU.
# Entry: a build folder whose libraries and tool are built. Exit: status 1 and the output of what failed.
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRIVER_GPU = "Fake 80GB"  # tests/runtime/FakeDriver.h


def run(*command, **environment):
    """The output of a command that must succeed."""
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def expect(text, part):
    if part not in text:
        sys.exit(f"'{part}' is not in:\n{text}")


def install(build, prefix, components):
    for component in components:
        run("cmake", "--install", build, "--prefix", prefix, "--component", component)


def by_pkg_config(prefix, scratch, compiler):
    """CHeader.c as a program outside of this tree: against libwinnow.so alone, found by winnow.pc."""
    source = scratch / "plain.c"
    source.write_text((ROOT / "tests/runtime/CHeader.c").read_text().replace("runtime/api/winnow.h", "winnow.h"))
    libraries = next(prefix.glob("**/pkgconfig"))
    flags = run("pkg-config", "--cflags", "--libs", "winnow", PKG_CONFIG_PATH=str(libraries)).split()
    run(compiler, "-std=c99", source, "-o", scratch / "plain", *flags)
    expect(run(scratch / "plain", LD_LIBRARY_PATH=str(libraries.parent)), "no CUDA driver")


def swept(prefix, program, scratch, arguments):
    """examples/sweep: records of a worker that plays the driver's GPU, then of the model, and what an engine says of them."""
    (scratch / "worker.json").write_text(json.dumps({"device": DRIVER_GPU, "sleep": 0, "configs": {"attend_keys=32": {"ms": 5}}}))
    tune = ROOT / "examples/sweep/tune.sh"
    path = {"PATH": f"{prefix / 'bin'}:{os.environ['PATH']}", "WINNOW_CACHE_DIR": str(scratch / "cache")}
    run(tune, scratch / "measured", "--arch", arguments.arch, "--jobs", "2", "--worker", f"{arguments.worker} {scratch}/worker.json", **path)
    told = run(program, scratch / "measured/tuned.jsonl", arguments.driver, **path)
    expect(told, "attention: measured for this problem on this GPU")
    expect(told, " attend_keys=32 ")
    run(tune, scratch / "modelled", **path, PROFILE="a100")
    expect(run(program, scratch / "modelled/tuned.jsonl", arguments.driver, **path), "chosen by the performance model, not measured")


def by_find_package(prefix, scratch, arguments):
    folder = scratch / "examples"
    run("cmake", "-G", "Ninja", "-S", ROOT / "examples", "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_C_COMPILER={arguments.cc}", f"-DCMAKE_CXX_COMPILER={arguments.cxx}", f"-DEMBED_C_ARCH={arguments.arch}")
    run("cmake", "--build", folder)
    if arguments.driver:
        expect(run(folder / "embed_c/embed_c", arguments.driver), "from the bundle")
        swept(prefix, folder / "sweep/sweep", scratch, arguments)
    os.chdir(scratch)  # where new_method writes its text
    expect(run(folder / "new_method/new_method"), "capped:")
    engine, cache = folder / "engine_cpp/engine_cpp", {"WINNOW_CACHE_DIR": str(scratch / "cache")}
    expect(run(engine, "/nonexistent/libcuda.so.1", **cache), "on the CPU")
    if arguments.driver:  # whose kernels do nothing: the driver sees to it that nothing breaks the capture of a step
        told = run(engine, arguments.driver, **cache)
        expect(told, "on GPU 0: a prompt of 16384 tokens in chunks of 4096, then 16 tokens")
        expect(told, "layer 1: outputs in steps and at once are 0 apart")


def main():
    parser = argparse.ArgumentParser(description="Installs a build and builds programs against it.")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--cxx", default="c++")
    parser.add_argument("--driver", type=Path, help="a CUDA driver that takes real programs; without it nothing runs on a GPU")
    parser.add_argument("--worker", type=Path, help="with --driver: a tuning worker that plays its GPU")
    parser.add_argument("--arch", default="sm_90a", help="architecture of that driver's GPU")
    parser.add_argument("--no-compiler", action="store_true", help="of a build without the compiler: pkg-config alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        prefix = scratch / "prefix"
        install(arguments.build, prefix, ["runtime", "dev"] + ([] if arguments.no_compiler else ["compiler"]))
        by_pkg_config(prefix, scratch, arguments.cc)
        if not arguments.no_compiler:
            by_find_package(prefix, scratch, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
