"""Take the pictures of the board's pages in the documentation: picture_pages.py PAGE [FOLDER]

PAGE is a file of `claf2 board export` or `claf2 bench report`, or the address of a suite on a server. The pictures are
of its table, its chart by pre-training step, the run behind its first score, and the page on a phone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def take_pictures(browser: Any, url: str, folder: Path) -> None:
    """Write the four pictures."""
    page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=1.5)
    page.goto(url)
    page.wait_for_selector("#table")
    page.screenshot(path=folder / "board-table.png")
    if page.locator("#chart").count():
        box = page.locator("#steps").bounding_box()
        clip = {"x": 0, "y": box["y"], "width": 1280, "height": box["height"] + 24}
        page.screenshot(path=folder / "board-steps.png", clip=clip, full_page=True)
    run = page.locator("#table td.score a").first
    if run.count():
        run.click()
        page.wait_for_selector(".learning canvas:visible")
        clip = {"x": 0, "y": 0, "width": 1280, "height": 1250}
        page.screenshot(path=folder / "board-run.png", clip=clip, full_page=True)
    page.close()
    phone = browser.new_page(**PHONE)
    phone.goto(url)
    phone.wait_for_selector("#table")
    phone.evaluate("document.querySelector('#scores').scrollIntoView()")
    phone.screenshot(path=folder / "board-phone.png")
    phone.close()


def main() -> None:
    """Take the pictures of the page that is named."""
    from playwright.sync_api import sync_playwright

    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    place, folder = sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else "docs/pictures")
    url = place if "://" in place else Path(place).resolve().as_uri()
    executable = os.environ.get("CLAF2_BROWSER") or Path(sys.prefix) / "browser/chromium"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--no-zygote", "--disable-webgl"]
        )
        take_pictures(browser, url, folder)
        browser.close()


if __name__ == "__main__":
    main()
