-- The queue. Every stored time is UTC with microseconds, written by the database itself.
-- An application may insert (name, params) and no more: every other column has a default.
CREATE TABLE duly_job (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  name           TEXT NOT NULL,
  params         TEXT NULL,
  state          TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new','waiting','delayed','pending','running','success','failed','cancelled','stale')),
  queue          TEXT NULL,
  priority       INTEGER NULL,
  priority_order INTEGER NOT NULL DEFAULT 0,
  run_at         TEXT NULL,
  target_type    TEXT NULL,
  target_id      TEXT NULL,
  unique_key     TEXT NULL,
  slot_key       TEXT NULL,
  name_slot_key  TEXT NULL,
  occurrence_key TEXT NULL,
  scheduled_for  TEXT NULL,
  attempts       INTEGER NOT NULL DEFAULT 0,
  max_attempts   INTEGER NULL,
  fence          INTEGER NOT NULL DEFAULT 0,
  owner          TEXT NULL,
  host           TEXT NULL,
  lease_until    TEXT NULL,
  created_at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
  started_at     TEXT NULL,
  finished_at    TEXT NULL,
  duration_ms    INTEGER NULL,
  outcome        TEXT NULL,
  exit_code      INTEGER NULL,
  signal_number  INTEGER NULL,
  reason         TEXT NULL,
  cancel_requested_at TEXT NULL,
  root_id        INTEGER NULL,
  retry_of       INTEGER NULL,
  progress       INTEGER NULL,
  progress_text  TEXT NULL,
  own_end        TEXT NULL,
  children       INTEGER NOT NULL DEFAULT 0,
  children_ended INTEGER NOT NULL DEFAULT 0,
  time_before_stale_ms INTEGER NULL,
  hooks          TEXT NULL,
  noted_at        TEXT NULL
);
CREATE UNIQUE INDEX duly_job_unique_key ON duly_job (unique_key);
CREATE UNIQUE INDEX duly_job_slot_key ON duly_job (slot_key);
CREATE UNIQUE INDEX duly_job_name_slot_key ON duly_job (name_slot_key);
CREATE UNIQUE INDEX duly_job_occurrence_key ON duly_job (occurrence_key);
CREATE INDEX duly_job_claim ON duly_job (state, queue, priority_order, run_at, id);
CREATE INDEX duly_job_promote ON duly_job (state, run_at, id);
CREATE INDEX duly_job_lease ON duly_job (state, lease_until, id);
CREATE INDEX duly_job_clean_up ON duly_job (state, finished_at, id);
CREATE INDEX duly_job_name ON duly_job (name, id);
CREATE INDEX duly_job_root ON duly_job (root_id, state);

-- One row for each attempt that ended.
CREATE TABLE duly_attempt (
  job_id        INTEGER NOT NULL,
  fence         INTEGER NOT NULL,
  attempt       INTEGER NOT NULL,
  owner         TEXT NULL,
  host          TEXT NULL,
  started_at    TEXT NULL,
  finished_at   TEXT NOT NULL,
  duration_ms   INTEGER NULL,
  outcome       TEXT NOT NULL,
  exit_code     INTEGER NULL,
  signal_number INTEGER NULL,
  reason        TEXT NULL,
  PRIMARY KEY (job_id, fence)
);

-- What a command printed, per attempt; no row where it printed nothing.
CREATE TABLE duly_output (
  job_id     INTEGER NOT NULL,
  fence      INTEGER NOT NULL,
  body       TEXT NOT NULL,
  truncated  INTEGER NOT NULL DEFAULT 0,
  updated_at TEXT NOT NULL,
  PRIMARY KEY (job_id, fence)
);

CREATE TABLE duly_dependency (
  job_id          INTEGER NOT NULL,
  prerequisite_id INTEGER NOT NULL,
  `on`            TEXT NOT NULL DEFAULT 'success' CHECK (`on` IN ('success','failure','always','finished')),
  PRIMARY KEY (job_id, prerequisite_id)
);
CREATE INDEX duly_dependency_prerequisite ON duly_dependency (prerequisite_id, job_id);

-- Per scheduled name: up to where its occurrences have been made, and when to look again.
CREATE TABLE duly_schedule (
  name        TEXT NOT NULL,
  signature   TEXT NOT NULL,
  mark_at     TEXT NOT NULL,
  next_at     TEXT NULL,
  last_job_id INTEGER NULL,
  PRIMARY KEY (name)
);
CREATE INDEX duly_schedule_next ON duly_schedule (next_at);

-- One row per host that ticks.
CREATE TABLE duly_runner (
  host             TEXT NOT NULL,
  last_tick_at     TEXT NOT NULL,
  schedules_digest TEXT NULL,
  version          TEXT NOT NULL,
  PRIMARY KEY (host)
);

-- What is paused: `all`, `queue:NAME` or `job:NAME`. The row `gate` is always there; elsewhere it is locked by claims.
CREATE TABLE duly_pause (
  scope     TEXT NOT NULL,
  paused_at TEXT NOT NULL,
  until_at  TEXT NULL,
  paused_by TEXT NULL,
  reason    TEXT NULL,
  PRIMARY KEY (scope)
);

INSERT INTO duly_pause (scope, paused_at) VALUES ('gate', strftime('%Y-%m-%d %H:%M:%f000', 'now'));
