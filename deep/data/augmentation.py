"""SimSiam's augmentation for a batch of images at once, each image with parameters of its own.

Random resized crop, flip, colour jitter in random order, grayscale and blur: what torchvision's transforms.v2 do to one
image at a time (Chen & He 2021, section 3). `draw` makes the numbers, a function of key and index alone by way of
`counter`; `apply` does the arithmetic, in which no image sees another, so that on a CPU a view has the same bits
in every batch. Values stay float32 from the crop on, where transforms of uint8 images round to 8 bits after each step.

Drawn on the CPU and moved with `to_device`, parameters never make a GPU wait. torch.compile slows `grid_sample` down
on CPUs and is not used; nothing here is subject to autocast.
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch.nn import functional

from stopgrad.deep.config import Data
from stopgrad.deep.data import counter
from stopgrad.linear_theory.tools.errors import BadInput

RATIO = (3 / 4, 4 / 3)
"""Range of the crop's width over its height."""
TRIES = 10
LUMA = (0.2989, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE)))

_CROP_DRAWS, _COLOUR_DRAWS = 2 * TRIES + 3, 9


class Crops(NamedTuple):
    """Where B views are cut from: boxes in pixels of the source, int64 (B,)."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor
    flip: torch.Tensor
    """bool (B,): whether left and right are exchanged."""


class Colours(NamedTuple):
    """What happens to the colours of B views; None where the configuration turns a step off for all of them."""

    factors: torch.Tensor | None
    """float32 (B, 4): factors of brightness, contrast, saturation, and hue's shift in turns; 1, 1, 1, 0 is identity."""
    order: torch.Tensor | None
    """int64 (B, 4): the columns of `factors` in the order in which they act."""
    grayscale: torch.Tensor | None
    """bool (B,): whether the colours are lost."""
    blurred: torch.Tensor | None
    """int64 (K,): which of the B views are blurred."""
    sigma: torch.Tensor | None
    """float32 (K,): their standard deviations in pixels of the view."""
    radius: int
    """Pixels that the blur's kernel reaches to each side: 3 σ of the widest."""


class Parameters(NamedTuple):
    """All that distinguishes views from their images."""

    crops: Crops
    colours: Colours


def to_device(fields: NamedTuple, device: torch.device | str) -> NamedTuple:
    """The same Crops, Colours or Parameters with their tensors on `device`."""
    if isinstance(fields, Parameters):
        return Parameters(*(to_device(part, device) for part in fields))
    return type(fields)(*(v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for v in fields))


# ---------------------------------------------------------------- drawing


def draw(data: Data, key: int, index: torch.Tensor, height: int, width: int) -> Parameters:
    """Parameters of views of images of height × width pixels. index: int64 (B,), global sample indices.

    Row i depends on (data, key, index[i], height, width) only. Every parameter has its own column of random numbers, so
    that to change one probability or strength changes nothing else. The result is on the device of `index`.
    """
    return Parameters(draw_crops(data, key, index, height, width), draw_colours(data, key, index))


