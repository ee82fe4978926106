-- The schema is PostgreSQL's; for SQLite, migrate.go writes BLOB for BYTEA, INTEGER PRIMARY KEY for BIGINT PRIMARY KEY,
-- and takes /* WITHOUT ROWID */ out of its comment: the table is its primary key then, with no index beside it.
-- Times are microseconds since the Unix epoch, 0 is none. Lists are JSON. What is sealed (seal.go) is BYTEA.

-- +goose Up
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    n    BIGINT NOT NULL
);
INSERT INTO counter (name, n) VALUES ('node', 0);

-- A member is a process, or rather its call of Own, that lives until its time has come.
CREATE TABLE member (
    id    BIGINT PRIMARY KEY,
    kind  TEXT NOT NULL,
    until BIGINT NOT NULL
);
CREATE TABLE lease (
    kind  TEXT NOT NULL,
    n     INTEGER NOT NULL,
    epoch BIGINT NOT NULL,
    owner BIGINT NOT NULL,
    PRIMARY KEY (kind, n)
);

-- seq is the newest of the tenant's events; alerts and endpoints are how many it has that count for its quota.
CREATE TABLE tenant (
    num             BIGINT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    quota_alerts    BIGINT NOT NULL,
    quota_endpoints BIGINT NOT NULL,
    quota_rate      DOUBLE PRECISION NOT NULL,
    seq             BIGINT NOT NULL DEFAULT 0,
    alerts          BIGINT NOT NULL DEFAULT 0,
    endpoints       BIGINT NOT NULL DEFAULT 0,
    created         BIGINT NOT NULL
);
CREATE TABLE api_key (
    num     BIGINT PRIMARY KEY,
    tenant  BIGINT NOT NULL,
    name    TEXT NOT NULL,
    prefix  TEXT NOT NULL,
    hash    BYTEA NOT NULL UNIQUE,
    scopes  TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    used    BIGINT NOT NULL
);
CREATE INDEX api_key_tenant ON api_key (tenant, num);

