package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// aBatch is a record batch as a broker stores it.
func aBatch(t *testing.T, offset int64, records int) []byte {
	t.Helper()
	var b builder
	b.reset()
	for range records {
		b.add(&Record{Value: []byte("x")})
	}
	raw, err := b.seal(identity{}, Uncompressed, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Clone(raw[setSize:])
	binary.BigEndian.PutUint64(raw[atBaseOffset:], uint64(offset))
	return raw
}

func TestWholeBatches(t *testing.T) {
	two := append(aBatch(t, 10, 3), aBatch(t, 13, 2)...)
	f := func(what string, in []byte, size int, next int64, bad bool) {
		t.Helper()
		n, got, err := wholeBatches(in)
		if n != size || got != next || (err != nil) != bad || bad && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %d bytes up to %d, %v; want %d up to %d", what, n, got, err, size, next)
		}
	}
	f("nothing", nil, 0, 0, false)
	f("two", two, len(two), 15, false)
	f("one and a part", two[:len(two)-1], len(aBatch(t, 10, 3)), 13, false)
	f("a part", two[:20], 0, 0, false)
	bad := bytes.Clone(two)
	binary.BigEndian.PutUint32(bad[atLength:], 1)
	f("a length that can't be", bad, 0, 0, true)
	bad = bytes.Clone(two)
	binary.BigEndian.PutUint32(bad[atLastOffsetDelta:], 1<<31)
	f("less than no offsets", bad, 0, 0, true)
}

// TestSeat has a seat take what a broker may say.
func TestSeat(t *testing.T) {
	one := aBatch(t, 10, 3)
	answer := func(p fetchPart) (*seat, bool) {
		s := &seat{wake: make(chan struct{}, 1), offset: 10, high: -1, told: time.Now()}
		p.offset = 10
		return s, s.receive(&p, time.Now())
	}
	if s, ok := answer(fetchPart{records: append(bytes.Clone(one), one[:30]...), highWatermark: 20}); !ok || s.offset != 13 || !bytes.Equal(s.ahead, one) {
		t.Errorf("a batch and a part: kept %v, at %d with %d bytes", ok, s.offset, len(s.ahead))
	}
	if s, ok := answer(fetchPart{highWatermark: 10}); !ok || s.offset != 10 {
		t.Errorf("nothing new: kept %v, at %d", ok, s.offset)
	}
	for what, p := range map[string]fetchPart{
		"an error":             {code: 6},
		"a part of a batch":    {records: one[:30]},
		"a batch from before":  {records: aBatch(t, 5, 3)},
		"something else again": {records: make([]byte, 100)},
	} {
		s, ok := answer(p)
		if ok || s.offset != 10 || len(s.ahead) > 0 {
			t.Errorf("%s: kept %v, at %d with %d bytes", what, ok, s.offset, len(s.ahead))
		}
		if _, _, _, ok := s.read(nil); ok {
			t.Errorf("%s: the fetcher does not hear that its seat is lost", what)
		}
	}
	full := &seat{wake: make(chan struct{}, 1), ahead: make([]byte, seatBytes)}
	if _, room := full.wants(); room {
		t.Error("a full seat asks for more")
	}
	if got, _, _, ok := full.read(nil); !ok || len(got) != seatBytes {
		t.Errorf("read %d bytes, %v", len(got), ok)
	}
	if _, room := full.wants(); !room {
		t.Error("an empty seat asks for nothing")
	}
}

// TestCloseWithFullSeats closes a Cluster under a fetcher that has stopped reading: its lane must end all the same.
func TestCloseWithFullSeats(t *testing.T) {
	c, err := Open(Config{Brokers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	key := laneKey{topic: "t", leader: 1}
	full := &seat{wake: make(chan struct{}, 1), ahead: make([]byte, seatBytes)}
	l := &fetchLane{c: c, key: key, seats: []*seat{full}}
	c.fetchLanes[key] = l
	c.running.Go(l.run)
	closed := make(chan struct{})
	go func() { defer close(closed); c.Close() }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs")
	}
	if batches, _, _, _ := full.read(nil); len(batches) != seatBytes {
		t.Errorf("%d bytes of what was read ahead are left", len(batches))
	}
	if _, _, _, ok := full.read(nil); ok {
		t.Error("the seat is not lost")
	}
}
