"""Backbones against torchvision's own models, and their shapes, costs and initialisation at other widths and stems."""

import functools
import itertools
from functools import partial

import pytest
import torch
from methods import backbone
from processes import PROCESSES
from torch.func import functional_call
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50

from stopgrad.deep.config import Method
from stopgrad.deep.method.backbones.resnet_network import PointwiseConv2d, SmallConv2d
from stopgrad.deep.training.conclusion import export_state_dict

TORCHVISION = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet18_bottleneck": lambda **k: ResNet(Bottleneck, [2, 2, 2, 2], **k),
    "resnet50_basic": lambda **k: ResNet(BasicBlock, [5, 6, 9, 4], **k),
}
FULL = {"width": 64, "stem": "imagenet"}


def shuffled(network):
    """Every parameter and buffer drawn at random, BatchNorm's included, so that none of them can be ignored."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.5
            value.copy_(scale * torch.rand(value.shape, generator=generator) + (0.1 if "var" in name else 0))
    return network


def sizes(network, image):
    """The side of the feature map behind the first layers and behind each stage."""
    seen = []
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        getattr(network, name).register_forward_hook(lambda module, x, y: seen.append(y.shape[-1]))
    network(torch.zeros(1, 3, image, image, device=next(network.parameters()).device))
    return seen


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_shapes_and_order_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = backbone(Method.of(backbone=name, **FULL)), TORCHVISION[name]()
    wanted = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == list(wanted.items())
    assert ours.out_features == theirs.fc.in_features


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_outputs_are_torchvisions_to_rounding(name):
    """As in evaluation and as in training, the second with weights and statistics as the first leaves them."""
    with torch.device("meta"):  # no weights are drawn that are drawn anew
        ours, theirs = backbone(Method.of(backbone=name, **FULL)).double(), TORCHVISION[name]().double()
    ours = shuffled(ours.to_empty(device="cpu"))
    missing = theirs.load_state_dict(export_state_dict(ours), strict=False, assign=True)
    assert set(missing.missing_keys) == {"fc.weight", "fc.bias"} and not missing.unexpected_keys
    theirs.fc = torch.nn.Identity()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for training in (False, True):
        with torch.no_grad():
            out = ours.train(training)(x)
            assert out.shape == (2, ours.out_features) and out.std() > 0
            torch.testing.assert_close(out, theirs.train(training)(x), rtol=1e-11, atol=0)


def test_an_export_is_a_copy_in_plain_layout():
    network = backbone(Method.of(width=8, stem="imagenet")).to(memory_format=torch.channels_last)
    exported = export_state_dict(network)
    assert exported["layer1.0.conv1.weight"].is_contiguous()
    before = exported["conv1.weight"].clone()
    with torch.no_grad():
        network.conv1.weight.add_(1)
    assert torch.equal(exported["conv1.weight"], before)
    assert not any(v.requires_grad for v in exported.values())
    assert exported.keys() == export_state_dict(torch.compile(network, backend="eager")).keys()


def test_networks_of_vectors_export_too():
    assert export_state_dict(backbone(Method.of(backbone="identity"), 4)) == {}
    assert [v.shape for v in export_state_dict(backbone(Method.of(backbone="linear", width=3), 4)).values()] == [(3, 4)]


@pytest.mark.parametrize(
    ("stem", "image", "wanted"),
    [("cifar", 32, [32, 32, 16, 8, 4]), ("imagenet", 224, [56, 56, 28, 14, 7]), ("cifar", 16, [16, 16, 8, 4, 2])],
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resolution_stage_by_stage(stem, image, wanted, name):
    with torch.device("meta"):
        assert sizes(backbone(Method.of(backbone=name, stem=stem, width=8)), image) == wanted


def test_cost_of_resnet18_on_cifar():
    """1.111 G floating-point operations, a multiplication and an addition counted as two; ImageNet's 3.63 G."""
    for method, image, wanted in (
        (Method.of(width=64, stem="cifar"), 32, 1.111e9),
        (Method.of(width=64, stem="imagenet"), 224, 3.627e9),
    ):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            backbone(method)(torch.zeros(1, 3, image, image))
        assert counter.get_total_flops() == pytest.approx(wanted, rel=1e-3)


@functools.cache
def channels(name, width):
    """Of each convolution, in and out."""
    with torch.device("meta"):
        network = backbone(Method.of(backbone=name, width=width))
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, network.out_features)
    return [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, torch.nn.Conv2d)]


