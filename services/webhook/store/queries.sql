-- name: SetSetting :exec
INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: LockSetting :one
SELECT value FROM setting WHERE name = $1 FOR UPDATE;

-- name: Count :one
UPDATE counter SET n = n + 1 WHERE name = $1 RETURNING n;

-- Leases. A lease whose owner is no living member is free.

-- name: PutMember :exec
INSERT INTO member (id, kind, until) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET until = excluded.until;

-- name: Members :many
SELECT id FROM member WHERE kind = $1 AND until > $2 ORDER BY id;

-- name: DropMember :exec
DELETE FROM member WHERE id = $1;

-- name: DropMembers :exec
DELETE FROM member WHERE until <= $1;

-- name: MakeLease :exec
INSERT INTO lease (kind, n, epoch, owner) VALUES ($1, $2, 0, 0) ON CONFLICT (kind, n) DO NOTHING;

-- name: OwnedLeases :many
SELECT n, epoch FROM lease WHERE kind = $1 AND owner = $2 ORDER BY n;

-- name: FreeLeases :many
SELECT l.n FROM lease l WHERE l.kind = $1 AND l.n < $2
AND NOT EXISTS (SELECT 1 FROM member m WHERE m.id = l.owner AND m.until > $3)
ORDER BY l.n LIMIT $4 FOR UPDATE OF l SKIP LOCKED;

-- name: TakeLease :one
UPDATE lease SET epoch = epoch + 1, owner = $3 WHERE kind = $1 AND n = $2 RETURNING epoch;

-- name: GiveLease :exec
UPDATE lease SET owner = 0 WHERE kind = $1 AND n = $2 AND epoch = $3;

-- name: Fence :one
SELECT epoch FROM lease WHERE kind = $1 AND n = $2 FOR SHARE;

-- Tenants and keys.

-- name: AddTenant :exec
INSERT INTO tenant (num, name, quota_alerts, quota_endpoints, quota_rate, created) VALUES ($1, $2, $3, $4, $5, $6);

-- name: Tenant :one
SELECT * FROM tenant WHERE num = $1;

-- name: TenantByName :one
SELECT * FROM tenant WHERE name = $1;

-- name: LockTenant :one
SELECT * FROM tenant WHERE num = $1 FOR UPDATE;

-- name: Tenants :many
SELECT * FROM tenant WHERE num < $1 ORDER BY num DESC LIMIT $2;

-- name: SetTenant :execrows
UPDATE tenant SET name = $2, quota_alerts = $3, quota_endpoints = $4, quota_rate = $5 WHERE num = $1;

-- name: CountInTenant :one
UPDATE tenant SET seq = seq + sqlc.arg(events), alerts = alerts + sqlc.arg(alerts), endpoints = endpoints + sqlc.arg(endpoints)
WHERE num = sqlc.arg(num) RETURNING seq;

-- name: AddKey :exec
INSERT INTO api_key (num, tenant, name, prefix, hash, scopes, created, expires, revoked, used) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0);

-- name: KeyByHash :one
SELECT * FROM api_key WHERE hash = $1;

-- name: Key :one
SELECT * FROM api_key WHERE tenant = $1 AND num = $2;

-- name: Keys :many
SELECT * FROM api_key WHERE tenant = $1 AND num < $2 ORDER BY num DESC LIMIT $3;

-- name: RevokeKey :execrows
UPDATE api_key SET revoked = CASE WHEN revoked = 0 THEN sqlc.arg(now) ELSE revoked END WHERE tenant = $1 AND num = $2;

-- name: UseKey :exec
UPDATE api_key SET used = $2 WHERE num = $1 AND used < $2;

-- Answers to repeated requests.

-- name: DropOldOnce :exec
DELETE FROM once WHERE tenant = $1 AND name = $2 AND created < $3;

-- name: BeginOnce :execrows
INSERT INTO once (tenant, name, request, answer, created) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, name) DO NOTHING;

-- name: Once :one
SELECT * FROM once WHERE tenant = $1 AND name = $2;

-- name: EndOnce :exec
UPDATE once SET answer = $3 WHERE tenant = $1 AND name = $2;

-- name: PurgeOnce :execrows
DELETE FROM once WHERE (tenant, name) IN (SELECT o.tenant, o.name FROM once o WHERE o.created < $1 ORDER BY o.created LIMIT $2);

-- Endpoints.

-- name: AddEndpoint :exec
INSERT INTO endpoint (num, tenant, slot, url, description, state, why, event_types, created, updated, version, format, profile,
  max_in_flight, rate, timeout_us, ordering, batch, headers, signatures, tls, verify)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22);

