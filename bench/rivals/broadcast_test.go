package rivals

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// broadcast is a WebSocket server that sends to all at /sub what it gets at /pub: on a WebSocket, or in the bodies of POST
// requests to paths below that.
type broadcast struct {
	*httptest.Server
	queue chan message

	mu      sync.Mutex // guards what follows
	release hook       // when a message that has arrived goes out
	taken   hook       // when a POST is answered, and its message arrives
	lose    int        // this message, from 1, goes to nobody; 0 is none
	came    int        // messages
	subs    []net.Conn
	times   []passed // of messages
}

// hook says when what has come goes on. The zero value is at once.
type hook func(at time.Time) time.Time

// when asks one of the hooks.
func (b *broadcast) when(h *hook) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *h == nil {
		return time.Now()
	}
	return (*h)(time.Now())
}

// slow sets a hook.
func (b *broadcast) slow(h *hook, to hook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*h = to
}

// passed is when a message was due, and when it went out.
type passed struct{ due, out time.Time }

type message struct {
	payload []byte
	at      time.Time // when it goes out
}

func newBroadcast(t *testing.T) *broadcast {
	t.Helper()
	b := &broadcast{queue: make(chan message, 1<<16)}
	b.Server = httptest.NewServer(b)
	var sending sync.WaitGroup
	sending.Go(b.send)
	t.Cleanup(func() {
		b.CloseClientConnections()
		b.Close()
		b.mu.Lock()
		for _, c := range b.subs {
			_ = c.Close() // the clients have gone already
		}
		b.mu.Unlock()
		close(b.queue)
		sending.Wait()
	})
	return b
}

// url is that of a path, in another scheme.
func (b *broadcast) url(scheme, path string) string {
	return scheme + strings.TrimPrefix(b.URL, "http") + path
}

func (b *broadcast) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		payload, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(time.Until(b.when(&b.taken)))
		b.take(payload)
		return
	}
	conn, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, err = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
	if r.URL.Path != "/pub" {
		b.mu.Lock()
		b.subs = append(b.subs, conn)
		b.mu.Unlock()
		return
	}
	defer func() { _ = conn.Close() }() // it has ended
	for err == nil {
		var payload []byte
		if payload, err = readFrame(in.Reader); err == nil {
			b.take(payload)
		}
	}
}

// readFrame reads a client's frame, which has less than 64 KiB.
func readFrame(in *bufio.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return nil, err
	}
	n := int(head[1] & 0x7F)
	if n == 126 {
		if _, err := io.ReadFull(in, head[:2]); err != nil {
			return nil, err
		}
		n = int(binary.BigEndian.Uint16(head[:]))
	}
	mask := head[4:]
	if _, err := io.ReadFull(in, mask); err != nil {
		return nil, err
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return payload, nil
}

func (b *broadcast) take(payload []byte) {
	b.queue <- message{payload, b.when(&b.release)}
}

// send writes each message to all subscribers when its time has come.
func (b *broadcast) send() {
	for m := range b.queue {
		time.Sleep(time.Until(m.at))
		var head struct {
			TS int64 `json:"ts"`
		}
		if err := json.Unmarshal(m.payload, &head); err != nil {
			panic(err)
		}
		b.mu.Lock()
		if b.came++; b.came == b.lose {
			b.mu.Unlock()
			continue
		}
		b.times = append(b.times, passed{time.UnixMicro(head.TS), time.Now()})
		for _, c := range b.subs {
			_, _ = c.Write(serverFrame(m.payload)) // it has gone
		}
		b.mu.Unlock()
	}
}

func serverFrame(payload []byte) []byte {
	var b bytes.Buffer
	b.WriteByte(0x81)
	if n := len(payload); n < 126 {
		b.WriteByte(byte(n))
	} else {
		b.WriteByte(126)
		b.Write(binary.BigEndian.AppendUint16(nil, uint16(n)))
	}
	b.Write(payload)
	return b.Bytes()
}

// closedLoop is the p99 that a load generator would have found that sends a message only when the one before it has arrived:
// of the messages of this run those that it would have sent, with the latencies that they had.
func (b *broadcast) closedLoop() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []time.Duration
	var free time.Time
	for _, m := range b.times {
		if m.due.Before(free) {
			continue // it would still have been waiting
		}
		all = append(all, m.out.Sub(m.due))
		free = m.out
	}
	return quantile(all, 0.99)
}

// late is how late messages went out.
func (b *broadcast) late(q float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []time.Duration
	for _, m := range b.times {
		all = append(all, m.out.Sub(m.due))
	}
	return quantile(all, q)
}
