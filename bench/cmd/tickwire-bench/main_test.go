package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/services/all"
)

// TestMain lets the test program be the program, for tests and for the commands, which start themselves as a part or as the servers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
		return
	}
	os.Exit(m.Run())
}

// bench runs a scenario and returns its report, which must be without faults.
func bench(t *testing.T, args ...string) *report.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "report.json")
	root := rootCommand()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetArgs(append(args, "--json", file, "--quiet"))
	if err := root.ExecuteContext(ctx); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &b)
	}
	r, err := report.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// has looks whether all rows have measures, above 0.
func has(t *testing.T, r *report.Report, names ...string) {
	t.Helper()
	for i := range r.Rows {
		for _, name := range names {
			if m := r.Rows[i].Measure(name); m == nil || m.Value() <= 0 {
				t.Errorf("%s, %s: %s is %+v", r.Title, r.Rows[i].Name, name, m)
			}
		}
	}
}

func TestFanout(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(rows int, args ...string) {
		t.Helper()
		r := bench(t, append([]string{"ws-fanout", "--warmup", "50ms", "--duration", "300ms", "--repeat", "1"}, args...)...)
		if len(r.Rows) != rows {
			t.Errorf("%v: %d rows", args, len(r.Rows))
		}
		has(t, r, "delivered/s", "p50", "p99", "cpu", "rss", "bytes", "connect/s", "client_busy")
		for i := range r.Rows {
			if len(r.Rows[i].Latency) == 0 {
				t.Errorf("%v: no curve", args)
			}
		}
	}
	market := []string{"--clients", "20", "--topics", "10", "--each", "3", "--rate", "300"}
	f(2, append(market, "--flush", "0,5ms")...)
	f(1, append(market, "--format", "json")...)
	f(1, append(market, "--channel", "trades", "--format", "json", "--size", "100")...)
	f(2, append(market, "--stages", "200x300ms,2000x300ms", "--ramp", "200ms")...)
	f(1, append(market, "--system", "all")...)
	f(1, append(market, "--system", "all", "--channel", "trades", "--format", "json")...)
	f(2, "--shape", "one", "--clients", "5,10", "--deliveries", "500", "--channel", "trades")
	f(1, "--shape", "saturated", "--clients", "10")
}

// TestFloor compares with the floor, and with the edge that does not compress.
func TestFloor(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	market := []string{"--clients", "20", "--topics", "10", "--each", "3", "--rate", "300", "--warmup", "50ms", "--duration", "300ms", "--repeat", "2"}
	for _, args := range [][]string{
		append([]string{"ws-fanout", "--floor"}, market...),
		append([]string{"ws-fanout", "--deflate", "--format", "json", "--size", "500"}, market...),
		append([]string{"sse-fanout", "--floor", "--shape", "market"}, market...),
	} {
		has(t, bench(t, args...), "delivered/s", "floor_cpu", "floor/s", "ratio")
	}
}

// TestCount publishes so many messages and no more.
func TestCount(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	r := bench(t, "ws-fanout", "--clients", "10", "--topics", "10", "--each", "10", "--rate", "1000", "--warmup", "50ms", "--count", "500", "--repeat", "1")
	row := &r.Rows[0]
	has(t, r, "delivered/s")
	if sent, delivered := row.Measure("sent/s").Value(), row.Measure("delivered/s").Value(); math.Abs(delivered/sent-10) > 0.01 {
		t.Errorf("%v sent, %v delivered", sent, delivered)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(rows int, args ...string) {
		t.Helper()
		r := bench(t, append([]string{"sse-fanout", "--clients", "20", "--warmup", "50ms", "--duration", "300ms", "--repeat", "1"}, args...)...)
		if len(r.Rows) != rows {
			t.Errorf("%v: %d rows", args, len(r.Rows))
		}
		has(t, r, "delivered/s", "p99", "cpu", "bytes")
	}
	f(2, "--flush", "0,50ms")
	f(2, "--stream", "0,100ms")
	f(1, "--stream", "100ms", "--gzip")
	f(1, "--shape", "market", "--topics", "5", "--each", "1")
	f(1, "--shape", "saturated")
	f(1, "--system", "all")
}

func TestLightRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"ws-fanout", "--shape", "round"},
		{"ws-fanout", "--clients", "0"},
		{"ws-fanout", "--clients", "30000"},
		{"ws-fanout", "--each", "300"},
		{"ws-fanout", "--rate", "0"},
		{"ws-fanout", "--channel", "bbo"},
		{"ws-fanout", "--format", "xml"},
		{"ws-fanout", "--stages", "5s"},
		{"ws-fanout", "--count", "5", "--floor"},
		{"ws-fanout", "--system", "half"},
		{"ws-fanout", "--system", "all", "--cpuprofile", "x"},
		{"sse-fanout", "--stream", "-1s"},
		{"sse-fanout", "--gzip", "--stream", "0"},
		{"burst", "--times", "1"},
		{"burst", "--edge", "tcp"},
		{"burst", "--ws", "ws://127.0.0.1:1"},
		{"ws-fanout", "--sse", "http://127.0.0.1:1"},
		{"sse-fanout", "--ws", "ws://127.0.0.1:1"},
		{"ws-fanout", "--ws", "ws://127.0.0.1:1", "--rate", "5"},
		{"storm", "--ws", "ws://127.0.0.1:1", "--size", "500"},
		{"ws-fanout", "--json", "/proc/x.json"},
		{"ws-fanout", "--html", "/no/such/folder/x.html"},
		{"slow", "--share", "1"},
		{"slow", "--share", "NaN"},
		{"storm", "--clients", "20000"},
		{"storm", "--deadline", "0"},
		{"idle", "--settle", "0"},
		{"idle", "--ws", "ws://127.0.0.1:1"},
		{"flow", "--window", "0"},
	} {
		root := rootCommand()
		root.SetArgs(append(args, "--quiet"))
		err := root.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), "--") || exitCode(err) != 2 {
			t.Errorf("%v: %v, exit code %d", args, err, exitCode(err))
		}
	}
}

