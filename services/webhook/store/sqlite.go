package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	sqlite "modernc.org/sqlite/lib"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

const (
	sqliteFile  = "webhook.db"
	maxTogether = 64 // writes in one transaction
)

// sqliteDB is SQLite in WAL mode: many readers, and one writer, on a connection of its own. Writes that come while another
// one is on its way to the disk are committed together, by whoever comes first: each behind a savepoint, so that one that
// fails takes nothing with it.
type sqliteDB struct {
	s       *Store
	lock    *os.File
	pool    *sql.DB // of readers
	readers *statements
	writer  *sql.DB
	conn    *statements // the writer's connection

	mu    sync.Mutex
	queue []*write
	busy  bool // somebody leads
}

// write is one function that waits to be run by a leader.
type write struct {
	ctx  context.Context
	fn   func(*tx) error
	tx   *tx
	err  error
	turn chan bool // true: lead; false: it is done
}

func openSQLite(ctx context.Context, s *Store) (_ database, err error) {
	dir := s.cfg.Dir
	if dir == "" {
		return nil, errors.New("folder: missing")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	db := &sqliteDB{s: s}
	if db.lock, err = lockFolder(filepath.Join(dir, "lock")); err != nil {
		return nil, fmt.Errorf("folder %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("database %s: %w", filepath.Join(dir, sqliteFile), db.cause(err))
			_ = db.close()
		}
	}()
	// The others' files get the permissions of this one, so nobody else can read them.
	file, err := os.OpenFile(filepath.Join(dir, sqliteFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = file.Close() // nothing was written
	if db.writer, err = sql.Open("sqlite", dsn(dir, "synchronous(FULL)", "cache_size(-16000)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)")); err != nil {
		return nil, err
	}
	db.writer.SetMaxOpenConns(1)
	if err := checkSQLite(ctx, db.writer, dir); err != nil {
		return nil, err
	}
	migrations, err := fs.Sub(forSQLite{migrationFiles}, "migrations")
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, goose.DialectSQLite3, db.writer, migrations); err != nil {
		return nil, err
	}
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	db.conn = &statements{on: conn, made: map[string]*sql.Stmt{}}
	if db.pool, err = sql.Open("sqlite", dsn(dir, "query_only(1)", "cache_size(-4000)")); err != nil {
		return nil, err
	}
	db.pool.SetMaxOpenConns(8)
	db.pool.SetMaxIdleConns(8)
	db.readers = &statements{on: db.pool, made: map[string]*sql.Stmt{}}
	return db, nil
}

func dsn(dir string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{"journal_mode(WAL)", "busy_timeout(10000)"}, pragmas...)}
	return "file:" + (&url.URL{Path: filepath.Join(dir, sqliteFile)}).EscapedPath() + "?" + q.Encode()
}

// maxChecked is how large a file may be to be read whole at the start.
const maxChecked = 64 << 20

// checkSQLite looks whether the file is a database that can be read. What is damaged further on in a large one is told when it
// is read.
func checkSQLite(ctx context.Context, db *sql.DB, dir string) error {
	if info, err := os.Stat(filepath.Join(dir, sqliteFile)); err == nil && info.Size() > maxChecked {
		var tables int
		return db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&tables)
	}
	var answer string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&answer); err != nil {
		return err
	}
	if answer != "ok" {
		return fmt.Errorf("the file is damaged, restore a backup: %s", answer)
	}
	return nil
}

func (db *sqliteDB) close() error {
	var errs []error
	if db.pool != nil {
		errs = append(errs, db.readers.close(), db.pool.Close())
	}
	if db.conn != nil {
		errs = append(errs, db.conn.close())
	}
	if db.writer != nil {
		errs = append(errs, db.writer.Close())
	}
	return errors.Join(append(errs, db.lock.Close())...)
}

func (db *sqliteDB) shared() bool                           { return false }
func (db *sqliteDB) now(context.Context) (time.Time, error) { return time.Now(), nil }
func (db *sqliteDB) reader() query.DBTX                     { return db.readers }

// write waits for a leader to run fn, or leads itself.
func (db *sqliteDB) write(ctx context.Context, fn func(*tx) error) error {
	w := &write{ctx: context.WithoutCancel(ctx), fn: fn, turn: make(chan bool, 1)}
	db.mu.Lock()
	db.queue = append(db.queue, w)
	lead := !db.busy
	db.busy = true
	db.mu.Unlock()
	if !lead {
		lead = <-w.turn
	}
	if lead {
		db.lead()
	}
	if w.err == nil {
		w.tx.committed()
	}
	return w.err
}

