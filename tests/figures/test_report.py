"""The report page: every claim is there with its own numbers, links lead somewhere, texts are text, bytes repeat."""

import base64
import dataclasses
import json
import math
import re
from html.parser import HTMLParser

import pytest
from ledgers import NO_RUNS, ROWS, draw, entries, made

from stopgrad.experiments import ledger
from stopgrad.experiments.claims.multiplicity import in_words
from stopgrad.experiments.papers import PAPERS
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.report import chart as report_chart
from stopgrad.figures.report import report
from stopgrad.figures.report.chart import Numbers
from stopgrad.figures.report.page import Entry, Run, Section, formula, page, picture, summary
from stopgrad.linear_theory.tools import door


class Tree(HTMLParser):
    """Elements in order, as (tag, attributes, ids of the elements around), and each id's text."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text, self.numbers = [], [], {}, {}
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag not in self.VOID:
            self.open.append((tag, attrs.get("id")))
        if tag == "data":
            for _, name in self.open:
                self.numbers.setdefault(name, []).append(float(attrs["value"]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, name in self.open:
            self.text[name] = self.text.get(name, "") + data


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return made(tmp_path_factory.mktemp("report") / "figures")


@pytest.fixture(scope="module")
def tree(html):
    return Tree(html)


def test_ids_are_unique_and_every_link_inside_leads_somewhere(tree):
    ids = [attrs["id"] for _, attrs in tree.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"][1:] for _, attrs in tree.elements if attrs.get("href", "").startswith("#")]
    assert len(links) > 3 * len(ROWS)
    assert set(links) <= set(ids)


def test_every_claim_is_there_with_what_its_row_says(tree):
    for one in ROWS:
        text = tree.text[one["id"]]
        for key in ("place", "statistic", "reason", "theory", "rule", "since"):
            assert one[key].replace("W_p", "Wp") in text, (one["id"], key)
        assert one["statement"].removeprefix("As stated: ").replace("W_p", "Wp") in text
        assert one["verdict"] in text
        assert all(key in text for key in one["run_ids"])
        assert report.command_of(one, "cpu") in text
    assert "a processor" in tree.text["tian2021-predictor"]


def test_numbers_are_those_of_the_rows_exactly(tree):
    for one in ROWS:
        ends = one["ci"] if one["scale"] != "theory" else None  # theory's interval is a point
        expected = [one["estimate"], *(ends or ())] if one["estimate"] is not None else []
        expected += [value for value in one["values"] if math.isfinite(value)]
        assert tree.numbers.get(one["id"], []) == expected


def test_counts_and_summary_are_counted(tree, html):
    tiles = re.findall(r'data-verdict="([^"]+)" aria-pressed="false"><span class="count">(\d+)<', html)
    assert tiles == [("holds", "3"), ("fails", "2"), ("inconclusive", "1"), ("not measured", "2")]
    words = [
        "Of 8 claims 3 hold, 2 fail, 1 is inconclusive and 2 are not measured at scale cpu.",
        "4 rest on ResNets (3 decided), 2 on linear networks (0 decided) and 2 on theory alone (2 decided).",
        "Where a paper’s own wording fails (1), the corrected claim stands beside it.",
        *in_words(ROWS),
    ]
    assert summary([Section("p", "P", entries=entries())], "cpu") == words
    assert all(sentence in tree.text[None] for sentence in words)


def test_adjusted_p_values_stand_in_the_ledger_and_at_their_claims(html):
    """5.5/k times each: 0.0022, 0.0055 and 0.0367, of which the last is above 0.025."""
    cells = re.findall(r'<td role="cell" class="adjusted">(.*?)</td>', html)
    shown = [(cell.split()[0], "not" in cell) for cell in cells if cell]
    assert len(cells) == len(ROWS) and shown == [("0.0022", False), ("0.0055", False), ("0.037", True)]
    for one, cell in zip(ROWS, cells):
        article = html[html.index('id="{}"'.format(one["id"])) :]
        assert ("<dd>{}, {}</dd>".format(one["p"], cell) in article[: article.index("</article>")]) == bool(cell)


def test_what_a_claim_rests_on_stands_beside_its_scale(tree, html):
    for one, basis in (("stop-gradient", "ResNet, scale cpu"), ("few", "linear network, scale cpu")):
        assert basis in tree.text[f"tian2021-{one}"]
    assert html.count("linear network, scale cpu") == 4  # two claims, each in the ledger and below it
    assert "theory alone" in tree.text["tian2021-observation-4"]
    kinds = [ledger.rests_on(claim, "cpu") for claim in PAPERS["tian2021"].claims]
    assert min(map(kinds.count, ("theory", "linear", "resnet"))) > 1
    for claim, kind in zip(PAPERS["tian2021"].claims, kinds):
        assert kind == "linear" or not any("linear/" in arm for arm in claim.arms), claim.id


def test_setting_stands_in_both_units(html):
    assert entries()[0].arms[1] == (
        "plain (a note)",
        "α_p = 10, η = 0.0004, ηt = 4.2, no EMA",
        "lr 0.025, weight decay 0.0004, 10 epochs of digits",
    )
    assert entries()[2].arms == []
    assert "η from 0 to 0.3" in html


def test_corrected_claim_and_paper_wording_name_each_other(html):
    article = html[html.index('id="tian2021-predictor"') :]
    assert "<q>W goes to 0.</q>" in article[: article.index("</header>")]
    article = html[html.index('id="tian2021-predictor-as-stated"') :]
    assert 'href="#tian2021-predictor"' in article[: article.index("</header>")]


def test_texts_stay_texts(html, tree):
    assert "<script>alert" not in html and html.count("<script>") == 3
    assert "<b> & Wp" in tree.text["figure-tian-fig4"]
    assert "p < q." in tree.text["figure-tian-fig4"]
    assert str(formula("<W_p> e^(-2t) λ_min e^{−(X+η)t} R^2 weight_decay")) == (
        "&lt;W<sub>p</sub>&gt; e<sup>-2t</sup> λ<sub>min</sub> e<sup>−(X+η)t</sup> R<sup>2</sup> weight_decay"
    )


def test_nothing_is_fetched(tree, html):
    sources = [attrs["src"] for _, attrs in tree.elements if attrs.get("src")]
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not [tag for tag, _ in tree.elements if tag in ("link", "iframe", "object", "base")]
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_pictures_are_the_files_and_missing_ones_are_said(tree, html, tmp_path):
    source = next(attrs for tag, attrs in tree.elements if tag == "img" and "src" in attrs)
    path = draw(tmp_path / "p") / "tian-fig4.png"
    assert base64.b64decode(source["src"].split(",")[1]) == path.read_bytes()
    assert (source["width"], source["height"]) == ("60", "30")
    assert "tian-table3 is not among the pictures" in tree.text["tian2021-rescue"]
    assert "tian-table7 is not in the suite." in tree.text["tian2021-rescue"]
    assert "make tian-table7" not in html
    assert "#4 of Table 4: holds" in tree.text["figure-tian-fig4"]
    assert all(attrs.get("alt") for tag, attrs in tree.elements if tag == "img")
    path.with_suffix(".txt").unlink()
    assert picture(path).text == ("No caption was written.",)


def test_same_input_same_bytes(html, tmp_path):
    assert made(tmp_path / "again") == html
    changed = [{**ROWS[0], "estimate": 5.25}, *ROWS[1:]]
    assert made(tmp_path / "again", changed) != html


def test_no_claims_and_no_pictures_still_make_a_page():
    html = page([], scale="cpu", runs={}, command="x", explorer=NO_RUNS)
    assert "Of 0 claims 0 hold" in html
    assert "No picture was found" in html
    Tree(html)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"verdict": "passes"}, "is one of holds, fails"),
        ({"scale": "theory"}, "cannot rest on 'resnet'"),
        ({"id": "page-top"}, "cannot be a claim's id"),
        ({"id": 'a" onclick="'}, "cannot be a claim's id"),
    ],
)
def test_a_row_that_is_not_right_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Entry({**ROWS[0], **change})


def test_a_row_that_lacks_a_key_and_an_id_used_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lacks reason"):
        Entry({key: value for key, value in ROWS[0].items() if key != "reason"})
    with pytest.raises(ValueError, match="share the id tian2021-few"):
        made(tmp_path / "f", [ROWS[5], ROWS[5]])


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (0.0, "0"),
        (-0.25, "−0.25"),
        (1234.5, "1234"),
        (2.058e-5, "2.058e−5"),
        (1e7, "1e7"),
        (-3e-9, "−3e−9"),
    ],
)
def test_numbers_read_well(value, text):
    assert report_chart.number(value) == text


def places(svg, pattern):
    return [float(x) for x in re.findall(pattern, svg)]


def test_drawing_puts_numbers_in_order_and_in_the_frame():
    svg = str(report_chart.interval(Numbers(0.5, (0.2, 0.8), 0.1, [0.3, 0.5, 0.7])))
    seeds = places(svg, r'class="seed" cx="([\d.]+)"')
    threshold, estimate = (places(svg, rf'class="{name}" d="M([\d.]+)')[0] for name in ("threshold", "dot"))
    low, high = places(svg, r'class="cap" d="M([\d.]+)')
    assert report_chart.LEFT < threshold < low < seeds[0] < seeds[1] < seeds[2] < high < report_chart.RIGHT
    assert estimate == seeds[1]
    # Linear: (estimate - threshold) / (high - threshold) as among the numbers themselves.
    assert (estimate - threshold) / (high - threshold) == pytest.approx(0.4 / 0.7, abs=2e-3)
    assert 'aria-label="estimate 0.5; 95 % interval 0.2 to 0.8; 3 seeds from 0.3 to 0.7;' in svg


@pytest.mark.parametrize("sign", [1, -1])
def test_forest_shows_support_right_of_the_middle(sign):
    svg = str(report_chart.forest(Numbers(2.0 + sign, (2.0 + 0.5 * sign, 2.0 + 1.5 * sign), 2.0)))
    (dot,) = places(svg, r'cx="([\d.]+)"')
    assert (dot - 70) * sign > 0


@pytest.mark.parametrize(
    "numbers", [Numbers(0.0, None, 0.0), Numbers(5.0, None, None), Numbers(1.0, (1.0, 1.0), 1.0, [1.0])]
)
def test_degenerate_numbers_are_drawn(numbers):
    for svg in (report_chart.interval(numbers), report_chart.forest(numbers)):
        assert "nan" not in svg and "inf" not in svg and 'class="dot"' in svg


def test_a_paper_has_a_section_with_its_citation_its_claims_and_its_figures(tmp_path):
    pictures = report.pictures_in(draw(tmp_path / "f", ["linear-digits-modes", "tian-fig4", "mine"]))
    mine, study, others = report.sections(entries(), pictures)
    assert (mine.key, mine.name, mine.link) == ("tian2021", "Tian, Chen & Ganguli 2021", PAPERS["tian2021"].link)
    assert len(mine.entries) == len(ROWS) and [one.name for one in mine.pictures] == ["tian-fig4"]
    assert not study.entries and [one.name for one in study.pictures] == ["linear-digits-modes"]
    assert [one.name for one in others.pictures] == ["mine"] and not others.entries
    html = page([mine, study, others], scale="cpu", runs={}, command="x", explorer=NO_RUNS)
    tree = Tree(html)
    heads = [html.index(f'id="page-of-{one.key}"') for one in (mine, study, others)]
    assert heads == sorted(heads) and PAPERS["tian2021"].title in tree.text["page-of-tian2021"]
    articles = [m.start() for m in re.finditer("<article", html)]
    assert len(articles) == len(ROWS) and all(heads[0] < at < heads[1] for at in articles)
    assert heads[1] < html.index('id="figure-linear-digits-modes"') < heads[2] < html.index('id="figure-mine"')


def test_what_a_figure_shows_is_a_claim_of_the_ledger_and_its_paper_is_in_the_list():
    known = {claim.id for paper in PAPERS.values() for claim in paper.claims}
    for name, one in FIGURES.items():
        assert one.paper in PAPERS and set(one.claims) <= known, name
    assert report.figures_of("tian2021-rescue-ema") == ("tian-table3",) and report.figures_of("tian2021-none") == ()
    for key in {one.paper for one in FIGURES.values()}:
        claims = [claim.id for claim in PAPERS[key].claims]
        assert sum(bool(report.figures_of(claim)) for claim in claims) >= 0.8 * len(claims), key


def test_origin_of_a_run_is_read_from_its_folder(tmp_path):
    origin = {"fingerprint": "0123456789abcdefXYZ", "hardware": "a card", "threads": 1, "torch": "2.14", "numpy": "2.4"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text(json.dumps({"provenance": origin}))
    expected = Run("a", "a card, 1 thread", "0123456789abcdef", "torch 2.14, numpy 2.4")
    assert report.origin_of_run(tmp_path, "a") == expected
    assert report.origin_of_run(tmp_path, "gone") == Run("gone")


def command(capsys, *argv):
    """Exit status, standard output and standard error of `python -m figures report`."""
    status = door.main("figures", "", {"report": report.Report}, [*map(str, argv)])
    return status, *capsys.readouterr()


@pytest.fixture
def quick_ledger(monkeypatch):
    """The ledger of one paper's claims of networks; what theory says of them is not computed here."""
    claims = [claim for claim in PAPERS["tian2021"].claims if claim.arms]
    quick = tuple(dataclasses.replace(claim, theory=lambda: "Theory.", as_stated=None) for claim in claims)
    for key, paper in PAPERS.items():
        mine = {"claims": quick} if key == "tian2021" else {"claims": (), "suite": None}
        monkeypatch.setitem(PAPERS, key, dataclasses.replace(paper, **mine))


