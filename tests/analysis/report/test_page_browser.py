"""The interactive scatter in a real headless Chromium: hover, click, keyboard, menus, and nothing from the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import load_study, write_report
from tests.analysis.synthetic import Truth, write_study

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # after importorskip
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on this machine"),
]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,1400",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    study = write_study(folder / "study", configurations=12, truth=Truth(diverged=0.1), seed=3)
    return write_report([load_study(study)], folder / "report").html


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def at_rest(browser: webdriver.Chrome) -> None:
    """Each test starts from the page as it is opened."""
    browser.refresh()


def selected(browser: webdriver.Chrome) -> list[str]:
    return [g.get_attribute("data-run") or "" for g in browser.find_elements(By.CSS_SELECTOR, ".run.selected")]


def opacity(browser: webdriver.Chrome, selector: str) -> float:
    script = "return getComputedStyle(document.querySelector(arguments[0])).opacity"
    return float(browser.execute_script(script, selector))


def end_of(browser: webdriver.Chrome, place: int) -> tuple[str, Any]:
    group = browser.find_elements(By.CSS_SELECTOR, ".run:has(.end)")[place]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", group)
    return group.get_attribute("data-run") or "", group.find_element(By.CSS_SELECTOR, ".end")


def test_hovering_a_run_shows_its_trajectory_and_leaving_hides_it(browser: webdriver.Chrome) -> None:
    data = json.loads(browser.find_element(By.ID, "scatter-data").get_attribute("textContent") or "")
    assert selected(browser) == []
    run, end = end_of(browser, 0)
    ActionChains(browser).move_to_element(end).perform()
    assert selected(browser) == [run]
    path = browser.find_element(By.CSS_SELECTOR, f'.run[data-run="{run}"] .trajectory')
    carried = next(r for r in data["panels"][0]["runs"] if r["id"] == run)
    assert (path.get_attribute("d") or "").count("L") == len(carried["path"][0]) - 1 > 5
    assert opacity(browser, f'.run[data-run="{run}"] .trajectory') == 1.0
    assert opacity(browser, f'.run:not([data-run="{run}"])') < 0.5
    details = browser.find_element(By.CLASS_NAME, "scatter-details")
    for words in (carried["title"], "in the optimal region", "rerun"):
        assert words in details.text
    assert len(details.find_elements(By.CSS_SELECTOR, ".mini .series")) == 3  # two hyperparameters and the T2 loss
    heading = browser.find_element(By.CSS_SELECTOR, "#interactive h2")
    ActionChains(browser).move_to_element(heading).perform()
    assert selected(browser) == []


def test_a_click_keeps_a_run_and_escape_lets_it_go(browser: webdriver.Chrome) -> None:
    run, end = end_of(browser, 1)
    ActionChains(browser).move_to_element(end).click().perform()
    ActionChains(browser).move_to_element(browser.find_element(By.CSS_SELECTOR, "#interactive h2")).perform()
    assert selected(browser) == [run]
    browser.find_element(By.CSS_SELECTOR, ".scatter-plot svg").send_keys(Keys.ESCAPE)
    assert selected(browser) == []


def test_the_arrow_keys_walk_through_every_run(browser: webdriver.Chrome) -> None:
    svg = browser.find_element(By.CSS_SELECTOR, ".scatter-plot svg")
    seen = []
    for _ in range(12):
        svg.send_keys(Keys.ARROW_RIGHT)
        seen += selected(browser)
    assert len(set(seen)) == 12


def test_the_menu_changes_the_model_and_the_box_hides_the_trajectories(browser: webdriver.Chrome) -> None:
    before = {g.get_attribute("data-run") for g in browser.find_elements(By.CLASS_NAME, "run")}
    browser.find_element(By.CSS_SELECTOR, '#scatter-panel option[value="1"]').click()
    after = {g.get_attribute("data-run") for g in browser.find_elements(By.CLASS_NAME, "run")}
    assert len(before) == len(after) == 12
    assert not before & after
    assert 0 < opacity(browser, ".trajectory") < 1
    browser.find_element(By.ID, "scatter-all").click()
    assert opacity(browser, ".trajectory") == 0


def test_nothing_is_logged_and_nothing_is_asked_of_the_network(browser: webdriver.Chrome) -> None:
    browser.get_log("performance")  # the browser's own start page
    browser.refresh()
    _, end = end_of(browser, 0)
    ActionChains(browser).move_to_element(end).perform()
    assert browser.get_log("browser") == []
    asked = [
        m["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (m := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(url.startswith(("file:", "data:")) for url in asked)
    # every picture on the page has been decoded
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 100)")
