package store

import "context"

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