@pytest.mark.parametrize("width", [1, 8, 16, 64, 96])
@pytest.mark.parametrize("name", TORCHVISION)
def test_every_channel_count_scales_with_the_width(name, width):
    scale = width / 64
    (_, first), *rest = channels(name, width)
    (_, first64), *rest64 = channels(name, 64)
    assert first == scale * first64
    assert rest == [(scale * i, scale * o) for i, o in rest64]


def test_convolutions_start_as_torchvisions():
    """Normal with variance 2/fan-out, compared on weights of 10⁵ to 10⁶ entries."""
    torch.manual_seed(0)
    networks = backbone(Method.of(width=64, zero_init_residual=False)), resnet18()
    for name, fan_out in (("layer4.1.conv2", 9 * 512), ("layer3.0.conv1", 9 * 256), ("layer4.0.downsample.0", 512)):
        for network in networks:
            weight = network.get_submodule(name).weight.detach()
            assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)


@pytest.mark.parametrize("name", ["resnet18", "resnet18_bottleneck"])
def test_zero_initialised_residuals_make_blocks_identities(name):
    x = torch.rand(2, 32 if name == "resnet18" else 128, 5, 5)
    for zero in (True, False):
        block = backbone(Method.of(backbone=name, width=32, zero_init_residual=zero)).layer1[1]
        assert torch.equal(block(x), x) == zero
    network = backbone(Method.of(backbone=name, width=8, zero_init_residual=True))
    zeros = [k for k, v in network.named_parameters() if not v.any() and k.endswith("weight")]
    last = "bn3" if name == "resnet18_bottleneck" else "bn2"
    assert zeros == [f"layer{stage}.{block}.{last}.weight" for stage in (1, 2, 3, 4) for block in (0, 1)]


def test_backbones_for_vectors():
    linear = backbone(Method.of(backbone="linear", width=5), in_features=48)
    x = torch.rand(7, 3, 4, 4)
    (weight,) = linear.parameters()
    torch.testing.assert_close(linear(x), x.flatten(1) @ weight.T)
    assert linear.out_features == 5
    identity = backbone(Method.of(backbone="identity"), in_features=6)
    z = torch.rand(7, 6)
    assert torch.equal(identity(z), z) and identity.out_features == 6 and not list(identity.parameters())


# ---------------------------------------------------------------- no kernel that errs


def with_weight(module, x, weight):
    return functional_call(module, {"weight": weight}, (x,))


