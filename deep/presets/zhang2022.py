"""Zhang et al. 2022 ('How does SimSiam avoid collapse without negative samples?')."""

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation

# As in the authors' research code, a fork of solo-learn from before the submission: its scripts, its networks, and
# solo-learn's own values for what they leave open (crops of 8 % and more, ten epochs of warm-up). Not settled is the
# projector's end: that code takes the last BatchNorm away and leaves the bias, as here, so that a complete collapse is
# possible; SimSiam has it, without affine parameters (--projector-output-bn affine_free --no-projector-bias). The paper
# classifies by a linear layer that learns while the network does; here the probe follows at the end.
ZHANG2022_CIFAR100 = Config(
    data=Data(dataset="cifar100", crop_scale=(0.08, 1.0)),
    method=Method.of(
        width=64,
        projector_layers=3,
        projector_hidden=2048,
        embedding_dim=2048,
        projector_bias=True,
        predictor="mlp",
        predictor_hidden=512,
        predictor_bias=True,
    ),
    optimisation=Optimisation(
        epochs=1000, batch_size=256, lr=0.5, weight_decay=1e-5, predictor_schedule="constant", warmup_epochs=10.0
    ),
    monitor=Monitor(monitor_every=50, evaluate_every=10),
)

# Small enough for seconds on a CPU, and every row of the paper's tables can be seen in it: 16 directions of content
# among 64, noise of variance ¼ in all, layers 64-256-256-64 with BatchNorm on the hidden ones alone; 3,000 steps.
ZHANG2022_TOY = Config(
    data=Data(dataset="gaussian", gaussian_dim=64, gaussian_rank=16, gaussian_sigma2=0.25, gaussian_samples=100 * 256),
    method=Method.of(
        backbone="mlp",
        width=256,
        projector_hidden=256,
        embedding_dim=64,
        projector_bias=True,
        predictor="mlp",
        predictor_hidden=64,
        predictor_bias=True,
    ),
    optimisation=Optimisation(epochs=30, batch_size=256, lr=0.05, weight_decay=1e-4, schedule="constant"),
    monitor=Monitor(monitor_every=50, evaluate_every=10, probe="none"),
)
PRESETS = {"zhang2022-cifar100": ZHANG2022_CIFAR100, "zhang2022-toy": ZHANG2022_TOY}
