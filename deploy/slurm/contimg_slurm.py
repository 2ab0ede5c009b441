"""Run the pipeline on a Slurm cluster: `python deploy/slurm/contimg_slurm.py`, on a login or service node.

It starts a Dask scheduler here, lets Slurm start between LEAST and MOST workers as jobs come and go, and runs
`contimg run --dask` until that ends. Every node needs the same environment (deploy/contimg.env), the same folders and
a PostgreSQL server that it can reach. A worker whose time is over, or which is preempted, loses the job in hand only.
"""

import subprocess
import sys

from dask_jobqueue import SLURMCluster

LEAST, MOST = 1, 16
PARTITION, ACCOUNT, WALLTIME = "normal", None, "12:00:00"
CORES, MEMORY = 4, "12GB"
"""Of one worker, which does one job at a time: 6 GB at full size, and room for the files that it reads."""
INTERFACE = None
"""Network interface that the nodes share, such as ib0."""


def make_cluster() -> SLURMCluster:
    """Return a cluster of which nothing runs yet but the scheduler."""
    return SLURMCluster(
        queue=PARTITION,
        account=ACCOUNT,
        walltime=WALLTIME,
        cores=1,
        job_cpu=CORES,
        memory=MEMORY,
        processes=1,
        interface=INTERFACE,
        # A nanny may not start the processes in which jobs run; Slurm starts a worker anew.
        nanny=False,
        worker_extra_args=["--preload", "dsa110_contimg.pipeline.dask_worker"],
    )


def main() -> int:
    """Run until `contimg run` ends, and return its exit code."""
    with make_cluster() as cluster:
        cluster.adapt(minimum=LEAST, maximum=MOST)
        run = ["contimg", "run", "--dask", cluster.scheduler_address, "--threads", str(CORES)]
        return subprocess.run([*run, *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
