"""The synthetic study and its page, made once; a headless Chromium without network to open pages
in.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from synthetic_study import synthetic_study

from scaling.report import ReportInput, write_report

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="session")
def study() -> ReportInput:
    return synthetic_study()


@pytest.fixture(scope="session")
def report(study: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(study, tmp_path_factory.mktemp("report") / "new")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not CHROMIUM or not DRIVER:
        pytest.skip(
            "needs Chromium and its driver on the path (Debian: apt install chromium "
            "chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    quiet = (
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-gpu",
        "no-sandbox",
    )
    for switch in (
        "headless=new",
        "window-size=1280,900",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
        *quiet,
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)  # a busy machine draws all figures of a page in half a minute
    driver.execute_cdp_cmd("Network.enable", {})
    no_network = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", no_network)
    yield driver
    driver.quit()
