"""TensorFlow's notices at import, kept off the screen that a user reads."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Printed before any log level counts; none of them asks the user to do anything.
_NOTICES = (
    "All log messages before absl::InitializeLog() is called",
    "oneDNN custom operations are on",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions:",
)


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
