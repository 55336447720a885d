"""Importing Keras late, and without TensorFlow's notices on the screen that a user reads."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Printed before any log level counts; none of them asks the user to do anything.
_NOTICES = (
    "All log messages before absl::InitializeLog() is called",
    "oneDNN custom operations are on",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions:",
    # Whoever has no graphics card of NVIDIA's knows it.
    "cudart_stub.cc",
    "Could not find cuda drivers on your machine",
    "failed call to cuInit",
    "Unable to register cuDNN factory",
    "Unable to register cuFFT factory",
    "Unable to register cuBLAS factory",
    "computation placer already registered",
    "TF-TRT Warning: Could not find TensorRT",
)


def lazy(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`, which imports nothing before it is asked for.

    Reading labels needs no TensorFlow, and `python -m detection --help` answers at once. Also sets
    what TensorFlow reads once, when it is imported.

    Args:
        package: Its name.
        modules: What it offers, and the module of each.
    """
    # What its C++ calls errors here are a missing graphics card and optimisations it did without.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # It turns its faster CPU kernels on by itself only on processors with VNNI, and a snapshot
    # should give the same digits on all of a shop's PCs.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

    def attribute(name: str) -> Any:
        if name in modules:
            return getattr(importlib.import_module(modules[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute


@contextmanager
def without_notices() -> Iterator[None]:
    """Holds back what is written to the process's standard error, then passes on the rest.

    The notices come from C++, so the file descriptor is what must be caught.
    """
    sys.stderr.flush()
    try:
        screen = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if not any(notice.encode() in line for notice in _NOTICES):
                    os.write(2, line)


def without_retracing_notices() -> None:
    """A graph for every model, layer and size is meant; that notice asks nothing of a user."""
    logging.getLogger("tensorflow").addFilter(
        lambda record: "triggered tf.function retracing" not in record.getMessage()
    )


class _RegisterAfterKeras(importlib.abc.MetaPathFinder):
    """Imports our modules as soon as Keras is imported, by whomever."""

    modules: tuple[str, ...] = ()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                with without_notices():
                    execute(module)
                    for name in self.modules:
                        importlib.import_module(name)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


_FINDER = _RegisterAfterKeras()


def register_with_keras(module: str) -> None:
    """Imports a module that registers layers once Keras is there, which may be now.

    `keras.models.load_model(...)` must work after the package alone was imported, but importing
    Keras at once would cost every verb that only reads labels several seconds.

    Args:
        module: Its full name.
    """
    if "keras" in sys.modules:
        importlib.import_module(module)
        return
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _FINDER.modules += (module,)
