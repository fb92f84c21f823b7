"""Takes the pictures of the README from a running product, so that they stay true: ``make screenshots``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.evergrant.running import Running

HERE = Path(__file__).resolve().parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder) / "home", SANDBOX_TOKEN_SECONDS="28800")  # noqa: S106
        try:
            running.wait_for_banner()
            _shoot(f"http://localhost:{running.web_port}")
        finally:
            running.end()


def _shoot(site: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 560}, device_scale_factor=1.5)
        page.goto(f"{site}/signin")
        page.get_by_role("button", name="Allow").click()
        page.get_by_role("button", name="Refresh now").click()
        page.goto(f"{site}/owner")
        page.screenshot(path=HERE / "owner.png")
        browser.close()


if __name__ == "__main__":
    main()
