"""Batched augmentation against torchvision: step by step on the same parameters, and in distribution on its own."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from stopgrad.deep.config import Data
from stopgrad.deep.data import augmentation as aug
from stopgrad.deep.data import counter
from stopgrad.deep.data.fold import fold

SIMSIAM = Data(dataset="imagefolder", blur=0.5)
OFF = Data(flip=0, jitter_probability=0, grayscale=0, blur=0, crop_scale=(1, 1))
ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def pictures(count, size=32, seed=0):
    """Smooth colourful uint8 images with a few saturated and gray pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    images = tv.resize(coarse, [size, size]).mul(1.4).sub(0.2).clamp(0, 1)
    images[:, :, 0, :4] = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]])  # red, green, black, yellow
    images[:, :, 1, :3] = torch.tensor([[1.0, 0.5, 0], [1, 0.5, 0], [1, 0.5, 1]])  # white, gray, blue
    return images.mul(255).round().to(torch.uint8)


def colours(count, order=None, factors=None, **kind):
    fields = dict.fromkeys(aug.Colours._fields) | {"radius": 6} | kind
    if order is not None:
        fields |= {"order": torch.tensor([order] * count), "factors": factors}
    return aug.Colours(**fields)


def factors(count, seed=1):
    u = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    return torch.cat([0.2 + 1.6 * u[:, :3], u[:, 3:] - 0.5], dim=1)


# ---------------------------------------------------------------- step by step


@pytest.mark.parametrize("column", range(4), ids=("brightness", "contrast", "saturation", "hue"))
def test_each_step_of_the_jitter_is_torchvisions(column):
    x, f = pictures(16) / 255, factors(16)
    only = torch.tensor([1.0, 1, 1, 0]).repeat(16, 1)
    only[:, column] = f[:, column]
    expected = torch.stack([ADJUST[column](image, float(v)) for image, v in zip(x, f[:, column])])
    found = aug.recolour(x.clone(), colours(16, (0, 1, 2, 3), only))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (expected - x).abs().max() > 0.1


@pytest.mark.parametrize("order", aug.ORDERS, ids=lambda order: "".join(map(str, order)))
def test_every_order_of_the_jitter_is_torchvisions(order):
    x, f = pictures(4) / 255, factors(4)
    expected = []
    for image, values in zip(x, f.tolist()):
        for step in order:
            image = ADJUST[step](image, values[step])
        expected.append(image)
    found = aug.recolour(x.clone(), colours(4, order, f))
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)


def test_images_of_a_batch_keep_their_own_orders():
    """A batch of all 24 orders is the 24 images treated alone."""
    x, f = pictures(24) / 255, factors(24)
    mixed = aug.recolour(x.clone(), aug.Colours(f, torch.tensor(aug.ORDERS), None, None, None, 6))
    alone = [aug.recolour(x[k : k + 1].clone(), colours(1, aug.ORDERS[k], f[k : k + 1])) for k in range(24)]
    assert torch.equal(mixed, torch.cat(alone))


def test_hue_knows_gray_ties_and_nearly_gray():
    values = torch.tensor([0.0, 1e-7, 0.3, 0.3 + 1e-6, 0.7, 1.0])
    x = torch.cartesian_prod(values, values, values).T.reshape(1, 3, 6, 36)
    for shift in (-0.5, -1 / 6, 1e-4, 1 / 3, 0.5):
        found = aug.shift_hue(x.clone(), torch.tensor([shift]))
        torch.testing.assert_close(found, tv.adjust_hue(x, shift), atol=2e-6, rtol=0)
    torch.testing.assert_close(aug.shift_hue(x, torch.zeros(1)), x, atol=1e-6, rtol=0)


def test_grayscale_is_torchvisions_and_for_the_chosen():
    x, chosen = pictures(6) / 255, torch.tensor([True, False] * 3)
    found = aug.recolour(x.clone(), colours(6, grayscale=chosen))
    torch.testing.assert_close(found[chosen], tv.rgb_to_grayscale(x[chosen], 3), atol=1e-6, rtol=0)
    assert torch.equal(found[~chosen], x[~chosen])


@pytest.mark.parametrize("radius", [1, 6, 31])
def test_blur_is_torchvisions_and_for_the_chosen(radius):
    x, sigma = pictures(6) / 255, torch.tensor([0.1, 1.0, 2.0])
    found = aug.recolour(x.clone(), colours(6, blurred=torch.tensor([1, 3, 4]), sigma=sigma, radius=radius))
    expected = [tv.gaussian_blur(x[k], 2 * radius + 1, float(s)) for k, s in zip((1, 3, 4), sigma)]
    torch.testing.assert_close(found[[1, 3, 4]], torch.stack(expected), atol=1e-5, rtol=0)
    assert torch.equal(found[[0, 2, 5]], x[[0, 2, 5]])


