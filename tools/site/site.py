"""Makes the documentation site: gathers the pages of the tree and references made from winnow.h, winnow.hpp and the Python
package, and has MkDocs build them.

    site.py [--out build/site]

Entry: the Python environment that runs this has MkDocs (tools/setup.sh docs). Exit: OUT/index.html and what belongs to it,
which need nothing from the network; status 1 where MkDocs warns of anything, as of a dead link. Beside OUT lies the folder
OUT-pages with the pages as MkDocs got them."""
import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import c_reference

ROOT = Path(__file__).resolve().parents[2]
# Where pages outside docs/ come to lie on the site. All of docs/ lies at its root.
ELSEWHERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
             "examples/README.md": "examples.md", "examples/slurm/README.md": "slurm.md",
             "examples/train_long/README.md": "train-long.md"}
# Files with a page made from them.
MADE = {"runtime/api/winnow.h": "reference/c.md", "runtime/api/winnow.hpp": "reference/cpp.md",
        "runtime/python": "reference/python.md"}
PYTHON = """# Python

Made from the package's texts ([how to use it](../python.md)).

"""
MODULES = ("winnow", "winnow.torch", "winnow.hf", "winnow.infllm_v2")
# Code stays as it is; the last group of the pattern is a link.
LINK = re.compile(r"^ {0,3}(?P<fence>```+).*?^ {0,3}(?P=fence)[ \t]*$|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
                  r"|\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s]+)\)", re.MULTILINE | re.DOTALL)


def places():
    """Path in the tree to path on the site, of every page."""
    pages = {str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    return {**pages, **ELSEWHERE}


def relink(page, text, known):
    """The text with links that hold on the site. What has no page there is named by its path in the tree."""
    def link(match):
        target = match.group("target")
        if target is None or re.match(r"[a-z]+:|#", target):
            return match.group(0)
        path, hash_, fragment = target.partition("#")
        path = os.path.relpath(ROOT / Path(page).parent / path, ROOT)
        if path in known:
            here = Path(known[page]).parent
            return f"[{match.group('text')}]({os.path.relpath(known[path], here)}{hash_}{fragment})"
        words = match.group("text").strip("`")
        return f"`{path}`" if path.endswith(words) else f"{words} (`{path}`)"
    return LINK.sub(link, text)


def python_reference():
    return PYTHON + "\n".join(f"## {name}\n\n::: {name}\n" for name in MODULES)


def gather(folder):
    """Writes every page to `folder`."""
    pages = places()
    for page, place in pages.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(relink(page, (ROOT / page).read_text(), {**pages, **MADE}))
    headers = {"C": ("runtime/api/winnow.h", "How the calls follow each other: [embedding](../embedding-c.md#steps)."),
               "C++": ("runtime/api/winnow.hpp", "Over [the C functions](c.md).")}
    (folder / "reference").mkdir(exist_ok=True)
    for title, (header, lead) in headers.items():
        (folder / MADE[header]).write_text(c_reference.page(title, lead, (ROOT / header).read_text()))
    (folder / MADE["runtime/python"]).write_text(python_reference())
    shutil.copy(ROOT / "tools/site/site.css", folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/site")
    out = parser.parse_args().out.resolve()
    folder = out.with_name(out.name + "-pages")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    gather(folder)
    environment = {**os.environ, "WINNOW_SITE_PAGES": str(folder), "WINNOW_SITE": str(out), "NO_MKDOCS_2_WARNING": "1"}
    # Not --quiet: that has MkDocs drop its warnings before --strict counts them.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "tools/site/mkdocs.yml")]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
