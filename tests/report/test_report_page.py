"""The page in a real browser, opened from a file with the network off."""

import csv
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from synthetic_study import DURATIONS, SIZES, TASKS, synthetic_results

from scaling.report import ReportInput, write_report

FIGURES = ["figure-verdicts", "figure-mae-training", "figure-mae-loss-compute"]
FIGURES += ["figure-mae-loss-size", "figure-mae-loss-duration"]
KINDS = ("compute", "size", "duration", "improvement")
FIGURES += [f"figure-{task}-{kind}" for task in TASKS for kind in KINDS]


def opened(browser: Chrome, page: Path) -> Chrome:
    browser.get_log("browser"), browser.get_log("performance")  # forget the page before
    browser.get(page.as_uri())
    WebDriverWait(browser, 60, 0.05).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready === 'yes'")
    )
    return browser


def drawn(browser: Chrome, id: str) -> WebElement:
    """Scroll to a figure and wait until Plotly has drawn it."""
    figure = browser.find_element(By.ID, id)
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", figure
    )
    WebDriverWait(browser, 20, 0.05).until(
        lambda b: b.execute_script("return !!arguments[0].querySelector('.main-svg')", figure)
    )
    return figure


def traces(browser: Chrome, id: str) -> list[dict[str, object]]:
    script = (
        "return document.getElementById(arguments[0]).data.map(t => ({name: t.name, "
        "mode: t.mode, x: t.x, y: t.y, text: t.hovertext}))"
    )
    return browser.execute_script(script, id)


def errors(browser: Chrome) -> list[object]:
    return [
        entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
    ]


