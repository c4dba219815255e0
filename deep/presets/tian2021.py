"""Tian, Chen & Ganguli 2021."""

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change

# The released code's setup, with four deviations: the target starts as a copy of the online network (there as another
# random one), BatchNorm within the heads has affine parameters, STL-10 is normalised, and the evaluation differs.
# The linear predictor without bias is that of Tables 2 to 6; Table 8's of two layers is --predictor mlp
# --predictor-hidden 512.
BYOL_CIFAR10_TIAN = Config(
    Data(dataset="cifar10", crop_scale=(0.08, 1.0)),
    Method.of(
        width=64,
        zero_init_residual=False,
        projector_layers=2,
        projector_hidden=512,
        embedding_dim=128,
        projector_bias=True,
        predictor="linear",
        target="ema",
        ema_momentum=0.996,
        loss_scale=4.0,  # the released code sums 2 − 2cos over both views
    ),
    Optimisation(
        epochs=100, batch_size=128, lr=0.03, lr_scaling="none", momentum=0.9, weight_decay=4e-4, schedule="constant"
    ),
    Monitor(monitor_every=100, evaluate_every=10, probe="paper"),
)
BYOL_STL10_TIAN = change(
    BYOL_CIFAR10_TIAN, dataset="stl10", jitter=(0.8, 0.8, 0.8, 0.2), blur=1.0, blur_sigma=(0.1, 2.0), stem="imagenet"
)

# Table 8: ρ = 0.3, ε = 0.1, set at every step, with an EMA target; --predictor-freq 5 for its third row.
DIRECTPRED_STL10, DIRECTPRED_CIFAR10 = (
    change(base, predictor="directpred", predictor_eps=0.1, predictor_rho=0.3)
    for base in (BYOL_STL10_TIAN, BYOL_CIFAR10_TIAN)
)
# DirectCopy: ρ = 0.5, ε = 0.3. Which norm divides F is not said: the largest eigenvalue here, as for DirectPred;
# --predictor-normalisation frobenius is what Hoppe, Miszkurka & Wilkman's replication uses.
DIRECTCOPY_STL10 = change(BYOL_STL10_TIAN, predictor="directcopy", predictor_eps=0.3, predictor_rho=0.5)
PRESETS = {
    "byol-stl10-tian": BYOL_STL10_TIAN,
    "byol-cifar10-tian": BYOL_CIFAR10_TIAN,
    "directpred-stl10": DIRECTPRED_STL10,
    "directpred-cifar10": DIRECTPRED_CIFAR10,
    "directcopy-stl10": DIRECTCOPY_STL10,
}
