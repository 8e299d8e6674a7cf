"""Where temporary files are: in memory if there is room, because thousands of commits that wait for a disk take long.

A killed process loses nothing that it has written, whether that is on a disk or in memory; only a machine that loses
power would tell them apart, and no test cuts the power.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30


def in_memory() -> None:
    """Let this process and all that it starts put temporary files in memory; a TMPDIR that is set is kept."""
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    found = os.statvfs(_MEMORY)
    room_bytes = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    # Environments are installed and started there, too.
    if room_bytes >= _ROOM_BYTES and not found.f_flag & os.ST_NOEXEC:
        folder = _MEMORY / "uniroute-tests"
        folder.mkdir(exist_ok=True)
        with suppress(PermissionError):  # another user made it
            folder.chmod(0o1777)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
