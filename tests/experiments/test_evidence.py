"""The record of a suite's runs: read where the store has nothing, it tells claims and figures the same."""

import dataclasses
import functools
import json
import re
import shutil
from pathlib import Path

import pytest
import xarray as xr

from stopgrad.experiments import ledger, papers
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.commands.verify_command import Verify
from stopgrad.experiments.launch.launcher import InProcess, launch
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.evidence import RecordedRun, backed, identity, path_of, read, record
from stopgrad.experiments.store.series import BITS
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.suites.grid import Suite, change
from stopgrad.figures.machinery import made, runs
from stopgrad.figures.machinery.made import Places
from stopgrad.figures.machinery.picture import FromRuns
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.report import report
from stopgrad.linear_theory.tools.door import main
from stopgrad.linear_theory.tools.errors import BadInput

ARMS = (
    *("baseline", "ema", "symmetric"),
    *("linear/baseline", "linear/ema", "linear/slow-ema", "linear/no-stop-gradient"),
)
_SMOKE = papers.suite("tian2021", "smoke")
SUITE = Suite("tian2021", "cpu", {name: _SMOKE.arms[name] for name in ARMS})
"""Tiny runs under the name of a scale at which claims decide."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Every run of SUITE, finished."""
    kept, entries = Store(tmp_path_factory.mktemp("evidence") / "runs"), SUITE.configs()
    labels = [f"{arm} {seed}" for arm, seed, _ in entries]
    outcomes = launch([config for *_, config in entries], kept, InProcess("cpu"), "evidence", labels)
    assert {outcome.state for outcome in outcomes} == {"finished"}
    return kept


@pytest.fixture(scope="module")
def written(store, tmp_path_factory) -> Path:
    """The folder of the record of SUITE, made once."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "RESULTS", folder)
        record(SUITE, store)
    return folder


@pytest.fixture
def path(written, places) -> Path:
    """The record of SUITE, where records are looked for."""
    shutil.copytree(written, evidence.RESULTS)
    return path_of(SUITE)


@pytest.fixture
def nothing(tmp_path) -> Store:
    return Store(tmp_path / "nothing")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Records are kept in a folder of the test, SUITE is the suite, and the ledger that of its claims of networks."""
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    whole = PAPERS["tian2021"]
    claims = [claim for claim in whole.claims if claim.arms]
    quick = tuple(dataclasses.replace(claim, theory=lambda: "Theory.", as_stated=None) for claim in claims)
    suite = lambda scale: dataclasses.replace(SUITE, scale=scale)  # noqa: E731
    for other in set(PAPERS) - {"tian2021"}:  # emptied: what is taken out and put back would stand at the list's end
        monkeypatch.setitem(PAPERS, other, Paper(key=other, citation=other))
    monkeypatch.setitem(PAPERS, "tian2021", dataclasses.replace(whole, suite=suite, claims=quick))


def rows(kept: Store) -> list[dict]:
    return ledger.rows("tian2021", "cpu", kept)


ROUNDED = ("estimate", "ci", "p", "p_adjusted", "values")


def bare(row: dict) -> dict:
    """What of a row does not depend on rounding, numbers in its reason left out."""
    said = {key: row[key] for key in row if key not in (*ROUNDED, "recorded")}
    return said | {"reason": re.sub(r"-?\d[\d.]*(e-?\d+)?", "#", row["reason"])}


def rewrite(edit) -> None:
    """Change the record: `edit` is given the whole of it."""
    path = path_of(SUITE)
    whole = json.loads(path.read_text(encoding="utf-8"))
    edit(whole)
    path.write_text(json.dumps(whole), encoding="utf-8")


# ---------------------------------------------------------------- what rests on it


@pytest.mark.usefixtures("path")
def test_rows_are_those_of_the_store_and_say_that_they_are_recorded(store, nothing):
    before, after = rows(store), rows(nothing)
    assert [bare(row) for row in after] == [bare(row) for row in before]
    for name in ROUNDED:
        for one, other in zip(after, before):
            assert one[name] == (other[name] and pytest.approx(other[name], rel=1e-3, abs=1e-4, nan_ok=True))
    decided = [row for row in after if row["run_ids"]]
    assert len(decided) >= 10 and {row["verdict"] for row in decided} >= {"fails", "inconclusive"}
    assert all("recorded on " in row["recorded"] for row in decided)
    assert not any(row["recorded"] for row in [*before, *(row for row in after if not row["run_ids"])])


