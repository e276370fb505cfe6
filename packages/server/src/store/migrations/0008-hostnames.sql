-- Names of people's own, each of one app, and their certificates: private keys only as they are sealed for hosts.
CREATE TABLE hostnames (
  name TEXT PRIMARY KEY,
  app TEXT NOT NULL,
  value TEXT NOT NULL
);
CREATE INDEX hostnames_by_app ON hostnames (app, name);
CREATE TABLE certificates (
  hostname TEXT NOT NULL,
  source TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (hostname, source)
);