def test_every_claim_of_the_ledger_can_be_an_anchor():
    for claim in PAPERS["tian2021"].claims:
        assert Entry({**ROWS[0], "id": claim.id}).id == claim.id


def test_command_writes_the_ledger_of_an_empty_store(capsys, tmp_path, quick_ledger):
    out = tmp_path / "deep" / "report.html"
    flags = ("--runs", tmp_path / "none", "--figures", draw(tmp_path / "figures"), "--out", out, "--scale", "smoke")
    status, said, _ = command(capsys, *flags, "--json")
    assert status == 0
    said = json.loads(said)
    assert said["bytes"] == len(out.read_bytes())
    claims = json.loads(out.with_suffix(".json").read_text())["claims"]
    assert said["ledger"] == str(out.with_suffix(".json")) and len(claims) == said["claims"]
    assert {row["id"] for row in claims} == {claim.id for claim in ledger.claims_of("tian2021")}
    assert said["claims"] == len(PAPERS["tian2021"].claims) >= 10
    assert said["verdicts"] == {"not measured": said["claims"]}  # the store is empty
    assert said["figures"] == ["tian-fig4", "tian-fig10"]  # the registry's order
    assert "tian-table3" in said["missing_figures"]
    assert said["not_in_the_suite"] == ["tian-table5", "tian-table7"]
    assert not {*said["not_in_the_suite"]} & {*said["missing_figures"]}
    tree = Tree(out.read_text(encoding="utf-8"))
    assert len([tag for tag, _ in tree.elements if tag == "article"]) == said["claims"]
    before = out.read_bytes()
    status, words, _ = command(capsys, *flags)
    assert status == 0 and "figures all --scale smoke" in words
    assert words.splitlines()[-1] == "not in the suite at scale smoke: tian-table5, tian-table7"
    assert out.read_bytes() == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--out", "report.txt"), "does not end in .html"),
        (("--paper", "nobody1999"), "nobody1999"),
        (("--scale", "huge"), "huge"),
        (("--runs", "a-file"), "--runs: "),
        (("--figures", "a-file"), "--figures: "),
        (("--figures", "a-file/inside"), "is a file; name a folder"),
    ],
)
def test_refusals_are_one_sentence(capsys, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    status, said, complaint = command(capsys, *flags)
    assert (status, said) == (2, "")
    assert words in complaint and complaint.count("\n") == 1
