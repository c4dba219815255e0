"""Chen & He 2021 (SimSiam)."""

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change

SIMSIAM_HEADS = Method.of(
    width=64,
    projector_hidden=2048,
    embedding_dim=2048,
    projector_output_bn="affine_free",
    predictor="mlp",
    predictor_hidden=512,
    predictor_bias=True,
)

# Here and in other files the cosine falls at every step, the released scripts' at every epoch, and a partial last batch
# is left out. Output BatchNorm has no affine parameters, as in the released code; the paper's baseline has them (68.1 %
# with, 68.2 % without). Appendix D: lr 0.03, batch 512, 800 epochs, weight decay 5e-4, no blur, a 2-layer projector.
SIMSIAM_CIFAR10 = Config(
    data=Data(dataset="cifar10"),
    method=SIMSIAM_HEADS,
    optimisation=Optimisation(epochs=800, batch_size=512, lr=0.03, weight_decay=5e-4),
    monitor=Monitor(monitor_every=50, evaluate_every=10),
)

# Section 3, and the released code with --fix-pred-lr: the predictor's learning rate stays where it is.
SIMSIAM_IMAGENET = change(
    Config(
        data=Data(dataset="imagefolder", data_folder="imagenet", image_size=224, blur=0.5, workers=16),
        method=SIMSIAM_HEADS,
        optimisation=Optimisation(epochs=100, batch_size=512, weight_decay=1e-4, predictor_schedule="constant"),
        monitor=Monitor(monitor_every=100, evaluate_every=10, probe="paper"),
    ),
    backbone="resnet50",
    stem="imagenet",
    projector_layers=3,
)
PRESETS = {"simsiam-cifar10": SIMSIAM_CIFAR10, "simsiam-imagenet": SIMSIAM_IMAGENET}
