package testkit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver by which databases are made
)

// ErrNoPostgres says that PostgreSQL is not installed here.
var ErrNoPostgres = errors.New("PostgreSQL is not here: initdb and postgres are neither in PATH nor in /usr/lib/postgresql/*/bin")

// Postgres is a PostgreSQL server that keeps nothing: it writes without waiting for the disk, unless it is told to.
type Postgres struct {
	dir  string
	proc *process
	made atomic.Int64
}

// StartPostgres starts a server on a unix socket. It ends by Close, and with this process at the latest. The server refuses
// to be run by root, so root has nobody run it.
func StartPostgres(settings ...string) (*Postgres, error) {
	initdb, server, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tickwire-pg")
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir}
	if err := p.start(initdb, server, settings); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Postgres) start(initdb, server string, settings []string) error {
	as, err := unprivileged(p.dir)
	if err != nil {
		return err
	}
	data := filepath.Join(p.dir, "data")
	create := exec.Command(initdb, "-D", data, "-U", "tickwire", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	create.Dir = p.dir
	create.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if out, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	args := []string{"-D", data, "-k", p.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	run := exec.Command(server, args...)
	run.Dir = p.dir
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	run.Stdout, run.Stderr = log, log
	if p.proc, err = startProcessAs(run, as); err != nil {
		return err
	}
	for range 300 {
		if err = p.exec("SELECT 1"); err == nil {
			return nil
		}
		select {
		case <-p.proc.done:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("postgres has ended: %s", text)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return err
}

// Close ends the server and removes what it has written.
func (p *Postgres) Close() {
	if p.proc != nil {
		_ = p.proc.signal(syscall.SIGQUIT) // at once
		<-p.proc.done
	}
	_ = os.RemoveAll(p.dir)
}

func (p *Postgres) url(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {p.dir}, "user": {"tickwire"}}.Encode()
}

func (p *Postgres) exec(text string) error {
	db, err := sql.Open("pgx", p.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, text)
	return err
}

// Database makes a database and returns its URL.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	name := "test" + strconv.FormatInt(p.made.Add(1), 10)
	if err := p.exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return p.url(name)
}

// postgresPrograms finds initdb and postgres.
func postgresPrograms() (initdb, server string, err error) {
	versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is good
	slices.Reverse(versions)
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), append(versions, "/usr/local/bin")...) {
		initdb, server = filepath.Join(dir, "initdb"), filepath.Join(dir, "postgres")
		if _, err := exec.LookPath(initdb); err != nil {
			continue
		}
		if _, err := exec.LookPath(server); err == nil {
			return initdb, server, nil
		}
	}
	return "", "", ErrNoPostgres
}

// unprivileged gives the folder to nobody when we are root; nil: we may run the server ourselves.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, uid, gid)
}
