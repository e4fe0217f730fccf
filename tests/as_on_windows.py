"""Run a script as far as possible as on Windows: `python as_on_windows.py SCRIPT ARGUMENTS`.

What POSIX has and Windows has not is removed from `os`, `signal` and the modules, `os.name` says so, and what the
scripts use of Windows is there. The standard library and boto3 are loaded before: they are not what is tried here.
Paths stay those of POSIX.
"""

import asyncio
import ctypes
import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
import types

import boto3

WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
# Python's documentation, module os: "Availability: Unix" and the like.
POSIX_ONLY = (
    "chown", "chroot", "confstr", "ctermid", "fchmod", "fchown", "fork", "forkpty", "fpathconf", "getegid",
    "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpriority", "getresgid", "getresuid", "getsid",
    "getuid", "initgroups", "killpg", "lchown", "major", "makedev", "minor", "mkfifo", "mknod", "nice", "openpty",
    "pathconf", "posix_fadvise", "posix_fallocate", "pread", "preadv", "pwrite", "pwritev", "register_at_fork",
    "sched_yield", "sendfile", "setegid", "seteuid", "setgid", "setgroups", "setpgid", "setpriority", "setregid",
    "setresgid", "setresuid", "setreuid", "setsid", "setuid", "statvfs", "fstatvfs", "sync", "sysconf",
    "tcgetpgrp", "tcsetpgrp", "ttyname", "uname", "wait", "wait3", "wait4", "O_DIRECTORY", "O_NOFOLLOW",
    "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_CLOEXEC", "O_NOCTTY",
)  # fmt: skip
POSIX_MODULES = ("curses", "fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")


def locking(descriptor, mode, count):
    """As Windows does it: a byte of the file, which is refused where another process has it."""
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    if mode == 0:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, count, position)
        return
    writing = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    kind = fcntl.LOCK_EX if writing else fcntl.LOCK_SH  # POSIX: a file open for reading has no other lock
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, count, position)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied")  # EACCES: the C library of Windows


class Kernel32:
    """No stream is a console, and no pipe is one of Git Bash."""

    GetConsoleMode = GetFileInformationByHandleEx = staticmethod(lambda *arguments: 0)


def become_windows():
    for name in ("botocore.session", "botocore.httpsession", "multiprocessing", "unittest.mock"):
        importlib.import_module(name)
    boto3.Session()
    asyncio.new_event_loop().close()
    total = shutil.disk_usage("/")
    shutil.disk_usage = lambda path: total if os.path.exists(path) else os.stat(path)
    open_it = os.open
    os.open = lambda path, flags, *more, **options: (
        raise_(PermissionError(13, "Permission denied", path))
        if os.path.isdir(path)
        else open_it(path, flags, *more, **options)
    )
    popen = subprocess.Popen.__init__
    subprocess.Popen.__init__ = lambda self, *command, creationflags=0, **options: popen(self, *command, **options)
    for name in POSIX_ONLY:
        if hasattr(os, name):
            delattr(os, name)
    for name in dir(signal):
        if name.startswith("SIG") and name.isupper() and name not in WINDOWS_SIGNALS:
            delattr(signal, name)
    for name in ("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait"):
        delattr(signal, name)
    signal.SIGBREAK = 21
    for name in POSIX_MODULES:
        sys.modules[name] = None
    sys.modules["msvcrt"] = types.SimpleNamespace(
        LK_NBLCK=2, LK_UNLCK=0, locking=locking, get_osfhandle=lambda number: number
    )
    ctypes.WinDLL = lambda name: Kernel32
    os.name = "nt"


def raise_(error):
    raise error


if __name__ == "__main__":
    become_windows()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    from load_migration import load_script, migration

    migration.LOCKED_BYTE = 2**40  # Windows can be at 2**62 of a file, Linux cannot
    sys.exit(load_script(os.path.basename(sys.argv[0])).main())
