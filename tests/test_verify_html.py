"""The page of the verification, read as text and, where Chromium is installed, in a browser."""

import collections
import html.parser
import itertools
import json
import os
import re
import shutil
import subprocess

import pytest
from v22 import NULL, migrated, record

from load_migration import load_script, migration

verify = load_script("v2.2_to_v2.3_migration_verify.py")

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="hacked=1"> \'Café\' \U0001f4e6 & \x00 "'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def problem(asset_id, error_type="version_record_missing", actual="absent"):
    return verify.Problem("db01", asset_id, error_type, "field", "3", actual, "A sentence about %s." % asset_id)


def summary_of(problems, **changes):
    counts = collections.Counter(row.error_type for row in problems)
    summary = {
        "tool_version": "1.0.0",
        "started": "2026-11-22T21:04:41Z",
        "duration_seconds": 312.4,
        "exit_status": 1 if set(counts) - set(verify.NOTES) else 0,
        "error": None,
        "account": "123456789012",
        "region": "eu-central-1",
        "scope": "all assets",
        "assets": 1204331,
        "version_records": 1204398,
        "before_images": 0,
        "problems": {name: count for name, count in counts.items() if name not in verify.NOTES},
        "notes": {name: count for name, count in counts.items() if name in verify.NOTES},
        "requests": {"BatchGetItem": 12044, "Scan": 2412},
        "rows": len(problems),
        "restored": False,
        "journals": [],
        "interrupted_journals": [],
        "journals_not_given": [],
        "journals_taken_back": [],
        "journals_left_out": [],
        "journals_lost": [],
        "settings": {
            "endpoint_url": None,
            "assets_table_name": "assets",
            "asset_versions_table_name": "versions",
            "asset_bucket_name": "bucket",
        },
        "files": {"report": "reports/verification.csv"},
    }
    return dict(summary, **changes)


def page_of(problems, **changes):
    return "".join(verify.page_text(summary_of(problems, **changes), problems))