OF_THE_SUITE = [
    name for name, one in FIGURES.items() if isinstance(one.compute, FromRuns) and one.compute.suite == SUITE.name
]


@pytest.mark.parametrize("name", OF_THE_SUITE)
def test_figures_are_those_of_the_store_or_have_no_data(name, store, nothing, path, tmp_path):
    one = FIGURES[name]
    there, here = (runs.gather(one.compute, "cpu", kept.root) for kept in (store, nothing))
    if not one.compute.ends:
        path.with_suffix(".nc").rename(tmp_path / "elsewhere")
        assert there.arms.keys().isdisjoint(ARMS) or there.ids()
        assert not runs.gather(one.compute, "cpu", nothing.root).ids()
    whole, left = (runs.compute_from(one.compute, taken) for taken in (there, here))
    xr.testing.assert_allclose(left.drop_attrs(), whole.drop_attrs(), rtol=2 * 2.0**-BITS, atol=1e-4)
    if there.ids():
        note = left.attrs.pop("recorded")
        assert note.startswith("recorded on ") and left.attrs == whole.attrs
        assert runs.origin_of(one.compute, here) != runs.origin_of(one.compute, there)  # to be made anew, with its note
        shown = made.caption(name, one, left.assign_attrs(recorded=note), Places(scale="cpu"))
        assert note[:40] in " ".join(shown.split())


@pytest.mark.usefixtures("path")
def test_the_report_says_where_and_when_recorded_runs_were_computed(store, nothing, tmp_path, capsys):
    flags = ["--runs", nothing.root, "--figures", tmp_path / "figures", "--out", tmp_path / "report.html"]
    assert main("figures", "", {"report": report.Report}, ["report", *map(str, flags)]) == 0
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    origin = next(store.records()).summary["provenance"]
    threads = f"{origin['threads']} thread{'s' * (origin['threads'] > 1)}"
    assert f"{origin['hardware']}, {threads}, recorded on {origin['date']}; code" in html
    assert report.UNKNOWN not in html


# ---------------------------------------------------------------- which run it serves


@pytest.mark.usefixtures("path")
def test_a_row_serves_the_config_it_was_computed_with_and_no_other(store, nothing):
    behind = backed(nothing, SUITE)
    for _, _, config in SUITE.configs():
        assert behind.find(config).key == store.find(config).key
        assert behind.find(change(config, data_folder="elsewhere", download=True, workers=1)) is not None
        for other in ({"lr": 0.5}, {"seed": 99}, {"epochs": 3}, {"fraction": 0.2}):
            assert behind.find(change(config, **other)) is None


@pytest.mark.usefixtures("path")
def test_the_store_goes_before_the_record(store, tmp_path):
    before = rows(store)

    def other(whole):
        for row in whole["runs"]:
            row["arrays"] = {name: [1.0, 1.0] for name in row["arrays"]}
            row["key"] = "other"

    rewrite(other)
    assert str(rows(store)) == str(before)
    some = Store(tmp_path / "some")
    lost = store.find(SUITE.configs()[0][2]).key
    shutil.copytree(store.root, some.root, ignore=lambda *_: [lost])
    mixed = {row["id"]: row for row in rows(some)}
    for row in before:
        assert set(mixed[row["id"]]["run_ids"]) == ({"other"} if lost in row["run_ids"] else set(row["run_ids"]))
        assert bool(mixed[row["id"]]["recorded"]) == (lost in row["run_ids"])


def test_a_row_that_goes_changes_the_claims_that_list_it(nothing, path):
    before, text = rows(nothing), path.read_text(encoding="utf-8")
    for key in [row["key"] for row in json.loads(text)["runs"]][::4]:
        path.write_text(text, encoding="utf-8")
        rewrite(lambda whole, key=key: whole.update(runs=[row for row in whole["runs"] if row["key"] != key]))
        for row, now in zip(before, rows(nothing)):
            row, now = ({**one, "p_adjusted": None, "survives": None} for one in (row, now))  # which all rows decide
            assert (str(row) != str(now)) == (key in row["run_ids"]), row["id"]


# ---------------------------------------------------------------- the file


def test_the_file_is_sorted_rounded_and_the_same_each_time(store, nothing, path):
    first = path.read_bytes()
    assert record(SUITE, store).read_bytes() == record(SUITE, nothing).read_bytes() == first
    whole = json.loads(first)
    order = [(row["arm"], row["seed"]) for row in whole["runs"]]
    assert order == sorted((arm, seed) for arm, seed, _ in SUITE.configs())
    assert len(first.splitlines()) == len(order) + len(whole["origins"]) + 5
    values = [v for row in whole["runs"] for array in (*row["arrays"].values(), row["last"]) for v in array]
    assert all(v is None or v == float(f"{v:.5g}") for v in values)


