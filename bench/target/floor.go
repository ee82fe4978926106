package target

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/wire"
)

// floor is what no server can do better without putting messages together: a loop that makes one write(2) per message
// and subscriber, of the same frames to as many sockets. Of event streams with a rate it is one per chunk and subscriber. A client says in the query what it wants.
type floor struct {
	ln       net.Listener
	greeting string
	events   *eventMaker   // of event streams; nil for frames of the WebSocket
	gathers  bool          // events, until the next beat
	ending   chan struct{} // closed by close
	running  sync.WaitGroup
	mu       sync.Mutex // guards what follows
	conns    []net.Conn
	topics   [][]*floorConn
	writes   uint64
	shutdown bool
}

// floorConn is a subscriber. Its connection is kept open, and so its descriptor stays its own.
type floorConn struct {
	conn net.Conn
	fd   int
	dead bool
}

func startFloor(cfg *Config, m *maker) (*floor, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &floor{
		ln: ln, topics: make([][]*floorConn, cfg.Topics), greeting: "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		ending: make(chan struct{}),
	}
	if cfg.SSE {
		f.greeting, f.events = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", newEvents(m)
	}
	if f.gathers = cfg.Stream > 0; f.gathers {
		f.running.Go(func() { f.beat(cfg.Stream) })
	}
	f.running.Go(f.accept)
	return f, nil
}

func (f *floor) accept() {
	for {
		conn, err := f.ln.Accept()
		if err != nil {
			return // closed
		}
		if err := f.enter(conn); err != nil {
			_ = conn.Close() // the client sees it
		}
	}
}

// enter reads the request, which a client sends at once, and subscribes.
func (f *floor) enter(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	r, err := http.ReadRequest(bufio.NewReaderSize(conn, 1<<10))
	if err != nil {
		return err
	}
	c := &floorConn{conn: conn}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) { c.fd = int(fd) }); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shutdown {
		return net.ErrClosed
	}
	f.conns = append(f.conns, conn)
	for _, s := range strings.Split(r.URL.Query().Get("topics"), ",") {
		topic, err := strconv.Atoi(s)
		if err != nil || topic < 0 || topic >= len(f.topics) {
			return fmt.Errorf("topic %q", s)
		}
		f.topics[topic] = append(f.topics[topic], c)
	}
	_, err = conn.Write([]byte(f.greeting))
	return err
}

func (f *floor) publish(topic int, _ wire.Template, payload []byte) error {
	if f.events == nil {
		f.send(topic, fanout.NewFrame(fanout.Binary, payload).Bytes())
		return nil
	}
	f.events.add(topic, payload)
	if !f.gathers {
		f.send(topic, f.events.chunk(topic))
	}
	return nil
}

// beat sends what was gathered, again and again.
func (f *floor) beat(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-f.ending:
			return
		case <-tick.C:
		}
		for topic := range f.topics {
			if chunk := f.events.chunk(topic); chunk != nil {
				f.send(topic, chunk)
			}
		}
	}
}

// send writes the same to all subscribers of a topic.
func (f *floor) send(topic int, frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.topics[topic] {
		if !c.dead {
			f.write(c, frame)
		}
	}
}

// write writes a frame, and waits when the socket is full.
func (f *floor) write(c *floorConn, frame []byte) {
	f.writes++
	n, err := syscall.Write(c.fd, frame)
	if err == nil && n == len(frame) {
		return
	}
	if err == nil || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		_, err = c.conn.Write(frame[max(0, n):])
	}
	c.dead = err != nil
}

func (f *floor) address() string { return f.ln.Addr().String() }

func (f *floor) counters() map[string]float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return map[string]float64{Writes: float64(f.writes), Frames: float64(f.writes)}
}

func (f *floor) close() error {
	err := f.ln.Close()
	close(f.ending)
	f.running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shutdown = true
	for _, c := range f.conns {
		_ = c.Close() // the clients have gone before
	}
	return err
}
