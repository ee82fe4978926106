package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestEndToEnd(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	small := []string{"--warmup", "100ms", "--duration", "700ms", "--repeat", "1", "--rate", "500", "--instruments", "20", "--clients", "10", "--each", "5"}
	has(t, bench(t, append([]string{"e2e"}, small...)...), "sent/s", "delivered/s", "p50", "p99.99", "ingest_p99", "edge_p99", "cpu", "busy", "switches", "rss", "bytes")
	has(t, bench(t, append([]string{"ws-books"}, small...)...), "sent/s", "delivered/s", "p50", "cpu", "rss", "verified")
}

func TestSoak(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	r := bench(t, "soak", "--clients", "4", "--each", "20", "--duration", "2s", "--warmup", "100ms")
	has(t, r, "delivered/s", "age_p50", "verified", "rss", "cpu")
	if r.Rows[0].Measure("rss_growth") == nil {
		t.Error("nobody looked whether memory grows")
	}
	memory := false
	for _, s := range r.Rows[0].Series {
		memory = memory || s.Name == "memory" && len(s.Values) > 0
	}
	if !memory {
		t.Error("no samples of the memory")
	}
}

func TestIngest(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	small := []string{"ingest", "--warmup", "100ms", "--duration", "700ms", "--repeat", "1", "--rate", "500", "--instruments", "20"}
	has(t, bench(t, small...), "sent/s", "delivered/s", "p50", "cpu", "per_raw")
	has(t, bench(t, append(small, "--saturate", "--in-flight", "100")...), "sent/s", "delivered/s", "p50", "cpu")
}

func TestAlerts(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	small := []string{"--warmup", "100ms", "--duration", "700ms", "--repeat", "1", "--endpoints", "3"}
	has(t, bench(t, append([]string{"alerts", "--rate", "100", "--instruments", "5", "--each", "2"}, small...)...), "sent/s", "delivered/s", "p50", "cpu", "rss")
	has(t, bench(t, append([]string{"webhook", "--fires", "30", "--every", "300ms", "--bad", "1"}, small...)...), "delivered/s", "p50", "recovery", "unfairness", "cpu")
}

func TestLoadsRefuse(t *testing.T) {
	for _, args := range [][]string{
		{"e2e", "--rate", "0"},
		{"e2e", "--stages", "5s"},
		{"e2e", "--each", "300"},
		{"e2e", "--sse", "http://127.0.0.1:1"},
		{"e2e", "--ws", "ws://127.0.0.1:1", "--rate", "5"},
		{"soak", "--ws", "ws://127.0.0.1:1", "--instruments", "5"},
		{"ws-books", "--clients", "0"},
		{"soak", "--duration", "0"},
		{"soak", "--repeat", "0"},
		{"ingest", "--in-flight", "0"},
		{"ingest", "--ws", "ws://127.0.0.1:1"},
		{"alerts", "--receive", "here"},
		{"alerts", "--alerts", "http://127.0.0.1:1"},
		{"webhook", "--bad", "10"},
		{"e2e", "--cpuprofile", "/nonexistent/file"},
	} {
		root := rootCommand()
		root.SetErr(new(bytes.Buffer))
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); exitCode(err) != 2 || !strings.Contains(err.Error(), "--") {
			t.Errorf("%v: exit code %d: %v", args, exitCode(err), err)
		}
	}
}
