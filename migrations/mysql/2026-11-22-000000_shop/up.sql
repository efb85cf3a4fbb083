-- What the shop's own commands work on. An application inserts into duly_content_change and duly_lost_order; where
-- jobs.yaml names the shop's own tables in their place, these two stay empty.
CREATE TABLE IF NOT EXISTS duly_content_change (
  id           BIGINT NOT NULL AUTO_INCREMENT,
  content_id   VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  action       VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  triggered_by VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  content_type VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  language     VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  attributes   MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  created_at   DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A change that one processor has and another lacks; the rows go with the change. `source` is the table of the change, and
-- `digest` is of what it says, since an id may come again.
CREATE TABLE IF NOT EXISTS duly_content_change_given (
  source    VARCHAR(130) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  change_id BIGINT NOT NULL,
  processor VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  digest    BIGINT NOT NULL,
  PRIMARY KEY (source, change_id, processor)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Orders whose transfer to the ERP failed. The payload is bytes, so that none is refused.
CREATE TABLE IF NOT EXISTS duly_lost_order (
  id           BIGINT NOT NULL AUTO_INCREMENT,
  order_id     VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  payload      LONGBLOB NOT NULL,
  state        ENUM('lost','confirmed','given_up','removed') NOT NULL DEFAULT 'lost',
  erp_order_id VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  created_at   DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  changed_at   DATETIME(6) NULL,
  PRIMARY KEY (id),
  UNIQUE KEY duly_lost_order_order_id (order_id),
  KEY duly_lost_order_state (state, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- One row for each try at sending an order, and for each time that a person took one out or put it back. Only the latest
-- one of an order can have `blocks_until`: the end of the lease while it is sent, of the wait after a failure, or never.
CREATE TABLE IF NOT EXISTS duly_lost_order_attempt (
  source       VARCHAR(130) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  order_id     VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  attempt      INT NOT NULL,
  owner        VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  host         VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  job_id       BIGINT NULL,
  started_at   DATETIME(6) NOT NULL,
  finished_at  DATETIME(6) NULL,
  duration_ms  BIGINT NULL,
  outcome      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  exit_code    INT NULL,
  signal_number INT NULL,
  reason       VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  verdict      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  failures     INT NOT NULL DEFAULT 0,
  blocks_until DATETIME(6) NULL,
  tell         VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NULL,
  erp_order_id VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  answer       MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  PRIMARY KEY (source, order_id, attempt),
  KEY duly_lost_order_attempt_tell (source, tell),
  KEY duly_lost_order_attempt_finished (source, finished_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- How many sessions had been used within 5 minutes, 30 minutes and a day, and how many there were.
CREATE TABLE IF NOT EXISTS duly_session_stat (
  id          BIGINT NOT NULL AUTO_INCREMENT,
  measured_at DATETIME(6) NOT NULL,
  active_5m   BIGINT NOT NULL,
  active_30m  BIGINT NOT NULL,
  active_24h  BIGINT NOT NULL,
  total       BIGINT NOT NULL,
  PRIMARY KEY (id),
  KEY duly_session_stat_measured (measured_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