-- An answer that is kept for its Idempotency-Key, sealed.
CREATE TABLE once (
    tenant  BIGINT NOT NULL,
    name    TEXT NOT NULL,
    request BYTEA NOT NULL,
    answer  BYTEA NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX once_created ON once (created);

CREATE TABLE endpoint (
    num           BIGINT PRIMARY KEY,
    tenant        BIGINT NOT NULL,
    slot          INTEGER NOT NULL,
    url           TEXT NOT NULL,
    description   TEXT NOT NULL,
    state         TEXT NOT NULL,
    why           TEXT NOT NULL,
    event_types   TEXT NOT NULL,
    created       BIGINT NOT NULL,
    updated       BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    format        TEXT NOT NULL,
    profile       TEXT NOT NULL,
    max_in_flight BIGINT NOT NULL,
    rate          DOUBLE PRECISION NOT NULL,
    timeout_us    BIGINT NOT NULL,
    ordering      TEXT NOT NULL,
    batch         BIGINT NOT NULL,
    headers       BYTEA NOT NULL,
    signatures    TEXT NOT NULL,
    tls           BYTEA NOT NULL,
    verify        TEXT NOT NULL
);
CREATE INDEX endpoint_tenant ON endpoint (tenant, num);
CREATE INDEX endpoint_slot ON endpoint (slot);

-- How an endpoint is doing changes often, its configuration seldom; whoever fires holds a lock on the latter alone.
CREATE TABLE health (
    endpoint      BIGINT PRIMARY KEY,
    failing_since BIGINT NOT NULL,
    failing       BIGINT NOT NULL,
    paused_until  BIGINT NOT NULL,
    last_success  BIGINT NOT NULL,
    last_failure  BIGINT NOT NULL,
    last_error    TEXT NOT NULL
);
CREATE TABLE secret (
    num      BIGINT PRIMARY KEY,
    endpoint BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    sealed   BYTEA NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL
);
CREATE INDEX secret_endpoint ON secret (endpoint);

CREATE TABLE instrument (
    sym         TEXT PRIMARY KEY,
    inst        BIGINT NOT NULL,
    part        INTEGER NOT NULL,
    price_scale INTEGER NOT NULL,
    size_scale  INTEGER NOT NULL,
    state       TEXT NOT NULL
);
CREATE TABLE alert (
    num        BIGINT PRIMARY KEY,
    tenant     BIGINT NOT NULL,
    name       TEXT NOT NULL,
    sym        TEXT NOT NULL,
    inst       BIGINT NOT NULL,
    part       INTEGER NOT NULL,
    rule       TEXT NOT NULL,
    endpoints  TEXT NOT NULL,
    metadata   TEXT NOT NULL,
    labels     TEXT NOT NULL,
    state      TEXT NOT NULL,
    version    BIGINT NOT NULL,
    applied    BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    updated    BIGINT NOT NULL,
    last_fire  BIGINT NOT NULL,
    arm_seq    BIGINT NOT NULL,
    valid_from BIGINT NOT NULL,
    clock      BIGINT NOT NULL,
    value      TEXT NOT NULL,
    blob       BYTEA NOT NULL
);
CREATE INDEX alert_tenant ON alert (tenant, num);
CREATE INDEX alert_active ON alert (part, num) WHERE state = 'active';
CREATE INDEX alert_changed ON alert (part, num) WHERE version > applied;
CREATE INDEX alert_over ON alert (updated) WHERE state NOT IN ('pending', 'active', 'paused');

-- Where the owner of a partition stands in md.events, and what it must know to go on from there.
CREATE TABLE checkpoint (
    part   INTEGER PRIMARY KEY,
    log_id TEXT NOT NULL,
    place  BIGINT NOT NULL,
    clock  BIGINT NOT NULL
);
CREATE TABLE image (
    part  INTEGER NOT NULL,
    inst  BIGINT NOT NULL,
    image BYTEA NOT NULL,
    PRIMARY KEY (part, inst)
);

CREATE TABLE event (
    num     BIGINT PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    tenant  BIGINT NOT NULL,
    seq     BIGINT NOT NULL,
    type    TEXT NOT NULL,
    alert   BIGINT NOT NULL,
    arm_seq BIGINT NOT NULL,
    sym     TEXT NOT NULL,
    about   BIGINT NOT NULL,
    body    BYTEA NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (tenant, seq)
);

-- next_at of a queued delivery is when it is due. Where deliveries wait for one another, only the first of a key has a time;
-- the others have never (outbox.go). manual says that somebody asked for the next attempt.
CREATE TABLE delivery (
    num       BIGINT PRIMARY KEY,
    tenant    BIGINT NOT NULL,
    event     BIGINT NOT NULL,
    endpoint  BIGINT NOT NULL,
    state     TEXT NOT NULL,
    attempts  BIGINT NOT NULL,
    round     BIGINT NOT NULL,
    turn      BIGINT NOT NULL,
    batch     BIGINT NOT NULL,
    manual    BIGINT NOT NULL,
    next_at   BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    finished  BIGINT NOT NULL,
    last_code BIGINT NOT NULL,
    last_err  TEXT NOT NULL
);
CREATE INDEX event_alert ON event (alert, seq) WHERE alert <> 0;
CREATE UNIQUE INDEX delivery_event ON delivery (event, endpoint);
CREATE INDEX delivery_tenant ON delivery (tenant, num);
CREATE INDEX delivery_endpoint ON delivery (endpoint, num);
CREATE INDEX delivery_due ON delivery (endpoint, next_at, num) WHERE state = 'queued';
CREATE INDEX delivery_turn ON delivery (endpoint, turn, num) WHERE state = 'queued' AND turn <> 0;
-- Few, and asked for often: dead letters, and what is to be replayed.
CREATE INDEX delivery_trouble ON delivery (tenant, num) WHERE state IN ('exhausted', 'held', 'cancelled');
CREATE INDEX delivery_batch ON delivery (batch) WHERE batch <> 0;

CREATE TABLE attempt (
    delivery BIGINT NOT NULL,
    n        BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    took_us  BIGINT NOT NULL,
    code     BIGINT NOT NULL,
    err      TEXT NOT NULL,
    response TEXT NOT NULL,
    manual   BIGINT NOT NULL,
    PRIMARY KEY (delivery, n)
) /* WITHOUT ROWID */;

-- place is the delivery that a replay has come to.
CREATE TABLE replay (
    num      BIGINT PRIMARY KEY,
    tenant   BIGINT NOT NULL,
    endpoint BIGINT NOT NULL,
    states   TEXT NOT NULL,
    type     TEXT NOT NULL,
    from_at  BIGINT NOT NULL,
    to_at    BIGINT NOT NULL,
    state    TEXT NOT NULL,
    matched  BIGINT NOT NULL,
    place    BIGINT NOT NULL,
    created  BIGINT NOT NULL,
    finished BIGINT NOT NULL
);
CREATE INDEX replay_tenant ON replay (tenant, num);
CREATE INDEX replay_running ON replay (num) WHERE state = 'running';
