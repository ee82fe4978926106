package fanout

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
)

// TestFrom looks for entries by where they stand in the publisher's log.
func TestFrom(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	topic := h.NewTopic(Replay, Limits{Entries: 4}, nil)
	f := func(offset int64, ok bool, want ...int64) {
		t.Helper()
		entries, got := topic.From(offset)
		var offsets []int64
		for _, e := range entries {
			offsets = append(offsets, e.Offset)
		}
		if got != ok || !slices.Equal(offsets, want) {
			t.Errorf("from %d: %v %t", offset, offsets, got)
		}
	}
	f(-1, true)
	f(100, true)
	for i := range int64(6) { // at 0, 10, 20 … 50
		e := NewEntry(market.Sequence{Epoch: 1, Seq: uint64(i + 1)}, uint64(i), Binary, []byte{1})
		e.Offset = 10 * i
		topic.Publish(e)
	}
	f(9, false)
	f(10, true, 20, 30, 40, 50) // what has gone is up to 10
	f(19, true, 20, 30, 40, 50)
	f(20, true, 30, 40, 50)
	f(45, true, 50)
	f(50, true)
	topic.Clear(market.Sequence{Epoch: 1, Seq: 6})
	f(49, false)
	f(50, true)
}

// TestReplay has a subscriber fall off the ring of a topic whose entries are never merged: it gets a snapshot, not a gap.
func TestReplay(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	server, client := pair(t)
	c, _ := attach(t, h, server)
	topic := newCounter(h, Replay, Limits{Entries: 8})
	s := c.Subscribe(topic.topic, Start{Position: topic.topic.Next()})
	for i := range 3 {
		topic.set(i, 7)
	}
	s.Go()
	in := bufio.NewReader(client)
	for i := range 3 {
		if m, err := read(in); err != nil || m.payload[0] != update || binary.LittleEndian.Uint64(m.payload[11:]) != uint64(i+1) {
			t.Fatalf("%v %v", m, err)
		}
	}
	late := c.Subscribe(topic.topic, Start{Position: topic.topic.Next()})
	for i := range 20 {
		topic.set(i%16, uint64(i))
	}
	late.Go()
	for n := 0; ; {
		m, err := read(in)
		if err != nil {
			t.Fatal(err)
		}
		if m.payload[0] == gap {
			t.Fatal("a gap")
		}
		if m.payload[0] == snapshot {
			if n++; n == 2 { // both parts
				return
			}
		}
	}
}

// watcher counts what it sees, and says the last word.
type watcher struct {
	frames int
	tags   []any
}

func (w *watcher) Sent(f *Frame) {
	w.frames++
	if f.Tag != nil {
		w.tags = append(w.tags, f.Tag)
	}
}

func (w *watcher) Last() *Frame { return NewFrame(Text, []byte("last")) }

func TestObserver(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	server, client := pair(t)
	c, _ := attach(t, h, server)
	w := new(watcher)
	c.Observe(w)
	tagged := NewFrame(Text, []byte("first"))
	tagged.Tag = 7
	c.Send(tagged)
	topic := h.NewTopic(Replay, Limits{Entries: 8}, nil)
	e := NewFramed(market.Sequence{Epoch: 1, Seq: 1}, tagged)
	topic.Publish(e)
	in := bufio.NewReader(client)
	s := c.Subscribe(topic, Start{Position: 1})
	s.Go()
	for range 2 {
		if m, err := read(in); err != nil || string(m.payload) != "first" {
			t.Fatalf("%v %v", m, err)
		}
	}
	c.Close(NewFrame(Text, []byte("end")))
	for _, want := range []string{"end", "last"} {
		if m, err := read(in); err != nil || string(m.payload) != want {
			t.Fatalf("%v %v, want %s", m, err, want)
		}
	}
	h.Close()
	if w.frames != 4 || len(w.tags) != 2 {
		t.Errorf("%d frames, tags %v", w.frames, w.tags)
	}
}

// TestLastOnce closes a connection whose transport does not take the end at once.
func TestLastOnce(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	server, client := pair(t)
	c, _ := attach(t, h, server)
	c.Observe(new(watcher))
	c.Close(NewFrame(Text, make([]byte, 8<<20))) // more than any socket holds
	for h.Stats().Blocked.Load() == 0 {
		runtime.Gosched()
	}
	in := bufio.NewReader(client)
	if _, err := read(in); err != nil {
		t.Fatal(err)
	}
	if m, err := read(in); err != nil || string(m.payload) != "last" {
		t.Fatalf("%v %v", m, err)
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("behind the last message: %q, %v", rest, err)
	}
}

// endless is a transport whose peer is gone when the stream is to be ended.
type endless struct {
	discard
	closed bool
}

var errNotConnected = errors.New("not connected")

func (*endless) Finish() error { return errNotConnected }
func (e *endless) Close() error {
	e.closed = true
	return nil
}

// TestFinishFails ends a connection whose peer has gone just before.
func TestFinishFails(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	w, r := new(endless), newRecorder()
	c, err := h.Attach(w, r)
	if err != nil {
		t.Fatal(err)
	}
	c.Close(nil)
	if err := <-r.closed; !errors.Is(err, errNotConnected) {
		t.Error(err)
	}
	if !w.closed {
		t.Error("nobody has closed the transport")
	}
}