def test_45_runs_take_less_than_110_kb(path):
    lines = path.read_bytes().splitlines()
    networks = [line.rstrip(b",") for line in lines if line.startswith(b'{"arm":') and b'"linear/' not in line]
    assert len(networks) == 9
    assert {len(json.loads(line)["arrays"]["eigenvalues"]) for line in networks} == {64}  # as at scale cifar
    assert sum(map(len, networks)) / len(networks) * 45 + len(lines[0]) * 15 / len(ARMS) < 110_000


def test_it_says_what_computed_a_run(store, path):
    whole = json.loads(path.read_text(encoding="utf-8"))
    for row in whole["runs"]:
        origin = whole["origins"][row["origin"]]
        known = Store(store.root).find(dataclasses.replace(SUITE.arms[row["arm"]].config, seed=row["seed"])).summary
        for name in set(evidence.ORIGIN) - {"images"}:
            assert origin[name] == known["provenance"][name] and origin[name]
    for run in read(path):  # the code is that of the run's own parts
        origin = run.summary["provenance"]
        assert all(origin[name] in run.recorded for name in ("hardware", "instructions", "torch"))
        assert origin["fingerprint"][:16] in run.recorded


@pytest.mark.usefixtures("path")
def test_rows_of_runs_that_the_store_has_lost_are_kept_and_those_of_no_arm_go(nothing):
    fewer = dataclasses.replace(SUITE, arms={name: SUITE.arms[name] for name in ARMS[:2]})
    record(fewer, nothing)
    left = read(path_of(SUITE))
    assert {identity(run.config) for run in left} == {identity(config) for *_, config in fewer.configs()}
    assert all(isinstance(run, RecordedRun) and run.folder == path_of(SUITE) for run in left)


def verify(capsys, *flags):
    status = main("experiments", "", {"verify": Verify}, ["verify", *map(str, flags)])
    return status, *capsys.readouterr()


def test_verify_writes_the_record_and_reads_it(store, nothing, capsys):
    status, out, _ = verify(capsys, "--runs", store.root, "--record")
    assert status == 0 and out.splitlines()[-1] == f"recorded: {path_of(SUITE)}" and "[recorded on" not in out
    status, out, _ = verify(capsys, "--runs", nothing.root)
    said = " ".join(out.split())
    assert status == 0 and "[recorded on" in said and "0 of 21 runs of scale cpu are finished (21" in said
    assert "21 of these recorded" in said
    status, out, _ = verify(capsys, "--runs", nothing.root, "--json")
    assert list(json.loads(out)) == ["claims"]


def test_nothing_to_record_is_said(nothing, capsys):
    status, out, err = verify(capsys, "--runs", nothing.root, "--record")
    assert status == 2 and not out and "nothing to record" in err and not path_of(SUITE).exists()


def first_row(**changes):
    return lambda whole: whole["runs"][0].update(changes)


DAMAGES = (
    *("", "{", "[]", "{}", "3", '{"runs": 3}', '{"runs": [1]}'),
    *(first_row(origin=7), first_row(arm="nobody"), first_row(last=[1.0]), first_row(first=None), first_row(seed="a")),
    *(first_row(arrays={"eigenvalues": ["a"]}), first_row(arrays=3)),
    lambda whole: whole["runs"][0].pop("steps"),
    lambda whole: whole["config"]["data"].update(nothing=1),
    lambda whole: whole["origins"][0].pop("hardware"),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused(damage, path, nothing):
    if callable(damage):
        rewrite(damage)
    else:
        path.write_text(damage, encoding="utf-8")
    for use in (rows, functools.partial(record, SUITE)):
        with pytest.raises(BadInput) as refused:
            use(nothing)
        assert f"{refused.value}".startswith(f"{path} cannot be read as a record of runs (")


def test_a_damaged_record_is_one_sentence(path, nothing, capsys):
    path.write_text("{", encoding="utf-8")
    for flags in ((), ("--record",)):
        status, out, err = verify(capsys, "--runs", nothing.root, *flags)
        assert status == 2 and not out and err.count("\n") == 1
        assert err.startswith(f"error: {path} cannot be read as a record of runs (")


def test_records_in_the_repository_can_be_read():
    for path in Path(evidence.__file__).with_name("results").glob("*-*.json"):
        assert read(path)