def test_blur_reaches_three_sigma_but_not_beyond_a_small_view():
    assert aug.draw_colours(SIMSIAM, 0, torch.arange(4)).radius == 6
    x = pictures(1, 8) / 255
    wide = colours(1, blurred=torch.tensor([0]), sigma=torch.tensor([4.0]), radius=12)
    expected = tv.gaussian_blur(x[0], 15, 4.0)
    torch.testing.assert_close(aug.recolour(x.clone(), wide)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (16, 16, 32), (20, 31, 32), (64, 96, 96)])
def test_crop_is_torchvisions(height, width, size):
    images = tv.resize(pictures(24, 48), [height, width])
    crops = aug.draw_crops(Data(crop_scale=(0.05, 1)), 3, torch.arange(24), height, width)
    found = aug.crop(images, crops, size)
    for k, (*box, flip) in enumerate(zip(*(v.tolist() for v in crops))):
        expected = tv.resized_crop(images[k] / 255, *box, [size, size], antialias=True)
        expected = tv.horizontal_flip(expected) if flip else expected
        torch.testing.assert_close(found[k], expected, atol=1e-5, rtol=0)
    assert 0 < crops.flip.sum() < 24


def test_the_whole_image_stays_as_it_is():
    images = pictures(5)
    parameters = aug.draw(OFF, 0, torch.arange(5), 32, 32)
    assert parameters.colours[:5] == (None,) * 5
    square = parameters.crops._replace(
        top=torch.zeros(5).long(),
        left=torch.zeros(5).long(),
        height=torch.full((5,), 32),
        width=torch.full((5,), 32),
    )
    views = aug.apply(images, parameters._replace(crops=square), 32)
    torch.testing.assert_close(views, images / 255, atol=1e-6, rtol=0)


def test_images_larger_than_the_view_are_refused():
    crops = aug.draw_crops(OFF, 0, torch.arange(2), 33, 32)
    with pytest.raises(ValueError, match=r"33 × 32 .* must not be larger"):
        aug.crop(torch.zeros(2, 3, 33, 32, dtype=torch.uint8), crops, 32)


def test_normalise():
    x, mean, std = pictures(3) / 255, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    found = aug.normalise(x, mean, std)
    torch.testing.assert_close(found, tv.normalize(x, mean.tolist(), std.tolist()))
    assert found.is_contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- a view depends on its own numbers only


