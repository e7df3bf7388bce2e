"""Clusters by a word: worker processes of this machine, jobs of a SLURM cluster, or a Dask scheduler at an address."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from fieldwright.errors import ClusterError, InputError
from fieldwright.progress import Reporter
from fieldwright.settings import allowed, first_line

if TYPE_CHECKING:
    from distributed import Client

WORDS = ("local[:N]", "slurm[:JOBS]", "tcp://HOST:PORT", "tls://HOST:PORT")
_WORD = re.compile(r"(local|slurm)(?::(\d+))?")
_ADDRESS = re.compile(r"(tcp|tls)://.+:\d+/?")
_WORK = "fieldwright.datasets.crew"
_LOGGERS = ("distributed", "dask_jobqueue", "tornado", "asyncio")


@dataclass(frozen=True)
class Cluster:
    """Where shards are made.

    ``where``    "local:N", N processes of this machine (by default as many as it has cores); "slurm:JOBS", jobs of a
                 SLURM cluster (by default one) as Dask's configuration ``jobqueue.slurm`` describes them; or the
                 address of a Dask scheduler, "tcp://host:port" or "tls://host:port"
    ``options``  of the jobs, for "slurm" alone, by the names of that configuration: cores, memory, queue, walltime ...
    ``timeout``  seconds within which a scheduler at an address has to answer

    Errors: `InputError` for a word that is none of these, a number of workers below one, or options for other than
    "slurm".
    """

    where: str
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 10.0

    def __post_init__(self) -> None:
        known = _WORD.fullmatch(self.where)
        if known is None and not _ADDRESS.fullmatch(self.where):
            near = allowed(self.where.partition(":")[0], ["local", "slurm"]).partition("? ")
            hint = f"{near[0]}? " if near[1] else ""
            raise InputError(f"cluster '{self.where}'; {hint}allowed are {', '.join(WORDS)}")
        if known is not None and known[2] is not None and int(known[2]) < 1:
            raise InputError(f"cluster '{self.where}'; at least 1 is needed")
        if self.options and self.kind != "slurm":
            raise InputError(f"cluster '{self.where}'; options are for slurm: {', '.join(self.options)}")
        if not self.timeout > 0:
            raise InputError(f"cluster timeout {self.timeout:g}; a positive number of seconds is needed")

    @property
    def kind(self) -> str:
        """ "local", "slurm" or "address"."""
        known = _WORD.fullmatch(self.where)
        return known[1] if known else "address"

    @property
    def number(self) -> int | None:
        """The N or JOBS that was given."""
        known = _WORD.fullmatch(self.where)
        return int(known[2]) if known and known[2] else None


@dataclass(frozen=True)
class Connection:
    """A Dask client, and the sentences that say why workers do not come, so far none."""

    client: Client
    troubles: list[str] = field(default_factory=list)


@contextlib.contextmanager
def connected(cluster: Cluster, reporter: Reporter) -> Iterator[Connection]:
    """A connection to the cluster; what was started for it is stopped at the end.

    Errors: `ClusterError` when Dask is not installed or no scheduler answers; `InputError` for options that jobs do not
    take.
    """
    with contextlib.ExitStack() as stack:
        try:
            from distributed import Client
        except ImportError as error:
            raise ClusterError(f"a cluster needs Dask: pip install 'fieldwright[cluster]' ({error})") from error
        stack.enter_context(_environment_as_before())
        stack.enter_context(_quiet())
        troubles: list[str] = []
        if cluster.kind == "address":
            client = _at_address(cluster)
        else:
            if cluster.kind == "local":
                stack.enter_context(_forked())
            started = _local(cluster) if cluster.kind == "local" else _slurm(cluster, troubles, reporter)
            stack.callback(_silently, started.close, timeout=10)
            client = Client(started, timeout=f"{cluster.timeout:g} s", set_as_default=False)
        stack.callback(_silently, client.close, timeout=2)
        yield Connection(client, troubles)


def _at_address(cluster: Cluster) -> Client:
    from distributed import Client

    try:
        return Client(cluster.where, timeout=f"{cluster.timeout:g} s", set_as_default=False)
    except OSError as error:
        raise ClusterError(
            f"no Dask scheduler answers at {cluster.where} within {cluster.timeout:g} s; is the address right and the"
            " scheduler running?"
        ) from error
    # Whatever else listens there may answer anything.
    except Exception as error:
        raise ClusterError(f"{cluster.where}: cannot be used as a Dask scheduler: {first_line(error)}") from error


@contextlib.contextmanager
def _environment_as_before() -> Iterator[None]:
    """Take back what Dask, for its workers, sets in the environment of this process, and leaves set.

    A process started afterwards would hash, thread and allocate by Dask's settings.
    """
    import dask

    names = [*dask.config.get("distributed.nanny.pre-spawn-environ", {}), "PYTHONHASHSEED"]
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _forked() -> Iterator[None]:
    """Fork workers from a process that has imported all they need: the seconds of that and its memory are paid once."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", _WORK])
        yield


