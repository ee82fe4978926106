package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// Other processes hear of partitions and endpoints by these channels.
const (
	changedChannel = "tickwire_changed"
	queuedChannel  = "tickwire_queued"
)

const (
	idleTimeout   = "idle_in_transaction_session_timeout"
	migrationLock = 0x7469636b77697265 // "tickwire": one process migrates at a time
	maxRetries    = 8                  // of a transaction that met a conflict
	keysInNotice  = 300                // a notice has at most 8000 bytes
)

// postgresDB is PostgreSQL. A transaction has row locks for what it must not see change, and is done again when it could only
// end by the death of one of two that wait for each other.
type postgresDB struct {
	s      *Store
	pool   *pgxpool.Pool
	db     *sql.DB
	cancel context.CancelFunc
	done   chan struct{} // closed when nobody listens any more
}

func openPostgres(ctx context.Context, s *Store) (_ database, err error) {
	cfg, err := pgxpool.ParseConfig(s.cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", withoutPassword(err, s.cfg.URL))
	}
	if u, err := url.Parse(s.cfg.URL); err == nil && !u.Query().Has("pool_max_conns") {
		cfg.MaxConns = 16
	}
	// A process that was paused, or whose machine is gone, must not keep its lease's row locked.
	if _, ok := cfg.ConnConfig.RuntimeParams[idleTimeout]; !ok {
		cfg.ConnConfig.RuntimeParams[idleTimeout] = strconv.FormatInt((2 * s.cfg.LeaseTTL).Milliseconds(), 10)
	}
	p := &postgresDB{s: s, done: make(chan struct{})}
	if p.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	p.db = stdlib.OpenDBFromPool(p.pool)
	listen, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	go p.listen(listen)
	if err := p.migrate(ctx); err != nil {
		_ = p.close()
		return nil, fmt.Errorf("postgres: %w", p.cause(err))
	}
	return p, nil
}

// withoutPassword keeps what the driver says of a URL out of logs when that has the password in it.
func withoutPassword(err error, text string) error {
	u, bad := url.Parse(text)
	if bad != nil {
		return errors.New("it can't be read")
	}
	if password, ok := u.User.Password(); ok && strings.Contains(err.Error(), password) {
		return errors.New("it can't be used")
	}
	return err
}

func (p *postgresDB) migrate(ctx context.Context) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(migrationLock))
	}()
	migrations, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	return migrate(ctx, goose.DialectPostgres, p.db, migrations)
}

func (p *postgresDB) close() error {
	p.cancel()
	<-p.done
	err := p.db.Close()
	p.pool.Close()
	return err
}

func (p *postgresDB) shared() bool       { return true }
func (p *postgresDB) reader() query.DBTX { return p.db }

func (p *postgresDB) now(ctx context.Context) (time.Time, error) {
	var us int64
	err := p.db.QueryRowContext(ctx, "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)").Scan(&us)
	return fromMicros(us), err
}

func (p *postgresDB) write(ctx context.Context, fn func(*tx) error) error {
	for try := 1; ; try++ {
		err := p.once(ctx, fn)
		if try == maxRetries || !conflict(err) {
			return err
		}
		select {
		case <-time.After(time.Duration(try) * 5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *postgresDB) once(ctx context.Context, fn func(*tx) error) error {
	on, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := p.s.newTx(ctx, on)
	if err = fn(t); err == nil {
		err = p.notify(t)
	}
	if err != nil {
		_ = on.Rollback()
		return err
	}
	if err := on.Commit(); err != nil {
		return err
	}
	t.committed()
	return nil
}

// notify tells the other processes when, and if, the transaction is committed.
func (p *postgresDB) notify(t *tx) error {
	changed := make([]int64, 0, len(t.changed))
	for n := range t.changed {
		changed = append(changed, int64(n))
	}
	for _, x := range []struct {
		channel string
		keys    []int64
	}{{changedChannel, changed}, {queuedChannel, slices.Collect(maps.Keys(t.queued))}} {
		for keys := range slices.Chunk(x.keys, keysInNotice) {
			var text []byte
			for _, k := range keys {
				text = append(strconv.AppendInt(text, k, 10), ' ')
			}
			if _, err := t.db.ExecContext(t.ctx, "SELECT pg_notify($1, $2)", x.channel, string(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// listen hears of what other processes have committed, on a connection of its own. What happens while there is none is found
// by those who look each second.
func (p *postgresDB) listen(ctx context.Context) {
	defer close(p.done)
	for ctx.Err() == nil {
		err := p.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		p.s.log.Warn("listen for other processes; trying again", zap.Error(err))
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (p *postgresDB) hear(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bye)
	}()
	for _, channel := range []string{changedChannel, queuedChannel} {
		if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		for _, word := range strings.Fields(n.Payload) {
			k, err := strconv.ParseInt(word, 10, 64)
			switch {
			case err != nil:
			case n.Channel == changedChannel:
				p.s.changed.add(int(k))
			default:
				p.s.queued.add(k)
			}
		}
	}
}

func postgresCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// conflict tells whether a transaction only came at the wrong moment.
func conflict(err error) bool {
	code := postgresCode(err)
	return code == "40001" || code == "40P01" // it could not be put in an order with others, or they waited for each other
}

func (p *postgresDB) cause(err error) error {
	switch postgresCode(err) {
	case "23505": // unique_violation
		return fmt.Errorf("%w (%w)", ErrExists, err)
	case "53100": // disk_full
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}
