package sse

import (
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
)

// TestMerge gives a client that fell behind the newest value and state of each instrument, and nothing older.
func TestMerge(t *testing.T) {
	a, b := new(item), new(item)
	entry := func(updates ...update) *fanout.Entry {
		e := fanout.NewFramed(market.Sequence{}, fanout.RawFrame([]byte("as it was sent"), 0))
		if len(updates) > 0 {
			e.Meta = updates
		}
		return e
	}
	value := func(it *item, n string) update { return update{it, appendEvent(nil, nil, "ticker", []byte(n))} }
	state := func(it *item, n string) update { return update{it, appendEvent(nil, nil, "status", []byte(n))} }
	s := &source{f: bare}
	f := func(want string, entries ...*fanout.Entry) {
		t.Helper()
		got := ""
		if fr := s.Merge(entries, fanout.Native); fr != nil {
			for _, line := range strings.Split(string(fr.Bytes()), "\n") {
				if data, ok := strings.CutPrefix(line, "data: "); ok {
					got += data + " "
				}
			}
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	heartbeat := entry()
	f("a3 b1", entry(value(a, "a1")), entry(value(a, "a2")), entry(value(a, "a3"), value(b, "b1")))
	f("live a2 b2", entry(state(a, "stale"), value(a, "a1")), heartbeat, entry(value(b, "b1"), state(a, "live")), entry(value(a, "a2")), entry(value(b, "b2")))
	f("", heartbeat, heartbeat) // a snapshot will do
}
