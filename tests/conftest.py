"""Settings for every test: property tests draw the same few examples each time, on machines of any speed."""

import contextlib
import fcntl
import gc
import os
import signal
from multiprocessing import forkserver

import pytest
import quicker  # noqa: F401
from hypothesis import settings

from stopgrad.linear_theory.tools.garbage import seldom_collect
from stopgrad.linear_theory.tools.processes import SERVER

settings.register_profile("stopgrad", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("stopgrad")

seldom_collect()  # collecting the tests is a third faster

# A backend of somebody's notebook need not be installed, and then the tests themselves could not import matplotlib.
os.environ.pop("MPLBACKEND", None)
os.environ.pop("FORCE_COLOR", None)  # else every file passes for a terminal, on which progress moves

# A shell ignores Ctrl-C for what it starts in the background, and nohup a terminal that closes; programs started by the
# tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# One server forks the processes of all tests: whoever starts it, it has loaded what any of them would have to load.
PRELOADED = (
    SERVER,
    "pytest",
    "stopgrad.experiments.preloaded",
    "stopgrad.deep.words.picture",
    "stopgrad.figures.machinery.made",
    "warmed",
)
preload = forkserver.set_forkserver_preload
forkserver.set_forkserver_preload = lambda modules: preload([*PRELOADED, *modules])
forkserver.set_forkserver_preload([])

LONGEST = ("test_product", "test_launcher", "test_linear_digits", "test_slurm", "test_own_paper", "test_surroundings")


def pytest_collection_modifyitems(items):
    """The longest first: begun last, they would leave the other workers nothing to do meanwhile."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    gc.freeze()  # nothing that is here now is ever garbage


@pytest.fixture(scope="session")
def theory(tmp_path_factory):
    """A folder of runs, without any, in which the claims of theory alone are decided: once for all workers."""
    from stopgrad.experiments import ledger
    from stopgrad.experiments.papers import chosen
    from stopgrad.experiments.store.store import Store

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "theory"
    folder.mkdir(exist_ok=True)
    papers = [paper.key for paper in chosen(having="claims")]
    # first those that no other worker is at, and then what they have found
    for key, wait in [(key, wait) for wait in (fcntl.LOCK_NB, 0) for key in papers]:
        with open(folder.with_name(f"theory of {key}.lock"), "w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | wait)
            ledger.theory_rows(key, Store(folder))
    return folder
