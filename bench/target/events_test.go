package target

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// bodyOf asks for something and returns the body of the answer, which comes in chunks.
func bodyOf(t *testing.T, addr, path string) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return bufio.NewReader(httputil.NewChunkedReader(r))
}

// TestFloorGathers has the floor write what was published within a while as one chunk.
func TestFloorGathers(t *testing.T) {
	m := newMaker(market.Trades, 1, 90)
	f, err := startFloor(&Config{SSE: true, Topics: 1, Stream: 50 * time.Millisecond}, &m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the client's end, so that nobody is waited for
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	body := bodyOf(t, f.address(), "/floor?topics=0")
	const events = 100
	for range events {
		template, payload := m.make(0, time.Now().UnixMicro())
		if err := f.publish(0, template, payload); err != nil {
			t.Fatal(err)
		}
	}
	for seen := 0; seen < events; {
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "event: trade\n" {
			seen++
		}
	}
	if n := f.counters()[Writes]; n > 10 {
		t.Errorf("%v writes for %d events", n, events)
	}
}

// TestEvents compares what the floor writes with what the public edge does.
func TestEvents(t *testing.T) {
	cfg := &Config{SSE: true, Topics: 2}
	m := newMaker(market.Trades, cfg.Topics, 90)
	floor := newEvents(&m)
	e, err := startEdge(cfg, &m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the client's end, so that nobody is waited for
		if err := e.close(); err != nil {
			t.Error(err)
		}
	})
	body := bodyOf(t, e.address(), fmt.Sprintf("/v1/sse/trades?symbols=%s,%s", Sym(0), Sym(1)))
	event := func(r *bufio.Reader) (text string) {
		t.Helper()
		for !strings.HasSuffix(text, "\n\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			text += line
		}
		return text
	}
	for !strings.Contains(event(body), "event: snapshot\n") {
	}
	now := regexp.MustCompile(`"out":\d+`)
	for i := range 300 { // the offset's varint grows
		template, payload := m.make(i%2, time.Now().UnixMicro())
		payload = append([]byte(nil), payload...)
		floor.add(i%2, payload)
		chunk := string(floor.chunk(i % 2))
		want := event(bufio.NewReader(httputil.NewChunkedReader(io.MultiReader(strings.NewReader(chunk), strings.NewReader("0\r\n\r\n")))))
		if err := e.publish(i%2, template, payload); err != nil {
			t.Fatal(err)
		}
		got := event(body)
		for strings.HasPrefix(got, "event: status\n") { // the edge alone tells states, now and then
			got = event(body)
		}
		if now.ReplaceAllString(got, "") != now.ReplaceAllString(want, "") {
			t.Fatalf("the edge sends\n%sthe floor\n%s", got, want)
		}
	}
}
