"""What a forked process that trains would do first, done once by the server: its modules, and the parser's reading."""

import contextlib
import io

import quicker  # noqa: F401
import sklearn.datasets.data  # noqa: F401
import torch.utils.serialization  # noqa: F401

import stopgrad.deep.words.report  # noqa: F401
from stopgrad.deep.__main__ import door

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    door(["train", "--epochs", "-1"])  # refused, once everything has been read
