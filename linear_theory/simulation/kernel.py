"""The integrator's inner loop as a C++ program for one flow: written by `kernel_source`, compiled and kept here.

A program takes the compiler a second or two and is kept for the next process in $XDG_CACHE_HOME/stopgrad/kernels (or
~/.cache/stopgrad/kernels), which may be deleted at any time.
"""

import contextlib
import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from stopgrad.linear_theory.simulation.allocator import keep_memory
from stopgrad.linear_theory.simulation.kernel_source import Given, source
from stopgrad.linear_theory.simulation.runge_kutta import Problem
from stopgrad.linear_theory.tools.files import cache_folder, passing_folder

# Contraction makes a·b + c one instruction. NaN and infinity keep their meaning: no -ffast-math. The text is vectors
# already; with -O3 GCC 12 takes them apart again, and the program is half as fast.
_FLAGS = ("-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-pthread", "-w")
# Named sets of instructions rather than those of the machine at hand: several machines may share a cache.
_INSTRUCTIONS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
}
_THREADS_WORK = 2**18  # systems times steps that are worth a thread: about a millisecond


@functools.cache
def compiler() -> str | None:
    """The path of the C++ compiler, $CXX or a usual one; None, with one warning, where there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        warnings.warn(
            f"no C++ compiler ({', '.join(names)}), so integration is not fused and some 20 times slower", stacklevel=4
        )
    return found


def _folder() -> Path:
    """Where programs are kept; a folder of this process alone where that cannot be written."""
    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return passing_folder()


def place(text: str) -> tuple[list[str], Path]:
    """The compiler's command for a program, and the file that keeps what it makes of it."""
    instructions = _INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ())
    command = [compiler(), *_FLAGS, *instructions, "-x", "c++", "-"]
    parts = [text, os.path.realpath(command[0]), *command, platform.platform()]  # g++ itself may be a link, or ccache
    return command, _folder() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.so"


def _library(text: str) -> ctypes.CDLL:
    """The program compiled, or as compiled before; one that cannot be loaded is compiled again.

    Raises subprocess.CalledProcessError where the compiler fails, OSError where the result cannot be kept or loaded.
    """
    command, path = place(text)
    with contextlib.suppress(OSError):
        return ctypes.CDLL(path)
    handle, made = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    try:
        text_of_any_kind = {"encoding": "utf-8", "errors": "replace"}
        subprocess.run([*command, "-o", made], input=text, **text_of_any_kind, capture_output=True, check=True)
        os.chmod(made, path.parent.stat().st_mode & 0o777)  # as open to others as its folder
        os.replace(made, path)  # at once: another process never sees half a program
    finally:
        Path(made).unlink(missing_ok=True)
    return ctypes.CDLL(path)


class _Call(ctypes.Structure):
    """`Call` of the program."""

    _fields_ = [
        ("size", ctypes.c_long),
        ("segments", ctypes.c_long),
        ("values", ctypes.c_void_p),
        ("widths", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("keeps", ctypes.c_void_p),
        ("outputs", ctypes.c_long),
        ("fields", ctypes.c_void_p),
        ("errors", ctypes.c_void_p),
    ]


@functools.lru_cache
def kernel(problem: Problem, given: tuple[Given, ...]) -> Callable | None:
    """A function that integrates whole batches of this problem on the CPU; None, with one warning, where C++ cannot.

    given: as for `source`. The function takes float64 tensors, those of the batch contiguous and of one length:
    (fields, leaves, rates, [unit], segments) → fields (outputs, size, …) and their errors (size,). Segments are
    triples: step, number of steps (and twice as many of half the width), whether to keep what is reached.
    """
    try:
        text = source(problem, given)
    except Exception as reason:  # whatever the flow may say of being called on no numbers
        _tell(problem, f"it cannot be written as a C++ program ({reason})")
        return None
    try:
        advance = _library(text).advance
    except (subprocess.CalledProcessError, OSError) as reason:
        said = (getattr(reason, "stderr", None) or str(reason)).strip().partition("\n")[0]
        _tell(problem, f"the C++ compiler failed ({said})")
        return None
    keep_memory(2**26, 2**22)  # faulting the results in anew at each call takes as long as a tenth of the steps
    shapes = [one.shape for one in given[: len(problem.kind._fields)]]

    def run(y, leaves, rates, units, segments):
        outputs, size = sum(keep for *_, keep in segments), len(y[0])
        everything = [_apart(v, one) for v, one in zip((*y, *leaves, *rates, *units), given)]
        pointers = [row.data_ptr() for rows in everything for row in rows]
        sizes = [math.prod(shape) for shape in shapes]
        fields = torch.empty(sum(sizes), outputs, size, dtype=torch.float64)
        errors = torch.empty(size, dtype=torch.float64)
        values = (ctypes.c_void_p * len(pointers))(*pointers)
        columns = zip((ctypes.c_double, ctypes.c_long, ctypes.c_bool), zip(*segments))
        arrays = [values, *((kind * len(segments))(*column) for kind, column in columns)]
        addresses = [ctypes.addressof(array) for array in arrays]
        call = _Call(size, len(segments), *addresses, outputs, fields.data_ptr(), errors.data_ptr())
        work = size * sum(count for _, count, _ in segments)
        advance(ctypes.byref(call), min(torch.get_num_threads(), 1 + work // _THREADS_WORK))
        parts = zip(fields.split(sizes), shapes)
        return [v.permute(1, 2, 0).reshape(outputs, size, *shape) for v, shape in parts], errors

    return run


def _apart(v: torch.Tensor, one: Given) -> torch.Tensor:
    """Each number of a system as a row of its own: (cells, size), or (cells, 1) where the batch shares it."""
    return v.reshape(-1, one.cells).T.contiguous() if one.batched else v.reshape(one.cells, 1).contiguous()


def _tell(problem: Problem, why: str) -> None:
    flow = getattr(problem.flow, "func", problem.flow)
    name = getattr(flow, "__name__", type(flow).__name__)
    warnings.warn(f"{name} is integrated by torch, many times slower: {why}", stacklevel=4)
