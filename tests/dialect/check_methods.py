"""Runs winnow-opt over every method in a folder: a round trip, then specialise and fuse for many specs."""
import itertools
import pathlib
import re
import subprocess
import sys

KERNELS = (["attend"], ["summarize", "score", "top_k", "attend"])


def opt(*arguments, text=None):
    done = subprocess.run(["winnow-opt", *arguments], input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"winnow-opt {' '.join(arguments)}:\n{done.stderr}"
    return done.stdout


def specs():
    for group, dim, block, topk in itertools.product((1, 2, 4, 8, 16), (64, 128), (32, 64, 128), (40, 96, 256)):
        yield f"heads={2 * group} kv-heads=2 head-dim={dim} block={block} topk={topk}"


methods = sorted(pathlib.Path(sys.argv[1]).glob("*.mlir"))
assert len(methods) >= 5, f"only {len(methods)} methods in {sys.argv[1]}"
for path in methods:
    once = opt(str(path))
    assert opt(text=once) == once, f"{path.name}: printing does not read back"
    name, doc = re.search(r'select\.method @(\w+) doc "([^"]+)"', once).groups()
    assert name == path.stem, f"{path.name} defines @{name}"
    for spec in specs():
        fused = opt(str(path), f"-winnow-specialize={spec}", "-winnow-fuse-kernels")
        assert "@" not in fused.split("{", 2)[2], f"{path.name}, {spec}: a reference is left\n{fused}"
        kernels = re.findall(r'select\.kernel "(\w+)"', fused)
        assert kernels in KERNELS, f"{path.name}, {spec}: kernels {kernels}"
    print(f"{name}: {doc}")
