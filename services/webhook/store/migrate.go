package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrate brings the tables up to date. A database that is newer than this program is left alone.
func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, files fs.FS) error {
	p, err := goose.NewProvider(dialect, db, files, goose.WithTableName("migration"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("version of the tables: %w", err)
	}
	if version > newest {
		return fmt.Errorf("the database is of version %d, this program knows up to %d only: it needs a newer tickwire", version, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the tables: %w", err)
	}
	return nil
}

// forSQLite shows the migrations as SQLite needs them: its integer primary keys are spelt exactly so, and then are the
// table itself instead of an index beside it.
type forSQLite struct{ fs.FS }

var sqliteTypes = strings.NewReplacer("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY", "BYTEA", "BLOB", "/* WITHOUT ROWID */", "WITHOUT ROWID")

func (f forSQLite) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	return rewritten{file, strings.NewReader(sqliteTypes.Replace(string(bytes.TrimSpace(text))) + "\n")}, nil
}

type rewritten struct {
	fs.File
	text *strings.Reader
}

func (r rewritten) Read(b []byte) (int, error) { return r.text.Read(b) }