def draw_crops(data: Data, key: int, index: torch.Tensor, height, width) -> Crops:
    """Boxes as RandomResizedCrop draws them, up to 10 tries, then a central one. height, width: int or int64 (B,)."""
    u = counter.uniform(key, index, _CROP_DRAWS)
    height, width = (torch.as_tensor(v, device=index.device).expand(len(index)) for v in (height, width))
    area = (height * width)[:, None] * _between(u[:, :TRIES], *data.crop_scale)
    ratio = torch.exp(_between(u[:, TRIES : 2 * TRIES], *map(math.log, RATIO)))
    w, h = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
    fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
    found, first = fits.any(dim=1), fits.int().argmax(dim=1, keepdim=True)
    central_w = torch.minimum(width.double(), (height.double() * RATIO[1]).round())
    central_h = torch.minimum(height.double(), (width.double() / RATIO[0]).round())
    w = torch.where(found, w.gather(1, first)[:, 0], central_w).long()
    h = torch.where(found, h.gather(1, first)[:, 0], central_h).long()
    top = torch.where(found, (u[:, -3] * (height - h + 1)).long(), (height - h) // 2)
    left = torch.where(found, (u[:, -2] * (width - w + 1)).long(), (width - w) // 2)
    return Crops(top, left, h, w, u[:, -1] < data.flip)


def draw_colours(data: Data, key: int, index: torch.Tensor) -> Colours:
    """Jitter as ColorJitter draws it, in any of 24 orders, then the choice of grayscale and blur. index: int64 (B,)."""
    u = counter.uniform(key, index, _CROP_DRAWS + _COLOUR_DRAWS)[:, _CROP_DRAWS:]
    jittered, values, order, gray, blurred, width = u.split((1, 4, 1, 1, 1, 1), dim=1)
    strength, identity = (torch.tensor(v, dtype=u.dtype, device=u.device) for v in (data.jitter, (1, 1, 1, 0)))
    low = torch.cat(((1 - strength[:HUE]).clamp(min=0), -strength[HUE:]))
    factors = torch.where(jittered < data.jitter_probability, _between(values, low, identity + strength), identity)
    orders = torch.tensor(ORDERS, device=u.device)[(order[:, 0] * len(ORDERS)).long()]
    has_jitter = data.jitter_probability > 0 and any(data.jitter)
    chosen = (blurred[:, 0] < data.blur).nonzero()[:, 0] if data.blur > 0 else None
    return Colours(
        factors=factors.float() if has_jitter else None,
        order=orders if has_jitter else None,
        grayscale=gray[:, 0] < data.grayscale if data.grayscale > 0 else None,
        blurred=chosen,
        sigma=None if chosen is None else _between(width[chosen, 0], *data.blur_sigma).float(),
        radius=math.ceil(3 * data.blur_sigma[1]),
    )


def _between(u, low, high):
    return low + u * (high - low)


# ---------------------------------------------------------------- applying


def apply(images: torch.Tensor, parameters: Parameters, size: int) -> torch.Tensor:
    """Views float32 (B, 3, size, size) in [0, 1] of images uint8 (B, 3, height, width), all on one device.

    Raises ValueError for images larger than the view.
    """
    return recolour(crop(images, parameters.crops, size), parameters.colours)


def scale(images: torch.Tensor) -> torch.Tensor:
    """uint8 as float32 between 0 and 1."""
    return images.to(torch.float32).div_(255)


def normalise(x: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(x − mean)/std in channels_last order. x: (B, 3, height, width); mean, std: (3,), on the device of x."""
    return ((x - mean[:, None, None]) / std[:, None, None]).contiguous(memory_format=torch.channels_last)


def crop(images: torch.Tensor, crops: Crops, size: int) -> torch.Tensor:
    """Boxes cut out, resized bilinearly and flipped: float32 (B, 3, size, size) in [0, 1] from uint8 (B, 3, H, W).

    As torchvision's resized_crop for boxes no larger than the view, which then needs no antialiasing. Raises ValueError
    for larger images; they are cut one by one, by torchvision, where they are decoded (`deep.data.views`).
    """
    height, width = images.shape[-2:]
    if max(height, width) > size:
        raise BadInput(f"images are {height} × {width} and views {size} pixels wide; images must not be larger")
    rows = 2 * _places(crops.top, crops.height, size) / (height - 1) - 1
    columns = 2 * _places(crops.left, crops.width, size) / (width - 1) - 1
    columns = torch.where(crops.flip[:, None], columns.flip(1), columns)
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
    return functional.grid_sample(scale(images), grid, mode="bilinear", padding_mode="border", align_corners=True)


def recolour(x: torch.Tensor, colours: Colours) -> torch.Tensor:
    """Jitter, then grayscale, then blur, where drawn. x: float32 (B, 3, height, width) in [0, 1], which is overwritten.

    Brightness, contrast, saturation and grayscale are one formula, `_blend`, so that all images pass it together with
    coefficients of their own, whatever their orders: three times before their hue is turned and three times after.
    """
    if colours.order is not None:
        hue_at = (colours.order == HUE).int().argmax(dim=1, keepdim=True)
        place = torch.arange(4, device=x.device)
        before = torch.where(place < hue_at, colours.order, HUE)[:, :3]
        after = torch.where(place > hue_at, colours.order, HUE)[:, 1:]
        for step in before.unbind(1):
            x = _blend(x, *_coefficients(step, colours.factors))
        x = shift_hue(x, colours.factors[:, HUE])
        for step in after.unbind(1):
            x = _blend(x, *_coefficients(step, colours.factors))
    if colours.grayscale is not None:
        gray = colours.grayscale.to(x.dtype)
        x = _blend(x, 1 - gray, gray, torch.zeros_like(gray))
    if colours.blurred is None:
        return x
    radius = min(colours.radius, min(x.shape[-2:]) - 1)
    return x.index_copy_(0, colours.blurred, blur(x[colours.blurred], colours.sigma, radius))


def shift_hue(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue of x (B, 3, height, width) by `shift` (B,) turns at constant HSV saturation and value.

    torchvision's rgb → hsv → rgb without its cases. On the colour circle, with channels scaled so that the least is 0
    and the largest 1, a colour lies 1 − r + g + b sextants from red, on green's side if g > b; and a channel is the
    least plus chroma · clamp(2 − 6 |turns from the channel's own hue|, 0, 1).
    """
    r, g, b = x.unbind(1)
    least = torch.minimum(torch.minimum(r, g), b)
    chroma = torch.maximum(torch.maximum(r, g), b).sub_(least)
    from_red = (g + b).sub_(r).sub_(least).div_(chroma.clamp(min=1e-20)).add_(1)
    hue = torch.copysign(from_red, g - b).mul_(1 / 6).add_(shift[:, None, None])
    turns = hue[:, None] - torch.arange(3, device=x.device)[:, None, None] / 3
    turns -= turns.round()
    return turns.abs_().mul_(-6).add_(2).clamp_(0, 1).mul_(chroma[:, None]).add_(least[:, None])


def blur(x: torch.Tensor, sigma: torch.Tensor, radius: int) -> torch.Tensor:
    """Gaussian blur with σ of its own for each image, edges mirrored. x: (B, 3, height, width); sigma: (B,) > 0.

    As torchvision's gaussian_blur with kernel size 2 radius + 1, radius < height, width. With a radius of 3 σ nothing
    visible is cut off, as nothing is in SimSiam's own blur, Pillow's. Tap by tap, because the rounding of a grouped
    convolution may depend on the size of the batch.
    """
    steps = torch.arange(radius + 1, dtype=torch.float64, device=x.device)
    weights = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    weights /= 2 * weights.sum(dim=1, keepdim=True) - weights[:, :1]
    weights = weights.to(x.dtype)[:, :, None, None, None]
    for axis, padding in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        padded, side = functional.pad(x, padding, mode="reflect"), x.shape[axis]
        x = x * weights[:, 0]
        for step in range(1, radius + 1):
            both = padded.narrow(axis, radius - step, side) + padded.narrow(axis, radius + step, side)
            x.add_(both.mul_(weights[:, step]))
    return x


# ---------------------------------------------------------------- parts


def _coefficients(step, factors):
    """For `_blend`: the factor, the luma's share and its mean's share, each (B,); identity where the step is HUE."""
    factor = torch.where(step == HUE, 1, factors.gather(1, step[:, None])[:, 0])
    return factor, torch.where(step == SATURATION, 1 - factor, 0), torch.where(step == CONTRAST, 1 - factor, 0)


def _blend(x, factor, luma_share, mean_share):
    """factor · x + luma_share · luma + mean_share · (the luma's mean over the image), cut to [0, 1], in place of x."""
    factor, luma_share, mean_share = (v[:, None, None] for v in (factor, luma_share, mean_share))
    luma = (x[:, 0] * LUMA[0]).add_(x[:, 1], alpha=LUMA[1]).add_(x[:, 2], alpha=LUMA[2])
    mean = luma.mean(dim=2).mean(dim=1)[:, None, None]  # in two steps: a single sum to one number is split by threads
    base = luma.mul_(luma_share).add_(mean * mean_share)
    return x.mul_(factor[:, None]).add_(base[:, None]).clamp_(0, 1)


def _places(start, length, size):
    """Where a view's pixels lie in the source, (B, size), pixel p of the source being at p; never outside the box."""
    j = torch.arange(size, dtype=torch.float32, device=start.device)
    places = start[:, None] + (j + 0.5) * (length[:, None] / size) - 0.5
    return places.clamp(start[:, None], (start + length - 1)[:, None])
