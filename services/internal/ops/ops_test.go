package ops

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestAdmin(t *testing.T) {
	defer goleak.VerifyNone(t)
	var ready Readiness
	var up atomic.Bool
	ready.Add("ws", func() error {
		if up.Load() {
			return nil
		}
		return errors.New("still reading md.snapshots")
	})
	ready.Add("ingest", func() error { return nil })
	admin, err := Listen(Config{Addr: "127.0.0.1:0"}, NewRegistry("v1.2.3"), &ready)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- admin.Run(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		resp, err := client.Get("http://" + admin.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != wantStatus || !strings.Contains(string(body), wantBody) {
			t.Errorf("%s: %d %.200q; want %d and %q", path, resp.StatusCode, body, wantStatus, wantBody)
		}
	}
	get("/healthz", 200, `"ok"`)
	get("/readyz", 503, "ws: still reading md.snapshots")
	up.Store(true)
	get("/readyz", 200, `"ok"`)
	get("/metrics", 200, `tickwire_build_info{version="v1.2.3"} 1`)
	get("/debug/pprof/cmdline", 200, "ops")
	get("/nothing", 404, "")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestListenSaysWhichFlag(t *testing.T) {
	first, err := Listen(Config{Addr: "127.0.0.1:0"}, NewRegistry("v"), &Readiness{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.ln.Close() }()
	_, err = Listen(Config{Addr: first.Addr()}, NewRegistry("v"), &Readiness{})
	if err == nil || !strings.Contains(err.Error(), "--admin-addr") {
		t.Errorf("port in use: %v; want the flag named", err)
	}
}

func TestNewLogger(t *testing.T) {
	if _, err := NewLogger("loud"); err == nil || !strings.Contains(err.Error(), "--log-level") {
		t.Errorf("got %v", err)
	}
	if _, err := NewLogger("warn"); err != nil {
		t.Error(err)
	}
}