-- name: SetEndpoint :exec
UPDATE endpoint SET url = $2, description = $3, state = $4, why = $5, event_types = $6, updated = $7, version = $8, format = $9,
  profile = $10, max_in_flight = $11, rate = $12, timeout_us = $13, ordering = $14, batch = $15, headers = $16, signatures = $17,
  tls = $18, verify = $19 WHERE num = $1;

-- name: Endpoint :one
SELECT * FROM endpoint WHERE num = $1;

-- name: LockEndpoint :one
SELECT * FROM endpoint WHERE num = $1 FOR UPDATE;

-- name: Endpoints :many
SELECT * FROM endpoint WHERE tenant = $1 AND num < $2 ORDER BY num DESC LIMIT $3;

-- name: SlotEndpoints :many
SELECT * FROM endpoint WHERE slot = $1 ORDER BY num;

-- name: SlotNums :many
SELECT num FROM endpoint WHERE slot = $1 ORDER BY num;

-- name: EndpointsFrom :many
SELECT * FROM endpoint WHERE num > $1 ORDER BY num LIMIT $2;

-- Whoever adds deliveries holds their endpoints as they are.
-- name: Targets :many
SELECT num, state, event_types, ordering FROM endpoint WHERE tenant = $1 ORDER BY num FOR SHARE;

-- name: OrderingOf :one
SELECT ordering FROM endpoint WHERE num = $1;

-- name: DropEndpoint :execrows
DELETE FROM endpoint WHERE num = $1;

-- name: Health :one
SELECT * FROM health WHERE endpoint = $1;

-- name: SetHealth :exec
INSERT INTO health (endpoint, failing_since, failing, paused_until, last_success, last_failure, last_error) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (endpoint) DO UPDATE SET failing_since = excluded.failing_since, failing = excluded.failing, paused_until = excluded.paused_until,
  last_success = excluded.last_success, last_failure = excluded.last_failure, last_error = excluded.last_error;

-- name: DropHealth :exec
DELETE FROM health WHERE endpoint = $1;

-- name: AddSecret :exec
INSERT INTO secret (num, endpoint, kind, sealed, created, expires) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (num) DO UPDATE SET sealed = excluded.sealed, expires = excluded.expires;

-- name: Secrets :many
SELECT * FROM secret WHERE endpoint = $1 ORDER BY num DESC;

-- name: DropSecret :exec
DELETE FROM secret WHERE num = $1;

-- name: DropSecrets :exec
DELETE FROM secret WHERE endpoint = $1;

-- Instruments and alerts.

-- name: PutInstrument :exec
INSERT INTO instrument (sym, inst, part, price_scale, size_scale, state) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (sym) DO UPDATE SET inst = excluded.inst, part = excluded.part, price_scale = excluded.price_scale,
  size_scale = excluded.size_scale, state = excluded.state;

-- name: Instrument :one
SELECT * FROM instrument WHERE sym = $1;

-- name: Instruments :many
SELECT * FROM instrument ORDER BY sym;

-- name: Alert :one
SELECT * FROM alert WHERE tenant = $1 AND num = $2;

-- name: LockAlert :one
SELECT * FROM alert WHERE tenant = $1 AND num = $2 FOR UPDATE;

-- name: Alerts :many
SELECT * FROM alert WHERE tenant = sqlc.arg(tenant) AND num < sqlc.arg(before)
AND ((state = sqlc.arg(state) OR sqlc.arg(state) = '') AND (state <> 'deleted' OR sqlc.arg(state) = 'deleted'))
AND (sym = sqlc.arg(sym) OR sqlc.arg(sym) = '')
AND (labels LIKE CAST(sqlc.arg(label) AS TEXT) ESCAPE '!' OR CAST(sqlc.arg(label) AS TEXT) = '')
ORDER BY num DESC LIMIT sqlc.arg(max);

-- name: SetAlert :exec
UPDATE alert SET name = $2, sym = $3, inst = $4, part = $5, rule = $6, endpoints = $7, metadata = $8, labels = $9, state = $10,
  version = $11, updated = $12 WHERE num = $1;

-- name: ChangedAlerts :many
SELECT * FROM alert WHERE part = $1 AND version > applied ORDER BY num LIMIT $2;

-- name: ActiveAlerts :many
SELECT num, sym, rule, arm_seq, blob FROM alert
WHERE part = $1 AND state = 'active' AND num > $2 ORDER BY num LIMIT $3;

