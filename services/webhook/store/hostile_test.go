package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// smallDisk returns a folder on a file system of its own, with about room bytes. Where none can be mounted, the test is skipped.
func smallDisk(t *testing.T, room int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", room)); err != nil {
		t.Skip("mount a small file system: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDiskFull: what finds no room is refused whole, with an error that says what to do, and goes on when there is room again.
func TestDiskFull(t *testing.T) {
	ctx := t.Context()
	disk := smallDisk(t, 4<<20)
	ballast := filepath.Join(disk, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 2<<20), 0o600))
	s := open(t, store.Config{Dir: filepath.Join(disk, "data"), Ephemeral: true})
	tn := tenant(t, s)
	e := endpoint(t, s, tn, nil)
	a := alerts(t, s, tn, 1)[0]
	must(t, s.Activate(ctx, a.Num))
	leases, end := holdAll(t, s)
	defer end()
	const perCommit = 20
	commit := func(n int) error {
		c := store.Commit{Lease: leases[store.KindPartition][0], LogID: "log", Offset: int64(n), Images: []store.Image{{Inst: 1, Data: make([]byte, 3000)}}}
		for i := range perCommit {
			ev := fire(a, uint32(n*perCommit+i))
			ev.Body = bytes.Repeat([]byte("x"), 2000)
			c.Fires = append(c.Fires, ev)
		}
		return s.Commit(ctx, &c)
	}
	check := func(commits int) {
		t.Helper()
		at, err := s.Checkpoint(ctx, 0)
		must(t, err)
		events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 1 << 20})
		must(t, err)
		if at.Offset != int64(commits)-1 || len(events) != commits*perCommit {
			t.Fatalf("offset %d and %d events after %d commits", at.Offset, len(events), commits)
		}
		for i, ev := range events {
			if ev.Seq != int64(i)+1 || ev.ArmSeq != uint32(i) {
				t.Fatalf("event %d: seq %d, fire %d", i, ev.Seq, ev.ArmSeq)
			}
		}
	}
	n := 0
	var err error
	for ; err == nil; n++ {
		if n > 1000 {
			t.Fatal("the disk is never full")
		}
		err = commit(n)
	}
	n--
	wantErr(t, err, store.ErrFull)
	if !strings.Contains(err.Error(), "make room") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	check(n)
	// Small writes that come together, of which none has room, each say so; or there is room for some.
	var g errgroup.Group
	for range 20 {
		g.Go(func() error {
			err := s.AddEvents(ctx, []store.Event{{Tenant: tn + 1, Type: store.TypeTest}})
			if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrFull) {
				return fmt.Errorf("an event of nobody: %w", err)
			}
			return nil
		})
	}
	must(t, g.Wait())
	if _, _, err := s.Due(ctx, e.Num, time.Now(), nil, 10); err != nil {
		t.Errorf("reading: %v", err)
	}
	check(n)

	must(t, os.Remove(ballast))
	for range 5 {
		must(t, commit(n))
		n++
	}
	check(n)
}

// TestDiskFullAtOnce lets the first start find no room.
func TestDiskFullAtOnce(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	must(t, os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 1<<20-64<<10), 0o600))
	_, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(disk, "data"), Ephemeral: true}, zap.NewNop())
	wantErr(t, err, store.ErrFull)
	must(t, os.Remove(filepath.Join(disk, "ballast")))
	open(t, store.Config{Dir: filepath.Join(disk, "data"), Ephemeral: true})
}

// TestPageLimit is TestDiskFull where nothing can be mounted: the database may not grow.
func TestPageLimit(t *testing.T) {
	ctx := t.Context()
	s := open(t, store.Config{Dir: t.TempDir(), Ephemeral: true})
	tn := tenant(t, s)
	must(t, s.LimitPages(ctx, 150))
	n := 0
	var err error
	for ; err == nil && n < 1000; n++ {
		err = s.AddEvents(ctx, []store.Event{{Tenant: tn, Type: store.TypeTest, Body: make([]byte, 5000)}, {Tenant: tn, Type: store.TypeTest, Body: make([]byte, 5000)}})
	}
	wantErr(t, err, store.ErrFull)
	events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 5000})
	must(t, err)
	if len(events) != 2*(n-1) {
		t.Errorf("%d events of %d commits", len(events), n-1)
	}
	must(t, s.LimitPages(ctx, 1<<30))
	must(t, s.AddEvents(ctx, []store.Event{{Tenant: tn, Type: store.TypeTest}}))
}

// TestKilled kills a process in the middle of commits, again and again. What it has said to be committed is there, and
// nothing is there by half.
func TestKilled(t *testing.T) {
	kills := 5
	if !testing.Short() {
		kills = 15
	}
	t.Run("sqlite", func(t *testing.T) { killed(t, store.Config{Dir: t.TempDir(), Ephemeral: true}, kills) })
	t.Run("postgres", func(t *testing.T) { killed(t, store.Config{URL: onPostgres(t), Ephemeral: true}, min(kills, 4)) })
}