def _local(cluster: Cluster) -> Any:
    from distributed import LocalCluster

    # No dashboard: it takes a port and more packages. No limit of memory: what torch's allocator keeps looks like a
    # leak to Dask, which would stop handing out work; a shard bounds what a worker needs.
    try:
        with _deaf_to_ctrl_c():
            return LocalCluster(
                n_workers=cluster.number or _cores(),
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,  # type: ignore[arg-type]
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"the worker processes do not start ({first_line(error)}); a script that asks for a cluster must do so"
            " below `if __name__ == '__main__':`, as every worker imports it"
        ) from error


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started here, or by threads that are, do not see Ctrl-C; it is this process that ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Multiprocessing's tracker of resources, when it is started on the way, would listen again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _slurm(cluster: Cluster, troubles: list[str], reporter: Reporter) -> Any:
    # Importing dask-jobqueue makes Ctrl-C end the process silently, with exit code 0.
    listener = signal.getsignal(signal.SIGINT)
    try:
        import dask
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.slurm import SLURMJob

        signal.signal(signal.SIGINT, listener)
    except ImportError as error:
        raise ClusterError(f"slurm needs dask-jobqueue: pip install 'fieldwright[cluster]' ({error})") from error
    if shutil.which(SLURMJob.submit_command) is None:
        raise ClusterError(f"cluster '{cluster.where}'; {SLURMJob.submit_command} is not on this machine's PATH")

    class WatchedJob(SLURMJob):
        """A job whose failed submission is told to who waits for its workers."""

        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                said = str(error).partition("stderr:")[2].strip() or str(error)
                troubles.append(f"{SLURMJob.submit_command}: {' '.join(said.split())}")
                raise

    configured = dask.config.get("jobqueue.slurm", {})
    options = {name.replace("-", "_"): _option(value) for name, value in cluster.options.items()}
    # One process a core with one thread each, unless somebody has said otherwise.
    cores = options.get("cores", configured.get("cores"))
    if cores and not options.get("processes", configured.get("processes")):
        options["processes"] = cores
    options.setdefault("scheduler_options", {"dashboard_address": ":0", **configured.get("scheduler-options", {})})
    jobs = cluster.number or 1
    try:
        started = SLURMCluster(job_cls=WatchedJob, silence_logs="critical", **options)  # type: ignore[arg-type]
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        said = " ".join(str(error).split()).partition(" Very likely")[0].partition(", for example")[0]
        raise InputError(
            f"cluster '{cluster.where}'; {said}; give them as --cluster-option KEY=VALUE, or in Dask's configuration"
        ) from error
    # A number that is kept up: a job that ends before the work does, at its time limit, is replaced.
    started.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    reporter.notice(f"cluster: {jobs} SLURM job{'s' * (jobs != 1)} with {options.get('processes', 1)} workers each")
    return started


def _option(text: str) -> Any:
    """A value as JSON has it (numbers, lists, true), or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own log off the terminal: what a person must know comes as one sentence of ours."""
    names = [n for n in logging.root.manager.loggerDict if n.partition(".")[0] in _LOGGERS]
    before = {name: logging.getLogger(name).level for name in {*_LOGGERS, *names}}
    try:
        for name in before:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _silently(close: Callable[..., Any], *, timeout: float) -> None:
    # A cluster that is gone cannot be told goodbye.
    with contextlib.suppress(Exception):
        close(timeout=timeout)
