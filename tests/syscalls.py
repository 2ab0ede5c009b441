"""The system calls of a Python function, seen and disturbed from outside.

A forked child runs the function and is traced with ptrace(2), its threads with it. The tracer sees each system call
twice, at its entry and at its exit, and at the entry it may

    let it go on      and note its name, the paths and files that it names, and its result
    kill the process  so that the call is never made: the crash of a machine at this instruction
    refuse the call   so that it is not made and seems to fail with an error number

Only what the child does after `begin` is traced: what it needs first costs nothing. Linux on x86_64.
"""

import ctypes
import gc
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

KILL = -1
"""What a plan returns to kill the process; a positive number is an errno to refuse with, None goes on."""
KILLED = -signal.SIGKILL

_TRACEME, _SYSCALL, _POKEUSER, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 6, 0x4200, 0x420E
_SYSGOOD, _FOLLOW_THREADS, _EXITKILL = 0x1, 0x8, 0x100000
_WALL = 0x40000000
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_ENTRY, _EXIT = 1, 2
_ORIG_RAX, _RAX = 15 * 8, 10 * 8
_INFO = struct.Struct("<B3xIQQQ6Q")
_AT_FDCWD = -100

# Number, name, and what its arguments are: f an open file, d a folder for the path that follows, p a path.
_TABLE = """
0 read f|1 write f|2 open p|3 close f|4 stat p|5 fstat f|6 lstat p|8 lseek f|9 mmap ....f|10 mprotect|11 munmap|12 brk
13 rt_sigaction|14 rt_sigprocmask|16 ioctl f|17 pread64 f|18 pwrite64 f|19 readv f|20 writev f|21 access p
24 sched_yield|25 mremap|28 madvise|35 nanosleep|39 getpid|40 sendfile ff|56 clone|60 exit|63 uname|72 fcntl f
73 flock f|74 fsync f|75 fdatasync f|76 truncate p|77 ftruncate f|79 getcwd|82 rename pp|83 mkdir p|84 rmdir p
86 link pp|87 unlink p|88 symlink .p|89 readlink p|90 chmod p|91 fchmod f|92 chown p|93 fchown f|95 umask|102 getuid
107 geteuid|137 statfs p|138 fstatfs f|188 setxattr p|190 fsetxattr f|191 getxattr p|193 fgetxattr f|194 listxattr p
196 flistxattr f|186 gettid|202 futex|217 getdents64 f|221 fadvise64 f|228 clock_gettime|231 exit_group|257 openat dp
258 mkdirat dp|262 newfstatat dp|263 unlinkat dp|264 renameat dpdp|265 linkat dpdp|266 symlinkat .dp
267 readlinkat dp|268 fchmodat dp|269 faccessat dp|273 set_robust_list|277 sync_file_range f|280 utimensat dp
285 fallocate f|295 preadv f|296 pwritev f|306 syncfs f|316 renameat2 dpdp|318 getrandom
326 copy_file_range f.f|327 preadv2 f|328 pwritev2 f|332 statx dp|334 rseq
435 clone3|439 faccessat2 dp|452 fchmodat2 dp
"""
_CALLS = {
    int(number): (name, kinds[0] if kinds else "")
    for number, name, *kinds in (entry.split() for entry in _TABLE.replace("\n", "|").split("|") if entry)
}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Call(NamedTuple):
    """One system call at its entry."""

    number: int
    """How many calls the process made before it since `begin`."""
    name: str
    paths: tuple[str, ...]
    """The paths and open files that it names, in the order of its arguments."""


Plan = Callable[[Call], int | None]


@dataclass
class Traced:
    """What became of a function."""

    code: int = 0
    """The exit code, negative for a signal."""
    calls: list[Call] = field(default_factory=list)
    results: dict[int, int] = field(default_factory=dict)
    """What calls returned, by number; of a failed one the negative error number."""


def unavailable() -> str | None:
    """Return why nothing can be traced here, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "system calls are traced on Linux with x86_64 only"
    try:
        code = trace(begin).code
    except OSError as error:
        return f"ptrace is not allowed here: {error}"
    return None if code == 0 else "ptrace is not allowed here"


def begin() -> None:
    """Let tracing begin: called by the function that is traced, once it has what it needs."""
    _ptrace(_TRACEME, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def trace(work: Callable[[], None], plan: Plan = lambda _: None, *, paths: bool = True) -> Traced:
    """Run a function in a forked child and return its system calls since it called `begin`.

    The child ends with exit code 0, or with 1 and a traceback when the function raises. Without `paths`, which costs
    most of the time, only a call that is disturbed names its files.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run(work)
    # Both sides set the group, so that it stands before either goes on.
    _set_group(child)
    return _Tracer(child, plan, paths=paths).run()