func killed(t *testing.T, cfg store.Config, kills int) {
	ctx := t.Context()
	s := open(t, cfg)
	tn := tenant(t, s)
	endpoint(t, s, tn, nil)
	a := alerts(t, s, tn, 1)[0]
	must(t, s.Activate(ctx, a.Num))
	must(t, s.Close())
	for range kills {
		cmd, lines := child(t, order{Dir: cfg.Dir, URL: cfg.URL, Alert: a.Num})
		said := int64(-1)
		for stop := mrand.IntN(40); stop >= 0; stop-- {
			line, ok := <-lines
			if !ok {
				t.Fatal("the child has ended")
			}
			_, _ = fmt.Sscanf(line, "committed %d", &said)
		}
		time.Sleep(time.Duration(mrand.IntN(5000)) * time.Microsecond) // anywhere in a commit
		must(t, cmd.Process.Kill())
		for line := range lines {
			_, _ = fmt.Sscanf(line, "committed %d", &said)
		}
		s := open(t, cfg)
		takeOver(t, s)
		at, err := s.Checkpoint(ctx, 0)
		must(t, err)
		if at.Offset < said || at.Offset > said+1 {
			t.Errorf("at offset %d, the child said %d", at.Offset, said)
		}
		events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 1 << 20})
		must(t, err)
		deliveries, err := s.Deliveries(ctx, store.DeliveryFilter{Tenant: tn, Page: store.Page{Limit: 1 << 20}})
		must(t, err)
		now, err := s.Alert(ctx, tn, a.Num)
		must(t, err)
		image := ""
		must(t, s.Images(ctx, 0, func(_ uint32, b []byte) error { image = string(b); return nil }))
		if n := int(at.Offset) + 1; len(events) != n || len(deliveries) != n || int(now.Eval.ArmSeq) != n-1 || image != fmt.Sprint(n-1) {
			t.Errorf("%d events, %d deliveries, fire %d, image %s at offset %d", len(events), len(deliveries), now.Eval.ArmSeq, image, at.Offset)
		}
		must(t, s.Close())
	}
}

// takeOver has partition 0 for a moment: nothing of what a former owner has sent to PostgreSQL can be committed any more.
func takeOver(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Own(ctx, store.KindPartition, 1, func(context.Context, store.Lease) error {
		cancel()
		return nil
	})
	wantErr(t, err, context.Canceled)
}

func TestOpenRefuses(t *testing.T) {
	refuse := func(name string, cfg store.Config, words ...string) {
		t.Helper()
		s, err := store.Open(t.Context(), cfg, zap.NewNop())
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", name)
			return
		}
		if strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: %v: has the password in it", name, err)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v: does not say %q", name, err, w)
			}
		}
	}
	file := func(dir string) string { return filepath.Join(dir, "webhook.db") }
	made := func() string {
		dir := t.TempDir()
		s := open(t, store.Config{Dir: dir, Ephemeral: true})
		tn := tenant(t, s)
		for range 5 {
			alerts(t, s, tn, 100)
		}
		must(t, s.Close())
		return dir
	}

	refuse("no key", store.Config{Dir: t.TempDir()}, "TICKWIRE_WEBHOOK_KEY", "openssl")
	refuse("short key", store.Config{Dir: t.TempDir(), Key: "c2hvcnQ="}, "32 bytes")
	refuse("mysql", store.Config{URL: "mysql://x", Ephemeral: true}, "postgres://")
	refuse("nobody there", store.Config{URL: "postgres://u:secretword@127.0.0.1:1/db", Ephemeral: true}, "postgres")
	for _, url := range []string{"postgres://u:secretword@127.0.0.1:port/db", "postgres://u:secretword%zz@h/db", "postgres://u:secretword@h/db?sslmode=wrong", "mysql://u:secretword@h"} {
		refuse(url, store.Config{URL: url, Ephemeral: true}, "url")
	}
	refuse("no folder", store.Config{Ephemeral: true}, "folder")

	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	refuse("a file as folder", store.Config{Dir: filepath.Join(dir, "file"), Ephemeral: true}, "folder")

	dir = t.TempDir()
	must(t, os.WriteFile(file(dir), []byte(strings.Repeat("no database ", 1000)), 0o600))
	refuse("no database", store.Config{Dir: dir, Ephemeral: true}, file(dir), "restore a backup")

	dir = made()
	b, err := os.ReadFile(file(dir))
	must(t, err)
	_, _ = rand.Read(b[4096*3 : len(b)-4096])
	must(t, os.WriteFile(file(dir), b, 0o600))
	refuse("damaged", store.Config{Dir: dir, Ephemeral: true}, file(dir), "damaged")

	dir = made()
	must(t, os.Truncate(file(dir), 4096*5))
	refuse("cut off", store.Config{Dir: dir, Ephemeral: true}, "damaged")

	dir = made()
	db, err := sql.Open("sqlite", file(dir))
	must(t, err)
	_, err = db.Exec("INSERT INTO migration (version_id, is_applied) VALUES (99999, 1)")
	must(t, err)
	must(t, db.Close())
	refuse("newer", store.Config{Dir: dir, Ephemeral: true}, "version 99999", "newer tickwire")

	dir = made()
	open(t, store.Config{Dir: dir, Ephemeral: true})
	refuse("in use", store.Config{Dir: dir, Ephemeral: true}, dir, "another process")
}