def gradients(convolve, x, weight, seen):
    """Output, and the gradients at input and weight of the output's product with `seen`."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = convolve(x, weight)
    (out * seen.to(out)).sum().backward()
    return out.detach(), x.grad, weight.grad


@pytest.mark.parametrize("width", range(1, 25))
def test_shortcuts_agree_with_a_strided_convolution_in_float64(width):
    """Weight gradients of strided 1×1 convolutions on few float32 channels are wrong on some CPUs, or crash there."""
    for layout, batch, growth, side in itertools.product(
        (torch.contiguous_format, torch.channels_last), (2, 3, 64), (1, 2, 4), (1, 5, 6)
    ):
        shortcut = PointwiseConv2d(width, growth * width, stride=2).to(memory_format=layout)
        x = torch.randn(batch, width, side, side).to(memory_format=layout)
        seen = torch.randn(batch, growth * width, -(-side // 2), -(-side // 2), dtype=torch.float64)
        ours = gradients(partial(with_weight, shortcut), x, shortcut.weight, seen)
        exact = gradients(partial(conv2d, stride=2), x.double(), shortcut.weight.double(), seen)
        for found, wanted in zip(ours, exact, strict=True):
            assert torch.linalg.norm(found - wanted) <= 1e-5 * torch.linalg.norm(wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_shortcuts_gradient_is_laid_out_as_its_images_are(layout):
    """Else what it is added to goes through kernels for numbers that lie anyhow, one by one."""
    x = torch.randn(3, 4, 6, 6).to(memory_format=layout).requires_grad_()
    out = PointwiseConv2d(4, 8, stride=2).to(memory_format=layout)(x)
    [gradient] = torch.autograd.grad(out, x, torch.ones_like(out))
    assert gradient.is_contiguous(memory_format=layout)


def through_the_matrix(convolution, x, weight):
    """The convolution as one matrix, whatever the image's size, by its docstring's order of rows and columns."""
    height, width = x.shape[2:]
    matrix = functional_call(MatrixOf(convolution), {"convolution.weight": weight}, (height, width))
    out = x.permute(0, 2, 3, 1).flatten(1) @ matrix
    return out.view(len(x), -(-height // convolution.stride[0]), -1, convolution.out_channels).permute(0, 3, 1, 2)


class MatrixOf(torch.nn.Module):
    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, height, width):
        return self.convolution.matrix(height, width)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inputs", [1, 3, 16, 64, 65])
def test_small_convolutions_agree_with_torchs_in_float64(inputs, stride):
    """On both sides of the sizes up to which a matrix serves, and the matrix itself beyond them."""
    sides = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (3, 3), (2, 5), (5, 4))
    for layout, batch, (height, width) in itertools.product(
        (torch.contiguous_format, torch.channels_last), (1, 7), sides
    ):
        convolution = SmallConv2d(inputs, 5, stride).to(memory_format=layout)
        x = torch.randn(batch, inputs, height, width).to(memory_format=layout)
        convolve = partial(conv2d, stride=stride, padding=1)
        seen = torch.randn_like(convolve(x, convolution.weight).double())
        exact = gradients(convolve, x.double(), convolution.weight.double(), seen)
        for one in (with_weight, through_the_matrix):
            for found, wanted in zip(gradients(partial(one, convolution), x, convolution.weight, seen), exact):
                assert found.shape == wanted.shape and found.dtype == x.dtype
                assert torch.linalg.norm(found - wanted) <= 1e-5 * torch.linalg.norm(wanted)


def test_small_convolutions_learn_after_a_look_without_gradients_or_numbers():
    """What is kept between calls must not be as the first of them made it."""
    convolution, x = SmallConv2d(3, 3, 2), torch.randn(2, 3, 2, 1)
    for mode in (torch.device("meta"), torch.inference_mode()):
        with mode:
            convolution(x)
    convolution(x).sum().backward()
    assert convolution.weight.grad.isfinite().all()


def test_small_convolutions_run_in_the_precision_of_the_others():
    convolution, x = SmallConv2d(4, 4, 1), torch.randn(2, 4, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolution(x).dtype == torch.nn.Conv2d.forward(convolution, x).dtype == torch.bfloat16


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_3x3_convolution_behind_the_first_is_small(name):
    with torch.device("meta"):
        modules = list(backbone(Method.of(backbone=name, width=8)).modules())
    convolutions = [m for m in modules if isinstance(m, torch.nn.Conv2d)][1:]
    assert all(isinstance(m, SmallConv2d) == (m.kernel_size == (3, 3)) for m in convolutions)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", TORCHVISION)
def test_no_1x1_convolution_has_a_stride(name, stem):
    with torch.device("meta"):
        modules = list(backbone(Method.of(backbone=name, stem=stem, width=8)).modules())
    assert not [m for m in modules if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1)]
    assert sum(isinstance(m, PointwiseConv2d) and m.every == 2 for m in modules) == 3


def train(name):
    torch.set_num_threads(1)
    for layout in (torch.contiguous_format, torch.channels_last):
        for stem, batches in (("cifar", (2, 16)), ("imagenet", (5,))):
            for width in (1, 2, 3, 4, 6):
                network = backbone(Method.of(backbone=name, stem=stem, width=width)).to(memory_format=layout)
                optimiser = torch.optim.SGD(network.parameters(), lr=0.01, fused=True)
                for batch in 2 * batches:
                    optimiser.zero_grad()
                    views = torch.rand(batch, 3, 12, 12).to(memory_format=layout)
                    network(views).square().mean().backward()
                    assert torch.cat([p.grad.flatten() for p in network.parameters()]).isfinite().all()
                    optimiser.step()


@pytest.mark.parametrize("name", TORCHVISION)
def test_narrow_networks_train(name):
    """In a process of its own, so that memory written out of bounds is a failed test and not a lost worker."""
    process = PROCESSES.Process(target=train, args=(name,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("name", ["linear", "identity"])
def test_backbones_for_vectors_need_the_dimension(name):
    with pytest.raises(ValueError, match=f"--backbone {name} needs to know"):
        backbone(Method.of(backbone=name))
