package store

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// How long answers are kept for their Idempotency-Key.
const onceKept = 24 * time.Hour

// What a request with a known Idempotency-Key gets.
var (
	ErrRepeated = errors.New("the request was made before")                    // Once.Answer is what was answered
	ErrReused   = errors.New("the key was used for another request")           // 422
	ErrNoAnswer = errors.New("the request was made before, without an answer") // that was kept
)

// Once makes a request with an Idempotency-Key count once. What the request does and its answer are one transaction.
type Once struct {
	Key     string
	Request [32]byte      // a hash of what was asked for
	Render  func() []byte // makes the answer to be kept, when numbers are assigned; nil: Answer as it is
	Answer  []byte        // of the first request, with ErrRepeated
}

// once runs do unless the request was made before. Of two at the same time, the second waits for the first.
func (t *tx) once(tenant int64, o *Once, do func() error) error {
	if o == nil || o.Key == "" {
		return do()
	}
	// A key may be used again when its answer is too old, purged or not.
	if err := t.DropOldOnce(t.ctx, tenant, o.Key, time.Now().Add(-onceKept).UnixMicro()); err != nil {
		return err
	}
	n, err := t.BeginOnce(t.ctx, query.BeginOnceParams{Tenant: tenant, Name: o.Key, Request: o.Request[:], Answer: []byte{}, Created: time.Now().UnixMicro()})
	if err != nil {
		return err
	}
	if n == 0 {
		row, err := t.Once(t.ctx, tenant, o.Key)
		if err != nil {
			return err
		}
		return t.repeated(row, o)
	}
	if err := do(); err != nil {
		return err
	}
	if o.Render != nil {
		o.Answer = o.Render()
	}
	return t.EndOnce(t.ctx, tenant, o.Key, t.s.keys.seal(pack(o.Answer), onceRow(tenant, o.Key)))
}

func (t *tx) repeated(row query.Once, o *Once) error {
	if !bytes.Equal(row.Request, o.Request[:]) {
		return ErrReused
	}
	answer, err := t.s.keys.open(row.Answer, onceRow(row.Tenant, row.Name))
	if errors.Is(err, ErrKey) {
		return ErrNoAnswer // the key was replaced, and answers are not sealed anew
	}
	if err == nil {
		o.Answer, err = unpack(answer)
	}
	return errors.Join(err, ErrRepeated)
}

// packAbove is from how many bytes on answers are kept compressed: those to bulk requests are large, and much alike inside.
const packAbove = 1 << 10

// The first byte of a kept answer.
const (
	packedPlain byte = iota
	packedFlate
)

func pack(answer []byte) []byte {
	if len(answer) < packAbove {
		return append([]byte{packedPlain}, answer...)
	}
	b := bytes.NewBuffer([]byte{packedFlate})
	w, err := flate.NewWriter(b, flate.BestSpeed)
	if err != nil {
		panic("store: " + err.Error()) // the level is a good one
	}
	_, _ = w.Write(answer) // into memory
	_ = w.Close()
	return b.Bytes()
}

var errPacked = errors.New("not a kept answer")

func unpack(b []byte) ([]byte, error) {
	switch {
	case len(b) == 0:
		return nil, errPacked
	case b[0] == packedPlain:
		return b[1:], nil
	case b[0] != packedFlate:
		return nil, errPacked
	}
	return io.ReadAll(flate.NewReader(bytes.NewReader(b[1:]))) // we have packed it
}

// Once runs nothing: it keeps the answer of a request that needs no transaction, or tells that it was made before.
func (s *Store) Once(ctx context.Context, tenant int64, o *Once) error {
	return s.write(ctx, func(t *tx) error { return t.once(tenant, o, func() error { return nil }) })
}

// Answered returns ErrRepeated, with the Answer in o, when the request was made before, and ErrNotFound when it was not.
func (s *Store) Answered(ctx context.Context, tenant int64, o *Once) error {
	return s.write(ctx, func(t *tx) error {
		row, err := t.Once(t.ctx, tenant, o.Key)
		if err != nil {
			return s.found(err)
		}
		if fromMicros(row.Created).Before(time.Now().Add(-onceKept)) {
			return ErrNotFound
		}
		return t.repeated(row, o)
	})
}

// Keep replaces the answer that was kept.
func (s *Store) Keep(ctx context.Context, tenant int64, o *Once) error {
	return s.write(ctx, func(t *tx) error {
		return t.EndOnce(t.ctx, tenant, o.Key, s.keys.seal(pack(o.Answer), onceRow(tenant, o.Key)))
	})
}