// lead runs what waits, and hands on to the first who came meanwhile. Its own write is the first.
func (db *sqliteDB) lead() {
	db.mu.Lock()
	n := min(len(db.queue), maxTogether)
	group := db.queue[:n:n]
	db.queue = db.queue[n:]
	db.mu.Unlock()

	if len(group) == 1 || !db.together(group) {
		for _, w := range group {
			w.err = db.alone(w)
		}
	}
	for _, w := range group[1:] {
		w.turn <- false
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(db.queue) == 0 {
		db.queue, db.busy = nil, false
		return
	}
	db.queue[0].turn <- true
}

func (db *sqliteDB) exec(text string) error {
	_, err := db.conn.ExecContext(context.Background(), text)
	return err
}

func (db *sqliteDB) run(w *write) error {
	w.tx = db.s.newTx(w.ctx, db.conn)
	return w.fn(w.tx)
}

// alone runs one write in its own transaction.
func (db *sqliteDB) alone(w *write) error {
	if err := db.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := db.run(w)
	if err == nil {
		err = db.exec("COMMIT")
	}
	if err != nil {
		_ = db.exec("ROLLBACK") // which SQLite may have done itself
	}
	return err
}

// together runs a group in one transaction. It returns false, and has done nothing, when the transaction did not go
// through; then each is tried alone, so that what fails is that which can't be done.
func (db *sqliteDB) together(group []*write) bool {
	if err := db.exec("BEGIN IMMEDIATE"); err != nil {
		return false
	}
	for _, w := range group {
		if w.err = db.behindSavepoint(w); w.err != nil && broken(w.err) {
			_ = db.exec("ROLLBACK")
			return false
		}
	}
	if err := db.exec("COMMIT"); err != nil {
		_ = db.exec("ROLLBACK")
		return false
	}
	return true
}

var errSavepoint = errors.New("savepoint")

func (db *sqliteDB) behindSavepoint(w *write) error {
	if err := db.exec("SAVEPOINT w"); err != nil {
		return errors.Join(errSavepoint, err)
	}
	err := db.run(w)
	if err != nil {
		if undo := db.exec("ROLLBACK TO w"); undo != nil {
			return errors.Join(errSavepoint, undo)
		}
	}
	if end := db.exec("RELEASE w"); end != nil {
		return errors.Join(errSavepoint, end)
	}
	return err
}

// broken tells errors that may have cost the whole transaction.
func broken(err error) bool {
	if errors.Is(err, errSavepoint) {
		return true
	}
	switch sqliteCode(err) & 0xff {
	case sqlite.SQLITE_FULL, sqlite.SQLITE_IOERR, sqlite.SQLITE_NOMEM, sqlite.SQLITE_CORRUPT, sqlite.SQLITE_INTERRUPT:
		return true
	}
	return false
}

func sqliteCode(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func (db *sqliteDB) cause(err error) error {
	switch code := sqliteCode(err); code & 0xff {
	case sqlite.SQLITE_FULL:
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case sqlite.SQLITE_CONSTRAINT:
		if code == sqlite.SQLITE_CONSTRAINT_UNIQUE || code == sqlite.SQLITE_CONSTRAINT_PRIMARYKEY {
			return fmt.Errorf("%w (%w)", ErrExists, err)
		}
	case sqlite.SQLITE_NOTADB, sqlite.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged or no database, restore a backup: %w", err)
	case sqlite.SQLITE_READONLY, sqlite.SQLITE_CANTOPEN, sqlite.SQLITE_PERM:
		return fmt.Errorf("the folder and its files must be writable for this user: %w", err)
	}
	return err
}

// preparer is a connection, or a pool of them.
type preparer interface {
	PrepareContext(ctx context.Context, text string) (*sql.Stmt, error)
}

// statements runs what is written for PostgreSQL on SQLite, and prepares each text once.
type statements struct {
	on   preparer
	mu   sync.RWMutex
	made map[string]*sql.Stmt
}

// SQLite numbers parameters by ?, needs no row locks where one writes at a time, and has other names for types.
var (
	parameter = regexp.MustCompile(`\$(\d+)`)
	rowLock   = regexp.MustCompile(` FOR (UPDATE|SHARE)( OF \w+)?( SKIP LOCKED)?`)
)

func sqliteText(text string) string {
	return sqliteTypes.Replace(rowLock.ReplaceAllString(parameter.ReplaceAllString(text, "?$1"), ""))
}

func (p *statements) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	p.mu.RLock()
	stmt := p.made[text]
	p.mu.RUnlock()
	if stmt != nil {
		return stmt, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if stmt := p.made[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := p.on.PrepareContext(ctx, sqliteText(text))
	if err == nil {
		p.made[text] = stmt
	}
	return stmt, err
}

// ExecContext is query.DBTX's, as are the others.
func (p *statements) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	stmt, err := p.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// PrepareContext is there for the interface's sake.
func (p *statements) PrepareContext(ctx context.Context, text string) (*sql.Stmt, error) {
	return p.on.PrepareContext(ctx, sqliteText(text))
}

// QueryContext runs a query.
func (p *statements) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, err := p.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// QueryRowContext runs a query for one row.
func (p *statements) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	stmt, err := p.statement(ctx, text)
	if err != nil {
		// A row that carries the error can't be made; the pool makes it by trying again.
		return p.on.(interface {
			QueryRowContext(context.Context, string, ...any) *sql.Row
		}).QueryRowContext(ctx, sqliteText(text), args...)
	}
	return stmt.QueryRowContext(ctx, args...)
}

func (p *statements) close() error {
	var errs []error
	for _, stmt := range p.made {
		errs = append(errs, stmt.Close())
	}
	if c, ok := p.on.(*sql.Conn); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
