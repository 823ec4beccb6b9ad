"""Programs as forks of one process that has imported their modules.

An import takes most of the time of a short program. A shim has the name of a program.
It hands its descriptors, folder, environment, words and `ulimit -f` to the process that
forks.
A test of the start itself, or of variables such as `PYTHONPATH`, needs a real program.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, AnyStr

from typing_extensions import override

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORT_ALL = f"""
import importlib, pkgutil
for name in {PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
"""

#: Its words are the descriptor of a listening socket, statements to execute first, and
#: the process of the tests.
#: For each connection, one fork runs the program, and another one waits for its end.
SERVER = r"""
import gc, io, json, os, resource, signal, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
exec(sys.argv[2])
gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
parent = int(sys.argv[3])
listener.settimeout(1)
while True:
    try:
        connection = listener.accept()[0]
    except TimeoutError:
        if os.getppid() != parent:  # it was killed
            os._exit(0)
        continue
    if not os.fork():
        break
    connection.close()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
listener.close()
request, descriptors, *_ = socket.recv_fds(connection, 65536, 3)
while part := connection.recv(65536):
    request += part
folder, environment, words, statement, limit = json.loads(request)
process = os.fork()
if process:
    os.setpgid(process, process)
    connection.sendall(b"%d\n" % process)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    connection.sendall(b"%d\n" % code)
    os._exit(0)
os.setpgid(0, 0)
connection.close()
for number, descriptor in enumerate(descriptors):
    os.dup2(descriptor, number)
    os.close(descriptor)
sys.stdin = sys.__stdin__ = open(0, closefd=False)
if environment.get("PYTHONUNBUFFERED"):
    stdout = io.TextIOWrapper(open(1, "wb", 0, closefd=False), write_through=True)
else:
    stdout = open(1, "w", closefd=False)
sys.stdout = sys.__stdout__ = stdout
sys.stderr = sys.__stderr__ = open(
    2, "w", 1, errors="backslashreplace", closefd=False
)
os.chdir(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
os.environ.clear()
os.environ.update(environment)
sys.argv[:] = words
exec(statement, {"__name__": "__main__"})
"""
#: Ends as the program does, also by a POSIX signal, and passes on SIGTERM and SIGINT.
#: It closes its own descriptors, so that the program is their only owner.
SHIM = r"""#!{python} -IS
import json, os, resource, signal, socket, sys
path, statement = {path!r}, {statement!r}
numbers = signal.SIGTERM, signal.SIGINT
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
server = socket.socket(socket.AF_UNIX)
server.connect(path)
environment = dict(os.environ)
told = environment.pop("{told}", None)
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
words = [os.getcwd(), environment, sys.argv, statement, limit]
request = json.dumps(words).encode()
sent = socket.send_fds(server, [request], [0, 1, 2])
server.sendall(request[sent:])
server.shutdown(socket.SHUT_WR)
os.closerange(0, 3)
replies = server.makefile()
process = int(replies.readline())
if told:
    os.write(int(told), b"%d" % process)
    os.close(int(told))
for number in numbers:
    signal.signal(number, lambda number, _: os.killpg(process, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
code = int(replies.readline() or 1)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""
#: The variable with the descriptor to which a shim writes the process of its program.
TOLD = "SHIM_WRITES_PROCESS_TO"


class Forks:
    """A process that forks.

    Args:
        path: Of the socket on which it listens.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def shim(self, path: Path, statement: str) -> None:
        """Write a program that runs a statement of Python in a fork."""
        text = SHIM.format(
            python=sys.executable, path=self.path, statement=statement, told=TOLD
        )
        path.write_text(text)
        path.chmod(0o755)


class Forked(subprocess.Popen[AnyStr]):
    """A shim whose POSIX signals go to its program."""

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        told, telling = os.pipe()
        env = {**(os.environ if env is None else env), TOLD: str(telling)}
        with os.fdopen(told, "rb") as process:
            try:
                super().__init__(words, env=env, pass_fds=[telling], **options)
            finally:
                os.close(telling)
            number = process.read()
        if not number:
            self.__exit__(None, None, None)
            raise ChildProcessError("the process that forks has ended")
        self.program = int(number)

    @override
    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.program, sig)


@contextmanager
def forking(
    python: Path | str, imports: str, env: Mapping[str, str] | None = None
) -> Iterator[Forks]:
    """Run a process that has imported modules. Its forks end with it.

    Args:
        python: The interpreter.
        imports: Statements that import the modules.
        env: The environment during the imports.
    """
    # The path of a socket may have 100 characters at most.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as here:
        path = f"{folder}/forks"
        here.bind(path)
        here.listen(100)
        with subprocess.Popen(
            [python, "-c", SERVER, str(here.fileno()), imports, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=env,
            pass_fds=[here.fileno()],
            start_new_session=True,
        ) as server:
            here.close()  # so that no program waits for a process that has ended
            try:
                yield Forks(path)
            finally:
                for process in processes_of(server.pid):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)


def processes_of(leader: int) -> list[int]:
    """Return the processes of a session."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--sid", str(leader)],
        capture_output=True,
        text=True,
        check=False,
    )
    return [*map(int, found.stdout.split())]


_OPEN = ExitStack()
_SHARED: list[str] = []  # the socket of the process of all workers


@functools.cache
def of_programs() -> Forks:
    """Return the process of which the project's programs are forks."""
    if _SHARED:
        return Forks(_SHARED[-1])
    return _OPEN.enter_context(forking(sys.executable, IMPORT_ALL))


def share(path: str) -> None:
    """Let programs be forks of the process that listens on a socket."""
    _SHARED.append(path)


@functools.cache
def programs() -> Path:
    """Return a folder with the programs of the project, as forks of one process."""
    folder = Path(_OPEN.enter_context(tempfile.TemporaryDirectory()))
    for name in PROJECT["project"]["scripts"]:
        program(folder / name)
    return folder


def program(path: Path, first: str = "pass") -> Path:
    """Write the program of the path's name, which executes a statement first."""
    module, function = PROJECT["project"]["scripts"][path.name].split(":")
    start = f"import sys; from {module} import {function} as run; sys.exit(run())"
    of_programs().shim(path, f"{first}; {start}")
    return path


def forked(words: Sequence[str | Path]) -> list[str]:
    """Return a command line whose program is a fork of one process."""
    program, *rest = words
    return [str(programs() / Path(program).name), *map(str, rest)]


def end_programs() -> None:
    """End all programs, and the process of which they are forks."""
    _OPEN.close()
    programs.cache_clear()
    of_programs.cache_clear()