def _run(work: Callable[[], None]) -> None:
    code = 1
    try:
        gc.disable()
        _set_group(0)
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)


def _set_group(process: int) -> None:
    try:
        os.setpgid(process, process)
    except (PermissionError, ProcessLookupError):
        # The child has set it already, or has ended.
        return


def _ptrace(request: int, thread: int, address: int, data: int) -> int:
    result = int(_libc.ptrace(request, thread, address, data))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace request {request}: {os.strerror(number)}")
    return result


class _Tracer:
    """Follows one child and its threads from stop to stop."""

    def __init__(self, child: int, plan: Plan, *, paths: bool) -> None:
        self.child, self.plan, self.paths, self.traced = child, plan, paths, Traced()
        self.threads: set[int] = set()
        self.inside: dict[int, tuple[int, int | None]] = {}
        self.buffer = ctypes.create_string_buffer(_INFO.size + 16)

    def run(self) -> Traced:
        while True:
            # Only this child's group: a test runner's other children are not ours to reap.
            thread, status = os.waitpid(-self.child, _WALL)
            if not os.WIFSTOPPED(status):
                if thread == self.child:
                    self.traced.code = os.waitstatus_to_exitcode(status)
                    return self.traced
                continue
            try:
                self._go_on(thread, os.WSTOPSIG(status), status >> 16)
            except ProcessLookupError:
                # Killed while it stood: its end is reported next.
                continue

    def _go_on(self, thread: int, stop: int, event: int) -> None:
        passed_on = 0
        if thread not in self.threads:
            self.threads.add(thread)
            _ptrace(_SETOPTIONS, thread, 0, _SYSGOOD | _FOLLOW_THREADS | _EXITKILL)
        elif stop == _SYSCALL_STOP:
            self._at_call(thread)
        elif event == 0:
            passed_on = stop
        _ptrace(_SYSCALL, thread, 0, passed_on)

    def _at_call(self, thread: int) -> None:
        size = len(self.buffer)
        _ptrace(_GET_SYSCALL_INFO, thread, size, ctypes.addressof(self.buffer))
        kind, _, _, _, number, *arguments = _INFO.unpack_from(self.buffer)
        if kind == _ENTRY:
            call = self._describe(thread, number, arguments, paths=self.paths)
            verdict = self.plan(call)
            if verdict is not None and not self.paths:
                call = self._describe(thread, number, arguments, paths=True)
            self.traced.calls.append(call)
            self.inside[thread] = call.number, self._disturb(thread, verdict)
        elif kind == _EXIT and thread in self.inside:
            index, refused = self.inside.pop(thread)
            if refused is not None:
                _ptrace(_POKEUSER, thread, _RAX, -refused)
                number = -refused
            self.traced.results[index] = ctypes.c_long(number).value

    def _disturb(self, thread: int, verdict: int | None) -> int | None:
        if verdict == KILL:
            os.kill(self.child, signal.SIGKILL)
        elif verdict is not None:
            _ptrace(_POKEUSER, thread, _ORIG_RAX, -1)
            return verdict
        return None

    def _describe(self, thread: int, number: int, arguments: list[int], *, paths: bool) -> Call:
        name, kinds = _CALLS.get(number, (f"call_{number}", ""))
        named = _paths(thread, kinds, arguments) if paths else []
        return Call(len(self.traced.calls), name, tuple(named))


def _paths(thread: int, kinds: str, arguments: list[int]) -> list[str]:
    paths, folder = [], f"/proc/{thread}/cwd"
    for kind, argument in zip(kinds, arguments, strict=False):
        handle = ctypes.c_int(argument).value
        if kind == "d":
            folder = f"/proc/{thread}/{'cwd' if handle == _AT_FDCWD else f'fd/{handle}'}"
        elif kind == "f" and handle >= 0:
            paths.append(_link(f"/proc/{thread}/fd/{handle}"))
        elif kind == "p":
            paths.append(_text(thread, argument, folder))
    return paths


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _text(thread: int, address: int, folder: str) -> str:
    """Return the path that a process has in its memory, absolute."""
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        try:
            memory.seek(address)
            text = memory.read(4096).partition(b"\0")[0].decode(errors="surrogateescape")
        except (OSError, OverflowError):
            text = ""
    return text if text.startswith("/") else f"{_link(folder)}/{text}".rstrip("/")
