-- What is known of a host besides when it ticked, written when it changes: which names and queues its jobs.yaml declares, as
-- JSON; why its latest tick that went wrong did; what ticks took that lasted over a second. The key is that of duly_runner.
CREATE TABLE duly_host (
  host       TEXT NOT NULL,
  declares   TEXT NULL,
  trouble    TEXT NULL,
  trouble_at TEXT NULL,
  tick_ms    INTEGER NULL,
  renewals   INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (host)
);

-- Totals over jobs that ended up to the time of the row `mark`, so that clean-up takes nothing from a counter.
CREATE TABLE duly_metric (
  metric TEXT NOT NULL,
  name   TEXT NOT NULL,
  label  TEXT NOT NULL,
  total  INTEGER NOT NULL DEFAULT 0,
  at     TEXT NULL,
  PRIMARY KEY (metric, name, label)
);

INSERT INTO duly_metric (metric, name, label, at) VALUES ('mark', '', '', strftime('%Y-%m-%d %H:%M:%f000', 'now'));
