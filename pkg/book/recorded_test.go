package book_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

// recording is a recorded Binance book: a snapshot and the depth updates that follow it without a gap.
type recording struct {
	snapshot market.Snapshot
	deltas   []market.Delta
}

var errAbsent = errors.New("no recorded data: set TICKWIRE_DATA, or put it at ../shared/data beside the repository")

// readRecording reads the recording once for all tests and benchmarks of a run.
var readRecording = sync.OnceValues(func() (*recording, error) {
	dir := os.Getenv("TICKWIRE_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	r := &recording{}
	for _, day := range []string{"20240808", "20240809"} {
		file := filepath.Join(dir, "binance-spot", "btcusdt_"+day+".gz")
		if _, err := os.Stat(file); err != nil {
			return nil, errAbsent
		}
		if err := r.read(file); err != nil {
			return nil, err
		}
	}
	return r, nil
})

func recorded(tb testing.TB) *recording {
	tb.Helper()
	r, err := readRecording()
	if errors.Is(err, errAbsent) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *recording) read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, text, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		switch {
		case bytes.HasPrefix(text, []byte(`{"lastUpdateId"`)):
			err = r.readSnapshot(text)
		case bytes.HasPrefix(text, []byte(`{"stream":"btcusdt@depth`)):
			err = r.readDelta(text)
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

func (r *recording) readSnapshot(text []byte) error {
	var s struct {
		LastUpdateID uint64
		Bids, Asks   [][2]string
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	var err1, err2 error
	r.snapshot.Seq, r.snapshot.Epoch = s.LastUpdateID, 1
	r.snapshot.Bids, err1 = readLevels(s.Bids)
	r.snapshot.Asks, err2 = readLevels(s.Asks)
	return errors.Join(err1, err2)
}

func (r *recording) readDelta(text []byte) error {
	var d struct {
		Data struct {
			E     json.RawMessage `json:"e"` // declared, since encoding/json takes e for E otherwise
			Time  int64           `json:"E"`
			First uint64          `json:"U"`
			Last  uint64          `json:"u"`
			B, A  [][2]string
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	m := market.Delta{}
	m.Epoch, m.Prev, m.Seq, m.Time = 1, d.Data.First-1, d.Data.Last, market.FromMillis(d.Data.Time)
	var err1, err2 error
	m.Bids, err1 = readLevels(d.Data.B)
	m.Asks, err2 = readLevels(d.Data.A)
	r.deltas = append(r.deltas, m)
	return errors.Join(err1, err2)
}

func readLevels(rows [][2]string) ([]market.Level, error) {
	ls := make([]market.Level, 0, len(rows))
	for _, row := range rows {
		p, err1 := market.ParseFixed(row[0], 2)
		s, err2 := market.ParseFixed(row[1], 8)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		ls = append(ls, market.Level{Price: market.Price(p), Size: market.Size(s)})
	}
	return ls, nil
}

// The recording through the book, the views and clients of the views; the model says what is right.
func TestRecordedBook(t *testing.T) {
	r := recorded(t)
	var b book.Book
	if err := b.Load(&r.snapshot); err != nil {
		t.Fatal(err)
	}
	m := newModel()
	m.setAll(r.snapshot.Bids, r.snapshot.Asks)
	m.seq = r.snapshot.Sequence()
	views := map[int]*book.View{10: nil, 25: nil, 50: nil, 100: nil}
	clients := map[int]*book.Book{}
	for depth := range views {
		views[depth], clients[depth] = book.NewView(depth), &book.Book{}
		views[depth].Reset(&b)
		clients[depth].Replace(b.AppendLevels(nil, market.Bid, depth), b.AppendLevels(nil, market.Ask, depth))
	}
	applied := 0
	for i := range r.deltas {
		ok, err := b.Apply(&r.deltas[i])
		if err != nil {
			t.Fatalf("update %d: %v", i, err)
		}
		if !ok {
			continue // older than the snapshot
		}
		applied++
		m.setAll(r.deltas[i].Bids, r.deltas[i].Asks)
		m.seq = r.deltas[i].Sequence()
		if b.Crossed() {
			t.Fatalf("update %d: crossed", i)
		}
		for depth, v := range views {
			v.Update(&b)
			followRecorded(t, v, clients[depth])
		}
		if applied%250 == 0 {
			checkBook(t, &b, m)
			checkViews(t, views, m)
		}
	}
	checkBook(t, &b, m)
	if applied < 6490 {
		t.Errorf("only %d updates", applied)
	}
	t.Logf("%d updates, %d + %d levels in the end", applied, b.Len(market.Bid), b.Len(market.Ask))
}

func followRecorded(t fataler, v *book.View, c *book.Book) {
	t.Helper()
	bids, asks := v.AppendChanged(nil, nil)
	c.BeginChanges()
	for _, l := range bids {
		c.Set(market.Bid, l.Price, l.Size)
	}
	for _, l := range asks {
		c.Set(market.Ask, l.Price, l.Size)
	}
	if c.Hash() != v.Hash() {
		t.Fatalf("client hash %016x, view hash %016x", c.Hash(), v.Hash())
	}
}

func checkViews(t fataler, views map[int]*book.View, m *model) {
	t.Helper()
	for depth, v := range views {
		if v.Hash() != m.hash(depth) {
			t.Fatalf("depth %d: hash %016x, want %016x", depth, v.Hash(), m.hash(depth))
		}
		checkLevels(t, "view bids", v.AppendLevels([]market.Level{}, market.Bid), m.levels(market.Bid, depth))
		checkLevels(t, "view asks", v.AppendLevels([]market.Level{}, market.Ask), m.levels(market.Ask, depth))
	}
}