@pytest.mark.parametrize("size", [32, 15])
@pytest.mark.parametrize("threads", [1, 2])
def test_no_image_sees_another(size, threads):
    """Bit for bit the same alone, in any part of the batch and in reverse, with any number of threads."""
    images, index = pictures(41, size), torch.arange(41) * 7919

    def views(rows):
        return aug.apply(images[rows], aug.draw(SIMSIAM, 11, index[rows], size, size), size)

    whole, before = views(torch.arange(41)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(torch.cat([views(rows) for rows in torch.arange(41).split(6)]), whole)
        assert torch.equal(torch.cat([views(torch.tensor([k])) for k in range(41)]), whole)
        assert torch.equal(views(torch.arange(40, -1, -1)).flip(0), whole)
    finally:
        torch.set_num_threads(before)


def test_one_large_image_alone_is_the_same():
    """Large enough for torch to share a single image among threads."""
    images, before = pictures(2, 256), torch.get_num_threads()

    def views(rows):
        return aug.apply(images[rows], aug.draw(SIMSIAM, 2, torch.tensor(rows), 256, 256), 256)

    torch.set_num_threads(2)
    try:
        assert torch.equal(torch.cat([views([0]), views([1])]), views([0, 1]))
    finally:
        torch.set_num_threads(before)


def test_autocast_changes_nothing():
    images, parameters = pictures(8), aug.draw(SIMSIAM, 5, torch.arange(8), 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = aug.apply(images, parameters, 32)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, aug.apply(images, parameters, 32))


@pytest.mark.parametrize(
    "change",
    [
        {"flip": 0.9},
        {"jitter_probability": 0.1},
        {"jitter": (0.8, 0.4, 0.4, 0.1)},
        {"jitter": (0.4, 0.4, 0.4, 0.5)},
        {"grayscale": 0.7},
        {"blur": 0.9},
        {"crop_scale": (0.5, 1.0)},
    ],
    ids=str,
)
def test_changing_one_setting_changes_nothing_else(change):
    before, after = (aug.draw(data, 1, torch.arange(500), 32, 32) for data in (SIMSIAM, replace(SIMSIAM, **change)))
    (name,) = change
    touched = {
        "flip": {"flip"},
        "jitter_probability": {"factors"},
        "jitter": {"factors"},
        "grayscale": {"grayscale"},
        "blur": {"blurred", "sigma"},
        "crop_scale": {"top", "left", "height", "width"},
    }[name]
    pairs = [(field, a, b) for one, other in zip(before, after) for field, a, b in zip(one._fields, one, other)]
    changed = {field for field, a, b in pairs if (a != b if isinstance(a, int) else not torch.equal(a, b))}
    assert changed == touched


# ---------------------------------------------------------------- the numbers


def test_crops_are_a_scalar_reading_of_torchvisions_loop():
    data, key, (height, width) = Data(crop_scale=(0.08, 1)), 17, (24, 40)
    crops = aug.draw_crops(data, key, torch.arange(2000), height, width)
    low, high = math.log(3 / 4), math.log(4 / 3)
    for i, row in enumerate(counter.uniform(key, torch.arange(2000), 23).tolist()):
        for u, v in zip(row[:10], row[10:20]):
            area, ratio = height * width * (0.08 + u * 0.92), math.exp(low + v * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                box = (int(row[20] * (height - h + 1)), int(row[21] * (width - w + 1)), h, w)
                break
        else:
            box = (0, (width - 32) // 2, 24, 32)
        assert tuple(int(v[i]) for v in crops[:4]) == box


@pytest.mark.parametrize(("height", "width"), [(8, 64), (64, 8), (9, 64), (30, 31)])
def test_where_no_try_fits_the_crop_is_torchvisions_central_one(height, width):
    data = Data(crop_scale=(1, 1))
    if height == 30:  # the loop finds nothing here either once every box is larger than the image
        data = Data(crop_scale=(1.5, 1.5))
    expected = v2.RandomResizedCrop(32, scale=data.crop_scale).make_params([torch.zeros(3, height, width)])
    crops = aug.draw_crops(data, 0, torch.arange(3), height, width)
    for name, value in expected.items():
        assert getattr(crops, name).tolist() == [value] * 3, name


def test_sizes_may_differ_from_image_to_image():
    heights, widths = torch.tensor([20, 64, 33]), torch.tensor([50, 31, 33])
    together = aug.draw_crops(SIMSIAM, 4, torch.tensor([5, 6, 7]), heights, widths)
    for k, (height, width) in enumerate(zip(heights.tolist(), widths.tolist())):
        alone = aug.draw_crops(SIMSIAM, 4, torch.tensor([5 + k]), height, width)
        assert [int(v[k]) for v in together] == [int(v[0]) for v in alone]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500)])
def test_crops_are_distributed_as_torchvisions(height, width):
    torch.manual_seed(0)
    transform, image = v2.RandomResizedCrop(32, scale=(0.2, 1)), torch.empty(3, height, width)
    theirs = [transform.make_params([image]) for _ in range(4000)]
    theirs = {name: np.array([p[name] for p in theirs]) for name in theirs[0]}
    crops = aug.draw_crops(SIMSIAM, fold(1), torch.arange(20_000), height, width)
    ours = {name: getattr(crops, name).numpy() for name in theirs}
    assert min(ours["top"].min(), ours["left"].min()) >= 0
    assert (ours["top"] + ours["height"]).max() == height and (ours["left"] + ours["width"]).max() == width

    def spread(p):  # position among the places that the box has
        places = [(height - p["height"], p["top"]), (width - p["width"], p["left"])]
        return [(start + 0.5) / (room + 1) for room, start in places]

    def statistics(p):
        return [p["height"] * p["width"] / (height * width), np.log(p["width"] / p["height"]), *spread(p)]

    for a, b in zip(statistics(ours), statistics(theirs)):
        assert stats.ks_2samp(a, b).pvalue > 1e-2


@pytest.fixture(scope="module")
def many():
    return aug.draw(replace(SIMSIAM, jitter_probability=1), fold(2), torch.arange(24_000), 64, 64)


def test_factors_are_uniform_and_orders_alike(many):
    for k, (strength, centre) in enumerate(zip(SIMSIAM.jitter, (1, 1, 1, 0))):
        unit = (many.colours.factors[:, k] - centre) / (2 * strength) + 0.5
        assert stats.kstest(unit.numpy(), "uniform").pvalue > 1e-2
    kinds, counts = many.colours.order.unique(dim=0, return_counts=True)
    assert kinds.shape == (24, 4)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-2
    sigma = (many.colours.sigma - 0.1) / 1.9
    assert stats.kstest(sigma.numpy(), "uniform").pvalue > 1e-2


