"""What passed and what failed, by the lines that test programs print."""

import re

# Closing lines of cargo's test runner.
CARGO_RESULT = re.compile(
    r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored; \d+ measured; (\d+) filtered out"
)
# Cargo's opening line of each suite in benches/, and its closing line for each that failed.
SUITE_STARTS = re.compile(r"^ +Running benches/")
SUITE_FAILED = re.compile(r"^error: bench failed, to rerun pass `--bench (\w+)`$")
# The closing line of cargo-deny.
DENY_RESULT = re.compile(r"^bans \w+, licenses \w+, sources \w+$")


class Tally:
    """What passed and failed, over all runners."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.reasons = []

    def fail(self, reason, count=1):
        self.failed += count
        self.reasons.append(reason)


def report(tally, seconds):
    """Says how it went, at the end."""
    for reason in tally.reasons:
        print(f"failed: {reason}")
    print(f"took {int(seconds) // 60} min {int(seconds) % 60} s")
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)


class Results:
    """What the lines that a runner prints say of its tests."""

    def __init__(self, title, tally):
        self.title = title
        self.tally = tally
        self.count = 0
        self.has_failed = False

    def fail(self, reason, count=1):
        self.has_failed = True
        self.tally.fail(reason, count)

    def read(self, line):
        if counts := CARGO_RESULT.match(line):
            self.count += 1
            passed, failed, ignored, filtered = map(int, counts.groups())
            self.tally.passed += passed
            if failed:
                self.fail(f"{failed} of {self.title}", failed)
            if ignored:
                self.fail(f"{ignored} of {self.title} were skipped", ignored)
            if filtered and not passed + failed + ignored:
                self.fail(f"{self.title}: no test has that name")
        elif SUITE_STARTS.match(line):
            self.count += 1
            self.tally.passed += 1
        elif suite := SUITE_FAILED.match(line):
            self.tally.passed -= 1
            self.fail(f"cargo bench --profile dev --bench {suite[1]}")
        elif DENY_RESULT.match(line):
            self.count += 1
            self.tally.passed += line.count(" ok")
            if failed := line.count(" FAILED"):
                self.fail(self.title, failed)

    def whole(self, status, command):
        """What ran is one test, and prints whatever it likes."""
        self.count += 1
        self.tally.passed += status == 0
        self.ended(status, command)

    def ended(self, status, command):
        if status != 0 and not self.has_failed:
            self.fail(f"{self.title}: `{command}` ended with {status}")
        elif self.count == 0 and not self.has_failed:
            self.fail(f"{self.title}: no test ran")
