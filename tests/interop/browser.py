#!/usr/bin/env python3
"""Pages that embmap writes, in a real browser without a screen: they draw, the search finds, the
neighbours are right, no token gets out of its place, and both themes look as they should.

    python3 tests/interop/browser.py target/release/embmap

The browser is $EMBMAP_BROWSER, or a Chromium or Chrome that is installed. Where there is none,
that is said and nothing is checked. Needs Python alone.
"""

import html
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
MODEL = Path(__file__).parents[2] / "fixtures" / "minilm-2k"


def find_browser():
    wanted = os.environ.get("EMBMAP_BROWSER")
    if wanted:
        return wanted
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    def __init__(self, path, profile):
        self.command = [
            path, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--force-prefers-reduced-motion", "--window-size=1000,700", "--enable-logging=stderr",
            "--virtual-time-budget=3000", f"--user-data-dir={profile}",
        ]

    def run(self, *arguments):
        ran = subprocess.run([*self.command, *arguments], capture_output=True, timeout=120)
        said = ran.stderr.decode(errors="replace")
        wrong = [line for line in said.splitlines()
                 if "CONSOLE" in line and re.search("Uncaught|Refused|violates|rror", line)]
        assert not wrong, wrong
        return ran.stdout.decode()

    def dom(self, page, fragment=""):
        return self.run("--dump-dom", page.as_uri() + fragment)

    def picture(self, page, to, dark):
        theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        self.run(f"--screenshot={to}", *theme, page.as_uri())
        return pixels(to.read_bytes())


def pixels(png):
    """The pixels of a PNG of 8 bits a channel, without its filters."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8 and kind in (2, 6), (depth, kind)
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at:at + 4])
        if png[at + 4:at + 8] == b"IDAT":
            data += png[at + 8:at + 8 + length]
        at += 12 + length
    data, step = zlib.decompress(data), 3 if kind == 2 else 4
    stride, above, all_pixels = width * step, bytearray(width * step), []
    for row in range(height):
        filter_type = data[row * (stride + 1)]
        line = bytearray(data[row * (stride + 1) + 1:(row + 1) * (stride + 1)])
        for i in range(stride):
            left = line[i - step] if i >= step else 0
            up = above[i]
            corner = above[i - step] if i >= step else 0
            if filter_type == 1:
                line[i] = (line[i] + left) & 255
            elif filter_type == 2:
                line[i] = (line[i] + up) & 255
            elif filter_type == 3:
                line[i] = (line[i] + (left + up) // 2) & 255
            elif filter_type == 4:
                guess = left + up - corner
                near = min((abs(guess - it), order, it)
                           for order, it in enumerate((left, up, corner)))
                line[i] = (line[i] + near[2]) & 255
        all_pixels.append([tuple(line[i:i + 3]) for i in range(0, stride, step)])
        above = line
    return all_pixels


def text_of(dom, element):
    found = re.search(rf'id="{element}"[^>]*>(.*?)</(?:h2|ol|ul|p)>', dom, re.S)
    assert found, element
    parts = re.findall(r">([^<>]+)<", f">{found.group(1)}<")
    return [html.unescape(part).strip() for part in parts if part.strip()]


def check_search(browser, page):
    dom = browser.dom(page)
    drawn = int(re.search(r'data-points="(\d+)"', dom).group(1))
    labels = int(re.search(r'data-labels="(\d+)"', dom).group(1))
    assert drawn > 1800 and labels > 40, (drawn, labels)
    assert re.search(r'<section id="chosen"[^>]*hidden', dom), "nothing is chosen at first"

    dom = browser.dom(page, "#king")
    assert text_of(dom, "name") == ["king"], text_of(dom, "name")
    near = text_of(dom, "near")
    assert near[:4] == ["kings", "0.690", "queen", "0.627"], near
    assert len(near) == 20, near
    assert not re.search(r'<section id="chosen"[^>]*hidden', dom)

    found = text_of(browser.dom(page, "#?KIN"), "found")
    assert found[0] == "king", found
    assert text_of(browser.dom(page, "#?xyzzy"), "found") == ["no such token here"]


def check_themes(browser, page, folder):
    for dark in (False, True):
        rows = browser.picture(page, folder / "page.png", dark)
        some = [pixel for row in rows[::3] for pixel in row[::3]]
        bright = sum(map(sum, some)) / len(some) / 3
        assert bright < 60 if dark else bright > 200, (dark, bright)
        colorful = {pixel for pixel in some if max(pixel) - min(pixel) > 60}
        assert len(colorful) > 100, f"points have colours: {len(colorful)}"
        print(f"  {'dark' if dark else 'light'}: brightness {bright:.0f}, {len(colorful)} colours")


def check_hostile(embmap, browser, folder):
    """Tokens that would be scripts, were they not told apart from the page."""
    tokens = [
        "</script><script>document.title='taken'</script>", "<img/src=x/onerror=document.title='taken'>",
        "'\"`${document.title='taken'}", "\u202edrow", "<!--<script>", "plain",
    ]
    rows = [f"{token} {at}.5 1 {at % 3} -1" for at, token in enumerate(tokens)]
    glove, table, page = folder / "odd.glove", folder / "odd.emb", folder / "odd.html"
    glove.write_text("\n".join(rows) + "\n", encoding="utf-8")
    subprocess.run([embmap, "convert", glove, "-o", table, "-q"], check=True)
    subprocess.run([embmap, "plot", table, "--rows", ":", "-o", page, "-q"], check=True)
    for fragment in ["", "#plain", "#?script"]:
        dom = browser.dom(page, fragment)
        assert re.search(r"<title>odd\.emb</title>", dom), dom[:400]
        assert dom.count("<script") == 2 and "<img" not in dom
    near = text_of(browser.dom(page, "#plain"), "near")
    assert tokens[0] in near and "\\u{202e}drow" in near, near
    report = folder / "odd-report.html"
    subprocess.run([embmap, "inspect", table, "--html", report, "-q"], check=True)
    dom = browser.dom(report)
    assert "<script" not in dom and re.search(r"<title>odd\.emb</title>", dom)


def main():
    embmap = Path(sys.argv[1]).resolve()
    path = find_browser()
    if path is None:
        print(f"skipped: none of {', '.join(NAMES)} is installed, and EMBMAP_BROWSER is not set")
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        browser = Browser(path, folder / "profile")
        page = folder / "words.html"
        subprocess.run([embmap, "plot", MODEL, "-o", page, "-q"], check=True)
        check_search(browser, page)
        check_themes(browser, page, folder)
        report = folder / "report.html"
        subprocess.run([embmap, "inspect", MODEL, "--html", report, "-q"], check=True)
        assert "effective dimension" in browser.dom(report)
        check_hostile(embmap, browser, folder)
    print(f"pages draw and their search works in {path}")


if __name__ == "__main__":
    main()