class Reader(html.parser.HTMLParser):
    """Notes tags and attributes; fails on a tag that is closed out of turn."""

    VOID = {"meta", "input", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.cells = [], collections.Counter(), [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += attributes
        if tag == "td":
            self.cells.append("")
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


# As text


def test_data_is_text_wherever_it_stands():
    page = Reader(page_of([problem(HOSTILE, actual=HOSTILE)], scope=HOSTILE, journals=[HOSTILE], error=HOSTILE))
    assert (page.tags["script"], page.tags["img"]) == (1, 0)
    shown = HOSTILE.replace("\x00", "\ufffd")
    assert page.cells[-2] == page.cells[-6] == shown


def test_nothing_is_loaded_and_only_its_own_script_and_style_run():
    text = page_of([problem("a1")])
    page = Reader(text)
    assert {name for name, _ in page.attributes} & {"src", "href", "style", "onclick", "oninput"} == set()
    assert not re.search(r"url\(|@import|https?://|fetch|XMLHttpRequest", text)
    (policy,) = [value for name, value in page.attributes if name == "content" and "default-src 'none'" in value]
    for tag in ("script", "style"):
        content = re.search("<%s>(.*?)</%s>" % (tag, tag), text, re.DOTALL).group(1)
        assert "%s-src %s;" % (tag, verify.content_hash(content)) in policy


@pytest.mark.parametrize(
    "problems, changes, verdict",
    [
        (
            [],
            {},
            "<strong>VERIFIED IN PART</strong> 1,204,331 assets and 1,204,398 version records read, no before images"
            " compared; no problems, no notes.",
        ),
        ([problem("a1", "shared_asset_id")], {"journals": ["j"]}, "<strong>VERIFIED</strong>"),
        ([problem("a1")], {}, "<strong>NOT VERIFIED</strong>"),
        ([], {"exit_status": 130}, "<strong>NOT FINISHED</strong>"),
        ([], {"exit_status": 1, "error": "The table is gone."}, "<strong>NOT FINISHED</strong>"),
    ],
)
def test_the_verdict_stands_first(problems, changes, verdict):
    assert verdict in page_of(problems, **changes)


def test_a_page_without_problems_needs_no_script():
    page = Reader(page_of([]))
    assert page.tags["script"] == page.tags["form"] == 0


def test_more_problems_than_fit_are_said_to_be_in_the_report():
    shown = [problem("a1"), problem("a2")]
    text = "".join(verify.page_text(summary_of(shown + [problem("a3")]), shown))
    assert "The first 2 of 3 rows; the CSV report has them all." in text


def test_the_page_of_a_run_holds_no_more_rows_than_its_bound(tables, monkeypatch):
    monkeypatch.setattr(verify, "PAGE_ROWS", 2)
    monkeypatch.setattr(migration, "SEGMENTS", 1)
    tables.put(*(migrated("a%d" % number, isMultiFile=NULL) for number in range(4)))
    tables.put_records(*(record("a%d" % number, comment=NULL) for number in range(4)))
    assert verify.main(tables.flags + ["--html", "page.html"]) == 1
    text = (tables.folder / "page.html").read_text(encoding="utf-8")
    assert text.count('<tr class="problem" data-type=') == 2
    assert "The first 2 of 8 rows" in text
    assert tables.assets in text


def luminance(colour):
    if len(colour) == 4:
        colour = "#" + "".join(2 * digit for digit in colour[1:])
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_readable_in_light_in_dark_and_on_paper():
    palettes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", verify.STYLE, re.DOTALL)
    ]
    assert len(palettes) == 3
    for palette in palettes:
        for ink, paper in itertools.product(("text", "dim", "bad", "good", "note"), ("page",)):
            light, dark = sorted((luminance(palette[ink]), luminance(palette[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper, palette)


# In a browser


class Chromium:
    """A headless Chromium, spoken to by its DevTools protocol over a pipe."""

    FLAGS = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--remote-debugging-pipe",
    ]

    def __init__(self, folder):
        read_end, self.to_browser = os.pipe()
        self.from_browser, write_end = os.pipe()
        command = [CHROMIUM, *self.FLAGS, "--user-data-dir=%s" % folder, "about:blank"]
        redirect = 'exec "$@" 3<&%d 4>&%d' % (read_end, write_end)  # the protocol's two descriptors
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", *command],
            pass_fds=(read_end, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self.replies = os.fdopen(self.from_browser, "rb")
        self.numbers = itertools.count(1)
        self.events = []
        self.session = None

    def close(self):
        self.process.kill()
        self.process.wait()
        self.replies.close()
        os.close(self.to_browser)

    def call(self, method, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.receive()
            if reply.get("id") == number:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def receive(self):
        data = bytearray()
        while not data.endswith(b"\0"):
            byte = self.replies.read(1)
            assert byte, "Chromium ended: status %s" % self.process.wait()
            data += byte
        return json.loads(data[:-1].decode())

    def open(self, path, script=True):
        if self.session:
            self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(domain + ".enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events = []
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def named(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def written(tmp_path, problems, **changes):
    path = tmp_path / "page.html"
    path.write_text(page_of(problems, **changes), encoding="utf-8")
    return path


SOME = [problem("alpha"), problem("beta", "other_bucket"), problem("gamma", "shared_asset_id"), problem(HOSTILE)]
ROWS = "[...document.querySelectorAll('#problems tbody tr')]"
VISIBLE = ROWS + ".filter(row => row.offsetHeight > 0).map(row => row.cells[1].innerText)"
SHOWN = "document.querySelector('output').innerText"
SETTLED = "new Promise(done => setTimeout(done, 400))"


@in_chromium
def test_typing_filters_the_rows_and_says_how_many_are_left(chromium, tmp_path):
    chromium.open(written(tmp_path, SOME))
    assert chromium.evaluate(SHOWN) == "4 of 4 rows match"
    assert len(chromium.evaluate(VISIBLE)) == 4
    chromium.evaluate("document.querySelector('input').focus()")
    chromium.call("Input.insertText", text="SENTENCE  bet")
    chromium.evaluate(SETTLED)
    assert chromium.evaluate(VISIBLE) == ["beta"]
    assert chromium.evaluate(SHOWN) == "1 of 4 rows match"
    chromium.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    assert chromium.evaluate(VISIBLE) == ["beta"]  # Enter sends nothing anywhere
    chromium.evaluate(
        "{ const [text, type] = document.forms[0].elements; text.value = ''; type.value = 'shared_asset_id';"
        " type.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    chromium.evaluate(SETTLED)
    assert chromium.evaluate(VISIBLE) == ["gamma"]
    assert chromium.evaluate("document.querySelector('output').getAttribute('aria-live')") == "polite"
    options = chromium.evaluate("[...document.querySelector('select').options].map(o => o.value)")
    assert options == ["", "version_record_missing", "other_bucket", "shared_asset_id"]


@in_chromium
def test_hostile_data_does_nothing_and_nothing_is_requested(chromium, tmp_path):
    path = written(tmp_path, SOME, scope=HOSTILE)
    chromium.open(path)
    assert chromium.evaluate(VISIBLE)[3] == HOSTILE.replace("\x00", "\ufffd")
    assert chromium.evaluate("typeof hacked") == "undefined"
    assert [request["request"]["url"] for request in chromium.named("Network.requestWillBeSent")] == [path.as_uri()]
    assert chromium.named("Log.entryAdded") == chromium.named("Runtime.exceptionThrown") == []
    # The policy is in force: what is put in later does not run either.
    chromium.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'hacked = 1'}))")
    assert chromium.evaluate("typeof hacked") == "undefined"


@in_chromium
def test_every_control_has_a_label(chromium, tmp_path):
    chromium.open(written(tmp_path, SOME))
    labelled = "[...document.querySelectorAll('input, select')].map(c => c.labels.length)"
    assert chromium.evaluate(labelled) == [1, 1]
    assert chromium.evaluate("[...document.querySelectorAll('th')].filter(h => !h.scope).length") == 0


@in_chromium
def test_without_script_it_is_a_plain_table(chromium, tmp_path):
    chromium.open(written(tmp_path, SOME), script=False)
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)  # to look at it
    assert len(chromium.evaluate(VISIBLE)) == 4
    assert chromium.evaluate("document.querySelector('form').offsetHeight") == 0


@in_chromium
def test_on_paper_the_controls_are_gone_and_the_head_repeats(chromium, tmp_path):
    chromium.open(written(tmp_path, SOME))
    style = "getComputedStyle(document.querySelector('%s')).%s"
    assert chromium.evaluate(style % ("form", "display")) == "flex"
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.evaluate(style % ("form", "display")) == "none"
    assert chromium.evaluate(style % ("#problems thead", "display")) == "table-header-group"
    assert chromium.evaluate(style % ("body", "backgroundColor")) == "rgb(255, 255, 255)"
    chromium.call("Emulation.setEmulatedMedia", media="")


@in_chromium
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_never_scrolls_sideways(chromium, tmp_path, width):
    long = problem("x" * 300, actual="y" * 200)
    chromium.open(written(tmp_path, [long], journals=["j" * 300]))
    chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert chromium.evaluate("document.documentElement.scrollWidth <= innerWidth")
    chromium.call("Emulation.clearDeviceMetricsOverride")


@in_chromium
def test_of_ten_thousand_rows_a_thousand_are_drawn_and_all_of_them_printed(chromium, tmp_path):
    """How long it takes is printed (pytest -s), not judged: that depends on the machine."""
    rows = [problem("asset-%05d" % number) for number in range(verify.PAGE_ROWS)]
    chromium.open(written(tmp_path, rows))
    took = "(() => { const t = performance.now(); document.forms[0].elements[0].value = %s; filter();"
    took += " document.body.offsetHeight; return performance.now() - t })()"
    for text, count, drawn, shown in (
        ("", 10000, 1000, "10,000 of 10,000 rows match; the first 1,000 are shown"),
        ("asset-0777", 10, 10, "10 of 10,000 rows match"),
        ("asset-07", 1000, 1000, "1,000 of 10,000 rows match"),
    ):
        print("filter %r: %d ms" % (text, chromium.evaluate(took % json.dumps(text))))
        assert chromium.evaluate(SHOWN) == shown
        assert len(chromium.evaluate(VISIBLE)) == drawn
        chromium.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert chromium.evaluate(ROWS + ".filter(row => !row.hidden).length") == count
        chromium.evaluate("dispatchEvent(new Event('afterprint'))")
        assert chromium.evaluate(ROWS + ".filter(row => !row.hidden).length") == drawn