func key() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// TestKeys: secrets are not in the files, a wrong key is told at once, and another key takes over what the old one has sealed.
func TestKeys(t *testing.T) {
	on(t, func(t *testing.T, openHere func() *store.Store) {
		ctx := t.Context()
		cfg := openHere().Where()
		if cfg.URL == "" {
			cfg.Dir = t.TempDir()
		} else {
			cfg.URL = onPostgres(t)
		}
		cfg.Ephemeral = false
		a, b, c := key(), key(), key()
		with := func(key string, old ...string) store.Config {
			cfg := cfg
			cfg.Key, cfg.OldKeys = key, old
			return cfg
		}
		s := open(t, with(a))
		tn := tenant(t, s)
		want := endpoint(t, s, tn, func(e *store.Endpoint) {
			e.Secrets[0].Text = "whsec_in_plain_sight"
			e.Headers = []store.Header{{Name: "X", Value: "header_in_plain_sight"}}
			e.TLS = &store.ClientTLS{Cert: "cert", Key: "tls_in_plain_sight"}
		})
		victim := endpoint(t, s, tn, nil)
		must(t, s.Close())
		if cfg.URL == "" {
			files, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
			must(t, err)
			for _, f := range files {
				text, err := os.ReadFile(f)
				must(t, err)
				if bytes.Contains(text, []byte("in_plain_sight")) {
					t.Errorf("%s has a secret in it", f)
				}
			}
		}
		_, err := store.Open(ctx, with(b), zap.NewNop())
		wantErr(t, err, store.ErrKey)
		check := func(cfg store.Config) *store.Store {
			t.Helper()
			s := open(t, cfg)
			e, err := s.Endpoint(ctx, want.Num)
			must(t, err)
			if e.Secrets[0].Text != "whsec_in_plain_sight" || e.Headers[0].Value != "header_in_plain_sight" || e.TLS.Key != "tls_in_plain_sight" {
				t.Errorf("endpoint: %+v", e)
			}
			return s
		}
		must(t, check(with(a, b)).Close()) // the new key is made known before it is used
		must(t, check(with(b, a)).Close())
		s = check(with(b))
		must(t, s.MoveSecret(ctx, want.Secrets[0].Num, victim.Num))
		if _, err := s.Endpoint(ctx, victim.Num); err == nil {
			t.Error("a secret was moved to another endpoint")
		}
		must(t, s.Close())
		for _, cfg := range []store.Config{with(a), with(c, a)} {
			_, err = store.Open(ctx, cfg, zap.NewNop())
			wantErr(t, err, store.ErrKey)
		}
	})
}

// TestBackup copies the database while it is written to, as docs/OPERATIONS.md says, and goes on with the copy.
func TestBackup(t *testing.T) {
	ctx := t.Context()
	dir, copied := t.TempDir(), t.TempDir()
	s := open(t, store.Config{Dir: dir, Ephemeral: true})
	tn := tenant(t, s)
	endpoint(t, s, tn, nil)
	a := alerts(t, s, tn, 1)[0]
	must(t, s.Activate(ctx, a.Num))
	l := lease(t, s, store.KindPartition, 1)[0]
	var g errgroup.Group
	began := make(chan struct{})
	g.Go(func() error {
		for n := range 300 {
			if n == 50 {
				close(began)
			}
			if err := s.Commit(ctx, &store.Commit{Lease: l, LogID: "log", Offset: int64(n), Fires: []store.Event{fire(a, uint32(n))}}); err != nil {
				return err
			}
		}
		return nil
	})
	<-began
	db, err := sql.Open("sqlite", filepath.Join(dir, "webhook.db"))
	must(t, err)
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", filepath.Join(copied, "webhook.db"))
	must(t, err)
	must(t, db.Close())
	must(t, g.Wait())
	s = open(t, store.Config{Dir: copied, Ephemeral: true})
	at, err := s.Checkpoint(ctx, 0)
	must(t, err)
	events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 1000})
	must(t, err)
	if at.Offset < 49 || len(events) != int(at.Offset)+1 {
		t.Errorf("%d events at offset %d", len(events), at.Offset)
	}
}
