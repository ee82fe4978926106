package store

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"
)

// An id is the milliseconds since idEpoch, a counter, and the number of the process that made it: ids of one process grow,
// and those of several never meet, as long as no more than 1024 processes have been started meanwhile.
const (
	nodeBits    = 10
	counterBits = 12
	idEpoch     = 1_577_836_800_000 // 2020-01-01, in Unix milliseconds
)

// ids makes ids. A burst of more than the counter can number goes on in the milliseconds to come.
type ids struct {
	node int64

	mu   sync.Mutex
	last int64 // milliseconds and counter
}

func (g *ids) next() int64 {
	now := (time.Now().UnixMilli() - idEpoch) << counterBits
	g.mu.Lock()
	g.last = max(g.last+1, now)
	id := g.last<<nodeBits | g.node
	g.mu.Unlock()
	return id
}

// firstID is the smallest id that could be made at t.
func firstID(t time.Time) int64 {
	return max(0, t.UnixMilli()-idEpoch) << (counterBits + nodeBits)
}

var anyNode = sync.OnceValue(func() *ids {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return &ids{node: int64(binary.BigEndian.Uint16(b[:]) % (1 << nodeBits))}
})

// NewID returns an id that nothing else has, unless another process that drew the same number of 1024 makes one in the same
// millisecond. The store's own ids, which rows get that come without one, never meet.
func NewID() int64 { return anyNode().next() }

// NewID returns an id that nothing else in the database has.
func (s *Store) NewID() int64 { return s.ids.next() }

// The alphabet is Crockford's: without i, l, o and u, in lower case.
var base = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

const idDigits = 13

// FormatID prints an id as people see it: prefix and 13 digits.
func FormatID(prefix string, n int64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	var digits [idDigits]byte
	base.Encode(digits[:], b[:])
	return prefix + string(digits[:])
}

// ParseID reads what FormatID has printed, and nothing else.
func ParseID(prefix, s string) (int64, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || len(digits) != idDigits {
		return 0, fmt.Errorf("id %.40q: not %s and %d digits", s, prefix, idDigits)
	}
	var b [8]byte
	if n, err := base.Decode(b[:], []byte(digits)); err != nil || n != len(b) {
		return 0, fmt.Errorf("id %.40q: not base 32", s)
	}
	n := int64(binary.BigEndian.Uint64(b[:]))
	if n <= 0 || FormatID(prefix, n) != s {
		return 0, fmt.Errorf("id %.40q: no such number", s)
	}
	return n, nil
}

// AlertEventID is the id of the event that an alert's fire number armSeq makes.
func AlertEventID(alert int64, armSeq uint32) string {
	return fmt.Sprintf("%s_%d", FormatID(EventPrefix, alert), armSeq)
}
