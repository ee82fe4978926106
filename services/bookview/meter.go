package bookview

import (
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
)

// window is how far back the rate of updates looks.
const window = 5

// meter counts updates per second, and knows whether there is a connection.
type meter struct {
	mu     sync.Mutex
	counts [window + 1]int // of the seconds from newest back
	newest int64           // Unix second of counts[0]
	began  int64
	lost   string // why there is no connection; empty while there is one
}

func (m *meter) onBook(*client.Book, *client.BookUpdate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(time.Now().Unix())
	m.counts[0]++
}

func (m *meter) onConnect(*client.Hello) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = ""
}

func (m *meter) onDisconnect(err error, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = err.Error()
}

// trouble says why there is no connection.
func (m *meter) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// turn moves the seconds on. The caller holds mu.
func (m *meter) turn(now int64) {
	if m.began == 0 {
		m.began, m.newest = now, now
	}
	shift := min(max(now-m.newest, 0), int64(len(m.counts)))
	copy(m.counts[shift:], m.counts[:])
	clear(m.counts[:shift])
	m.newest = max(now, m.newest)
}

// rate is how many updates came per second, over the last whole seconds.
func (m *meter) rate(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now.Unix())
	sum, seconds := 0, min(now.Unix()-m.began, window)
	if seconds == 0 {
		return float64(m.counts[0])
	}
	for _, n := range m.counts[1 : 1+seconds] {
		sum += n
	}
	return float64(sum) / float64(seconds)
}