def test_page_from_file_without_network_draws_every_figure_and_logs_no_error(
    browser: Chrome, report: Path
) -> None:
    opened(browser, report)
    for id in FIGURES:
        figure = drawn(browser, id)
        assert len(figure.get_attribute("aria-label")) > 30
    assert errors(browser) == []
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        r["params"]["request"]["url"]
        for r in requests
        if r["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [url for url in urls if url.startswith("file:")] == [report.as_uri()]


@pytest.mark.parametrize("task", TASKS)
def test_curves_of_each_task_hold_a_point_per_run_and_name_it(
    browser: Chrome, report: Path, task: str
) -> None:
    opened(browser, report)
    for axis, levels, column in (
        ("size", SIZES.values(), "params"),
        ("duration", DURATIONS, "duration"),
    ):
        drawn(browser, f"figure-{task}-{axis}")
        found = traces(browser, f"figure-{task}-{axis}")
        runs = [t for t in found if t["mode"] == "markers"]
        assert len(runs) == 3, column
        assert [len(t["x"]) for t in runs] == [len(levels)] * 3
        texts = [text for t in runs for text in t["text"]]
        assert all(f"<b>mae-{s}-seed0-{d}</b>" in "".join(texts) for s in SIZES for d in DURATIONS)
        assert {"from scratch", "fitted curve"} <= {
            str(t["name"]).removesuffix(" (mean of sizes)") for t in found
        }
    drawn(browser, f"figure-{task}-improvement")
    (gains,) = traces(browser, f"figure-{task}-improvement")
    assert len(gains["x"]) == 9


def test_hovering_a_point_shows_its_run_and_score(
    browser: Chrome, report: Path, study: ReportInput
) -> None:
    opened(browser, report)
    figure = drawn(browser, "figure-infarct-size")
    point = figure.find_elements(By.CSS_SELECTOR, ".scatterlayer path.point")[
        -1
    ]  # longest duration, largest size
    ActionChains(browser).move_to_element(point).perform()
    label = WebDriverWait(browser, 10, 0.05).until(
        lambda b: figure.find_element(By.CSS_SELECTOR, ".hoverlayer .hovertext")
    )
    rows = study.results.query(
        "run == 'mae-m-seed0-80000' and task == 'infarct' and protocol == 'finetune' and domain "
        "== 'out'"
    )
    text = label.get_attribute("textContent")
    assert "mae-m-seed0-80000" in text
    assert f"AUROC {rows['value'].mean():.3f}" in text
    assert "3 draws of 16 labelled cases · 48 test cases, 2 sites" in text


def test_choosing_another_view_redraws_all_figures_of_the_task(
    browser: Chrome, report: Path, study: ReportInput
) -> None:
    opened(browser, report)
    drawn(browser, "figure-brain-age-size")
    form = browser.find_element(By.CSS_SELECTOR, "#task-brain-age form")
    Select(form.find_element(By.NAME, "metric")).select_by_visible_text("Pearson r")
    Select(form.find_element(By.NAME, "domain")).select_by_visible_text("in domain")
    Select(form.find_element(By.NAME, "protocol")).select_by_value("probe")
    rows = study.results.query(
        "task == 'brain-age' and metric == 'pearson' and domain == 'in' and protocol == 'probe' "
        "and arm == 'pretrained'"
    )
    expected = sorted(rows.groupby("run")["value"].mean())
    for axis in ("size", "duration"):
        shown = [
            y
            for t in traces(browser, f"figure-brain-age-{axis}")
            if t["mode"] == "markers"
            for y in t["y"]
        ]
        assert sorted(shown) == pytest.approx(expected, rel=1e-5)
        assert "Pearson r" in browser.find_element(By.ID, f"figure-brain-age-{axis}").get_attribute(
            "aria-label"
        )
    other = [y for t in traces(browser, "figure-brain-age-improvement") for y in t["x"]]
    assert len(other) == 9
    assert errors(browser) == []


def test_a_view_that_does_not_exist_falls_back_to_the_nearest(
    browser: Chrome, study: ReportInput, tmp_path: Path
) -> None:
    some = study.results.query(
        "task == 'meningioma' and domain == 'out' and not (metric == 'nsd' and protocol == "
        "'finetune')"
    )
    opened(browser, write_report(ReportInput("gaps", some), tmp_path))
    form = browser.find_element(By.CSS_SELECTOR, "#task-meningioma form")
    assert (
        Select(form.find_element(By.NAME, "protocol")).first_selected_option.get_attribute("value")
        == "finetune"
    )
    Select(form.find_element(By.NAME, "metric")).select_by_value("nsd")
    assert (
        Select(form.find_element(By.NAME, "protocol")).first_selected_option.get_attribute("value")
        == "probe"
    )
    assert (
        browser.find_element(By.ID, "figure-meningioma-size")
        .get_attribute("data-view")
        .startswith("nsd|mae|out|probe")
    )
    assert errors(browser) == []


def test_table_of_results_searches_sorts_and_downloads(
    browser: Chrome, report: Path, study: ReportInput, tmp_path: Path
) -> None:
    opened(browser, report)
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    expected = study.results.query("site == 'hospital-b' and metric == 'nsd'")
    browser.find_element(By.ID, "search").send_keys("hospital-b nsd")
    assert (
        browser.find_element(By.ID, "count").text
        == f"{len(expected)} of {len(study.results)} rows, {len(expected)} shown"
    )
    headings = browser.find_elements(By.CSS_SELECTOR, "#table th button")
    column = [h.text for h in headings].index("value")
    browser.execute_script("arguments[0].click(); arguments[0].click()", headings[column])
    first = browser.find_elements(By.CSS_SELECTOR, "#table tbody tr:first-child td")[column]
    assert float(first.get_attribute("textContent")) == pytest.approx(
        expected["value"].max(), abs=1e-6
    )
    browser.execute_script("document.getElementById('download').click()")
    wait_for(lambda: (tmp_path / "results.csv").exists())
    with (tmp_path / "results.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    values = sorted(expected["value"], reverse=True)
    assert [float(row["value"]) for row in saved] == pytest.approx(values, abs=1e-6)
    assert list(saved[0]) == list(study.results.columns)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited 10 s in vain"
        time.sleep(0.05)


def test_page_fits_a_phone_without_sideways_scrolling(browser: Chrome, report: Path) -> None:
    metrics = {"width": 400, "height": 850, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    opened(browser, report)
    figure = drawn(browser, "figure-infarct-size")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    drawn_width = figure.find_element(By.CSS_SELECTOR, ".main-svg").rect["width"]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width == 400
    assert drawn_width <= 400


def test_names_with_markup_are_shown_as_they_are(browser: Chrome, tmp_path: Path) -> None:
    bad = "<img src=x onerror=document.title='broken'>"
    results = synthetic_results().query(
        "task == 'meningioma' and metric == 'dice' and domain == 'out' and protocol == 'finetune'"
    )
    results = results.assign(
        task="</script>" + bad,
        site=bad,
        run=results["run"] + bad,
        size=results["size"].where(results["size"] == "", bad),
    )
    study = ReportInput(
        name=bad,
        results=results,
        config={bad: bad},
        provenance={bad: {"a": bad}},
        problems=[bad],
        held_fixed={bad: bad},
        saving=bad,
    )
    opened(browser, write_report(study, tmp_path))
    figure = drawn(browser, "figure-script-img-src-x-onerror-document-title-broken-size")
    assert (
        figure.find_element(By.CSS_SELECTOR, ".xtick text")
        .get_attribute("textContent")
        .startswith(bad)
    )
    ActionChains(browser).move_to_element(
        figure.find_elements(By.CSS_SELECTOR, ".scatterlayer path.point")[-1]
    ).perform()
    label = WebDriverWait(browser, 10, 0.05).until(
        lambda b: figure.find_element(By.CSS_SELECTOR, ".hoverlayer .hovertext")
    )
    assert bad in label.get_attribute("textContent")
    assert browser.find_element(By.TAG_NAME, "h1").text == bad
    assert browser.find_elements(By.CSS_SELECTOR, "img[src='x']") == []
    assert browser.title == f"{bad}: scaling report"
    assert errors(browser) == []


@pytest.mark.parametrize(
    ("change", "sentences", "figures"),
    [
        (
            {"verdicts": (), "curves": {}, "reconstructions": (), "problems": ()},
            [
                "These results allow no verdict.",
                "There is no verdict to draw.",
                "No reconstructions were made",
            ],
            ["figure-infarct-size", "figure-mae-loss-size"],
        ),
        (
            {
                "pretraining": pd.DataFrame(),
                "steps": pd.DataFrame(),
                "provenance": {},
                "held_fixed": {},
                "saving": "",
            },
            [
                "No pretraining run has finished.",
                "The steps of this study are not known.",
                "Nothing is recorded as held fixed.",
            ],
            ["figure-infarct-size", "figure-verdicts"],
        ),
        (
            {"results": pd.DataFrame(), "verdicts": (), "curves": {}},
            [
                "There are no finished results for infarct.",
                "The table of results is empty.",
                "No task has a verdict yet",
            ],
            ["figure-mae-loss-size"],
        ),
        (
            {
                "results": synthetic_results().query("size in ('s', '')"),
                "verdicts": (),
                "curves": {},
            },
            [
                "All results are of one size (900 k parameters), so there is no curve of "
                "performance against size."
            ],
            ["figure-infarct-duration", "figure-infarct-improvement"],
        ),
        (
            {
                "results": synthetic_results().query("draw == 0 and arm == 'pretrained'"),
                "curves": {},
            },
            ["No control (from scratch) to compare with."],
            ["figure-infarct-size", "figure-infarct-improvement"],
        ),
    ],
    ids=["no verdicts", "no pretraining", "no results", "one size", "no controls, one draw"],
)
def test_page_with_a_part_missing_says_so_and_draws_the_rest(
    browser: Chrome,
    study: ReportInput,
    tmp_path: Path,
    change: dict[str, object],
    sentences: list[str],
    figures: list[str],
) -> None:
    few = "task == 'infarct' and protocol != 'probe' and domain == 'out'"
    small = replace(
        study,
        results=study.results.query(few),
        verdicts=study.verdicts[:1],
        config={"tasks": [{"name": "infarct"}]},
    )
    if isinstance(results := change.get("results"), pd.DataFrame) and len(results):
        change = change | {"results": results.query(few)}
    opened(browser, write_report(replace(small, **change), tmp_path))
    for id in figures:
        drawn(browser, id)
    text = browser.find_element(By.TAG_NAME, "body").get_attribute("textContent")
    for sentence in sentences:
        assert sentence in " ".join(text.split())
    assert errors(browser) == []


def test_results_without_any_row_or_task_still_make_a_page(browser: Chrome, tmp_path: Path) -> None:
    opened(browser, write_report(ReportInput("empty", pd.DataFrame()), tmp_path))
    assert "No task has results yet" in browser.find_element(By.ID, "verdicts").text
    assert errors(browser) == []


def test_write_report_replaces_an_older_page_whole(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    path = write_report(ReportInput("new", pd.DataFrame()), tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_page_is_small_and_its_head_answers_per_task(
    browser: Chrome, report: Path, study: ReportInput
) -> None:
    assert report.stat().st_size < 3e6
    opened(browser, report)
    cards = browser.find_elements(By.CSS_SELECTOR, ".card")
    assert [card.find_element(By.TAG_NAME, "h3").text for card in cards] == list(TASKS)
    for card, verdict in zip(cards, study.verdicts, strict=True):
        assert verdict.decision in card.text
        assert "times the compute" in card.text
        assert "interval" in card.text
        assert "Next" in card.text
        assert "MCP-Mod" not in card.text  # the statistics are folded
    assert "Interim: 12 of 13 steps are done." in browser.find_element(By.TAG_NAME, "header").text


def test_numbers_of_a_figure_are_a_table_and_follow_its_view(
    browser: Chrome, report: Path, study: ReportInput
) -> None:
    opened(browser, report)
    drawn(browser, "figure-infarct-size")
    details = browser.find_element(
        By.CSS_SELECTOR, "details.numbers[data-figure='figure-infarct-size']"
    )
    details.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)  # by keyboard

    def rows() -> list[list[str]]:
        script = (
            "return [...arguments[0].querySelectorAll('tbody tr')]"
            ".map(r => [...r.cells].map(c => c.textContent))"
        )
        return browser.execute_script(script, details)

    wait_for(lambda: bool(rows()))
    chosen = "task == 'infarct' and protocol == 'finetune' and domain == '{}'"
    for domain in ("out", "in"):
        of_run = study.results.query(
            chosen.format(domain) + " and run == 'mae-m-seed0-80000' and metric == 'auroc'"
        )
        (row,) = [r for r in rows() if r[0] == "80 k samples" and r[1] == str(SIZES["m"])]
        assert float(row[2]) == pytest.approx(of_run["value"].mean(), rel=1e-5)
        assert float(row[3]) < float(row[2]) < float(row[4])
        if domain == "out":
            form = browser.find_element(By.CSS_SELECTOR, "#task-infarct form")
            Select(form.find_element(By.NAME, "domain")).select_by_value("in")


def test_figure_is_saved_as_svg(browser: Chrome, report: Path, tmp_path: Path) -> None:
    opened(browser, report)
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    drawn(browser, "figure-verdicts")
    button = browser.find_element(By.CSS_SELECTOR, "button.save[data-figure='figure-verdicts']")
    browser.execute_script("arguments[0].click()", button)
    file = tmp_path / "figure-verdicts.svg"
    wait_for(file.exists)
    assert file.read_text().startswith("<svg")
    assert "not worth having" in file.read_text()


def test_dark_screen_turns_the_page_and_its_figures_dark(browser: Chrome, report: Path) -> None:
    def scheme(value: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": value}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def brightness(selector: str, name: str) -> float:
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        text = browser.execute_script(script, selector, name)
        return sum(float(part) for part in re.findall(r"[\d.]+", text)[:3]) / 3

    scheme("dark")
    try:
        opened(browser, report)
        drawn(browser, "figure-verdicts")
        assert brightness("body", "background-color") < 60
        assert brightness("body", "color") > 180
        assert brightness("#figure-verdicts .main-svg", "background-color") < 60
        assert brightness("#figure-verdicts .xtick text", "fill") > 150
        assert errors(browser) == []
    finally:
        scheme("light")
    wait_for(lambda: brightness("#figure-verdicts .main-svg", "background-color") > 240)


def test_printed_page_draws_every_figure_within_the_width_of_a4(
    browser: Chrome, report: Path
) -> None:
    opened(browser, report)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map(p => "
        "p.querySelector('.main-svg').width.baseVal.value)"
    )
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(widths) >= len(FIGURES)
    assert max(widths) <= 690  # 182 mm at 96 pixels an inch


def test_tables_on_a_phone_scroll_inside_their_place(browser: Chrome, report: Path) -> None:
    metrics = {"width": 390, "height": 850, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(browser, report)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        script = (
            "const t = document.querySelector('#costs .wide'); "
            "return [t.scrollWidth > t.clientWidth, t.tabIndex]"
        )
        assert browser.execute_script(script) == [True, 0]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
