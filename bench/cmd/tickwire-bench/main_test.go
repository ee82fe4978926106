package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
)

// TestMain lets the test program be what the commands start: themselves as a part, or as the servers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == proc.Command || os.Args[1] == "serve") {
		main()
		return
	}
	os.Exit(m.Run())
}

// bench runs a command and returns what it printed and the figures it wrote.
func bench(t *testing.T, figures any, args ...string) (out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "figures.json")
	root := rootCommand()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetArgs(append(args, "--json", file))
	if err := root.ExecuteContext(ctx); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &b)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, figures); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFanout(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(rows int, args ...string) {
		t.Helper()
		var r struct {
			Rows []struct {
				Delivered float64
				FloorRuns []any
			}
		}
		out := bench(t, &r, append([]string{"fanout", "--warmup", "50ms", "--duration", "300ms", "--repeat", "1"}, args...)...)
		if len(r.Rows) != rows || strings.Count(out, "\n") < rows+2 {
			t.Errorf("%d rows\n%s", len(r.Rows), out)
		}
		for _, row := range r.Rows {
			if row.Delivered == 0 {
				t.Errorf("nothing was delivered\n%s", out)
			}
		}
	}
	market := []string{"--clients", "20", "--topics", "10", "--each", "3", "--rate", "300"}
	f(2, append(market, "--flush", "0,5ms")...)
	f(1, append(market, "--format", "json", "--floor=false")...)
	f(1, append(market, "--channel", "trades", "--format", "json", "--size", "100")...)
	f(1, append(market, "--deflate", "--format", "json", "--size", "500")...)
	f(2, "--shape", "one", "--clients", "5,10", "--deliveries", "500", "--channel", "trades")
	f(1, "--shape", "saturated", "--clients", "10")
}

func TestStreams(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(rows int, args ...string) {
		t.Helper()
		var r struct {
			Rows []struct {
				Delivered float64
				PerWrite  float64
				FloorRuns []any
			}
		}
		out := bench(t, &r, append([]string{"sse", "fanout", "--clients", "20", "--warmup", "50ms", "--duration", "300ms", "--repeat", "1"}, args...)...)
		if len(r.Rows) != rows || !strings.Contains(out, "event streams") {
			t.Errorf("%d rows\n%s", len(r.Rows), out)
		}
		for _, row := range r.Rows {
			if row.Delivered == 0 || row.PerWrite == 0 || len(row.FloorRuns) == 0 {
				t.Errorf("nothing was delivered\n%s", out)
			}
		}
	}
	f(2, "--flush", "0,50ms")
	f(2, "--stream", "0,100ms")
	f(1, "--stream", "100ms", "--gzip")
	f(1, "--shape", "market", "--topics", "5", "--each", "1")
	f(1, "--shape", "saturated")
}

func TestIdleStreams(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	var r struct {
		After, Before   int64
		Few, Goroutines int
	}
	bench(t, &r, "sse", "memory", "--clients", "50", "--settle", "200ms")
	if r.After <= 0 || r.Before <= 0 || r.Few == 0 || r.Goroutines == 0 {
		t.Errorf("%+v", r)
	}
}

func TestFanoutRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"fanout", "--shape", "round"},
		{"fanout", "--clients", "0"},
		{"fanout", "--clients", "30000"},
		{"fanout", "--each", "300"},
		{"fanout", "--rate", "0"},
		{"fanout", "--channel", "bbo"},
		{"fanout", "--format", "xml"},
		{"sse", "fanout", "--stream", "-1s"},
		{"sse", "fanout", "--gzip", "--stream", "0"},
	} {
		root := rootCommand()
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	var r struct{ After, Before int64 }
	bench(t, &r, "memory", "--clients", "50", "--settle", "200ms")
	if r.After <= 0 || r.Before <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestFairness(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	for _, how := range []string{"--no-read=false", "--no-read"} {
		var r struct{ Free, Stopped []struct{ Messages int } }
		out := bench(t, &r, "fairness", how, "--clients", "20", "--topics", "10", "--each", "3", "--rate", "200", "--settle", "200ms", "--duration", "300ms", "--repeat", "1")
		if len(r.Free) != 1 || len(r.Stopped) != 1 || r.Stopped[0].Messages == 0 {
			t.Errorf("%s", out)
		}
	}
}

func TestStorm(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(args ...string) {
		t.Helper()
		var r struct{ Served int }
		bench(t, &r, append(args, "--clients", "50", "--topics", "10", "--rate", "300")...)
		if r.Served != 50 {
			t.Errorf("%d of 50 clients served", r.Served)
		}
	}
	f("storm", "--each", "5", "--channel", "trades")
	f("storm", "--each", "5", "--channel", "book")
	f("sse", "storm", "--each", "1", "--stream", "0")
	f("sse", "storm", "--each", "2")
}

func TestFlow(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	var r struct{ Rows []struct{ Old int } }
	bench(t, &r, "flow", "--pause", "1500ms", "--after", "500ms", "--window", "16384")
	if len(r.Rows) != 3 || r.Rows[0].Old == 0 {
		t.Errorf("%+v", r)
	}
}

func TestSoak(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	var r struct{ Formats []struct{ Verified int } }
	bench(t, &r, "soak", "--clients", "4", "--each", "20", "--duration", "2s")
	if len(r.Formats) != 2 || r.Formats[0].Verified == 0 || r.Formats[1].Verified == 0 {
		t.Errorf("%+v", r)
	}
}
