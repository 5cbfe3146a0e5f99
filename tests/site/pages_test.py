#!/usr/bin/env python3
# Opens every page of the documentation site in a headless browser, light and dark, on a phone and on a desktop: nothing on
# the console, nothing missing, nothing from another host, text to read, nothing wider than the window, and the colours
# that were asked for. Screenshots of the first page stay in the output folder.
# Entry: the site's folder (tools/site/site.py); --out, a folder. Exit: status 1 and a sentence for each thing that is wrong.
import argparse
import functools
import http.server
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
import browser

SIZES = ((1280, 900), (400, 800))
FEWEST_LETTERS = 200
STATE = """[document.documentElement.scrollWidth, document.documentElement.clientWidth,
    document.querySelector("article").innerText.length, getComputedStyle(document.body).backgroundColor]"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    """The address of a server of the folder, which ends with the process. Search needs one: it runs in a worker."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def faults_of_page(chrome, host, page, scheme):
    """Of a page in every size; loaded once."""
    chrome.open(host + page, *SIZES[0], scheme)
    for size in SIZES:
        chrome.resize(*size, mobile=size[0] < 500)
        width, window, letters, background = chrome.value(STATE)
        if width > window:
            yield f"is {width} pixels wide in a window of {window}"
    yield from chrome.complaints
    yield from (f"asks another host: {url}" for url in chrome.requests if not url.startswith((host, "data:")))
    if letters < FEWEST_LETTERS:
        yield f"has {letters} letters"
    bright = sum(int(part) for part in background.strip("rgba()").split(",")[:3]) > 3 * 128
    if bright != (scheme == "light"):
        yield f"has the background {background}"


def main():
    parser = argparse.ArgumentParser(description="Opens every page of the documentation site in a browser.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    pages = sorted(str(path.relative_to(arguments.site)) for path in arguments.site.rglob("*.html") if path.name != "404.html")
    if len(pages) < 30:
        sys.exit(f"pages_test: {arguments.site} has {len(pages)} pages; was it built?")
    host, faults = serve(arguments.site), 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        with browser.Browser(arguments.out / "browser.log") as chrome:  # of its own: a page remembers the scheme
            for page in pages:
                for fault in faults_of_page(chrome, host, page, scheme):
                    print(f"{page}, {scheme}: {fault}")
                    faults += 1
                if page == "index.html":
                    chrome.screenshot(arguments.out / f"{scheme}.png", whole=False)
    print(f"pages_test: {len(pages)} pages, {faults} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