-- name: ActiveByTenant :many
SELECT tenant, COUNT(*) AS alerts FROM alert WHERE part = sqlc.arg(part) AND state = 'active' AND (sym = sqlc.arg(sym) OR sqlc.arg(sym) = '')
GROUP BY tenant ORDER BY tenant;

-- The owner of a partition.

-- name: Checkpoint :one
SELECT * FROM checkpoint WHERE part = $1;

-- name: MoveCheckpoint :execrows
INSERT INTO checkpoint (part, log_id, place, clock) VALUES (sqlc.arg(part), sqlc.arg(log_id), sqlc.arg(place), sqlc.arg(clock))
ON CONFLICT (part) DO UPDATE SET log_id = excluded.log_id, place = excluded.place, clock = excluded.clock
WHERE checkpoint.log_id = sqlc.arg(from_log) AND checkpoint.place = sqlc.arg(from_place);

-- name: SetCheckpoint :exec
INSERT INTO checkpoint (part, log_id, place, clock) VALUES ($1, $2, $3, $4)
ON CONFLICT (part) DO UPDATE SET log_id = excluded.log_id, place = excluded.place, clock = excluded.clock;

-- name: Images :many
SELECT inst, image FROM image WHERE part = $1 AND inst > $2 ORDER BY inst LIMIT $3;

-- name: DropImages :exec
DELETE FROM image WHERE part = $1;

-- Events and deliveries.

-- name: EventsAfter :many
SELECT * FROM event WHERE tenant = sqlc.arg(tenant) AND seq > sqlc.arg(after) AND (type = sqlc.arg(type) OR sqlc.arg(type) = '')
ORDER BY seq LIMIT sqlc.arg(max);

-- name: EventsOfAlert :many
SELECT * FROM event WHERE alert = sqlc.arg(alert) AND alert <> 0 AND tenant = sqlc.arg(tenant) AND seq > sqlc.arg(after)
AND (type = sqlc.arg(type) OR sqlc.arg(type) = '') ORDER BY seq LIMIT sqlc.arg(max);

-- name: EventByID :one
SELECT * FROM event WHERE tenant = $1 AND id = $2;

-- name: OldestEvent :one
SELECT CAST(COALESCE(MIN(e.seq), (SELECT t.seq + 1 FROM tenant t WHERE t.num = $1)) AS BIGINT) FROM event e WHERE e.tenant = $1;

-- name: DueAfter :many
SELECT num, next_at FROM delivery WHERE endpoint = sqlc.arg(endpoint) AND state = 'queued' AND (next_at, num) > (sqlc.arg(next_at), sqlc.arg(num))
ORDER BY next_at, num LIMIT sqlc.arg(max);

-- name: BatchOf :many
SELECT num FROM delivery WHERE endpoint = $1 AND batch = $2 AND batch <> 0 AND state = 'queued' ORDER BY num;

-- name: FirstOfTurn :one
SELECT CAST(COALESCE(MIN(num), 0) AS BIGINT) FROM delivery WHERE endpoint = $1 AND turn = $2 AND turn <> 0 AND state = 'queued';

-- name: Wake :execrows
UPDATE delivery SET next_at = $2 WHERE num = $1 AND state = 'queued' AND next_at = 9223372036854775807;

-- name: Delivery :one
SELECT * FROM delivery WHERE tenant = $1 AND num = $2;

-- name: LockDelivery :one
SELECT * FROM delivery WHERE tenant = $1 AND num = $2 FOR UPDATE;

-- name: Deliveries :many
SELECT sqlc.embed(d), e.id FROM delivery d JOIN event e ON e.num = d.event WHERE d.tenant = sqlc.arg(tenant) AND d.num < sqlc.arg(before)
AND (d.state = sqlc.arg(state) OR sqlc.arg(state) = '')
ORDER BY d.num DESC LIMIT sqlc.arg(max);

-- name: DeliveriesInTrouble :many
SELECT sqlc.embed(d), e.id FROM delivery d JOIN event e ON e.num = d.event
WHERE d.tenant = sqlc.arg(tenant) AND d.state IN ('exhausted', 'held', 'cancelled') AND d.num < sqlc.arg(before)
AND (d.endpoint = sqlc.arg(endpoint) OR sqlc.arg(endpoint) = 0) AND d.state = sqlc.arg(state)
ORDER BY d.num DESC LIMIT sqlc.arg(max);

-- name: DeliveriesOfEndpoint :many
SELECT sqlc.embed(d), e.id FROM delivery d JOIN event e ON e.num = d.event
WHERE d.endpoint = sqlc.arg(endpoint) AND d.tenant = sqlc.arg(tenant) AND d.num < sqlc.arg(before)
AND (d.event = sqlc.arg(event) OR sqlc.arg(event) = 0) AND (d.state = sqlc.arg(state) OR sqlc.arg(state) = '')
ORDER BY d.num DESC LIMIT sqlc.arg(max);

