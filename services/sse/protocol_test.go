package sse

import (
	"bytes"
	"flag"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files and the examples in docs/PROTOCOL.md")

var (
	retryLine = regexp.MustCompile(`(?m)^retry: \d+$`)
	retryData = regexp.MustCompile(`"retry_ms":\d+`)
)

// TestExamples records streams on a fake clock: they are golden files, and the examples of docs/PROTOCOL.md.
func TestExamples(t *testing.T) {
	got := map[string][]byte{}
	inBubble(t, nil, func(t *testing.T, l *events, e *edge, open func(string, ...string) *reader) {
		record := func(name, path string, events int, headers ...string) *reader {
			t.Helper()
			r := open(path, headers...)
			var text bytes.Buffer
			r.in.Reset(io.TeeReader(r.resp.Body, &text))
			for range events {
				r.next()
			}
			got[name] = append([]byte("GET "+path+"\n"+strings.Join(append(headers, ""), "\n")+"\n"), text.Bytes()...)
			return r
		}
		l.beat()
		time.Sleep(time.Second)
		l.trade(1)
		l.quote(1, 6_173_736)
		l.bar(1, market.Minute)
		time.Sleep(20 * time.Millisecond)
		l.beat()
		time.Sleep(200 * time.Millisecond) // until it is seen to live
		go func() {
			time.Sleep(10 * time.Millisecond)
			l.trade(1)
			time.Sleep(10 * time.Millisecond)
			l.gap(1)
		}()
		trades := record("trades.txt", "/v1/sse/trades?symbols=BTC-USDT", 4)
		id := regexp.MustCompile(`id: (\S+)\nevent: trade`).FindSubmatch(got["trades.txt"])[1]
		_ = trades.conn.Close()
		resumed := record("resume.txt", "/v1/sse/trades?symbols=BTC-USDT", 2, "Last-Event-ID: "+string(id))
		_ = resumed.conn.Close()
		reset := record("reset.txt", "/v1/sse/trades?symbols=BTC-USDT", 3, "Last-Event-ID: aaaaaaaa.AQEA")
		_ = reset.conn.Close()
		go func() {
			time.Sleep(10 * time.Millisecond)
			l.trade(1)
			l.trade(1)
		}()
		ticker := record("ticker.txt", "/v1/sse/ticker?symbols=BTC-USDT,ETH-USDT&rate=100ms", 3)
		_ = ticker.conn.Close()
		bbo := record("bbo.txt", "/v1/sse/bbo?symbols=BTC-USDT", 2)
		_ = bbo.conn.Close()
		go func() {
			time.Sleep(10 * time.Millisecond)
			l.bar(1, market.Minute)
		}()
		bars := record("bars.txt", "/v1/sse/bars?symbols=BTC-USDT&iv=1m&hb=event", 3)
		_ = bars.conn.Close()
		poll := open("/v1/sse/trades?symbols=BTC-USDT&after="+string(id), "Accept: application/json")
		body, err := io.ReadAll(io.LimitReader(poll.resp.Body, poll.resp.ContentLength))
		if err != nil {
			t.Error(err)
		}
		got["poll.txt"] = append([]byte("GET /v1/sse/trades?symbols=BTC-USDT&after="+string(id)+"\nAccept: application/json\n\n"), append(body, '\n')...)
		_ = poll.conn.Close()
		time.Sleep(time.Second)
		e.s.draining.Store(true)
		end := record("goodbye.txt", "/v1/sse/trades?symbols=BTC-USDT", 1)
		_ = end.conn.Close()
		time.Sleep(time.Second)
	})
	for name, text := range got {
		got[name] = retryLine.ReplaceAll(text, []byte("retry: 3271"))
		if name == "goodbye.txt" {
			got[name] = retryData.ReplaceAll(retryLine.ReplaceAll(text, []byte("retry: 17045")), []byte(`"retry_ms":17045`))
		}
	}
	checkExamples(t, "sse", got)
}

// checkExamples holds golden files, and the examples of a kind in docs/PROTOCOL.md, to what a test has recorded.
func checkExamples(t *testing.T, kind string, got map[string][]byte) {
	t.Helper()
	testkit.Examples{Doc: "../../docs/PROTOCOL.md", Kind: kind, Rewrite: *rewrite}.Check(t, got)
}
