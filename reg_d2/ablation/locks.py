"""Locks that die with their owners, so that two processes never work on the same run."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path


class RunLock:
    """An exclusive lock on a file, held as long as any process has it open: the owner, and the child that got it.

    The kernel lets go of it when the last of them is gone, however it went. A training that outlives its killed
    parent thus keeps its run to itself.
    """

    def __init__(self, path: Path):
        self._path, self.fd = path, -1

    def acquire(self, patience: float = 1.0) -> bool:
        """Take the lock if it is free; its folder is made.

        Args:
            patience: seconds for which it is tried again: ``is_locked`` of another process has it for a moment.
        """
        end = time.monotonic() + patience
        while not (taken := self._try()) and time.monotonic() < end:
            time.sleep(0.02)
        return taken

    def _try(self) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            taken = _flock(fd, fcntl.LOCK_EX, self._path)
        except OSError:
            os.close(fd)
            raise
        if taken:
            self.fd = fd
        else:
            os.close(fd)
        return taken

    def release(self) -> None:
        """Close our side; a child that still has the file open keeps the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock; nothing is created, and a reader's rights are enough."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, which reading is enough for: NFS asks for a file open for writing where it is exclusive.
        return not _flock(fd, fcntl.LOCK_SH, path)
    finally:
        os.close(fd)


def _flock(fd: int, operation: int, path: Path) -> bool:
    """Whether the lock was free; it is taken then."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        way_out = ""
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            way_out = "; its file system has no flock: put --output on one that has (Lustre: mounted with -o flock)"
        raise OSError(error.errno, f"{path} cannot be locked: {error.strerror}{way_out}") from None
    return True
