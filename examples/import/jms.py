#!/usr/bin/env python3
"""Carries the pending jobs of JMSJobQueueBundle over to Duly, with what waits for what: jms.py [OPTION]...

Stop the runners of JMS first. A job of JMS is called by its command; the definition of Duly is the one of the same name
(`silver:import` is a name that jobs.yaml may have), or the one that --map says. Each is put in by `duly enqueue`, with its
parameters, queue, priority and `executeAfter`, after those that it depends on; then its row becomes `canceled`, and its
worker `duly:ID`. So the script may be run again. What cannot be carried over is named, stays as it was, and makes the
exit code 1.

DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME name the database of JMS; `duly` reads its own jobs.yaml.
"""
import argparse
import json
import os
import subprocess
import sys
from datetime import timezone
from zoneinfo import ZoneInfo

import pymysql

options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
options.add_argument("--map", action="append", default=[], metavar="COMMAND=NAME", help="the definition for a command of JMS")
options.add_argument("--queue", metavar="QUEUE", help="put all into this queue, in place of one of the same name")
options.add_argument("--timezone", default="UTC", help="which PHP wrote the times in (date.timezone); default UTC")
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


def arguments(job, after):
    """The command line of `duly` that puts a job in."""
    line = [duly, "enqueue", names.get(job["command"], job["command"]), "--unique-key", f"jms:{job['id']}"]
    line += ["--queue", options.queue or job["queue"]]
    # JMS stores priorities negated.
    line += ["--priority", str(max(-100, min(100, -job["priority"])))]
    at = job["executeAfter"].replace(tzinfo=ZoneInfo(options.timezone)).astimezone(timezone.utc)
    line += ["--at", at.strftime("%Y-%m-%dT%H:%M:%SZ")]
    for prerequisite in after:
        line += ["--after", str(prerequisite)]
    return line + ["--"] + [str(word) for word in json.loads(job["args"])]


put_in, left = {}, []
# A prerequisite is older than what waits for it.
for job in rows(
    "SELECT id, command, args, queue, priority, executeAfter FROM jms_jobs "
    "WHERE state IN ('new', 'pending') AND originalJob_id IS NULL AND (workerName IS NULL OR workerName = %s) ORDER BY id", MARK
):
    prerequisites = rows(
        "SELECT p.id, p.workerName FROM jms_job_dependencies d JOIN jms_jobs p ON p.id = d.dest_job_id "
        "WHERE d.source_job_id = %s AND p.state <> 'finished'", job["id"]
    )
    # By an earlier run.
    put_in.update((p["id"], int(p["workerName"][5:])) for p in prerequisites if (p["workerName"] or "").startswith("duly:"))
    blocked = [str(p["id"]) for p in prerequisites if p["id"] not in put_in]
    if blocked:
        left.append(f"job {job['id']} ({job['command']}) waits for {', '.join(blocked)}, which was not carried over")
        continue
    line = arguments(job, [put_in[p["id"]] for p in prerequisites])
    if options.dry_run:
        print(" ".join(line))
        put_in[job["id"]] = job["id"]
        continue
    # Marked, no runner of JMS takes it any more.
    rows("UPDATE jms_jobs SET workerName = %s WHERE id = %s AND workerName IS NULL", MARK, job["id"])
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    # 4: its key is taken, so an earlier run has put it in; the id is printed all the same.
    if done.returncode not in (0, 4) or not done.stdout.strip():
        rows("UPDATE jms_jobs SET workerName = NULL WHERE id = %s AND workerName = %s", job["id"], MARK)
        left.append(f"job {job['id']} ({job['command']}): {done.stderr.strip()}")
        continue
    put_in[job["id"]] = int(done.stdout)
    rows(
        "UPDATE jms_jobs SET state = 'canceled', closedAt = NOW(), workerName = %s WHERE id = %s",
        f"duly:{put_in[job['id']]}", job["id"],
    )
    print(f"job {job['id']} ({job['command']}) of JMS is job {put_in[job['id']]}")
print("\n".join(left), file=sys.stderr, end="\n" if left else "")
sys.exit(1 if left else 0)
