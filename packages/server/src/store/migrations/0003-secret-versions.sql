-- Values of secrets by version, so that a release can be returned to with the values that it had. A version is never given twice.
-- sealed: encrypted with a key that is not in this database.
CREATE TABLE secret_versions (
  app TEXT NOT NULL,
  name TEXT NOT NULL,
  version BIGINT NOT NULL,
  sealed TEXT NOT NULL,
  digest TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (app, name, version)
);
INSERT INTO secret_versions (app, name, version, sealed, digest, created_at)
  SELECT app, name, 1, sealed, digest, updated_at FROM secrets;
INSERT INTO counters (name, value) VALUES ('secret_version', 1);

-- From here on a row only says which version the next release brings.
ALTER TABLE secrets ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE secrets DROP COLUMN sealed;
ALTER TABLE secrets DROP COLUMN digest;
