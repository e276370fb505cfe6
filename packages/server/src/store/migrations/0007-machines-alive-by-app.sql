-- An app or a host that is changed often has many machines that are gone for each that is there.
DROP INDEX machines_by_app;
DROP INDEX machines_by_host;
CREATE INDEX machines_by_app ON machines (app, destroyed_at);
CREATE INDEX machines_by_host ON machines (host, destroyed_at);
