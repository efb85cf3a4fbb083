-- Who did what, on the web page and by the command line: one row for each change that a person made.
CREATE TABLE IF NOT EXISTS duly_audit (
  id      BIGINT NOT NULL AUTO_INCREMENT,
  at      DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  who     VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  via     VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  did     VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  subject VARCHAR(220) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  detail  VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  PRIMARY KEY (id),
  KEY duly_audit_subject (subject, id),
  KEY duly_audit_at (at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
