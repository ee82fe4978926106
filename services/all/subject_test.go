package all_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// TestSubjectOverBothEdges has a subject that may have two connections take one at each edge, and ask each for a third.
func TestSubjectOverBothEdges(t *testing.T) {
	s := startWith(t, nil, func(c *all.Config) {
		c.Market.Kind, c.Edge.Auth.Mode = "sim", "required"
		c.Edge.Auth.HS256File, c.Edge.Auth.KeysFile = testkit.Keys(t, "")
	})
	token := testkit.Token("alice", time.Hour, `{"conns":2}`)
	ask := func(addr, path, headers string) (net.Conn, *http.Response) {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", path, token, headers)
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		return conn, resp
	}
	upgrade := func() (net.Conn, int) {
		t.Helper()
		conn, resp := ask(strings.TrimPrefix(s.url, "ws://"), "/v1/ws",
			"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
		return conn, resp.StatusCode
	}
	stream := func() (net.Conn, string) {
		t.Helper()
		conn, resp := ask(s.sse, "/v1/sse/ticker?symbols=BTC-USDT", "")
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if event, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				return conn, event
			}
		}
		t.Fatal(resp.Status)
		return nil, ""
	}
	first, status := upgrade()
	if status != http.StatusSwitchingProtocols {
		t.Fatal(status)
	}
	second, event := stream()
	if event != "hello" {
		t.Fatal(event)
	}
	if _, event := stream(); event != "goodbye" {
		t.Errorf("a third connection, a stream, begins with %s", event)
	}
	if _, status := upgrade(); status != http.StatusTooManyRequests {
		t.Errorf("a third connection, a WebSocket: %d", status)
	}
	must(t, first.Close())
	streams := func() bool {
		conn, event := stream()
		_ = conn.Close()
		return event == "hello"
	}
	if !waitFor(t, streams) {
		t.Error("a WebSocket that has gone keeps its place from streams")
	}
	must(t, second.Close())
	upgrades := func() bool {
		conn, status := upgrade()
		_ = conn.Close()
		return status == http.StatusSwitchingProtocols
	}
	if !waitFor(t, upgrades) {
		t.Error("a stream that has gone keeps its place from WebSockets")
	}
}
