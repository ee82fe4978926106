package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// Config says where the store is.
type Config struct {
	URL       string   // postgres://…; empty: SQLite in Dir
	Dir       string   // of the SQLite database
	Key       string   // 32 bytes in base64, which seal secrets at rest
	OldKeys   []string // that secrets may still be sealed with
	Ephemeral bool     // the data ends with the process: Key may be empty

	Quota     Quota         // of tenants that have none of their own; zero values are no limit
	LeaseTTL  time.Duration // after which a silent owner is replaced; 0: 5 s
	Retention time.Duration // of events and finished deliveries; 0: 30 days
}

// What callers branch on.
var (
	ErrNotFound = errors.New("not found")
	ErrFenced   = errors.New("the lease has another owner")
	ErrMoved    = errors.New("the checkpoint is not where the commit goes on from: an earlier one that seemed to fail has been taken")
	ErrExists   = errors.New("exists already")
	ErrState    = errors.New("not possible in this state")
	ErrFull     = errors.New("no room left on the disk of the database: make room there, or move its folder; nothing was written, and what was tried will be tried again")
)

// QuotaError says that a tenant has all that it may have.
type QuotaError struct {
	What  string // "alerts" or "endpoints"
	Limit int
}

func (e *QuotaError) Error() string { return fmt.Sprintf("quota: at most %d %s", e.Limit, e.What) }

// Store is the database. Its methods may be called at the same time.
type Store struct {
	cfg     Config
	log     *zap.Logger
	keys    keyring
	ids     *ids
	db      database
	read    *query.Queries
	changed *wakes[int]
	queued  *wakes[int64]

	closing sync.Once
	closed  error // of closing
}

// database is what differs between SQLite and PostgreSQL.
type database interface {
	// write runs fn in a transaction, which may be done again from the beginning after conflicts.
	write(ctx context.Context, fn func(*tx) error) error
	reader() query.DBTX
	now(ctx context.Context) (time.Time, error) // by the clock that leases are judged by
	shared() bool                               // other processes may use it too
	cause(err error) error                      // in words that help
	close() error
}

// tx is a transaction.
type tx struct {
	*query.Queries
	s       *Store
	db      query.DBTX
	ctx     context.Context
	changed map[int]struct{}   // partitions to be woken after the commit
	queued  map[int64]struct{} // endpoints
}

func (s *Store) newTx(ctx context.Context, db query.DBTX) *tx {
	return &tx{Queries: query.New(db), s: s, db: db, ctx: ctx, changed: map[int]struct{}{}, queued: map[int64]struct{}{}}
}

// committed wakes those who wait for what the transaction has written.
func (t *tx) committed() {
	for part := range t.changed {
		t.s.changed.add(part)
	}
	for endpoint := range t.queued {
		t.s.queued.add(endpoint)
	}
}

// Open opens the database, and makes or migrates its tables.
func Open(ctx context.Context, cfg Config, log *zap.Logger) (*Store, error) {
	if cfg.LeaseTTL <= 0 {
		cfg.LeaseTTL = 5 * time.Second
	}
	if cfg.Retention <= 0 {
		cfg.Retention = 30 * 24 * time.Hour
	}
	keys, err := newKeyring(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the webhook store: %w", err)
	}
	s := &Store{cfg: cfg, log: log.Named("store"), keys: keys, changed: newWakes[int](), queued: newWakes[int64]()}
	switch {
	case cfg.URL == "":
		s.db, err = openSQLite(ctx, s)
	case strings.HasPrefix(cfg.URL, "postgres://") || strings.HasPrefix(cfg.URL, "postgresql://"):
		s.db, err = openPostgres(ctx, s)
	default:
		err = errors.New("url: only postgres:// is known; without one it is SQLite in a folder")
	}
	if err == nil {
		s.read = query.New(s.db.reader())
		err = s.begin(ctx)
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open the webhook store: %w", err)
	}
	return s, nil
}

// begin draws the number of this process and proves the key.
func (s *Store) begin(ctx context.Context) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.Count(t.ctx, "node")
		s.ids = &ids{node: n % (1 << nodeBits)}
		if err == nil && !s.db.shared() {
			err = t.DropMembers(t.ctx, math.MaxInt64) // nobody else is there, whatever a killed process has left
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.checkKey(ctx)
}

// Close ends what the store has started. Nothing may be called any more, but Close.
func (s *Store) Close() error {
	s.closing.Do(func() {
		if s.db != nil {
			s.closed = s.db.close()
		}
		s.changed.close()
		s.queued.close()
	})
	return s.closed
}

// Changed tells partitions whose Changes may not be empty. What finds no room is not told: look each second all the same.
func (s *Store) Changed() <-chan int { return s.changed.out }

// Queued tells endpoints that got deliveries, or another configuration. What finds no room is not told: look each second all
// the same.
func (s *Store) Queued() <-chan int64 { return s.queued.out }

func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.cause(s.db.write(ctx, fn))
}

// found turns the driver's word for no row into ours.
func (s *Store) found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return s.db.cause(err)
}

// micros is a time as the database has it.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
