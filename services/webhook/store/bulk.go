package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"sync"
)

// Statements over many rows. sqlc can't make them for both databases, so they are built here: in a few sizes, so that few
// different ones are prepared, which any number is the sum of a few of.
var bulkSizes = [...]int{128, 64, 32, 16, 8, 4, 2, 1}

// inSizes calls do for parts of the n rows, each of one of the sizes.
func inSizes(n int, do func(from, to int) error) error {
	for from := 0; from < n; {
		for _, size := range bulkSizes {
			if n-from >= size {
				if err := do(from, from+size); err != nil {
					return err
				}
				from += size
				break
			}
		}
	}
	return nil
}

// bulk is a statement whose text has the list of rows, (…), (…), at one place. Types, one for each column, are those that
// PostgreSQL can't guess; "" where it can.
type bulk struct {
	before, after string
	columns       int
	types         []string
	texts         [len(bulkSizes)]func() string // made when first used
}

func newBulk(before, after string, columns int, types ...string) *bulk {
	b := &bulk{before: before, after: after, columns: columns, types: types}
	for i, size := range bulkSizes {
		b.texts[i] = sync.OnceValue(func() string { return b.text(size) })
	}
	return b
}

func (b *bulk) text(rows int) string {
	var s strings.Builder
	s.WriteString(b.before)
	for row := range rows {
		if row > 0 {
			s.WriteString(", ")
		}
		s.WriteByte('(')
		for column := range b.columns {
			if column > 0 {
				s.WriteString(", ")
			}
			p := "$" + strconv.Itoa(row*b.columns+column+1)
			if b.types != nil && b.types[column] != "" {
				p = "CAST(" + p + " AS " + b.types[column] + ")"
			}
			s.WriteString(p)
		}
		s.WriteByte(')')
	}
	s.WriteString(b.after)
	return s.String()
}

func (b *bulk) sized(rows int) string {
	for i, size := range bulkSizes {
		if size == rows {
			return b.texts[i]()
		}
	}
	panic("store: no such size")
}

// exec runs the statement over n rows; add appends the columns of one.
func (t *tx) exec(b *bulk, n int, add func(args []any, i int) []any) error {
	var args []any
	return inSizes(n, func(from, to int) error {
		args = args[:0]
		for i := from; i < to; i++ {
			args = add(args, i)
		}
		_, err := t.db.ExecContext(t.ctx, b.sized(to-from), args...)
		return err
	})
}

type queryer interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// rows runs a query, whose before and after enclose a list of numbers, over nums.
func rows(ctx context.Context, db queryer, b *bulk, nums []int64, scan func(*sql.Rows) error) error {
	var args []any
	return inSizes(len(nums), func(from, to int) error {
		args = args[:0]
		for _, n := range nums[from:to] {
			args = append(args, n)
		}
		rows, err := db.QueryContext(ctx, b.sized(to-from), args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}
