package store

import (
	"context"
	"errors"
)

func openPostgres(context.Context, *Store) (database, error) {
	return nil, errors.New("postgres: not yet")
}
