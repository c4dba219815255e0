"""The comparison on the digits: views, measured correlations, agreement, what is kept, data file and pictures."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.image import AxesImage
from processes import PROCESSES
from sklearn.datasets import load_digits

from stopgrad.experiments.__main__ import COMMANDS
from stopgrad.experiments.linear_digits import comparison as digits_comparison
from stopgrad.experiments.linear_digits.command import LinearDigits
from stopgrad.experiments.linear_digits.comparison import (
    agreement,
    measure,
    measured,
    modes,
    predict,
    start,
)
from stopgrad.experiments.linear_digits.images import (
    decoder,
    patterns,
    recovered,
    same_sign,
    singular_directions,
    upright,
)
from stopgrad.experiments.linear_digits.setting import LEADING, VARIANTS, Setting
from stopgrad.experiments.linear_digits.views import digit_views
from stopgrad.figures.theory import linear_digits as pictures
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches
from stopgrad.linear_theory.samples.linear_siamese import Training, train
from stopgrad.linear_theory.samples.views import exact_views
from stopgrad.linear_theory.tools.door import main, sentences
from stopgrad.linear_theory.tools.files import ENGINE

TINY = {"lr": 0.05, "batch": 8, "t_end": 1.0, "n2": 4, "views": 3, "seeds": 2}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()] + ["--workers=1"]


@pytest.fixture(scope="module")
def digits():
    return digit_views()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    return out, LinearDigits(workers=2, **TINY, out=out).run()


# ---------------------------------------------------------------- views


def test_views_are_shifted_digits_plus_noise_with_mean_zero(digits):
    raw = load_digits().images / 16
    assert digits.shifted.shape == (9, len(raw), 64)
    assert digits.shifted.mean((0, 1)).abs().max() < 1e-14
    for k, (down, right) in enumerate((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
        expected = np.zeros_like(raw)
        expected[:, max(down, 0) : 8 + min(down, 0), max(right, 0) : 8 + min(right, 0)] = raw[
            :, max(-down, 0) : 8 - max(down, 0), max(-right, 0) : 8 - max(right, 0)
        ]
        shifted = (digits.shifted[k] + digits.mean).reshape(-1, 8, 8).numpy()
        np.testing.assert_allclose(shifted, expected, atol=1e-14, err_msg=f"shift {down}, {right}")


def test_every_shift_is_equally_likely_and_noise_has_its_size(digits):
    generator, image = torch.Generator().manual_seed(0), torch.full((18_000,), 7)
    views = digits.augment(generator, image)
    distance = torch.cdist(views, digits.shifted[:, 7])
    counts = np.bincount(distance.argmin(1), minlength=9)
    assert np.all(np.abs(counts - 2000) < 5 * np.sqrt(2000))
    noise = views - digits.shifted[distance.argmin(1), 7]
    assert float(noise.std()) == pytest.approx(0.1, rel=0.005)


def test_the_two_views_share_their_image_and_nothing_else(digits):
    x1, x2 = digits.draw(torch.Generator().manual_seed(1), 60_000)
    exact = digits.enumerated()
    found = (x1.mT @ x2 / len(x1)).numpy()
    assert np.linalg.norm(found - exact.X) / np.linalg.norm(exact.X) < 0.1
    assert np.linalg.norm(found - exact.X) < 0.1 * np.linalg.norm(found - exact.X - exact.Xp)


def test_measured_correlations_approach_the_enumerated_ones(digits):
    exact = digits.enumerated()
    errors = []
    for views in (8, 128):
        found = measured(Setting(views=views), digits)
        errors.append([np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, exact)])
    assert max(errors[1]) < 0.025
    assert np.all(np.divide(*errors) > 2.5)  # 4 in expectation
    assert np.linalg.eigvalsh(exact.Xp).min() > 0.01  # the pixel noise


# ---------------------------------------------------------------- theory against training


@pytest.fixture(scope="module")
def short(digits):
    """A shortened main job: its setting, X and X′, and the flow of every variant from the starts of two seeds."""
    setting = Setting(t_end=8.0, lr=0.04, views=64)
    data = measured(setting, digits)
    return setting, data, {name: predict(setting, data, switches, [0, 1]) for name, switches in VARIANTS.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_lemma_1_predicts_its_own_variant_on_the_digits_and_no_other(name, digits, short):
    setting, data, flows = short
    run = measure(setting, digits, data, VARIANTS[name], 1)
    np.testing.assert_allclose(run["times"], flows[name]["times"], rtol=1e-12)
    assert flows[name]["worst_error"] < 1e-7
    gaps = {other: agreement(flow["s"][:, 1], run["s"]) for other, flow in flows.items()}
    own = gaps.pop(name)
    assert own["relative_gap"] < 0.06 and own["gap_over_peak"] < 0.04
    assert min(gap["relative_gap"] for gap in gaps.values()) > 0.15


def test_only_stop_gradient_with_a_predictor_lives(digits):
    data = digits.enumerated()
    growth = {}
    for name, switches in VARIANTS.items():
        s = predict(Setting(lr=1.0), data, switches, [0])["s"][:, 0, :2].sum(-1)
        growth[name] = s[-1] / s[0]
    assert growth.pop("stop-gradient, predictor") > 1.3
    assert max(growth.values()) < 0.05


def test_without_sampling_noise_the_gap_shrinks_with_the_learning_rate(digits):
    data, gaps = digits.enumerated(), []
    for lr in (0.08, 0.04):
        setting = Setting(lr=lr, t_end=8.0)
        flow = predict(setting, data, Switches(), [0])
        run = train(
            exact_views(data), start(setting, [0], Switches()), Hyperparameters(eta=0.01), Switches(), setting.training
        )
        gaps.append(float(agreement(flow["s"], modes(run.observed, data.X).s)["relative_gap"][0]))
    assert gaps[1] < 0.01
    assert 1.8 < gaps[0] / gaps[1] < 2.2


def test_modes_are_eigenvalues_and_alignment_and_survive_divergence(digits):
    X, state = digits.enumerated().X, start(Setting(n2=5), [0, 1], Switches())
    found = modes(state, X)
    for i in range(2):
        F = state.W[i] @ X @ state.W[i].T
        s, U = np.linalg.eig(F)
        order = np.argsort(-s.real)
        np.testing.assert_allclose(found.s[i], s.real[order], rtol=1e-9)
        for j, k in enumerate(order):
            u = U[:, k].real
            cosine = u @ state.Wp[i] @ u / np.linalg.norm(state.Wp[i] @ u)
            assert found.alignment[i, j] == pytest.approx(cosine, abs=1e-9)
    broken = modes(Network(state.Wp, np.stack([state.W[0], np.full_like(state.W[0], 1e200)]), state.Wa), X)
    assert np.isnan(broken.s[1]).all() and np.isnan(broken.alignment[1]).all()
    np.testing.assert_allclose(broken.s[0], found.s[0])


def test_agreement_is_the_worst_of_the_leading_modes_and_of_all_times():
    predicted = np.array([[4.0, 2.0, 1.0, 0.5], [2.0, 1.0, 0.1, 0.5]])
    found = np.array([[4.0, 2.1, 1.0, 9.0], [2.0, 1.0, 0.12, 9.0]])
    gap = agreement(predicted, found)
    assert gap["relative_gap"] == pytest.approx(0.2)
    assert gap["gap_over_peak"] == pytest.approx(0.05)
    assert np.isnan(agreement(predicted, found * np.nan)["relative_gap"])
    assert agreement(predicted * 1e-40, predicted * 0)["relative_gap"] < 1e-20  # nothing is resolved there


def test_starts_are_the_same_for_all_variants_but_the_absent_predictor():
    learned, fixed = (start(Setting(), [4], Switches(predictor=p)) for p in ("learned", "fixed"))
    np.testing.assert_array_equal(learned.W, fixed.W)
    np.testing.assert_array_equal(fixed.Wp[0], np.eye(16))
    assert not np.allclose(learned.Wp, learned.Wp.mT)
    np.testing.assert_array_equal(start(Setting(), [3, 4], Switches()).W[1], learned.W[0])


# ---------------------------------------------------------------- images


def test_patterns_add_up_to_the_variance_that_an_invertible_encoder_sees():
    rng = np.random.default_rng(0)
    A, W = rng.normal(size=(6, 6)), rng.normal(size=(3, 6, 6))
    X = A @ A.T
    P = patterns(W, X)
    np.testing.assert_allclose(P.mT @ P, np.broadcast_to(X, P.shape), rtol=1e-6, atol=1e-8)
    s = modes(Network(W, W, W), X).s
    np.testing.assert_allclose(np.linalg.norm(P @ W.mT, axis=-1) ** 2, s, rtol=1e-6)  # W pattern_j = √s_j u_j


def test_decoder_is_the_regression_of_means_on_views():
    rng = np.random.default_rng(1)
    A, B, W = rng.normal(size=(3, 5, 5))
    data = Correlations(A @ A.T, 0.5 * B @ B.T)
    x1, x2 = (v.numpy() for v in exact_views(data)(None, 0))
    whole = decoder(W, data, 5)
    np.testing.assert_allclose(whole, np.linalg.lstsq(x1, x2, rcond=None)[0].T, rtol=1e-6, atol=1e-8)
    shares = [recovered(W, data, kept) for kept in range(1, 6)]
    assert np.all(np.diff(shares) > 0) and shares[0] > 0 and shares[-1] < 1
    assert recovered(W, Correlations(data.X, 0 * data.Xp), 5) == pytest.approx(1)


def test_signs_and_singular_directions():
    rng = np.random.default_rng(2)
    images, W = rng.normal(size=(4, 7)), rng.normal(size=(3, 7))
    np.testing.assert_array_equal(same_sign(-images, images), images)
    up = upright(images)
    assert np.all(up.max(-1) == np.abs(images).max(-1))
    V = singular_directions(W)
    np.testing.assert_allclose(V @ V.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(W @ V.T, axis=0), np.linalg.svd(W)[1], rtol=1e-10)


# ---------------------------------------------------------------- command, data file, what is kept


def test_the_summary_holds_the_agreement_and_the_file_holds_the_data(tiny):
    out, summary = tiny
    data = xr.load_dataset(summary["data"], engine=ENGINE)
    assert dict(data.sizes) | {"variant": 4, "seed": 2, "mode": 4, "time": 21} == dict(data.sizes)
    assert list(data.variant.values) == list(VARIANTS)
    for i, found in enumerate(summary["agreement"].values()):
        leading = slice(0, LEADING)
        flow, sgd = (v.values[i][..., leading] for v in (data.s_flow, data.s_sgd))
        worst = (np.abs(sgd - flow) / flow).max((0, 2))
        np.testing.assert_allclose(found["relative_gap"]["seeds"], worst, rtol=1e-12)
        assert found["relative_gap"]["worst"] == pytest.approx(worst.max())
        assert found["relative_gap"]["median"] == pytest.approx(np.median(worst))
        assert found["relative_gap"]["within_bar"] == (worst.max() <= 0.05)
    assert {*TINY, "eta", "steps", "alpha_p", "training_seconds", "hardware", "origin"} <= data.attrs.keys()
    assert "stopgrad.linear_theory.samples.linear_siamese" in data.attrs["origin"] and "torch" in data.attrs["origin"]
    written = json.loads((out / "linear_digits.json").read_text())
    assert written["agreement"].keys() == VARIANTS.keys() and written["computed"] == 1 + 4 + 8


def test_final_weights_and_recorded_modes_belong_together(tiny):
    data = xr.load_dataset(tiny[1]["data"], engine=ENGINE)
    for kind in ("flow", "sgd"):
        W = data[f"W_{kind}"].values
        s = np.linalg.eigvalsh(W @ data.X.values @ W.mT)[..., ::-1]
        np.testing.assert_allclose(s, data[f"s_{kind}"].isel(time=-1).values, rtol=1e-8)
    raw = load_digits().images[:10] / 16
    np.testing.assert_allclose(data.digit, raw, atol=1e-14)


def test_nothing_finished_is_done_again_and_results_do_not_change(tiny, monkeypatch):
    out, summary = tiny
    monkeypatch.setattr(digits_comparison, "train", None)  # anything trained again would fail
    monkeypatch.setattr(digits_comparison, "integrate", None)
    again = LinearDigits(workers=1, **TINY, out=out).run()
    assert again["computed"] == 0
    assert again["agreement"].keys() == summary["agreement"].keys()
    for name, found in again["agreement"].items():
        np.testing.assert_array_equal(
            found["relative_gap"]["seeds"], summary["agreement"][name]["relative_gap"]["seeds"]
        )


def test_two_processes_find_the_same_numbers_as_one(tiny, tmp_path):
    """All but the seconds spent: what several workers find is the same to the last bit."""
    other = LinearDigits(workers=1, **TINY, out=tmp_path).run()
    one, two = (xr.load_dataset(summary["data"], engine=ENGINE) for summary in (tiny[1], other))
    xr.testing.assert_equal(one, two)


def test_one_more_seed_trains_only_that_seed_and_another_setting_trains_all(tmp_path):
    first = LinearDigits(workers=1, **TINY | {"seeds": 1}, out=tmp_path).run()
    second = LinearDigits(workers=1, **TINY, out=tmp_path).run()
    assert (first["computed"], second["computed"]) == (1 + 4 + 4, 4 + 4)  # flows take all seeds at once
    a, b = (r["agreement"]["stop-gradient, predictor"]["relative_gap"]["seeds"][0] for r in (first, second))
    assert a == pytest.approx(b, rel=1e-6)
    assert LinearDigits(workers=1, **TINY | {"eta": 0.02}, out=tmp_path).run()["computed"] == 4 + 8


LONGER = {"t_end": 5.0, "lr": 0.01, "batch": 8, "n2": 4, "views": 3, "seeds": 1, "workers": 1}


def longer(out):
    LinearDigits(**LONGER, out=out).run()


def test_a_killed_run_resumes(tmp_path):
    """Killed in the middle of training; the next run takes what was finished and leaves no drafts."""
    process = PROCESSES.Process(target=longer, args=(tmp_path,))
    process.start()
    finished, deadline = tmp_path / "finished", time.monotonic() + 120
    while not list(finished.glob("sgd-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    done = {path.name: path.stat().st_mtime_ns for path in finished.glob("*.npz") if not path.name.startswith(".")}
    assert 1 + 1 <= len(done) < 1 + 4 + 4
    assert not (tmp_path / "linear_digits.nc").exists()
    summary = LinearDigits(**LONGER, out=tmp_path).run()
    assert summary["computed"] == 1 + 4 + 4 - len(done)
    assert all((finished / name).stat().st_mtime_ns == stamp for name, stamp in done.items())
    assert Path(summary["data"]).is_file() and Path(summary["summary"]).is_file()


def test_divergence_is_data(tmp_path, capsys):
    arguments = ["linear-digits", *FLAGS, "--lr=4", "--t-end=40", f"--out={tmp_path}"]
    assert main("experiments", "", COMMANDS, arguments) == 0
    assert "diverged" in capsys.readouterr().out
    summary = json.loads((tmp_path / "linear_digits.json").read_text())
    assert summary["diverged_runs"] > 0
    data = xr.load_dataset(summary["data"], engine=ENGINE)
    assert int(data.diverged.sum()) == summary["diverged_runs"]
    for found, diverged in zip(summary["agreement"].values(), data.diverged.values.any(1)):
        assert (found["relative_gap"]["worst"] is None) == diverged
        assert not found["relative_gap"]["within_bar"]
    for draw in (pictures.draw_modes, pictures.draw_alignment, pictures.draw_images):
        draw(data).draw_without_rendering()


def test_the_command_prints_words_or_one_object(tiny, capsys):
    out, _ = tiny
    arguments = ["linear-digits", *FLAGS, f"--out={out}"]
    assert main("experiments", "", COMMANDS, arguments) == 0
    printed = capsys.readouterr()
    assert all(name in printed.out for name in VARIANTS) and "linear_digits.nc" in printed.out
    assert main("experiments", "", COMMANDS, [*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["computed"] == 0 and printed.out.count("\n") == 1
    assert main("experiments", "", COMMANDS, ["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == sentences(COMMANDS).keys()


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--lr=0", "lr is 0"),
        ("--lr=nan", "lr is NaN"),
        ("--lr=5", "at most t_end"),
        ("--batch=0", "batch is 0"),
        ("--eta=-1", "eta is -1"),
        ("--t-end=inf", "t_end is inf"),
        ("--seeds=0", "seeds is 0"),
        ("--n2=2", "n2 is 2"),
        ("--n2=65", "n2 is 65"),
        ("--views=1", "views is 1"),
        ("--lr=fast", "fast"),
        ("--workers=0", "workers is 0"),
    ],
)
def test_bad_values_end_with_one_sentence_and_nothing_written(flag, complaint, tmp_path, capsys):
    out = tmp_path / "new"
    assert main("experiments", "", COMMANDS, ["linear-digits", *FLAGS, flag, f"--out={out}"]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not out.exists()


def test_a_folder_that_cannot_be_written_ends_with_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main("experiments", "", COMMANDS, ["linear-digits", *FLAGS, f"--out={tmp_path / 'file'}"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and not printed.out


# ---------------------------------------------------------------- pictures


def test_pictures_show_the_data(tiny, tmp_path):
    data = xr.load_dataset(tiny[1]["data"], engine=ENGINE)
    figure = pictures.draw_modes(data)
    assert [axis.get_title(loc="left").lower() for axis in figure.axes] == [name.lower() for name in VARIANTS]
    for axis, one in zip(figure.axes, (data.isel(variant=i) for i in range(4))):
        lines = [line for line in axis.lines if len(line.get_xdata()) == data.sizes["time"]]
        assert len(lines) == LEADING * data.sizes["seed"]
        np.testing.assert_array_equal(lines[0].get_ydata(), one.s_flow.isel(mode=0, seed=0))
        worst = 100 * float(one.relative_gap.max())
        assert f"{worst:.1f} %" in axis.texts[0].get_text()
        assert axis.get_ylim()[0] <= float(one.s_sgd.isel(mode=slice(LEADING)).min())
    assert len(pictures.draw_alignment(data).axes) == 2
    drawn = [image.get_array() for image in pictures.draw_images(data).findobj(AxesImage)]
    for wanted in (data.digit[3], data.view[9, 1], data.average[0], data.pattern_sgd[0, 1], data.reconstruction[4, 2]):
        assert any(np.array_equal(image, wanted) for image in drawn)


def test_setting_is_what_the_training_gets():
    setting = Setting(lr=0.05, t_end=3.0, batch=9, eta=0.07)
    assert setting.training == Training(lr=0.05, steps=60, batch=9, record_every=1)
    assert setting.hyperparameters == Hyperparameters(eta=0.07)
