package market_test

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
)

func ExampleParseFixed() {
	price, _ := market.ParseFixed("61737.63", 2)
	size, _ := market.ParseFixed("0.4", 8)
	value := market.MulFixed(market.Price(price), market.Size(size), 8)
	fmt.Println(price, size, string(market.AppendFixed(nil, market.Price(value), 2)))
	// Output: 6173763 40000000 24695.05
}

// The names and numbers are the wire's: a change here breaks clients.
func TestNames(t *testing.T) {
	states := []string{"live", "quiet", "stale", "halted", "delisted"}
	reasons := []string{"", "quarantine", "venue", "session", "retention", "slow", "checksum", "mismatch", "crossed", "start", "silent", "upgrade"}
	intervals := []string{"1s", "1m", "5m", "15m", "1h", "4h", "1d"}
	channels := []string{"book", "bbo", "trades", "ticker", "bars", "status"}
	names(t, "state", states, func(s string) (market.State, error) { return market.ParseState(s) })
	names(t, "reason", reasons, func(s string) (market.Reason, error) { return market.ParseReason(s) })
	names(t, "interval", intervals, func(s string) (market.Interval, error) { return market.ParseInterval(s) })
	names(t, "channel", channels, func(s string) (market.Channel, error) { return market.ParseChannel(s) })
	if market.NumIntervals != len(intervals) || market.NumChannels != len(channels) {
		t.Errorf("%d intervals, %d channels", market.NumIntervals, market.NumChannels)
	}
}

type enum interface {
	~uint8
	fmt.Stringer
}

func names[T enum](t *testing.T, what string, want []string, parse func(string) (T, error)) {
	t.Helper()
	for i, name := range want {
		if v, err := parse(name); int(v) != i || err != nil || v.String() != name {
			t.Errorf("%s %q: %d, %v, %q", what, name, v, err, v.String())
		}
	}
	for i := len(want); i < 256; i++ {
		if s := T(i).String(); s != "unknown" {
			t.Errorf("%s %d is called %q", what, i, s)
		}
	}
	for _, bad := range []string{"unknown", "LIVE", " 1m", "1M", "x\ny", strings.Repeat("z", 10_000)} {
		v, err := parse(bad)
		if !errors.Is(err, market.ErrName) || v != 0 {
			t.Errorf("%s %.20q: %d, %v", what, bad, v, err)
			continue
		}
		if text := err.Error(); len(text) > 80 || strings.ContainsAny(text, "\n") || !strings.Contains(text, what) {
			t.Errorf("error %q", text)
		}
	}
}

func TestIntervals(t *testing.T) {
	day := 24 * time.Hour
	want := []time.Duration{time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour, day}
	for i, d := range want {
		if iv := market.Interval(i); iv.Duration() != d || !iv.Valid() || day%d != 0 {
			t.Errorf("interval %v lasts %v", iv, iv.Duration())
		}
	}
	if market.Interval(market.NumIntervals).Valid() || market.Interval(255).Valid() {
		t.Error("a number beyond the intervals is valid")
	}
}

func TestTradeID(t *testing.T) {
	f := func(s string, ok bool, number uint64, isNumber bool) {
		t.Helper()
		id, gotOK := market.MakeTradeID(s)
		bytes, bytesOK := market.MakeTradeID([]byte(s))
		if gotOK != ok || bytesOK != ok || id != bytes {
			t.Fatalf("MakeTradeID(%q): %v, %v", s, gotOK, bytesOK)
		}
		if !ok {
			s = ""
		}
		if id.String() != s || id.Len() != len(s) || string(id.Append([]byte("x"))) != "x"+s {
			t.Errorf("the id of %q is %q", s, id)
		}
		if v, is := id.Number(); v != number || is != isNumber {
			t.Errorf("the number of %q: %d, %v", s, v, is)
		}
	}
	f("", true, 0, false)
	f("0", true, 0, true)
	f("3735683259", true, 3735683259, true)
	f("9999999999999999999", true, 9999999999999999999, true)
	f("18446744073709551615", true, math.MaxUint64, true)
	f("18446744073709551616", true, 0, false)
	f("99999999999999999999", true, 0, false)
	f("100000000000000000000", true, 0, false)
	f("007", true, 0, false)
	f("-1", true, 0, false)
	f("12a", true, 0, false)
	f("c0ffee00-1111-2222-3333-444444444444", true, 0, false)
	f(strings.Repeat("x", market.MaxTradeID), true, 0, false)
	f(strings.Repeat("x", market.MaxTradeID+1), false, 0, false)
}

func TestNumericTradeID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64().Draw(t, "v")
		id := market.NumericTradeID(v)
		text, _ := market.MakeTradeID(strconv.FormatUint(v, 10))
		if got, ok := id.Number(); id != text || got != v || !ok {
			t.Fatalf("the id of %d is %q, its number %d, %v", v, id, got, ok)
		}
	})
}

func FuzzTradeID(f *testing.F) {
	f.Add("18446744073709551615")
	f.Add("0012")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := market.MakeTradeID(s)
		if ok != (len(s) <= market.MaxTradeID) || ok && id.String() != s {
			t.Fatalf("the id of %q is %q, %v", s, id, ok)
		}
		want, err := strconv.ParseUint(s, 10, 64)
		isNumber := ok && err == nil && strconv.FormatUint(want, 10) == s
		if v, is := id.Number(); is != isNumber || is && v != want {
			t.Fatalf("the number of %q: %d, %v", s, v, is)
		}
	})
}

func TestTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(-9e15, 9e15).Draw(t, "us")
		at := market.FromMicros(us)
		if at.Micros() != us || market.FromTime(at.Std()) != at || market.Time(int64(at)+999).Micros() != us {
			t.Fatalf("%d us is %v, %d us", us, at.Std(), at.Micros())
		}
		d := market.Interval(rapid.IntRange(0, market.NumIntervals-1).Draw(t, "interval")).Duration()
		if start := at.Truncate(d); start > at || at-start >= market.Time(d) || int64(start)%int64(d) != 0 {
			t.Fatalf("%v truncated to %v is %v", at.Std(), d, start.Std())
		}
	})
	if market.FromMillis(1723161255208) != market.FromMicros(1723161255208000) {
		t.Error("a millisecond is not a thousand microseconds")
	}
}

func TestSequenceOrder(t *testing.T) {
	f := func(a, b market.Sequence, want int) {
		t.Helper()
		if a.Compare(b) != want || b.Compare(a) != -want {
			t.Errorf("%v against %v: %d and %d, want %d", a, b, a.Compare(b), b.Compare(a), want)
		}
	}
	f(market.Sequence{Epoch: 1, Seq: 9}, market.Sequence{Epoch: 2, Seq: 1}, -1)
	f(market.Sequence{Epoch: 2, Seq: 1}, market.Sequence{Epoch: 2, Seq: 2}, -1)
	f(market.Sequence{Epoch: 2, Seq: 2}, market.Sequence{Epoch: 2, Seq: 2}, 0)
	f(market.Sequence{}, market.Sequence{Epoch: math.MaxUint32, Seq: math.MaxUint64}, -1)
	h := market.Head{Epoch: 17, Seq: 1001}
	if s := h.Sequence().String(); s != "17:1001" {
		t.Errorf("sequence %q", s)
	}
}
