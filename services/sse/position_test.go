package sse

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPosition(t *testing.T) {
	f := func(parts []int, offsets []int64, want string) {
		t.Helper()
		p := position{parts, offsets}
		id := string(p.appendID(nil, "k7q2m4xw"))
		if want != "" && id != want {
			t.Errorf("%v: %s, want %s", p, id, want)
		}
		if len(id) > maxID {
			t.Errorf("%v: %d bytes", p, len(id))
		}
		logID, got, ok := parseID(id)
		if !ok || logID != "k7q2m4xw" || !slices.Equal(got.parts, parts) || !slices.Equal(got.offsets, offsets) {
			t.Errorf("%s: %s %v %v", id, logID, got, ok)
		}
	}
	f(nil, nil, "k7q2m4xw.s")
	f([]int{0}, []int64{0}, "k7q2m4xw.AQEA")
	f([]int{1, 3}, []int64{300, 5}, "k7q2m4xw.AQqsAgU")
	f([]int{11, 12, 200}, []int64{1, 1 << 40, 7}, "")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 { // as many partitions as may be, of a log of a year at a million records a second
		p := position{}
		for part := range 64 {
			if rnd.IntN(4) == 0 && len(p.parts) < maxPartitions {
				p.parts, p.offsets = append(p.parts, part), append(p.offsets, rnd.Int64N(1<<45))
			}
		}
		if len(p.parts) > 0 {
			f(p.parts, p.offsets, "")
		}
	}
}

func TestLongest(t *testing.T) {
	parts := func(first int) (p position) {
		for i := range maxPartitions {
			p.parts = append(p.parts, first+i)
		}
		return p
	}
	if n := parts(0).longest(); n > maxID {
		t.Errorf("16 partitions: %d bytes", n)
	}
	if n := parts(1000).longest(); n <= maxID {
		t.Errorf("16 partitions behind a thousand others: %d bytes", n)
	}
}

func TestBadIDs(t *testing.T) {
	for _, id := range []string{
		"", ".", "x", "k7q2m4xw", "k7q2m4xw.", ".s", "k7q2m4xw.*", "k7q2m4xw.AA", "k7q2m4xw.AQ", "k7q2m4xw.AQEAAA", "k7q2m4xw.AQAA",
		"k7q2m4xw.AQH_", "k7q2m4xw.AQH_________38", "k7q2m4xw.CQEA", "k7q2m4xw.AQEA\n", "k7q2m4xw.AQEA=",
		"k7q2m4xw.A___" + "AAAAAAAAAAAAAAAAAAAAAAAAA", // 24 partitions
	} {
		if logID, p, ok := parseID(id); ok {
			t.Errorf("%q: %q %v", id, logID, p)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("k7q2m4xw.AQqsAgU")
	f.Add("k7q2m4xw.s")
	f.Fuzz(func(t *testing.T, id string) {
		logID, p, ok := parseID(id)
		if !ok {
			return
		}
		again, q, ok := parseID(string(p.appendID(nil, logID)))
		if !ok || again != logID || !slices.Equal(p.parts, q.parts) || !slices.Equal(p.offsets, q.offsets) {
			t.Fatalf("%q: %v, then %v", id, p, q)
		}
	})
}
