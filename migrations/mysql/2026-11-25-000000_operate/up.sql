-- What is known of a host besides when it ticked, written when it changes: which names and queues its jobs.yaml declares, as
-- JSON; why its latest tick that went wrong did; what ticks took that lasted over a second. The key is that of duly_runner.
CREATE TABLE IF NOT EXISTS duly_host (
  host       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  declares   MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  trouble    VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  trouble_at DATETIME(6) NULL,
  tick_ms    BIGINT NULL,
  renewals   BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (host)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Totals over jobs that ended up to the time of the row `mark`, so that clean-up takes nothing from a counter.
CREATE TABLE IF NOT EXISTS duly_metric (
  metric VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name   VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  label  VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  total  BIGINT NOT NULL DEFAULT 0,
  at     DATETIME(6) NULL,
  PRIMARY KEY (metric, name, label)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT IGNORE INTO duly_metric (metric, name, label, at) VALUES ('mark', '', '', UTC_TIMESTAMP(6));
