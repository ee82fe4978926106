package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
)

// Statements over many rows, which sqlc can't make for both databases. A statement has one of two words in it:
//
//	{list}  for IN {list}: numbers, the only parameter
//	{rows}  for FROM {rows}: rows, which are called v, of columns column1, column2 and so on
//
// PostgreSQL takes an array for each column, SQLite lists what there is. The latter does so in a few sizes, so that few
// different statements are prepared, which any number is the sum of a few of.
type bulk struct {
	text   string
	types  []string                      // of the columns
	arrays func() string                 // for PostgreSQL
	sized  [len(bulkSizes)]func() string // for SQLite; made when first used
}

var bulkSizes = [...]int{128, 64, 32, 16, 8, 4, 2, 1}

const arrayRows = 1024 // in one statement of PostgreSQL's

// newBulk makes a statement; types are those of the columns of {rows}: B for BIGINT, T for TEXT, Y for BYTEA.
func newBulk(text, types string) *bulk {
	names := map[rune]string{'B': "BIGINT", 'T': "TEXT", 'Y': "BYTEA"}
	b := &bulk{text: text}
	for _, r := range types {
		b.types = append(b.types, names[r])
	}
	b.arrays = sync.OnceValue(b.withArrays)
	for i, size := range bulkSizes {
		b.sized[i] = sync.OnceValue(func() string { return b.listed(size) })
	}
	return b
}

func (b *bulk) withArrays() string {
	var casts, columns []string
	for i, name := range b.types {
		casts = append(casts, fmt.Sprintf("CAST($%d AS %s[])", i+1, name))
		columns = append(columns, fmt.Sprintf("column%d", i+1))
	}
	return strings.NewReplacer(
		"IN {list}", "= ANY (CAST($1 AS BIGINT[]))",
		"{rows}", fmt.Sprintf("unnest(%s) AS v(%s)", strings.Join(casts, ", "), strings.Join(columns, ", ")),
	).Replace(b.text)
}

// listed has parameters without numbers: SQLite looks up the name of each that has one, in a list.
func (b *bulk) listed(rows int) string {
	row := "(?" + strings.Repeat(", ?", max(len(b.types)-1, 0)) + ")"
	list := row + strings.Repeat(", "+row, rows-1)
	return strings.NewReplacer("{list}", "("+list+")", "{rows}", "(VALUES "+list+") AS v").Replace(b.text)
}

// inSizes calls do for parts of n rows that a statement may have.
func (s *Store) inSizes(n int, do func(from, to int) error) error {
	for from := 0; from < n; {
		size := min(arrayRows, n-from)
		if !s.db.shared() {
			for _, size = range bulkSizes {
				if size <= n-from {
					break
				}
			}
		}
		if err := do(from, from+size); err != nil {
			return err
		}
		from += size
	}
	return nil
}

// statement returns the text for rows and its arguments, which are given row by row.
func (s *Store) statement(b *bulk, rows int, args []any) (string, []any) {
	if s.db.shared() {
		return b.arrays(), columns(b.types, args)
	}
	for i, size := range bulkSizes {
		if size == rows {
			return b.sized[i](), args
		}
	}
	panic("store: no such size")
}

// columns turns rows into an array for each column.
func columns(types []string, args []any) []any {
	if len(types) == 0 {
		types = []string{"BIGINT"}
	}
	out := make([]any, len(types))
	for c, name := range types {
		switch name {
		case "BIGINT":
			out[c] = column[int64](args[c:], len(types))
		case "TEXT":
			out[c] = column[string](args[c:], len(types))
		default:
			out[c] = column[[]byte](args[c:], len(types))
		}
	}
	return out
}

func column[T any](args []any, step int) []T {
	list := make([]T, 0, len(args)/step+1)
	for i := 0; i < len(args); i += step {
		list = append(list, args[i].(T)) //nolint:errcheck,forcetypeassert // a statement's rows are all written down in this package
	}
	return list
}

// exec runs the statement over n rows; add appends the columns of one: int64, string and []byte.
func (t *tx) exec(b *bulk, n int, add func(args []any, i int) []any) error {
	var args []any
	return t.s.inSizes(n, func(from, to int) error {
		args = args[:0]
		for i := from; i < to; i++ {
			args = add(args, i)
		}
		text, args := t.s.statement(b, to-from, args)
		_, err := t.db.ExecContext(t.ctx, text, args...)
		return err
	})
}

type queryer interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// rows runs a query with a {list} of nums.
func (s *Store) rows(ctx context.Context, db queryer, b *bulk, nums []int64, scan func(*sql.Rows) error) error {
	var args []any
	return s.inSizes(len(nums), func(from, to int) error {
		args = args[:0]
		for _, n := range nums[from:to] {
			args = append(args, n)
		}
		text, args := s.statement(b, to-from, args)
		rows, err := db.QueryContext(ctx, text, args...)
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
