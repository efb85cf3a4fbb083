-- What the shop's own commands work on. An application inserts into duly_content_change and duly_lost_order; where
-- jobs.yaml names the shop's own tables in their place, these two stay empty.
CREATE TABLE duly_content_change (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  content_id   TEXT NOT NULL,
  action       TEXT NOT NULL,
  triggered_by TEXT NULL,
  content_type TEXT NULL,
  language     TEXT NULL,
  attributes   TEXT NULL,
  created_at   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now'))
);

-- A change that one processor has and another lacks; the rows go with the change. `source` is the table of the change, and
-- `digest` is of what it says, since an id may come again.
CREATE TABLE duly_content_change_given (
  source    TEXT NOT NULL,
  change_id INTEGER NOT NULL,
  processor TEXT NOT NULL,
  digest    INTEGER NOT NULL,
  PRIMARY KEY (source, change_id, processor)
);

-- Orders whose transfer to the ERP failed. The payload is bytes, so that none is refused.
CREATE TABLE duly_lost_order (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  order_id     TEXT NOT NULL,
  payload      BLOB NOT NULL,
  state        TEXT NOT NULL DEFAULT 'lost' CHECK (state IN ('lost','confirmed','given_up','removed')),
  erp_order_id TEXT NULL,
  created_at   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
  changed_at   TEXT NULL
);
CREATE UNIQUE INDEX duly_lost_order_order_id ON duly_lost_order (order_id);
CREATE INDEX duly_lost_order_state ON duly_lost_order (state, id);

-- One row for each try at sending an order, and for each time that a person took one out or put it back. Only the latest
-- one of an order can have `blocks_until`: the end of the lease while it is sent, of the wait after a failure, or never.
CREATE TABLE duly_lost_order_attempt (
  source       TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  attempt      INTEGER NOT NULL,
  owner        TEXT NOT NULL,
  host         TEXT NULL,
  job_id       INTEGER NULL,
  started_at   TEXT NOT NULL,
  finished_at  TEXT NULL,
  duration_ms  INTEGER NULL,
  outcome      TEXT NULL,
  exit_code    INTEGER NULL,
  signal_number INTEGER NULL,
  reason       TEXT NULL,
  verdict      TEXT NULL,
  failures     INTEGER NOT NULL DEFAULT 0,
  blocks_until TEXT NULL,
  tell         TEXT NULL,
  erp_order_id TEXT NULL,
  answer       TEXT NULL,
  PRIMARY KEY (source, order_id, attempt)
);
CREATE INDEX duly_lost_order_attempt_tell ON duly_lost_order_attempt (source, tell);
CREATE INDEX duly_lost_order_attempt_finished ON duly_lost_order_attempt (source, finished_at);

-- How many sessions had been used within 5 minutes, 30 minutes and a day, and how many there were.
CREATE TABLE duly_session_stat (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  measured_at TEXT NOT NULL,
  active_5m   INTEGER NOT NULL,
  active_30m  INTEGER NOT NULL,
  active_24h  INTEGER NOT NULL,
  total       INTEGER NOT NULL
);
CREATE INDEX duly_session_stat_measured ON duly_session_stat (measured_at);