def test_strengths_above_one_stop_at_zero():
    data = replace(SIMSIAM, jitter=(1.5, 0.4, 0.4, 0.1), jitter_probability=1)
    brightness = aug.draw_colours(data, 0, torch.arange(4000)).factors[:, 0].numpy()
    assert stats.kstest(brightness / 2.5, "uniform").pvalue > 1e-2


def test_steps_happen_as_often_as_configured():
    n = 40_000
    crops, colours = aug.draw(SIMSIAM, fold(3), torch.arange(n), 32, 32)
    jittered = (colours.factors != torch.tensor([1.0, 1, 1, 0])).any(dim=1)
    shares = (crops.flip, 0.5), (jittered, 0.8), (colours.grayscale, 0.2)
    for happened, p in (*((v.sum(), p) for v, p in shares), (len(colours.blurred), 0.5)):
        assert stats.binomtest(int(happened), n, p).pvalue > 1e-2


def test_parameters_are_uncorrelated_within_a_view_and_between_two(many):
    n = len(many.crops.flip)

    def table(parameters):
        (top, left, h, w, flip), (factors, order, gray, blurred, _, _) = parameters
        h, w, blur = h.double(), w.double(), torch.zeros(n, dtype=torch.float64)
        blur[blurred] = 1
        places = (top + 0.5) / (65 - h), (left + 0.5) / (65 - w)
        first = [order[:, 0] == k for k in range(3)]
        columns = [h * w, torch.log(w / h), *places, flip, *factors.unbind(1), *first, gray, blur]
        return torch.stack([c.double() for c in columns])

    other = aug.draw(replace(SIMSIAM, jitter_probability=1), fold(4), torch.arange(n), 64, 64)
    correlation = torch.corrcoef(torch.cat([table(many), table(other)])).numpy()
    related = np.kron(np.eye(2), np.eye(14))
    for block in (0, 14):  # an order has one first step
        related[block + 9 : block + 12, block + 9 : block + 12] = 1
    assert np.abs(correlation[related == 0]).max() < 4.5 / n**0.5


# ---------------------------------------------------------------- views as a whole


@pytest.mark.parametrize("blur", [0.0, 0.5])
def test_views_are_distributed_as_torchvisions(blur):
    """Per-channel means, spreads and correlations, and local contrast, of views of one image.

    Of ours 6,000 and of theirs 2,000 tell as much as 3,000 of each.
    """
    torch.manual_seed(0)
    image, data, n = pictures(1)[0], replace(SIMSIAM, blur=blur), 6000
    steps = [
        v2.RandomResizedCrop(32, scale=(0.2, 1)),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], blur),
        v2.RandomHorizontalFlip(),
    ]
    transform = v2.Compose(steps)
    theirs = torch.stack([transform(image / 255) for _ in range(n // 3)])
    ours = aug.apply(image.expand(n, -1, -1, -1), aug.draw(data, 6, torch.arange(n), 32, 32), 32)
    for a, b in zip(statistics_of(ours), statistics_of(theirs)):
        assert stats.ks_2samp(a, b).pvalue > 1e-2
        assert abs(a.mean() - b.mean()) < 4 * math.sqrt(a.var() / len(a) + b.var() / len(b))
    pixels = [v.flatten(1)[:, ::97].numpy() for v in (ours, theirs)]
    difference = np.corrcoef(pixels[0], rowvar=False) - np.corrcoef(pixels[1], rowvar=False)
    assert np.abs(difference).max() < 5 * math.sqrt(1 / len(ours) + 1 / len(theirs))
    for a, b in zip(pixels[0].T, pixels[1].T):  # that neither side nor top is preferred
        assert abs(a.mean() - b.mean()) < 4.5 * math.sqrt(a.var() / len(a) + b.var() / len(b))


def statistics_of(views):
    """Per view: mean and spread of each channel, covariance of red and green, steepness to the right and down."""
    flat = views.flatten(2).double()
    centred = flat - flat.mean(2, keepdim=True)
    steep = [views.diff(dim=d).abs().mean((1, 2, 3)) for d in (2, 3)]
    found = [*flat.mean(2).T, *flat.std(2).T, (centred[:, 0] * centred[:, 1]).mean(1), *steep]
    return [v.double().numpy() for v in found]
