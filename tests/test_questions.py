"""Questions: asked where a person sits, wherever the output goes. Elsewhere only what may go on does."""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
import types

import pytest
from conftest import BUCKET
from v22 import asset

import guided_run
from load_migration import migration


def own_terminal():
    """In a child: the pseudo-terminal on its standard input becomes its controlling terminal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def converse(tables, typed, *flags, output=None, errors_too=True):
    """Run the migration on a terminal, output redirected to a file if one is given; type when it asks.
    typed: an answer for each question. errors_too: whether stderr is redirected as well.
    Returns its exit status and what the terminal showed."""
    main, side = pty.openpty()
    command = [sys.executable, migration.__file__] + tables.flags + list(flags)
    errors = output if errors_too else None
    process = subprocess.Popen(
        command, stdin=side, stdout=output or side, stderr=errors or side, cwd=tables.folder, preexec_fn=own_terminal
    )
    os.close(side)
    shown, left = b"", iter(typed)
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
        if shown.endswith(b"[y/N] "):
            os.write(main, next(left, b""))
    os.close(main)
    return process.wait(timeout=60), shown.decode()


@pytest.mark.parametrize("typed, status, done", [
    ([b"y\n"], 0, True),
    ([b"YES\n"], 0, True),
    ([b"maybe\n", b"n\n"], 130, False),
    ([b"\n"], 130, False),
    ([b"\x03"], 130, False),  # Ctrl-C
    ([b"\x04"], 130, False),  # Ctrl-D
])  # fmt: skip
@pytest.mark.parametrize("redirected", [False, True])
def test_it_asks_on_the_terminal_wherever_the_output_goes(tables, typed, status, done, redirected):
    tables.put(asset("a"))
    with open("output.txt", "w") as output:
        result, shown = converse(tables, typed, "--log-file", "run.log", output=output if redirected else None)
    with open("output.txt") as file:
        written = file.read() if redirected else shown
    assert result == status, shown + written
    question = "Migrate %s and %s (%s) now? [y/N] " % (tables.assets, tables.versions, tables.engine.endpoint_url)
    assert shown.count(question) == len(typed)
    assert ("Nothing was written." in written) is not done
    assert ("currentVersionId" in tables.asset("db01", "a")) is done
    with open("run.log") as log:
        answer = re.search(r"INFO Migrate .* now\? (yes|no)", log.read())
    assert typed[0] in (b"\x03", b"\x04") or answer.group(1) == ("yes" if done else "no")


def test_nothing_begins_where_the_reader_of_the_plan_goes_while_the_question_stands(tables):
    """As with `| head`: a yes comes, and nobody has seen all of the plan."""
    tables.put(asset("a"))
    before = tables.contents()
    reading, writing = os.pipe()

    def yes():
        os.close(reading)
        yield b"y\n"

    status, shown = converse(tables, yes(), output=writing, errors_too=False)
    os.close(writing)
    assert status == 130 and "Traceback" not in shown, shown
    assert tables.contents() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, None])
def test_asked_to_end_at_the_question_it_writes_nothing_and_leaves_nothing(tables, tmp_path, number):
    """By the wrapper, whose steps share a temporary file. None: the terminal is closed."""
    tables.put(asset("a"))
    (tmp_path / "temporary").mkdir()
    names = {"assets_table_name": tables.assets, "asset_versions_table_name": tables.versions}
    values = {**names, "asset_bucket_name": BUCKET, "endpoint_url": tables.engine.endpoint_url}
    (tmp_path / "my.json").write_text(json.dumps(values))
    main, side = pty.openpty()
    command = [sys.executable, guided_run.__file__, "rehearse", "my.json", "--log-file", "run.log"]
    process = subprocess.Popen(
        command,
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=tables.folder,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        preexec_fn=own_terminal,
    )
    os.close(side)
    shown = b""
    while not shown.endswith(b"now? [y/N] "):
        shown += os.read(main, 65536)
    if number:
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    os.close(main)
    assert process.wait(timeout=60) == 130
    with open("run.log") as log:
        said = log.read()
    # A closed terminal is the end of input as well as a signal; whichever comes first.
    assert "Nothing was written." in said or (number is None and "Interrupted." in said)
    assert tables.asset("db01", "a") == asset("a")
    assert os.listdir(str(tmp_path / "temporary")) == []


def test_without_a_terminal_the_migration_goes_on(tables):
    tables.put(asset("a"))
    command = [sys.executable, migration.__file__] + tables.flags
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0 and b"[y/N]" not in done.stdout
    assert b' now?", for its input is no terminal, as under cron or behind a pipe. It goes on.\n' in done.stdout
    assert "currentVersionId" in tables.asset("db01", "a")


def settings(**values):
    names = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}
    return migration.resolve_settings(migration.CONFIG, {}, {**names, **values})


def test_without_a_terminal_what_may_not_go_on_unasked_needs_yes(monkeypatch):
    monkeypatch.setattr(migration, "is_terminal", lambda stream: False)
    with pytest.raises(migration.SettingsError, match="--yes") as refused:
        migration.confirm("Roll back now?", settings(), unattended=False)
    assert refused.value.exit_status == 2
    for asked in (settings(yes=True), settings(dry_run=True)):
        migration.confirm("Roll back now?", asked, unattended=False)
    migration.confirm("Migrate now?", settings())


def test_no_answer_can_be_read_of_a_terminal_that_was_closed(monkeypatch):
    def readline():
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(migration, "is_terminal", lambda stream: True)
    with open(os.devnull) as null:
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(readline=readline, fileno=null.fileno))
        with pytest.raises(KeyboardInterrupt, match="Nothing was written"):
            migration.confirm("Migrate now?", settings())


def test_a_signal_that_interrupts_no_read_ends_the_question(monkeypatch):
    """As one does that comes just before the read: here another thread gets it."""
    main, side = pty.openpty()
    ended = threading.Event()
    typed = []

    def end():
        time.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if not ended.wait(10):
            typed.append(os.write(main, b"\n"))

    thread = threading.Thread(target=end)
    with open(main, "wb", buffering=0), open(side) as stdin, contextlib.ExitStack() as at_the_end:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(migration, "TEE_SECONDS", 0)
        thread.start()
        with pytest.raises(KeyboardInterrupt), migration.terminated_as_interrupted(at_the_end):
            migration.ask("Migrate now?", False)
        ended.set()
        thread.join()
    assert not typed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("Nothing was written."), migration.SettingsError("Wrong.", "mend.")]
)
def test_a_signal_while_it_says_why_it_ends_changes_nothing(monkeypatch, capsys, number, error):
    announce = migration.announce

    def disturbed(text, stream):
        os.kill(os.getpid(), number)
        announce(text, stream)

    def command(argv):
        raise error

    before = [signal.getsignal(known) for known in migration.stopping_signals()]
    monkeypatch.setattr(migration, "announce", disturbed)
    assert migration.guarded(command, []) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert capsys.readouterr().err.startswith(("Nothing was written.", "error: Wrong."))
    assert [signal.getsignal(known) for known in migration.stopping_signals()] == before


@pytest.mark.parametrize("stream", [None, types.SimpleNamespace()])
def test_no_stream_is_no_terminal(stream):
    assert not migration.is_terminal(stream)


def test_a_question_names_account_and_region_but_no_password():
    site = migration.Site("123456789012", "eu-west-1", 0, [])
    assert migration.tables_text(settings(), site) == "assets and versions (account 123456789012, region eu-west-1)"
    local = migration.tables_text(settings(endpoint_url="http://me:secret@127.0.0.1:8000"), site)
    assert local == "assets and versions (http://127.0.0.1:8000)"


class Kernel32:
    """What Windows says of a handle: a console, or a pipe with a name, or NUL."""

    def __init__(self, console, name):
        self.console, self.name = console, name.encode("utf-16-le")

    def GetConsoleMode(self, handle, mode):
        return int(self.console)

    def GetFileInformationByHandleEx(self, handle, kind, info, size):
        assert kind == 2
        if not self.name:
            return 0
        info.raw = (len(self.name).to_bytes(4, "little") + self.name).ljust(size, b"\xff")
        return 1


@pytest.mark.parametrize("console, name, expected", [
    (True, "", True),
    (False, "", False),  # NUL, of which isatty is true
    (False, r"\msys-1888ae32e00d56aa-pty0-from-master", True),  # the window of Git Bash
    (False, r"\cygwin-e022582115c10879-pty12-to-master", True),
    (False, r"\msys-1888ae32e00d56aa-2168-pipe-0x1", False),  # `echo y |` in it
    (False, r"\Device\NamedPipe\other", False),
])  # fmt: skip
def test_terminals_on_windows(monkeypatch, console, name, expected):
    monkeypatch.setattr(ctypes, "WinDLL", lambda library: Kernel32(console, name), raising=False)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(get_osfhandle=lambda descriptor: descriptor))
    assert migration._is_windows_terminal(0) is expected
