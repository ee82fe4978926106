package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

func TestExitCodes(t *testing.T) {
	f := func(want int, args ...string) {
		t.Helper()
		if got := run(t.Context(), args); got != want {
			t.Errorf("%v: exit code %d, want %d", args, got, want)
		}
	}
	f(0, "version")
	f(0, "all", "-h")
	f(2, "ingest")                                                       // no broker named
	f(2, "ws", "--kafka", "nowhere")                                     // no port
	f(2, "all", "--market", "tulips")                                    // no such market
	f(2, "all", "--log-level", "loud")                                   // no such level
	f(2, "all", "--no-such-flag")                                        //
	f(2, "all", "--auth", "required")                                    // by which keys?
	f(2, "ws", "--kafka", "127.0.0.1:1", "--auth-keys", "keys.yaml")     // but nobody is asked
	f(0, "key", "new", "--subject", "desk-1", "--expires", "24h")        //
	f(2, "key", "new", "--subject", "desk-1", "--channels", "candles")   // no such channel
	f(2, "sim", "--kafka", "127.0.0.1:1", "--rate", "0")                 // out of range
	f(2, "replay", "--kafka", "127.0.0.1:1", "--file", "", "--speed=-1") // negative
	f(1, "replay", "--kafka", "127.0.0.1:1", "--file", filepath.Join(t.TempDir(), "absent"))
	f(1, "book", "BTC-USDT", "--addr", "127.0.0.1:1", "--once")                                 // nothing listens
	f(2, "alert", "create", "BTC-USDT", "last", "crosses_above")                                // no limit
	f(1, "alert", "create", "BTC-USDT", "last", "crosses_above", "-1", "--addr", "127.0.0.1:1") // nothing listens
	f(2, "listen", "--forward-to", "nowhere")
	f(1, "listen", "--addr", "127.0.0.1:1")
	t.Setenv("TICKWIRE_RATE", "many")
	f(2, "sim", "--kafka", "127.0.0.1:1")
}

// TestCommandsOnABroker writes a second of simulated market, checks the topics, and reads a dump back in.
func TestCommandsOnABroker(t *testing.T) {
	addr := testkit.Broker(t).Addr()
	if got := run(t.Context(), []string{"check", "--kafka", addr, "--partitions", "4", "--replicas", "1"}); got != 0 {
		t.Errorf("check: exit code %d", got)
	}
	if got := run(t.Context(), []string{"check", "--kafka", addr, "--partitions", "5", "--replicas", "1"}); got != 1 {
		t.Errorf("check that wants another number of partitions: exit code %d, want 1", got)
	}
	if got := run(t.Context(), []string{"sim", "--kafka", addr, "--duration", "1s", "--rate", "300", "--instruments", "3"}); got != 0 {
		t.Fatalf("sim: exit code %d", got)
	}
	c, err := stream.Open(stream.Config{Brokers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	count := func() (n int64) {
		for p := range 4 {
			_, end, err := c.Offsets(t.Context(), stream.RawTopic, p)
			if err != nil {
				t.Fatal(err)
			}
			n += end
		}
		return n
	}
	before := count()
	if before < 200 {
		t.Errorf("sim wrote %d records in a second at 300/s", before)
	}
	dump := filepath.Join(t.TempDir(), "dump.jsonl")
	line := `{"ts":1723161255342001,"key":"BTC-USDT","headers":{"source":"tickwire","session":"b-1"},"value":"{\"type\":\"status\",\"sym\":\"BTC-USDT\",\"state\":\"halted\"}"}` + "\n"
	if err := os.WriteFile(dump, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t.Context(), []string{"replay", "--kafka", addr, "--file", dump, "--format", "raw", "--speed", "0"}); got != 0 {
		t.Fatalf("replay: exit code %d", got)
	}
	if got := count(); got != before+1 {
		t.Errorf("replay wrote %d records, want 1", got-before)
	}
}

// TestAll starts everything on free ports, finds it by the address file, looks at a book, and stops it.
func TestAll(t *testing.T) {
	file := filepath.Join(t.TempDir(), "addrs.json")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{
			"all", "--ws-addr", "127.0.0.1:0", "--sse-addr", "127.0.0.1:0", "--webhook-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--broker-addr", "127.0.0.1:0", "--ws-drain", "10ms", "--addr-file", file,
		})
	}()
	var addrs all.Addrs
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-poll.C {
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &addrs)
		}
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if addrs.WS == "" || addrs.Admin == "" || addrs.Kafka == "" {
		t.Errorf("addresses: %+v", addrs)
	}
	if got := run(t.Context(), []string{"book", "BTC-USDT", "--addr", addrs.WS, "--once"}); got != 0 {
		t.Errorf("book --once: exit code %d", got)
	}
	if got := run(t.Context(), []string{"book", "NO-SUCH", "--addr", addrs.WS, "--once"}); got != 1 {
		t.Errorf("book of an unknown instrument: exit code %d, want 1", got)
	}
	tryAlerts(t, addrs.Alerts)
	if got := run(t.Context(), []string{"all", "--ws-addr", addrs.WS, "--sse-addr", "127.0.0.1:0", "--webhook-addr", "127.0.0.1:0", "--admin-addr", "", "--broker-addr", "127.0.0.1:0"}); got != 1 {
		t.Errorf("a port in use: exit code %d, want 1", got)
	}
	stop()
	if got := <-done; got != 0 {
		t.Errorf("all: exit code %d", got)
	}
}

// tryAlerts is the tour through alerts: listen, make one, see it fire.
func tryAlerts(t *testing.T, addr string) {
	t.Helper()
	f := func(want int, args ...string) {
		t.Helper()
		if got := run(t.Context(), append(args, "--addr", addr)); got != want {
			t.Errorf("%v: exit code %d, want %d", args, got, want)
		}
	}
	heard := make(chan int, 1)
	go func() { heard <- run(t.Context(), []string{"listen", "--count", "1", "--addr", addr}) }()
	endpoints := func() (page struct{ Items []struct{ ID string } }) {
		t.Helper()
		resp, err := http.Get("http://" + addr + "/v1/endpoints") //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		return page
	}
	testkit.Eventually(t, 20*time.Second, func() error {
		if len(endpoints().Items) == 0 {
			return errors.New("tickwire listen registers no endpoint")
		}
		return nil
	})
	f(1, "alert", "create", "BTC-USD", "last", "at_or_above", "1")
	f(1, "alert", "create", "BTC-USDT", "last", "at_or_above", "one")
	f(0, "alert", "create", "BTC-USDT", "last", "at_or_above", "1", "--name", "a test")
	f(0, "alert", "create", "BTC-USDT", "change_pct", "at_or_below", "-99", "--window", "24h")
	select {
	case code := <-heard:
		if code != 0 {
			t.Errorf("listen: exit code %d", code)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("tickwire listen has heard nothing")
	}
	if left := endpoints().Items; len(left) != 0 {
		t.Errorf("tickwire listen has left its endpoint: %v", left)
	}
	f(0, "alert", "list")
	f(2, "alert", "test")
	f(1, "alert", "rm", "al_nonsense")
}
