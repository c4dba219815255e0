"""What tests need not wait for, in their own processes and in those that the server forks."""

import functools
import inspect
import os

# No test cuts the power: what a run has written may stay with the system, and nobody waits for a disk.
os.fsync = lambda _: None

# The parser of arguments looks up the text of a command's classes each time, and each time the module is parsed for it.
find, find_once = inspect.findsource, functools.cache(inspect.findsource)
inspect.findsource = lambda of: (find_once if inspect.isclass(of) else find)(of)
