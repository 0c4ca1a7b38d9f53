"""A real browser, where there is one; what it says and asks for is watched."""

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REMEDY = "apt-get install -y chromium libatomic1, and pip install playwright"


@pytest.fixture(scope="session")
def browser():
    """Chromium; no download of Playwright's own."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser here: {REMEDY}")
    playwright = pytest.importorskip("playwright.sync_api", reason=REMEDY)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file, without a network; fails where the page writes to the console or asks for what is no file."""
    said, contexts = [], []

    def open_page(path, view="", wait="#gallery li figure", script="", **settings):
        context = browser.new_context(**{"viewport": {"width": 1300, "height": 1400}, "offline": True} | settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or said.append(request.url)
        )
        page.add_init_script(script)
        page.goto(f"{path.as_uri()}{view}")
        if wait:
            page.wait_for_selector(wait, state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
