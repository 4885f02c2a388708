"""The page of a run as somebody sees it in a browser.

With DR_IRL_SCREENSHOTS set to a folder, what was seen is kept there: `docs/images` has such pictures.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed_site import Site, until
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from services import LOGIN

pytestmark = pytest.mark.slow

TABLES = ["balance", "reward-accuracy", "refusal"]
GRAPHICS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
"""The graph is drawn by WebGL, here without a graphics card."""
CURVES = ["alpha-curves", "reward-curves"]


@pytest.fixture(scope="module")
def page(site: Site, smoke_run: Any) -> Iterator[Page]:
    """The page of the smoke run, in the Chromium of this machine."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "there is no Chromium; apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *GRAPHICS])
        opened = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened.set_default_timeout(60_000)
        # As somebody who has logged in.
        password = LOGIN["Authorization"].removeprefix("Basic ")
        opened.add_init_script(f"localStorage.setItem('prefect-password', '{password}')")
        opened.goto(f"{site.address}/runs/flow-run/{smoke_run.run_id}")
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def picture(page: Page) -> Any:
    """Keep what the page shows, where somebody asked for it."""

    def keep(name: str) -> None:
        if folder := os.environ.get("DR_IRL_SCREENSHOTS"):
            page.wait_for_timeout(2000)
            page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return keep


def open_tab(page: Page, name: str) -> None:
    page.get_by_text(name, exact=True).first.click()


def test_the_page_has_the_name_and_the_state_of_the_run(page: Page, site: Site, smoke_run: Any) -> None:
    expect(page.get_by_text(site.flow_run(smoke_run.run_id)["name"]).first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible()


def test_the_page_draws_the_graph_of_the_stages(page: Page, picture: Any) -> None:
    canvas = page.locator("canvas").first

    def green_pixels() -> int:
        drawn = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
        return sum(count for count, (r, g, b) in drawn.getcolors(2**24) or [] if g > 1.5 * max(r, b) and g > 100)

    assert until(lambda: green_pixels() > 2000, seconds=60), "finished stages are drawn as green boxes"
    picture("ui-run")


def test_the_graph_has_every_stage(site: Site, smoke_run: Any) -> None:
    nodes = site.ask(f"flow_runs/{smoke_run.run_id}/graph-v2")["nodes"]
    assert {"sources", "balance", "reward insult", "grpo", "evaluation aligned", "report"} <= {
        node["label"].strip() for _, node in nodes
    }


def test_the_page_shows_progress_in_its_log(page: Page) -> None:
    open_tab(page, "Logs")
    expect(page.get_by_text("GRPO 3/3 steps").first).to_be_visible()


def test_the_page_lists_the_stages(page: Page) -> None:
    open_tab(page, "Task Runs")
    expect(page.get_by_text("report", exact=True).first).to_be_visible()


def test_the_page_lists_its_artifacts(page: Page, picture: Any) -> None:
    open_tab(page, "Artifacts")
    for key in ["scaling-factors", "report"]:
        expect(page.get_by_text(key, exact=True).first).to_be_visible()
    page.mouse.wheel(0, 600)
    picture("ui-artifacts")


def open_artifact(page: Page, site: Site, smoke_run: Any, key: str) -> None:
    page.goto(f"{site.address}/artifacts/artifact/{site.artifacts(smoke_run.run_id)[key]['id']}")


@pytest.mark.parametrize("key", TABLES)
def test_a_table_opens_with_its_rows(key: str, page: Page, site: Site, smoke_run: Any) -> None:
    open_artifact(page, site, smoke_run, key)
    expect(page.locator("table").get_by_text("insult", exact=True).first).to_be_visible()


@pytest.mark.parametrize("key", CURVES)
def test_curves_open_as_a_picture(key: str, page: Page, site: Site, smoke_run: Any) -> None:
    open_artifact(page, site, smoke_run, key)
    image = page.locator("img[src^='data:image/svg']").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.complete && image.naturalWidth") == 760


def test_the_link_to_the_report_names_where_it_is(page: Page, site: Site, smoke_run: Any) -> None:
    open_artifact(page, site, smoke_run, "report")
    expect(page.get_by_text(f"{site.store}/objects/report/").last).to_be_visible()