func TestIdle(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	for _, args := range [][]string{{"--edge", "ws"}, {"--edge", "sse", "--topics", "1", "--each", "1"}} {
		r := bench(t, append([]string{"idle", "--clients", "50", "--settle", "200ms", "--repeat", "2"}, args...)...)
		has(t, r, "rss", "goroutines", "connect/s")
	}
}

func TestSlow(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	for _, how := range []string{"--stop=false", "--stop"} {
		r := bench(t, "slow", how, "--clients", "20", "--topics", "10", "--each", "3", "--rate", "200", "--settle", "200ms", "--duration", "300ms", "--repeat", "1")
		has(t, r, "normal_p99", "disturbed_p99", "delivered/s")
	}
}

// TestSlowMarket has clients stop reading that nothing is measured of, in a market that runs already.
func TestSlowMarket(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	addrs := servertest.Start(t, func(c *all.Config) { c.Market.Kind, c.Market.Instruments, c.Market.Rate = "sim", 3, 500 })
	r := bench(t, "slow", "--ws", "ws://"+addrs.WS, "--clients", "10", "--settle", "200ms", "--duration", "500ms", "--repeat", "1")
	has(t, r, "delivered/s", "age_p99", "disturbed_p99")
}

func TestBurst(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	for _, args := range [][]string{{"--edge", "ws"}, {"--edge", "sse", "--each", "3"}} {
		r := bench(t, append([]string{
			"burst", "--clients", "20", "--topics", "10", "--each", "3", "--rate", "300", "--before", "500ms", "--for", "500ms", "--after", "1s", "--repeat", "1",
		}, args...)...)
		has(t, r, "normal_p99", "disturbed_p99")
		if sent := r.Rows[0].Measure("sent/s").Value(); sent < 700 { // 300 for 1.5 s and 3,000 for 0.5 s
			t.Errorf("%v messages/s", sent)
		}
	}
}

func TestStorm(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(args ...string) {
		t.Helper()
		r := bench(t, append([]string{"storm", "--clients", "50", "--topics", "10", "--rate", "300", "--before", "300ms", "--repeat", "1"}, args...)...)
		if served := r.Rows[0].Measure("served").Value(); served != 50 {
			t.Errorf("%v of 50 clients served", served)
		}
		has(t, r, "recovery")
	}
	f("--each", "5", "--channel", "trades")
	f("--each", "5", "--channel", "book")
	f("--each", "5", "--system", "all")
	f("--edge", "sse", "--each", "1", "--stream", "0")
	f("--edge", "sse", "--each", "2", "--stream", "250ms")
	f("--edge", "sse", "--each", "2", "--system", "all")
}

func TestFlow(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	r := bench(t, "flow", "--pause", "1500ms", "--after", "500ms", "--window", "16384")
	if len(r.Rows) != 3 {
		t.Errorf("%d rows", len(r.Rows))
	}
	if old := r.Rows[0].Measure("old_bytes").Value(); old == 0 {
		t.Error("nothing was old after a pause")
	}
}
