"""What a worker process is born with: the modules a run needs, and the digest of their text as it was when read.

Workers that start later, after somebody has edited a file, then still name the code that they carry out. Every new
process looks at the program that it was started by, so the commands are there too, and
what only some runs import.
"""

import sklearn.datasets
import sklearn.linear_model  # noqa: F401

import stopgrad.deep.method.backbones.resnet_network
import stopgrad.deep.training.runs
import stopgrad.experiments.__main__  # noqa: F401
from stopgrad.deep.config import Config
from stopgrad.deep.storage.provenance import code
from stopgrad.experiments.launch.one_run import carry_out  # noqa: F401

code(Config())
