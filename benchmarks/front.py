"""An HTTP server between a client and DynamoDB Local that behaves more like AWS, or worse.

    with Front(engine.port, latency=0.005, partition_units=150) as front:
        client = connect(front.endpoint_url)

It delays requests, limits the write units of each partition, reports the units that writes
took (DynamoDB Local does neither), injects faults, calls hooks, and counts.

Not as in AWS: a partition is never split or boosted, and reads are never throttled. The size of
an item is taken to be that of the JSON of what a write sends; the type tags in it make up for the
attributes that an update does not send. One write takes a unit for each started KB of that.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import random
import re
import socket
import threading
import time
import typing

UNLIMITED = 1e9  # partition_units that only count
LIMITED_OPERATIONS = ("PutItem", "UpdateItem", "DeleteItem")  # and the statements of BatchExecuteStatement


@dataclasses.dataclass
class Faults:
    """Probabilities of what goes wrong, and when it always does. May be changed while running."""

    # Of a request. Before the engine has it:
    cut: float = 0.0  # the connection ends
    internal_error: float = 0.0  # HTTP 500
    unavailable: float = 0.0  # HTTP 503
    throttling: float = 0.0  # HTTP 400 ThrottlingException
    # After the engine has executed it:
    answer_lost: float = 0.0  # the connection ends
    internal_error_done: float = 0.0  # HTTP 500
    garbled: float = 0.0  # half of the answer's JSON, as if it were all
    truncated: float = 0.0  # half of the answer, then the connection ends
    slow: float = 0.0  # the answer comes after slow_seconds
    slow_seconds: float = 0.5
    # Of a statement in BatchExecuteStatement:
    statement_throughput: float = 0.0  # ProvisionedThroughputExceeded
    statement_throttling: float = 0.0  # ThrottlingError
    statement_conflict: float = 0.0  # TransactionConflict
    statement_internal: float = 0.0  # InternalServerError, not executed
    statement_internal_done: float = 0.0  # InternalServerError, executed
    # The probabilities hold for these operations only; () means all.
    operations: typing.Tuple[str, ...] = ()
    # Pairs of operation and table that are denied. PartiQLInsert, PartiQLUpdate and PartiQLDelete,
    # as IAM calls them, are denied statement by statement.
    denied: typing.Collection[typing.Tuple[str, str]] = ()
    # From the request with this number on (they count from 1) the token is expired.
    expired_from: float = float("inf")


BEFORE = ("cut", "internal_error", "unavailable", "throttling")
AFTER = ("answer_lost", "internal_error_done", "garbled", "truncated", "slow")
STATEMENT_CODES = {
    "statement_throughput": "ProvisionedThroughputExceeded",
    "statement_throttling": "ThrottlingError",
    "statement_conflict": "TransactionConflict",
    "statement_internal": "InternalServerError",
    "statement_internal_done": "InternalServerError",
}


class Cut(Exception):
    """The connection ends without an answer. Hooks may raise it too."""


class Request(typing.NamedTuple):
    number: int
    operation: str
    head: bytes
    body: bytes

    @property
    def payload(self):
        return json.loads(self.body)


class Answer(typing.NamedTuple):
    status: int
    body: bytes
    missing: int = 0  # bytes that the head promises and the connection never brings

    @property
    def payload(self):
        return json.loads(self.body)


class Partition:
    """The write units of one partition key: a bucket that holds one second's worth."""

    def __init__(self, rate, now):
        self.rate = self.tokens = rate
        self.filled_at = now
        self.first_at = self.last_at = None
        self.accepted = self.rejected = 0
        self.units = 0.0

    def admits(self, units, now):
        self.tokens = min(self.rate, self.tokens + self.rate * (now - self.filled_at))
        self.filled_at = now
        if self.tokens < min(units, self.rate):
            self.rejected += 1
            return False
        self.tokens -= units
        self.accepted += 1
        self.units += units
        self.first_at = self.first_at or now
        self.last_at = now
        return True

    def used(self):
        """The share of the units there were from the first to the last write that was taken.
        The full bucket of the start counts among them."""
        return self.units / (self.rate * (1.0 + self.last_at - self.first_at))


class Server:
    """HTTP/1.1 with a thread for each connection; they live as long as the `with`."""

    def __init__(self):
        self._connections = set()
        self._connections_lock = threading.Lock()

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *unused):
        with self._connections_lock:
            open_sockets = [self._listener] + list(self._connections)
        for open_socket in open_sockets:
            hang_up(open_socket)

    @property
    def endpoint_url(self):
        return "http://127.0.0.1:%d" % self._listener.getsockname()[1]

    def answer(self, head, body):
        """The Answer to a request; raises Cut or OSError to give none."""
        raise NotImplementedError

    def ended(self):
        """Called in a connection's thread when the connection has ended."""

    def _accept(self):
        with contextlib.suppress(OSError), self._listener:
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with self._connections_lock:
            self._connections.add(connection)
        try:
            with connection, connection.makefile("rb") as stream:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for head, body in iter(lambda: read_message(stream), None):
                    answer = self.answer(head, body)
                    connection.sendall(as_message(answer))
                    if answer.missing:
                        break
        except (OSError, Cut):
            pass
        finally:
            with self._connections_lock:
                self._connections.discard(connection)
            self.ended()


