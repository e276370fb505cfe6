-- Times are milliseconds since 1970. Truth values are 0 and 1. Documents are JSON in TEXT. Nothing here is only SQLite's.

CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('revision', 0);
-- Of tombstones up to this revision some are gone: who heard less must list again.
INSERT INTO counters (name, value) VALUES ('forgotten', 0);

-- What agents and edges must hear. One row for each object, with the revision of its last change; value NULL: it is gone.
-- audience: 'all', 'edge' or the id of the one host that hears it.
CREATE TABLE records (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  audience TEXT NOT NULL,
  revision BIGINT NOT NULL UNIQUE,
  value TEXT,
  PRIMARY KEY (kind, id)
);
CREATE INDEX records_by_audience ON records (audience, revision);

CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE networks (
  number INTEGER PRIMARY KEY,
  organization TEXT NOT NULL,
  name TEXT NOT NULL,
  UNIQUE (organization, name)
);

CREATE TABLE apps (
  name TEXT PRIMARY KEY,
  organization TEXT NOT NULL,
  network INTEGER NOT NULL REFERENCES networks (number),
  created_at BIGINT NOT NULL,
  primary_region TEXT,
  release INTEGER NOT NULL
);

CREATE TABLE hosts (
  id TEXT PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  region TEXT NOT NULL,
  -- Where the search for a free address begins: one that was just given back is used again last.
  next_slot INTEGER NOT NULL,
  value TEXT NOT NULL
);

-- A machine of a destroyed app stays until its host reports it gone; app_destroyed hides it meanwhile.
CREATE TABLE machines (
  id TEXT PRIMARY KEY,
  app TEXT NOT NULL,
  app_destroyed INTEGER NOT NULL,
  name TEXT NOT NULL,
  host TEXT NOT NULL REFERENCES hosts (id),
  region TEXT NOT NULL,
  slot INTEGER NOT NULL,
  goal TEXT NOT NULL,
  cpus_reserved INTEGER NOT NULL,
  memory_mb_reserved INTEGER NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  -- When its host reported it gone.
  destroyed_at BIGINT,
  assignment TEXT NOT NULL
);
CREATE INDEX machines_by_app ON machines (app);
CREATE INDEX machines_by_host ON machines (host);

CREATE TABLE machine_versions (
  machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
  instance_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  image_digest TEXT NOT NULL,
  config TEXT NOT NULL,
  PRIMARY KEY (machine, instance_id)
);

CREATE TABLE statuses (
  machine TEXT PRIMARY KEY REFERENCES machines (id) ON DELETE CASCADE,
  sequence BIGINT NOT NULL,
  -- By the server's clock: since when it has been ready, started, failed without a break. NULL: it is not.
  ready_since BIGINT,
  started_since BIGINT,
  failed_since BIGINT,
  -- The revision in which it became ready: edges that have carried it out send requests.
  ready_revision BIGINT,
  value TEXT NOT NULL
);

CREATE TABLE machine_events (
  machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (machine, number)
);

CREATE TABLE releases (
  app TEXT NOT NULL,
  version INTEGER NOT NULL,
  status TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (app, version)
);
CREATE INDEX releases_by_status ON releases (status);

CREATE TABLE release_events (
  app TEXT NOT NULL,
  version INTEGER NOT NULL,
  number INTEGER NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (app, version, number)
);

-- sealed: encrypted with a key that is not in this database.
CREATE TABLE secrets (
  app TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed TEXT NOT NULL,
  digest TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (app, name)
);

-- hash: SHA-256 of the token, in hex. The token itself is nowhere.
CREATE TABLE tokens (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  policy TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE join_tokens (
  hash TEXT PRIMARY KEY,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_by TEXT
);
