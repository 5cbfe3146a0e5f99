#!/usr/bin/env python3
# Makes the report of invented tuned files and uses it as a reader would, in a headless browser: light and dark, desktop
# and phone, sorting, filtering, opening rows by mouse and keyboard. Screenshots and pages stay in the output folder.
# Entry: --winnow, the tool; --out, a folder. Exit: status 1 and a sentence for each thing that is wrong.
import argparse
import json
import os
import re
import subprocess
import sys

import synthetic

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../browser"))
import browser

faults = []


def expect(condition, sentence):
    if not condition:
        faults.append(sentence)


def make_page(winnow, path, *more):
    """The page's path and the figures behind it."""
    page = os.path.splitext(path)[0] + ".html"
    done = subprocess.run([winnow, "report", path, "-o", page, "--json", *more], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"report_test: winnow report failed: {done.stderr}")
    return page, json.loads(done.stdout)


def expect_quiet(chrome, name):
    """Nothing on the console, nothing from the network, nothing wider than the window."""
    for complaint in chrome.complaints:
        expect(False, f"{name}: {complaint}")
    asked = [url for url in chrome.requests if not url.startswith(("file:", "data:"))]
    expect(not asked and sum(url.startswith("file:") for url in chrome.requests) == 1, f"{name}: asked for {chrome.requests}")
    width, window = chrome.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    expect(width <= window, f"{name}: {width} pixels wide in a window of {window}")
    expect(chrome.value("document.querySelectorAll('script').length") == 2, f"{name}: a text became a script")


def column(chrome, name):
    """The texts of a column of the table of keys, by the name in its head."""
    return chrome.value(f"""(() => {{
        const table = document.querySelector("#keys table");
        const at = [...table.querySelectorAll("thead th")].findIndex((th) => th.textContent === {json.dumps(name)});
        return [...table.tBodies[0].querySelectorAll("tr.key")].map((row) => row.cells[at].textContent);
    }})()""")


def head_selector(chrome, name):
    at = chrome.value(f"""[...document.querySelectorAll("#keys > .body > .scroll > table > thead th")]
        .findIndex((th) => th.textContent === {json.dumps(name)})""")
    return f"#keys > .body > .scroll > table > thead th:nth-child({at + 1}) button"


def numbers(texts):
    return [float(re.sub(r"[^0-9.]", "", text) or "nan") for text in texts]


def test_using(chrome, figures):
    """Sorting, filtering and opening, with real clicks and keys."""
    for name in ("ms", "tokens"):
        chrome.click(head_selector(chrome, name))
        values = numbers(column(chrome, name))
        expect(values == sorted(values) and len(set(values)) > 1, f"a click on '{name}' does not sort upwards: {values[:9]}")
        chrome.click(head_selector(chrome, name))
        values = numbers(column(chrome, name))
        expect(values == sorted(values, reverse=True), f"a second click on '{name}' does not sort downwards: {values[:9]}")
    expect(chrome.value("document.querySelectorAll('#keys th[aria-sort=descending]').length") == 1, "aria-sort is not set")
    chrome.click(head_selector(chrome, "speed-up"))
    shown = [v for v in numbers(column(chrome, "speed-up")) if v == v]
    best = max(k["speedup"] or 0 for k in figures["keys"])
    expect(abs(shown[0] - best) < 1e-3, f"sorted by speed-up, {shown[0]} is first and not {best}")

    chrome.click("#keys tr.key:nth-of-type(1) td:nth-of-type(3)")
    expect(chrome.value("document.querySelectorAll('#keys tr.detail').length") == 1, "a click on a row does not open it")
    pictures = chrome.value("document.querySelectorAll('#keys .panel .pictures figure').length")
    expect(pictures >= 3, f"the detail has {pictures} pictures")
    expect(chrome.value("document.querySelectorAll('#keys .panel tr.best').length") == 1, "no winner among the candidates")
    chrome.value("document.querySelector('#keys tr.key:not(.open) .opener').focus()")
    chrome.press("Enter", 13, "\r")
    expect(chrome.value("document.querySelectorAll('#keys tr.detail').length") == 2, "Enter on a row does not open it")
    chrome.press("Enter", 13, "\r")
    expect(chrome.value("document.querySelectorAll('#keys tr.detail').length") == 1, "Enter does not close it again")

    all_rows = chrome.value("document.querySelectorAll('#keys tr.key').length")
    chrome.click("#filter")
    chrome.call("Input.insertText", text="select")
    expect(set(column(chrome, "phase")) == {"select"}, "the filter leaves other rows")
    chrome.value("document.querySelector('#filter').select()")
    chrome.press("Delete", 46)
    expect(chrome.value("document.querySelectorAll('#keys tr.key').length") == all_rows, "an empty filter hides rows")
    chrome.click("#keys .body > .more")
    expect(len(column(chrome, "ms")) == len(figures["keys"]), "'show all' does not show all")
    chrome.click("#regret circle.opens")
    expect(chrome.value("document.querySelectorAll('#keys tr.detail').length") >= 2, "a dot does not open its key")


