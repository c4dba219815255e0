"""Presets against the papers that they are named after."""

import pytest

from stopgrad.deep.config import change, check, flat_config, from_json, to_json
from stopgrad.deep.presets import DEFAULT, PRESETS, changes, preset

GAUSSIAN = {"dataset": "gaussian", "backbone": "identity"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_possible_records(name):
    config = check(preset(name))
    assert (
        config is PRESETS[name]
        and from_json(to_json(config)) == config
        and change(DEFAULT, **changes(config)) == config
    )


SIMSIAM = {
    **{"crop_scale": (0.2, 1.0), "flip": 0.5, "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_probability": 0.8},
    **{"grayscale": 0.2, "width": 64, "zero_init_residual": True, "embedding_dim": 2048, "predictor": "mlp"},
    **{"projector_output_bn": "affine_free", "predictor_hidden": 512, "predictor_bias": True, "loss": "cosine"},
    **{"stop_gradient": "target", "target": "shared", "symmetric_loss": True, "loss_scale": 1.0, "momentum": 0.9},
    **{"lr_scaling": "linear", "schedule": "cosine", "warmup_epochs": 0.0},
}
TIAN = {
    **{"backbone": "resnet18", "width": 64, "projector_layers": 2, "projector_hidden": 512, "embedding_dim": 128},
    **{"projector_bias": True, "projector_output_bn": "none", "predictor_bias": False, "target": "ema"},
    **{"ema_momentum": 0.996, "loss": "cosine", "loss_scale": 4.0, "lr": 0.03, "lr_scaling": "none", "momentum": 0.9},
    **{"weight_decay": 4e-4, "schedule": "constant", "batch_size": 128, "epochs": 100, "crop_scale": (0.08, 1.0)},
    **{"predictor_lr": None, "predictor_weight_decay": None, "jitter_probability": 0.8, "grayscale": 0.2},
}
SET = {name: value for name, value in TIAN.items() if name != "predictor_bias"}
STL10 = {"dataset": "stl10", "stem": "imagenet", "jitter": (0.8, 0.8, 0.8, 0.2), "blur": 1.0}
CIFAR10 = {"dataset": "cifar10", "stem": "cifar", "jitter": (0.4, 0.4, 0.4, 0.1), "blur": 0.0}
DIRECTPRED = {"predictor": "directpred", "predictor_eps": 0.1, "predictor_rho": 0.3, "predictor_freq": 1}


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        (
            "simsiam-cifar10",
            SIMSIAM
            | {"dataset": "cifar10", "backbone": "resnet18", "stem": "cifar", "projector_layers": 2, "blur": 0.0}
            | {"projector_hidden": 2048, "lr": 0.03, "batch_size": 512, "epochs": 800, "weight_decay": 5e-4},
        ),
        (
            "simsiam-imagenet",
            SIMSIAM
            | {"backbone": "resnet50", "stem": "imagenet", "projector_layers": 3, "projector_hidden": 2048, "blur": 0.5}
            | {"blur_sigma": (0.1, 2.0), "lr": 0.05, "batch_size": 512, "epochs": 100, "weight_decay": 1e-4}
            | {"predictor_schedule": "constant", "image_size": 224},
        ),
        (
            "li2022-imagenet",
            SIMSIAM
            | {"backbone": "resnet18", "stem": "imagenet", "projector_layers": 3, "projector_hidden": 512, "blur": 0.5}
            | {"lr": 0.05, "batch_size": 256, "epochs": 100, "weight_decay": 1e-4, "predictor_schedule": "constant"},
        ),
        (
            "zhang2022-cifar100",
            {**SIMSIAM, "crop_scale": (0.08, 1.0), "projector_output_bn": "none", "warmup_epochs": 10}
            | {"dataset": "cifar100", "backbone": "resnet18", "stem": "cifar", "projector_layers": 3, "blur": 0.0}
            | {"projector_hidden": 2048, "projector_bias": True, "lr": 0.5, "batch_size": 256, "epochs": 1000}
            | {"weight_decay": 1e-5, "predictor_schedule": "constant"},
        ),
        (
            "zhang2022-toy",
            {"dataset": "gaussian", "gaussian_dim": 64, "gaussian_rank": 16, "gaussian_sigma2": 0.25, "width": 256}
            | {"backbone": "mlp", "depth": 1, "projector_layers": 2, "projector_hidden": 256, "embedding_dim": 64}
            | {"projector_output_bn": "none", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 256},
        ),
        ("byol-stl10-tian", TIAN | STL10 | {"predictor": "linear"}),
        ("byol-cifar10-tian", TIAN | CIFAR10 | {"predictor": "linear"}),
        ("directpred-stl10", SET | STL10 | DIRECTPRED),
        ("directpred-cifar10", SET | CIFAR10 | DIRECTPRED),
        ("directcopy-stl10", SET | STL10 | {"predictor": "directcopy", "predictor_eps": 0.3, "predictor_rho": 0.5}),
        ("linear-theory", {"predictor": "linear", "loss": "squared", "projector_output_bn": "none"}),
        ("linear-gaussian", {**GAUSSIAN, "projector_layers": 1, "loss": "squared", "momentum": 0.0}),
    ],
)
def test_presets_are_the_papers_recipes(name, recipe):
    config = preset(name)
    assert {name: value for name, value in flat_config(config).items() if name in recipe} == recipe
