package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"
)

// pollEvery is how often files are looked at. A poll also sees what notices of the kernel miss: mounts over a network, and
// the links that Kubernetes swaps.
const pollEvery = 2 * time.Second

// file is one that may change. It is read again when its time or size says so, and also while its time is so new that
// a second change could have the same.
type file struct {
	path  string
	limit int

	at   time.Time // the file's time when it was read
	size int64
	read time.Time
	sum  [32]byte
	seen bool
}

// load returns the content if it is another than the last one.
func (f *file) load(context.Context) (b []byte, changed bool, err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, false, err
	}
	if f.seen && info.ModTime().Equal(f.at) && info.Size() == f.size && f.read.Sub(f.at) > 2*pollEvery {
		return nil, false, nil
	}
	now := time.Now()
	b, err = f.readAll()
	if err != nil {
		return nil, false, err
	}
	f.at, f.size, f.read = info.ModTime(), info.Size(), now
	sum := sha256.Sum256(b)
	changed = !f.seen || sum != f.sum
	f.seen, f.sum = true, sum
	return b, changed, nil
}

func (f *file) readAll() ([]byte, error) {
	h, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Close() }() // nothing was written
	b, err := io.ReadAll(io.LimitReader(h, int64(f.limit)+1))
	if err == nil && len(b) > f.limit {
		err = fmt.Errorf("%s: more than %d bytes", f.path, f.limit)
	}
	return b, err
}

// report passes on what is new about a source: once that it fails, with each other reason, and once that it is good again.
type report struct {
	to     func(source string, err error)
	source string
	last   string
}

func (r *report) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == r.last {
		return
	}
	r.last = text
	if r.to != nil {
		r.to(r.source, err)
	}
}