def test_texts(chrome):
    """Hostile texts are there, as texts."""
    found = chrome.value(f"document.querySelector('#keys').textContent.includes({json.dumps(synthetic.HOSTILE)})")
    expect(found, "the method's name is not on the page as it is")
    expect(chrome.value("document.querySelector('main').querySelectorAll('b').length === "
                        "document.querySelectorAll('figcaption b').length"), "markup of a text was read")
    expect(chrome.value("document.title") == 'Title <b>&"</b>', "the title is not the one given")


def main():
    parser = argparse.ArgumentParser(description="Tests the page of `winnow report` in a browser.")
    parser.add_argument("--winnow", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    at = lambda name: os.path.join(arguments.out, name)
    browser.find()

    synthetic.tuned_file(at("typical.jsonl"), 57, 90, hostile=False)
    typical, figures = make_page(arguments.winnow, at("typical.jsonl"))
    synthetic.tuned_file(at("hostile.jsonl"), 12, 90)
    hostile, _ = make_page(arguments.winnow, at("hostile.jsonl"), "--title", 'Title <b>&"</b>')
    synthetic.tuned_file(at("one.jsonl"), 1, 40, models=False, hostile=False)
    one, _ = make_page(arguments.winnow, at("one.jsonl"))
    open(at("empty.jsonl"), "w").close()
    empty, _ = make_page(arguments.winnow, at("empty.jsonl"))
    synthetic.tuned_file(at("large.jsonl"), 300, 200, hostile=False)
    large, _ = make_page(arguments.winnow, at("large.jsonl"))
    expect(os.path.getsize(large) < 4 << 20, f"300 keys of 200 candidates make {os.path.getsize(large)} bytes")

    with browser.Browser(at("browser.log")) as chrome:
        for name, size in {"desktop": (1280, 900), "phone": (390, 844)}.items():
            for scheme in ("light", "dark"):
                chrome.open(typical, *size, scheme, mobile=name == "phone")
                chrome.click("#keys tr.key:nth-of-type(2) .opener")
                expect_quiet(chrome, f"{name}, {scheme}")
                chrome.screenshot(at(f"{name}-{scheme}.png"), whole=scheme == "light")
        chrome.open(typical, 1280, 900, "light")
        test_using(chrome, figures)
        expect_quiet(chrome, "after use")
        for name, page in {"hostile": hostile, "one": one, "empty": empty, "large": large}.items():
            chrome.open(page, 1280, 900, "light")
            if name in ("hostile", "one"):
                chrome.click("#keys tr.key .opener")
            if name == "hostile":
                test_texts(chrome)
            expect_quiet(chrome, name)
            expect(chrome.value("document.querySelectorAll('main > section').length") == 6, f"{name}: a section is missing")
            chrome.screenshot(at(f"{name}.png"))
    for fault in faults:
        print(fault)
    print(f"report_test: {len(faults)} faults; pages and screenshots in {arguments.out}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