class Front(Server):
    """The server between a client and the engine.

    engine_port: of DynamoDB Local, on this machine.
    latency: seconds added to each request, or (least, most).
    partition_units: write units a second that each partition key takes; None: not even counted.
    faults, seed: what goes wrong, and which random numbers decide when.
    before(request), after(request, answer): called in the connection's thread, several at once,
    before a request goes to the engine and after its answer came from there.

    Counts: `requests` by operation, `statements` by kind, `faulted` by the name of the fault, and
    `partitions` by (table, partition key); `accepted` has (when, units) of each write.
    """

    def __init__(self, engine_port, latency=0.0, partition_units=None, faults=None, seed=0, before=None, after=None):
        super().__init__()
        self.engine_address = ("127.0.0.1", engine_port)
        self.latency = latency if isinstance(latency, tuple) else (latency, latency)
        self.partition_units = partition_units
        self.faults = faults or Faults()
        self.before = before or (lambda request: None)
        self.after = after or (lambda request, answer: None)
        self.requests = collections.Counter()
        self.statements = collections.Counter()
        self.faulted = collections.Counter()
        self.partitions = {}
        self.accepted = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._engine = threading.local()

    def answer(self, head, body):
        return self._answer(self._request(head, body))

    def ended(self):
        self._close_engine()

    def _request(self, head, body):
        target = TARGET.search(head)
        operation = target.group(1).decode() if target else ""
        with self._lock:
            self.requests[operation] += 1
            if operation == "BatchExecuteStatement":
                self.statements.update(kind.decode() for kind in KIND.findall(body))
            return Request(sum(self.requests.values()), operation, head, body)

    # What becomes of a request.

    def _answer(self, request):
        if self.latency[1]:
            time.sleep(self._uniform(*self.latency))
        refusal = self._denied(request)
        if refusal:
            return refusal
        fault = self._fault(request, BEFORE + AFTER)
        if fault in BEFORE:
            return failure(fault)
        self.before(request)
        answer = self._executed(request)
        self.after(request, answer)
        if fault == "slow":
            time.sleep(self.faults.slow_seconds)
        elif fault in ("garbled", "truncated"):
            half = answer.body[: len(answer.body) // 2]
            return Answer(answer.status, half, len(answer.body) - len(half) if fault == "truncated" else 0)
        elif fault is not None:
            return failure(fault)
        return answer

    def _denied(self, request):
        if request.number >= self.faults.expired_from:
            return error(400, "ExpiredTokenException", "The security token included in the request is expired")
        for operation, table in self.faults.denied:
            # In a statement the quotes are escaped.
            if operation == request.operation and re.search(rb'"%s\\?"' % re.escape(table.encode()), request.body):
                message = "User is not authorized to perform: dynamodb:%s on resource: %s" % (operation, table)
                return error(400, "AccessDeniedException", message)
        return None

    def _fault(self, request, names):
        """The name of the fault that strikes now, or None."""
        if self.faults.operations and request.operation not in self.faults.operations:
            return None
        point = self._uniform(0.0, 1.0)
        for name in names:
            point -= getattr(self.faults, name)
            if point < 0:
                with self._lock:
                    self.faulted[name] += 1
                return name
        return None

    def _executed(self, request):
        if request.operation == "BatchExecuteStatement" and self._looks_into_batches():
            return self._batch_executed(request)
        if request.operation in LIMITED_OPERATIONS and self.partition_units is not None:
            write = request.payload
            key = write.get("Key") or write["Item"]
            table, partition = write["TableName"], key.get("databaseId") or key["assetId"]
            if not self._admits((table, partition["S"]), units_of(request.body)):
                return error(400, "ProvisionedThroughputExceededException", "The partition takes no more now")
        return self._forward(request)

    def _looks_into_batches(self):
        faults = self.faults
        return self.partition_units is not None or faults.denied or any(getattr(faults, n) for n in STATEMENT_CODES)

    def _batch_executed(self, request):
        """Refuse some statements of a batch, forward the others, put the answers back in order."""
        payload = request.payload
        statements = payload["Statements"]
        answers, units, forwarded = [], [], []
        for statement in statements:
            answer, is_executed, taken = self._judged(request, statement)
            answers.append(answer)
            units.append(taken)
            if is_executed:
                forwarded.append(len(answers) - 1)
        if forwarded:
            payload["Statements"] = [statements[number] for number in forwarded]
            answer = self._forward(request._replace(body=json.dumps(payload).encode()))
            if answer.status != 200:
                return answer
            for number, response in zip(forwarded, answer.payload["Responses"]):
                answers[number] = answers[number] or response
        result = {"Responses": answers}
        if payload.get("ReturnConsumedCapacity", "NONE") != "NONE":
            tables = [parsed(statement["Statement"])[1] for statement in statements]
            result["ConsumedCapacity"] = [
                {"TableName": table, "CapacityUnits": taken} for table, taken in zip(tables, units)
            ]
        return Answer(200, json.dumps(result).encode())

    def _judged(self, request, statement):
        """The answer to a statement where it is not the engine's, whether the engine gets it, and the
        units that it takes."""
        kind, table, key_position = parsed(statement["Statement"])
        if ("PartiQL" + kind.capitalize(), table) in self.faults.denied:
            return statement_error(table, "AccessDenied"), False, 0.0
        fault = self._fault(request, STATEMENT_CODES)
        if fault in ("statement_internal_done", None):
            units = units_of(json.dumps(statement["Parameters"]))
            partition = statement["Parameters"][key_position]["S"]
            if not self._admits((table, partition), units):
                return statement_error(table, "ProvisionedThroughputExceeded"), False, 0.0
            return statement_error(table, STATEMENT_CODES[fault]) if fault else None, True, units
        return statement_error(table, STATEMENT_CODES[fault]), False, 0.0

    def _admits(self, key, units):
        if self.partition_units is None:
            return True
        now = time.monotonic()
        with self._lock:
            if key not in self.partitions:
                self.partitions[key] = Partition(self.partition_units, now)
            admitted = self.partitions[key].admits(units, now)
            if admitted:
                self.accepted.append((now, units))
            return admitted

    def _uniform(self, low, high):
        with self._lock:
            return self._random.uniform(low, high)

    # The engine's side: one connection for each of ours.

    def _forward(self, request):
        head = LENGTH.sub(b"\r\nContent-Length: %d\r\n" % len(request.body), request.head)
        for _attempt in (1, 2):
            if getattr(self._engine, "socket", None) is None:
                self._engine.socket = socket.create_connection(self.engine_address)
                self._engine.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._engine.stream = self._engine.socket.makefile("rb")
            self._engine.socket.sendall(head + request.body)
            message = read_message(self._engine.stream)
            if message is not None:
                return Answer(int(message[0].split(b" ", 2)[1]), message[1])
            self._close_engine()  # it had been idle for long
        raise Cut

    def _close_engine(self):
        if getattr(self._engine, "socket", None) is not None:
            self._engine.stream.close()
            self._engine.socket.close()
            self._engine.socket = None


# --- Messages --------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 %d %s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n"
TARGET = re.compile(rb"\r\nX-Amz-Target: *DynamoDB_[0-9]+\.(\w+)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\nContent-Length: *([0-9]+)\r\n", re.IGNORECASE)
KIND = re.compile(rb'"Statement": *"(\w+)')
MARKED_NAME = re.compile(r"""["'](\w+)["'] *[:=] *\?""")


def read_message(stream):
    """Head and body of the next HTTP message, None where the connection ended before it."""
    lines = [stream.readline()]
    while lines[-1] not in (b"\r\n", b""):
        lines.append(stream.readline())
    if not lines[-1]:
        return None
    head = b"".join(lines)
    length = LENGTH.search(head)
    return head, stream.read(int(length.group(1))) if length else b""


def as_message(answer):
    reason = b"OK" if answer.status == 200 else b"Error"
    return HEAD % (answer.status, reason, len(answer.body) + answer.missing) + answer.body


def hang_up(open_socket):
    """End a connection, or the waiting for one, in whichever thread uses it."""
    try:
        open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        open_socket.close()


@functools.lru_cache(maxsize=5000)
def parsed(text):
    """Of a PartiQL write: its kind, its table, and which `?` is the partition key."""
    kind, table = re.match(r'(INSERT|UPDATE|DELETE)(?: INTO| FROM)? "([^"]+)"', text).groups()
    names = {found.group(1): text.count("?", 0, found.end()) - 1 for found in MARKED_NAME.finditer(text)}
    # A version record's key begins with assetId, and it has no databaseId.
    return kind, table, names["databaseId"] if "databaseId" in names else names["assetId"]


def units_of(sent):
    """Write units of what was sent: one for each started KB."""
    return float(-(-len(sent) // 1024))


def error(status, code, message):
    body = {"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": message}
    return Answer(status, json.dumps(body).encode())


def failure(fault):
    if fault in ("cut", "answer_lost"):
        raise Cut
    if fault == "throttling":
        return error(400, "ThrottlingException", "Rate exceeded")
    if fault == "unavailable":
        return Answer(503, b"Service Unavailable")
    return error(500, "InternalServerError", "The request processing has failed")


def statement_error(table, code):
    return {"Error": {"Code": code, "Message": "Said by the front"}, "TableName": table}
