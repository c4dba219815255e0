"""The report in a real browser: nothing is fetched, pictures show, links and filters work, it fits a phone."""

import pytest
from ledgers import ALONE, CHROMIUM, ROWS, made, row

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs the extra `browser` (pip install -e '.[browser]')"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(made(folder / "figures"), encoding="utf-8")
    return (folder / "report.html").as_uri()


class Visit:
    """A page and what was said and asked for while it was open."""

    def __init__(self, context, address):
        self.page, self.said, self.asked = context.new_page(), [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def shown(self):
        """Ids of the claims that are to be seen, in the ledger and below it alike."""
        visible = "(all) => all.filter((one) => one.checkVisibility()).map((one) => one.dataset.claim)"
        ledger, below = (self.page.eval_on_selector_all(f"{where}[data-claim]", visible) for where in ("tr", "article"))
        assert ledger == below
        assert self.page.locator(".shown b").text_content() == str(len(ledger))
        return [name.removeprefix("tian2021-") for name in ledger]


@pytest.fixture
def visit(browser, address):
    contexts = []

    def open_page(hash="", width=1366, height=768, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        return Visit(contexts[-1], address + hash)

    yield open_page
    for context in contexts:
        context.close()


def test_loads_in_silence_and_asks_for_nothing(visit, address):
    one = visit()
    one.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    one.page.wait_for_load_state("networkidle")
    assert one.said == []
    assert [url for url in one.asked if not url.startswith("data:")] == [address]


def test_every_picture_shows(visit):
    page = visit().page
    seen = "one.decode().then(() => [one.naturalWidth, one.checkVisibility()])"
    sizes = page.evaluate(f"Promise.all([...document.images].map((one) => {seen}))")
    assert len(sizes) == 3  # two figures, and one of them again beside its claim
    assert all(width > 0 and visible for width, visible in sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1366])
def test_nothing_sticks_out(visit, width, scheme):
    page = visit(width=width, color_scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_first_screen_of_a_laptop_has_counts_failures_and_claims(visit):
    page = visit().page
    for where in (".summary", ".tile >> nth=3", ".findings li >> nth=0", ".ledger tbody tr >> nth=2"):
        box = page.locator(where).bounding_box()
        assert box["y"] + box["height"] <= 768, where


def test_all_that_fails_is_to_be_seen_without_scrolling_a_box(browser, tmp_path):
    many = [
        row(f"claim-{k}-as-stated", "fails", statement=f"As stated: {'a long sentence, ' * 9}", **ALONE)
        for k in range(12)
    ]
    (tmp_path / "report.html").write_text(made(tmp_path / "figures", many), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto((tmp_path / "report.html").as_uri())
    box = page.locator(".findings").bounding_box()
    ends = [one.bounding_box() for one in page.locator(".findings li").all()]
    assert len(ends) == 12 and all(end["y"] + end["height"] <= box["y"] + box["height"] + 1 for end in ends)
    page.close()


def luminance(page, selector, what):
    red, green, blue = page.eval_on_selector(
        selector, f"(one) => getComputedStyle(one).{what}.match(/[\\d.]+/g).slice(0, 3).map(Number)"
    )
    channels = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), channels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_verdicts_stand_out(visit, scheme):
    page = visit(color_scheme=scheme).page
    ground = luminance(page, "body", "backgroundColor")
    assert (ground < 0.05) == (scheme == "dark")
    kinds = [f"td .badge.{verdict}" for verdict in ("holds", "fails", "inconclusive", "not-measured")]
    for selector in ("body", ".where", ".lead", *kinds):
        lighter, darker = sorted((luminance(page, selector, "color"), ground), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector  # WCAG AA


def test_links_lead_to_claims_and_figures(visit):
    page = visit().page
    page.locator(".ledger a", has_text="few").click()
    assert page.url.endswith("#tian2021-few")
    assert page.evaluate("document.activeElement.id") == "tian2021-few"
    assert abs(page.locator("#tian2021-few").bounding_box()["y"]) < 768
    page.locator("#tian2021-observation-4 .thumb").click()
    assert page.url.endswith("#figure-tian-fig4")
    page.locator("#figure-tian-fig4 .claims a").click()
    assert page.url.endswith("#tian2021-observation-4")


def test_filters_choose_count_and_are_kept_in_the_address(visit):
    one = visit()
    page = one.page
    assert len(one.shown()) == len(ROWS)
    page.locator(".tile.fails").click()
    assert one.shown() == ["predictor-as-stated", "hostile"]
    assert page.locator(".tile.fails").get_attribute("aria-pressed") == "true"
    page.get_by_label("Decided by").select_option("resnet")
    assert one.shown() == ["hostile"]
    assert page.locator(".tile.holds .count").text_content() == "2"
    page.locator(".tile.holds").click()
    page.get_by_label("Text").fill("W_p SAYS")
    assert one.shown() == ["stop-gradient", "predictor"]
    again = visit(page.url[page.url.index("#") :])
    assert again.shown() == ["stop-gradient", "predictor"]
    assert again.page.get_by_label("Text").input_value() == "W_p SAYS"
    page.get_by_role("button", name="Show all").first.click()
    assert len(one.shown()) == len(ROWS)
    assert "#" not in page.url
    page.get_by_label("Place").select_option("Theorem 3 <&>")
    assert one.shown() == ["hostile"]
    page.get_by_label("Text").fill("no such word")
    assert one.shown() == []
    page.locator(".none button").click()
    assert len(one.shown()) == len(ROWS)
    assert one.said == []


def test_a_link_to_a_claim_that_is_filtered_out_shows_it(visit):
    one = visit("#verdict=holds")
    assert "few" not in one.shown()
    one.page.evaluate("location.hash = 'tian2021-few'")
    one.page.wait_for_function("!document.getElementById('tian2021-few').hidden")
    assert len(one.shown()) == len(ROWS)
    assert one.page.locator("#tian2021-few").bounding_box()["y"] < 768


def test_filters_from_a_strange_address_are_ignored(visit):
    one = visit("#verdict=nonsense&place=nowhere&scale=x&q=")
    assert len(one.shown()) == len(ROWS)
    assert visit("#%E0%A4%A").said == []


def test_keyboard_alone_reaches_skip_link_tile_and_details(visit):
    page = visit().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_url("**#page-ledger")
    page.locator(".tile.holds").focus()
    page.keyboard.press("Space")
    assert page.locator(".tile.holds").get_attribute("aria-pressed") == "true"
    page.locator("#tian2021-predictor summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#tian2021-predictor .seeds").is_visible()


def test_a_picture_is_enlarged_and_put_back(visit):
    page = visit(width=360).page
    page.locator("#figure-tian-fig4 .zoom").click()
    assert page.locator("dialog img").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_print_opens_what_is_folded_and_leaves_controls_out(visit):
    page = visit().page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#tian2021-predictor .seeds").is_visible()
    assert not page.locator(".filters").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#tian2021-predictor details").get_attribute("open") is None
