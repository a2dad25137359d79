"""xms migration log: what virt-v2v wrote, from the worker that ran it."""

from __future__ import annotations

from cli.migration import app
from cli.options import JobArgument, JobOption, OutputOption


@app.command()
def log(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Show the log of a job's last conversion, its last 480 KiB at most."""
    import sys

    from cli.output import print_json, say
    from cli.parsing import one_job
    from cli.session import ask
    from xms import quantities

    job_id = one_job(job, job_option)
    found = ask(lambda migrations: migrations.conversion_log(job_id), f"asking for the conversion's log of {job_id}")
    if output == "json":
        print_json({"job_id": job_id, **found.model_dump(mode="json")})
        return
    left_out = f", {quantities.size(found.left_out)} before it left out" if found.left_out else ""
    say(f"virt-v2v on worker {found.worker}, last written {quantities.moment(found.written_at)}{left_out}")
    sys.stdout.write(found.text)
