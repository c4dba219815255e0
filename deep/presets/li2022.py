"""Li, Efros & Pathak 2022."""

from stopgrad.deep.config import change
from stopgrad.deep.presets.simsiam import SIMSIAM_IMAGENET

# The released script's defaults, and batch 256 of its README: ResNet-18, projector d → d → d → 2048, d = 512. Its probe
# has another protocol (LARS, batch 1024).
LI2022_IMAGENET = change(SIMSIAM_IMAGENET, backbone="resnet18", projector_hidden=512, batch_size=256)
PRESETS = {"li2022-imagenet": LI2022_IMAGENET}
