#!/usr/bin/env python3
"""Carries the pending jobs of JMSJobQueueBundle over to Duly, with what waits for what: jms.py [OPTION]...

Stop the runners of JMS first. A job of JMS is called by its command; the definition of Duly is the one of the same name
(`silver:import` is a name that jobs.yaml may have), or the one that --map says. Each is put in by `duly enqueue`, with its
parameters, queue, priority and `executeAfter`, after those that it depends on; then its row becomes `canceled`, and its
worker `duly:ID`. So the script may be run again. A retry that waits is carried over in place of the job that it is of,
which JMS keeps as `running`. What cannot be carried over, still runs, or was locked by a worker that has not begun it, is
named, stays as it was, and makes the exit code 1.

DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME name the database of JMS; `duly` reads its own jobs.yaml.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pymysql

options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
options.add_argument("--map", action="append", default=[], metavar="COMMAND=NAME", help="the definition for a command of JMS")
options.add_argument("--queue", metavar="QUEUE", help="put all into this queue, in place of one of the same name")
options.add_argument("--timezone", default="UTC", help="which PHP wrote the times in (date.timezone); default UTC")
options.add_argument("--locked", action="store_true", help="also what a worker has locked and not begun; only when all workers are gone")
options.add_argument("--dry-run", action="store_true", help="print the commands, change nothing")
options = options.parse_args()
names = dict(pair.split("=", 1) for pair in options.map)
duly = os.environ.get("DULY", "duly")
MARK = "duly-import"

jms = pymysql.connect(
    host=os.environ["DB_HOST"], port=int(os.environ.get("DB_PORT", "3306")), user=os.environ["DB_USER"],
    password=os.environ["DB_PASSWORD"], database=os.environ["DB_NAME"], autocommit=True,
    cursorclass=pymysql.cursors.DictCursor,
)


def rows(query, *values):
    with jms.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def change(query, *values):
    with jms.cursor() as cursor:
        return cursor.execute(query, values)


class Unfit(Exception):
    """What keeps a job from being carried over."""


def words(text):
    """The parameters of a job as PHP hands them to a command: true is 1, false and null are empty."""
    try:
        args = json.loads(text)
    except ValueError as error:
        raise Unfit(f"its args are no JSON ({error}); mend the row") from error
    # PHP writes an array with keys as an object; JMS uses its values.
    args = list(args.values()) if isinstance(args, dict) else args
    if not isinstance(args, list):
        raise Unfit(f"its args are {text.strip()}; expected a list of words")
    return [word(arg) for arg in args]


def word(arg):
    if isinstance(arg, str):
        return arg
    if arg is None or isinstance(arg, bool):
        return "1" if arg else ""
    if isinstance(arg, int):
        return str(arg)
    if isinstance(arg, float) and abs(arg) < 1e15 and "e" not in repr(arg):
        return str(int(arg)) if arg.is_integer() else repr(arg)
    raise Unfit(f"its args have {json.dumps(arg)}, which is no word for a command; write it as text")


def arguments(job, after):
    """The command line of `duly` that puts a job in."""
    line = [duly, "enqueue", names.get(job["command"], job["command"]), "--unique-key", f"jms:{job['id']}"]
    line += ["--queue", options.queue or job["queue"]]
    # JMS stores priorities negated.
    line += ["--priority", str(max(-100, min(100, -job["priority"])))]
    if isinstance(job["executeAfter"], datetime):
        at = job["executeAfter"].replace(tzinfo=ZoneInfo(options.timezone)).astimezone(timezone.utc)
        line += ["--at", at.strftime("%Y-%m-%dT%H:%M:%SZ")]
    for prerequisite in after:
        line += ["--after", str(prerequisite)]
    return line + ["--"] + words(job["args"])


def unmet(job):
    """The prerequisites of a job that have not finished."""
    prerequisites = rows(
        "SELECT p.id, p.workerName FROM jms_job_dependencies d JOIN jms_jobs p ON p.id = d.dest_job_id "
        "WHERE d.source_job_id = %s AND p.state <> 'finished' ORDER BY p.id", job["id"]
    )
    # By an earlier run.
    put_in.update((p["id"], int(p["workerName"][5:])) for p in prerequisites if (p["workerName"] or "").startswith("duly:"))
    return [p["id"] for p in prerequisites]


def put(job, line):
    """Puts a job in, and tells its id. Marked, no worker of JMS takes it any more."""
    locked = "UPDATE jms_jobs SET workerName = %s WHERE id = %s AND workerName <=> %s AND state IN ('new', 'pending')"
    if job["workerName"] != MARK and not change(locked, MARK, job["id"], job["workerName"]):
        raise Unfit("a worker has taken it in the meantime; stop the runners of JMS, then run this again")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    # 4: its key is taken, so an earlier run has put it in; the id is printed all the same.
    if done.returncode not in (0, 4) or not done.stdout.strip():
        before = None if job["workerName"] == MARK else job["workerName"]
        change("UPDATE jms_jobs SET workerName = %s WHERE id = %s AND workerName = %s", before, job["id"], MARK)
        raise Unfit(done.stderr.strip())
    return int(done.stdout)


def carry_over(job, after):
    line = arguments(job, after)
    chain = [job["id"]] + ([job["originalJob_id"]] if job["originalJob_id"] else [])
    if options.dry_run:
        print(shlex.join(line))
        put_in.update((id, job["id"]) for id in chain)
        return
    new = put(job, line)
    for id in chain:
        put_in[id] = new
        change(
            "UPDATE jms_jobs SET state = 'canceled', closedAt = NOW(), workerName = %s WHERE id = %s "
            "AND state IN ('new', 'pending', 'running')", f"duly:{new}", id
        )
    print(f"job {job['id']} ({job['command']}) of JMS is job {new}")


def waiting():
    """What waits and may be taken; what is locked is named unless it may be, too."""
    for job in rows(
        "SELECT id, command, args, queue, priority, executeAfter, workerName, originalJob_id FROM jms_jobs "
        "WHERE state IN ('new', 'pending') ORDER BY id"
    ):
        if job["workerName"] in (None, MARK) or options.locked:
            yield job
        else:
            left.append(
                f"job {job['id']} ({job['command']}) is locked by {job['workerName']}, which has not begun it; "
                "when that worker is gone, run this with --locked"
            )


def still_running():
    """What runs by its state, unless the retry that it waits for stands for it."""
    for job in rows(
        "SELECT id, command, workerName FROM jms_jobs j WHERE state = 'running' AND NOT EXISTS "
        "(SELECT 1 FROM jms_jobs r WHERE r.originalJob_id = j.id AND r.state IN ('new', 'pending', 'running')) ORDER BY id"
    ):
        left.append(
            f"job {job['id']} ({job['command']}) is running, by {job['workerName']}; let it end, or if that worker is gone, end it "
            f"by `jms-job-queue:mark-incomplete {job['id']}`; then run this again for its retry and what waits for it"
        )


put_in, left = {}, []
open_jobs = list(waiting())
# What waits is mostly younger than what it waits for, but need not be.
while open_jobs:
    blocked = []
    for job in open_jobs:
        missing = [id for id in unmet(job) if id not in put_in]
        if missing:
            blocked.append((job, missing))
            continue
        try:
            carry_over(job, [put_in[id] for id in unmet(job)])
        except Unfit as why:
            left.append(f"job {job['id']} ({job['command']}): {why}")
    if len(blocked) == len(open_jobs):
        left += [
            f"job {job['id']} ({job['command']}) waits for {', '.join(map(str, missing))}, which was not carried over"
            for job, missing in blocked
        ]
        break
    open_jobs = [job for job, _ in blocked]
still_running()
print("\n".join(left), file=sys.stderr, end="\n" if left else "")
sys.exit(1 if left else 0)
