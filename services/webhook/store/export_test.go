package store

import (
	"context"
	"fmt"
)

// WithFence runs do in a transaction that holds the lease.
func (s *Store) WithFence(ctx context.Context, l Lease, do func()) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.fence(l); err != nil {
			return err
		}
		do()
		return nil
	})
}

// Activate makes an alert active without an owner.
func (s *Store) Activate(ctx context.Context, num int64) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.db.ExecContext(t.ctx, "UPDATE alert SET state = 'active', applied = version WHERE num = $1", num)
		return err
	})
}

// LimitPages lets SQLite's file have no more pages than that.
func (s *Store) LimitPages(ctx context.Context, n int) error {
	return s.write(ctx, func(t *tx) error {
		return t.db.QueryRowContext(t.ctx, fmt.Sprintf("PRAGMA max_page_count = %d", n)).Scan(&n)
	})
}

// MoveSecret gives a sealed secret to another endpoint.
func (s *Store) MoveSecret(ctx context.Context, num, endpoint int64) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.db.ExecContext(t.ctx, "UPDATE secret SET endpoint = $1 WHERE num = $2", endpoint, num)
		return err
	})
}

// Where is the store's configuration.
func (s *Store) Where() Config { return s.cfg }

// Prepared returns how many statements SQLite's readers have prepared.
func (s *Store) Prepared() int {
	return len(s.db.(*sqliteDB).readers.made)
}

// RaiseEpoch takes a lease anew for its owner.
func (s *Store) RaiseEpoch(ctx context.Context, kind string, n int) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.db.ExecContext(t.ctx, "UPDATE lease SET epoch = epoch + 1 WHERE kind = $1 AND n = $2", kind, n)
		return err
	})
}
