"""The rater page in a real browser: keys, both clips in step, answers that arrive, and what it does with bad clips."""

import functools
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pipelines.evaluation.answers import read_answers
from pipelines.evaluation.frozen_study import load_study
from pipelines.evaluation.results import Results, tally
from tests.evaluation.conftest import HTML_PROMPT, MakeStudy, blocks_of, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WAIT_MS = 60_000


class Server(ThreadingHTTPServer):
    """A study's folder on loopback, what was asked for, and what was posted."""

    asked: list[str]
    posted: list[Mapping[str, list[str]]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and takes a form as a crowd platform does."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.posted.append(parse_qs(body, keep_blank_values=True) | {"path": [self.path]})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"taken")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which(CHROMIUM) is None:
        pytest.fail(f"{CHROMIUM} is missing; install it: apt-get update && apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def paged(make_study: MakeStudy) -> Path:
    """A study with one baseline and two blocks."""
    study = make_study(policy={"raters_per_pair": 1})
    assert list(blocks_of(study)) == ["b001", "b002", "b003"]
    return study


@pytest.fixture
def server(paged: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(paged))) as server:
        server.asked, server.posted = [], []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; an error of its script fails the test."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1100, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def start(page: Page, url: str, rater: str = "anna", block: str = "b001") -> None:
    page.goto(f"{url}/site/index.html?block={block}")
    page.keyboard.type(rater)
    page.keyboard.press("Enter")
    page.wait_for_selector("#trial:not([hidden])")


def wait_until_seen(page: Page) -> None:
    page.wait_for_function("!document.querySelector('#questions fieldset').disabled")


def answer(page: Page, keys: str) -> None:
    """Wait until both were seen, press a key a question, go on; wait until the page has gone on."""
    place = page.inner_text("#place")
    wait_until_seen(page)
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_function("place => document.getElementById('place').textContent !== place", arg=place)


def download(page: Page, folder: Path) -> Path:
    with page.expect_download() as taken:
        page.click("#download")
    path = folder / taken.value.suggested_filename
    taken.value.save_as(path)
    return path


def read(study: Path, answers: Path) -> Results:
    frozen = load_study(study)
    return tally(frozen, *read_answers(answers, frozen))


def test_a_block_answered_by_keyboard_is_downloaded_imported_and_found(
    page: Page, server: Server, paged: Path, tmp_path: Path
) -> None:
    start(page, server.url)
    trials = blocks_of(paged)["b001"]
    prompts = {row["prompt_id"]: row["text"].removeprefix("'") for row in rows_of(paged / "prompts.csv")}
    pressed: dict[str, tuple[str, str]] = {}
    for number, trial in enumerate(trials):
        assert page.inner_text("#place") == f"{number + 1} of {len(trials)}"
        assert page.inner_text("#prompt") == prompts[trial["prompt_id"]]
        keys = ("12", "21", "11", "22")[number % 4]
        pressed[trial["trial_id"]] = tuple("LR"[int(key) - 1] for key in keys)
        answer(page, keys)
    answers = download(page, tmp_path)
    assert "anna" in answers.name
    results = read(paged, answers)
    assert results.rejected == ()
    found = {(row.trial_id, row.question): row for row in results.responses}
    for trial_id, sides in pressed.items():
        assert tuple(found[trial_id, question].choice_side for question in ("align", "quality")) == sides
        assert found[trial_id, "align"].plays_left >= 1
        assert found[trial_id, "align"].rt_ms >= 500, "a clip lasts half a second"
    # A prompt is text: no element of it entered the page, and nothing came from another server.
    assert page.locator("#prompt *").count() == 0
    assert HTML_PROMPT in prompts.values()


def test_answers_open_only_after_both_were_seen_once(page: Page, server: Server) -> None:
    page.add_init_script("HTMLMediaElement.prototype.play = () => new Promise(() => {})")
    start(page, server.url)
    page.wait_for_function("document.querySelectorAll('video')[1].readyState === 4")
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    assert page.locator("#questions fieldset:disabled").count() == 2
    assert page.locator("#questions :checked").count() == 0
    assert page.is_disabled("#scrub"), "dragging to the end would count as seen"
    assert page.inner_text("#place").startswith("1 of")


def test_both_clips_start_only_when_both_can_play_and_then_keep_in_step(page: Page, server: Server) -> None:
    page.add_init_script("""
        window.starts = [];
        const play = HTMLMediaElement.prototype.play;
        HTMLMediaElement.prototype.play = function () {
          const ready = ["left", "right"].map((id) => document.getElementById(id).readyState);
          window.starts.push([this.id, performance.now(), ...ready]);
          return play.call(this);
        };""")
    start(page, server.url)
    page.wait_for_function("window.starts.length >= 6")
    starts = page.evaluate("window.starts")
    assert all(ready == 4 for _, _, *both in starts for ready in both)
    for first, second in zip(starts[::2], starts[1::2], strict=False):
        assert {first[0], second[0]} == {"left", "right"}
        assert second[1] - first[1] < 20
    assert page.locator("video[loop]").count() == 0


def test_both_plays_count_though_both_have_ended_before_the_first_event_comes(page: Page, server: Server) -> None:
    page.add_init_script("HTMLMediaElement.prototype.play = () => new Promise(() => {})")
    start(page, server.url)
    page.wait_for_function("player.isRunning")
    plays = page.evaluate("""() => {
        const both = ["left", "right"].map((id) => document.getElementById(id));
        for (const video of both) Object.defineProperty(video, "ended", { value: true });
        for (const video of both) video.dispatchEvent(new Event("ended"));
        return player.plays;
    }""")
    assert plays == [1, 1]
    assert page.locator("#questions fieldset:disabled").count() == 0


def test_the_page_goes_on_where_it_was_after_a_reload(page: Page, server: Server) -> None:
    start(page, server.url)
    answer(page, "12")
    page.goto(f"{server.url}/site/index.html?block=b001")
    assert page.input_value("#rater") == "anna"
    page.keyboard.press("Enter")
    page.wait_for_selector("#trial:not([hidden])")
    assert page.inner_text("#place").startswith("2 of")


def test_a_broken_clip_is_told_and_can_be_passed(page: Page, server: Server, paged: Path, tmp_path: Path) -> None:
    first, *others = blocks_of(paged)["b002"]
    page.route(f"**/{first['left']}", lambda route: route.abort())
    start(page, server.url, block="b002")
    page.wait_for_function("document.getElementById('status').textContent.includes('left video does not load')")
    page.click("#broken")
    page.keyboard.press("r")  # the button has the focus: the key is the page's all the same
    page.locator("#broken").blur()
    page.keyboard.press("Enter")
    page.unroute(f"**/{first['left']}")
    for _ in others:
        answer(page, "11")
    results = read(paged, download(page, tmp_path))
    assert results.rejected == ()
    reasons = {row.trial_id: row.reason for row in results.responses}
    assert reasons[first["trial_id"]] == "clip reported as broken"


def test_a_small_study_opens_by_a_double_click(page: Page, paged: Path) -> None:
    start(page, paged.as_uri())
    wait_until_seen(page)


def test_at_320_px_nothing_is_cut_off_and_every_control_is_there(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    start(page, server.url)
    wait_until_seen(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for name in ("#play", "#again", "#scrub", "#broken", "#next", "#left", "#right"):
        box = page.locator(name).bounding_box()
        assert box is not None, name
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 320, name


def test_with_reduced_motion_nothing_plays_before_it_is_asked_to(browser: Browser, server: Server) -> None:
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    start(page, server.url)
    page.wait_for_function("document.getElementById('status').textContent.includes('Press Space')")
    assert page.evaluate("document.getElementById('left').paused")
    page.keyboard.press("Space")
    wait_until_seen(page)
    context.close()


def test_on_mturk_the_form_posts_the_assignment_and_every_answer(page: Page, server: Server, paged: Path) -> None:
    row = rows_of(paged / "platforms" / "mturk" / "input.csv")[2] | {"media_base": f"{server.url}/media"}
    layout = (paged / "platforms" / "mturk" / "layout.html").read_text()
    for name, value in row.items():
        layout = layout.replace(f"${{{name}}}", value)
    (paged / "site" / "hit.html").write_text(layout)
    query = f"assignmentId=A1&hitId=H1&workerId=W1&turkSubmitTo={server.url}"
    page.goto(f"{server.url}/site/hit.html?{query}")
    page.keyboard.press("Enter")
    trials = blocks_of(paged)[row["block_id"]]
    for _ in trials[:-1]:
        answer(page, "12")
    wait_until_seen(page)
    for key in ("1", "2", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("document.body.textContent === 'taken'")
    [form] = server.posted
    assert form["path"] == ["/mturk/externalSubmit"]
    assert form["assignmentId"] == ["A1"]
    assert [form[f"t{n:02d}_id"][0] for n in range(1, len(trials) + 1)] == [trial["trial_id"] for trial in trials]
    assert {form[f"t{n:02d}_align"][0] for n in range(1, len(trials) + 1)} == {"L"}
    assert {form[f"t{n:02d}_quality"][0] for n in range(1, len(trials) + 1)} == {"R"}


def test_an_mturk_preview_cannot_be_answered(page: Page, server: Server, paged: Path) -> None:
    layout = (paged / "platforms" / "mturk" / "layout.html").read_text()
    (paged / "site" / "preview.html").write_text(layout)
    page.goto(f"{server.url}/site/preview.html?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE")
    assert page.is_disabled("#begin")
    assert "Accept the task" in page.inner_text("#start-note")