-- name: DeliveriesOfEvent :many
SELECT sqlc.embed(d), e.id FROM delivery d JOIN event e ON e.num = d.event
WHERE d.event = sqlc.arg(event) AND d.tenant = sqlc.arg(tenant) AND d.num < sqlc.arg(before)
AND (d.state = sqlc.arg(state) OR sqlc.arg(state) = '')
ORDER BY d.num DESC LIMIT sqlc.arg(max);

-- name: SetDelivery :exec
UPDATE delivery SET state = $2, round = $3, manual = $4, next_at = $5, finished = $6, batch = 0 WHERE num = $1;

-- name: HoldDeliveries :execrows
UPDATE delivery SET state = 'held' WHERE endpoint = $1 AND state = 'queued';

-- name: CancelHeld :execrows
UPDATE delivery SET state = 'cancelled', finished = $2 WHERE endpoint = $1 AND state = 'held';

-- name: CancelDeliveries :execrows
UPDATE delivery SET state = 'cancelled', finished = $2 WHERE endpoint = $1 AND state IN ('queued', 'held');

-- name: Attempts :many
SELECT * FROM attempt WHERE delivery = $1 ORDER BY n;

-- Replays.

-- name: AddReplay :exec
INSERT INTO replay (num, tenant, endpoint, states, type, from_at, to_at, state, matched, place, created, finished)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, 0);

-- name: Replay :one
SELECT * FROM replay WHERE tenant = $1 AND num = $2;

-- name: Replays :many
SELECT * FROM replay WHERE tenant = $1 AND num < $2 ORDER BY num DESC LIMIT $3;

-- The tenants take turns by chance, whatever the number of their replays.
-- name: LockRunningReplay :one
SELECT * FROM replay WHERE num IN (SELECT MIN(r.num) FROM replay r WHERE r.state = 'running' GROUP BY r.tenant)
ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: SetReplay :exec
UPDATE replay SET state = $2, matched = $3, place = $4, finished = $5 WHERE num = $1;

-- name: CancelReplay :execrows
UPDATE replay SET state = 'cancelled', finished = $3 WHERE tenant = $1 AND num = $2 AND state = 'running';

-- name: ReplayScan :many
SELECT d.num, d.endpoint, d.state, d.created, e.type FROM delivery d JOIN event e ON e.num = d.event
WHERE d.tenant = $1 AND d.num > $2 ORDER BY d.num LIMIT $3;

-- name: ReplayScanTrouble :many
SELECT d.num, d.endpoint, d.state, d.created, e.type FROM delivery d JOIN event e ON e.num = d.event
WHERE d.tenant = sqlc.arg(tenant) AND d.state IN ('exhausted', 'held', 'cancelled') AND d.num > sqlc.arg(place)
AND (d.endpoint = sqlc.arg(endpoint) OR sqlc.arg(endpoint) = 0) ORDER BY d.num LIMIT sqlc.arg(max);

-- name: ReplayScanEndpoint :many
SELECT d.num, d.endpoint, d.state, d.created, e.type FROM delivery d JOIN event e ON e.num = d.event
WHERE d.endpoint = $1 AND d.num > $2 ORDER BY d.num LIMIT $3;

-- Retention. Ids grow with time, so that what is old has the smallest.

-- name: OldDeliveries :many
SELECT num FROM delivery WHERE num < $1 AND state IN ('delivered', 'exhausted', 'cancelled', 'held') ORDER BY num LIMIT $2;

-- name: OldEvents :many
SELECT e.num FROM event e WHERE e.num < $1 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event = e.num) ORDER BY e.num LIMIT $2;

-- name: PurgeAlerts :execrows
DELETE FROM alert WHERE num IN (SELECT a.num FROM alert a WHERE a.state NOT IN ('pending', 'active', 'paused') AND a.updated < $1 AND a.version = a.applied ORDER BY a.updated LIMIT $2);

-- name: PurgeReplays :execrows
DELETE FROM replay WHERE num IN (SELECT r.num FROM replay r WHERE r.state <> 'running' AND r.finished < $1 ORDER BY r.num LIMIT $2);

-- name: PurgeSecrets :execrows
DELETE FROM secret WHERE num IN (SELECT s.num FROM secret s WHERE s.expires <> 0 AND s.expires < $1 ORDER BY s.num LIMIT $2);
