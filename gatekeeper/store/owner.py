"""Whose new files are: what root makes in the state directory of the service's user must be that user's.

``sudo gatekeeper grant`` works beside a ``gatekeeper run`` that is not root, and the one must not make what the other
cannot open. Only a file that was made here changes hands: whatever else is there may be a trap of the folder's owner.
Light to import, for clients' keys pass by here.
"""

from __future__ import annotations

import os


def open_or_make(path: os.PathLike[str]) -> int:
    """Open a file for reading and writing, or make it 0600 for the folder's owner; return the descriptor.

    Raises:
        OSError: it can be neither; or it is a symbolic link, which we never make.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # somebody was faster
            continue
        give_to_owner(fd, os.path.dirname(path))
        return fd


def give_to_owner(fd: int, folder: str) -> None:
    """Give a file that we have just made to the owner of its folder, if we are root and that is somebody else."""
    owner = os.stat(folder or os.curdir)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)
