"""Test programs side by side, while cargo compiles what others need."""

import concurrent.futures
import json
import os
import subprocess
import threading
import time

from runner.places import ROOT
from runner.results import Results

# How many programs run at a time: most of them wait for RabbitMQ.
SIDE_BY_SIDE = 3
# Tests of many modules, in one process.
SHARING = "those that share a RabbitMQ"
# Those that take longest begin first. A wrong order costs time only.
LONGEST = [SHARING, "ledger", "kosoku", "rabbit_rewound"]
# Those that use something of which there is one. No other program runs beside itself either.
EXCLUSIVE = {"command_line": "the default ports", "readme": "the default ports"}

# When all this began.
BEGINNING = time.monotonic()


class Program:
    """A test program, or what of it has a name of its own, and which RabbitMQ it starts, if it does."""

    def __init__(self, name, command, environment=None, version=None, after=None):
        self.name = name
        self.command = command
        self.environment = {**(environment or {}), **({"TEST_RABBITMQ": version} if version else {})}
        self.title = f"{name}, RabbitMQ {version}" if version else name
        self.uses = EXCLUSIVE.get(name, name)
        # The build that must have ended.
        self.after = after

    def order(self):
        return LONGEST.index(self.name) if self.name in LONGEST else len(LONGEST)

    def run(self, tally, printing):
        started = time.monotonic()
        # As cargo runs it.
        environment = {**os.environ, "CARGO_MANIFEST_DIR": str(ROOT), **self.environment}
        with subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as runner:
            printed = runner.stdout.read()
            _, status, usage = os.wait4(runner.pid, 0)
            runner.returncode = os.waitstatus_to_exitcode(status)
        took, busy = time.monotonic() - started, usage.ru_utime + usage.ru_stime
        with printing:
            figures = f"{took:.0f} s, {busy:.0f} s of CPU, begun after {minutes(started)}"
            print(f"\n== {self.title} ({figures})\n{printed.strip()}", flush=True)
            results = Results(self.title, tally)
            self.judge(results, printed, runner.returncode)

    def judge(self, results, printed, status):
        for line in printed.splitlines():
            results.read(line)
        results.ended(status, " ".join(self.command))


class Suite(Program):
    """A suite of benches/, once and short: it works if it ends well."""

    def __init__(self, name, executable):
        super().__init__(f"the suite `{name}`, short", ["nice", "-n", "5", executable, "--short", "--bench"])
        self.uses = "a CPU for the server and one for the clients"

    def order(self):
        # They run one after the other.
        return -1

    def judge(self, results, printed, status):
        results.whole(status, " ".join(self.command))


class Build:
    """What cargo compiles, and which programs run each executable that it makes."""

    def __init__(self, title, command, programs_of=None, environment=None, niceness=0):
        self.title = title
        self.command = command
        # By the kind and the name of the target, and the executable.
        self.programs_of = programs_of
        self.environment = environment or {}
        self.niceness = niceness
        self.has_ended = False

    def run(self, start, tally, printing):
        """Compiles. Hands programs to `start` as soon as they can run."""
        print(f"\n(building {self.title})", flush=True)
        started = time.monotonic()
        said, made_any = [], False
        # Tests start the program itself. Cargo may finish it after them.
        early, is_there = [], False
        with subprocess.Popen(
            ["nice", "-n", str(self.niceness), *self.command, "--message-format", "json-render-diagnostics"],
            cwd=ROOT,
            env={**os.environ, "CARGO_NET_OFFLINE": "true", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as cargo:
            for line in cargo.stdout:
                if not line.startswith("{"):
                    said.append(line)
                    continue
                message = json.loads(line)
                is_there = is_there or is_the_program(message)
                if self.programs_of and (made := made_to_be_run(message)):
                    made_any = True
                    early.extend(self.programs_of(*made))
                if is_there:
                    start(early)
                    early = []
        start(early)
        with printing:
            figures = f"{time.monotonic() - started:.0f} s, begun after {minutes(started)}"
            print(f"\n(built {self.title}: {figures})", flush=True)
            if cargo.returncode != 0:
                print("".join(said), flush=True)
                tally.fail(f"{self.title} cannot be built: `{' '.join(map(str, self.command))}`")
            elif self.programs_of and not made_any:
                tally.fail(f"{self.title}: cargo has made nothing to be run")


def is_the_program(message):
    """Whether a message of cargo's says that the program is built which tests start."""
    return (
        message["reason"] == "compiler-artifact"
        and message["target"]["kind"] == ["bin"]
        and not message["profile"]["test"]
    )


def made_to_be_run(message):
    """Of a message of cargo's: kind and name of a target that is a test or a suite, and its executable."""
    if message["reason"] != "compiler-artifact" or not message["executable"]:
        return None
    kind, name = message["target"]["kind"][0], message["target"]["name"]
    is_one = message["profile"]["test"] or kind == "bench"
    return (kind, name, message["executable"]) if is_one else None


def minutes(moment):
    """How long after the beginning that was."""
    seconds = int(moment - BEGINNING)
    return f"{seconds // 60}:{seconds % 60:02} min"


def run_programs(programs, builds, at_a_time, tally):
    """Runs all, and shows what each printed when it has ended. Meanwhile it builds, one after the other, and runs what
    is built as well."""
    waiting = sorted(programs, key=Program.order)
    in_use = set()
    is_building = True
    change = threading.Condition()
    printing = threading.Lock()

    def next_program():
        """The next one that may run; none when all have. With `change` held."""
        while True:
            for program in waiting:
                if program.uses not in in_use and (program.after is None or program.after.has_ended):
                    return program
            if not waiting and not is_building:
                return None
            change.wait()

    def work():
        while True:
            with change:
                program = next_program()
                if program is None:
                    return
                waiting.remove(program)
                in_use.add(program.uses)
            try:
                program.run(tally, printing)
            finally:
                with change:
                    in_use.remove(program.uses)
                    change.notify_all()

    def start(further):
        with change:
            waiting.extend(further)
            waiting.sort(key=Program.order)
            change.notify_all()

    def build():
        nonlocal is_building
        try:
            for each in builds:
                each.run(start, tally, printing)
                with change:
                    each.has_ended = True
                    change.notify_all()
        finally:
            with change:
                # Nobody waits for what will not come.
                for each in builds:
                    each.has_ended = True
                is_building = False
                change.notify_all()

    with concurrent.futures.ThreadPoolExecutor(at_a_time + 1) as pool:
        for worker in [pool.submit(build), *(pool.submit(work) for _ in range(at_a_time))]:
            worker.result()
