package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// FlowConfig describes a client that pauses.
type FlowConfig struct {
	Window int // bytes
	Rate   float64
	Pause  time.Duration
	After  time.Duration // looked at behind the pause
}

// DefaultFlow is a pause of eight seconds at 1,000 book updates a second.
func DefaultFlow() FlowConfig {
	return FlowConfig{Window: 32 << 10, Rate: 1000, Pause: 8 * time.Second, After: 4 * time.Second}
}

const (
	fresh       = 250 * time.Millisecond // what is older is old
	kernelSlack = 64 << 10               // of old bytes, beside those in the client's own kernel
	tooOld      = 5 * time.Second        // behind the old bytes: no slowness of the machine explains it
)

// flowRow is what a client met behind its pause.
type flowRow struct {
	Window   int
	Kernel   int           // bytes in the client's kernel when it went on
	Queued   int           // most bytes that the client had read and not handled
	Old      int           // bytes handled then that were older than fresh when the pause ended
	Largest  int           // message of the run
	Age      time.Duration // greatest age, when handled, of what came behind the old
	Lags     int           // lag notices
	Gaps     int           // messages that did not follow
	Growth   int64         // of the server's memory during the pause, bytes
	Messages int           // behind the pause
}

// RegisterFlags adds a flag for each field.
func (cfg *FlowConfig) RegisterFlags(f *pflag.FlagSet) {
	f.IntVar(&cfg.Window, "window", cfg.Window, "bytes of the flow window")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "book updates per second")
	f.DurationVar(&cfg.Pause, "pause", cfg.Pause, "of the client")
	f.DurationVar(&cfg.After, "after", cfg.After, "looked at behind the pause")
}

// Total is how long it takes, about.
func (cfg *FlowConfig) Total() time.Duration { return 3 * (3*time.Second + cfg.Pause + cfg.After) }

// Validate says what is wrong.
func (cfg *FlowConfig) Validate() error {
	if cfg.Window < 1 || !(cfg.Rate > 0) || cfg.Pause <= 0 || cfg.After <= 0 {
		return errors.New("--window, --rate, --pause and --after: above 0")
	}
	return nil
}

// Flow has a client pause in three ways, and looks at what it meets then: with a flow window nothing but that is old.
func Flow(ctx context.Context, cfg FlowConfig, rec *report.Recorder) (*report.Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	edge := Load{System: EdgeAlone, Edge: "ws", Format: "sbe"}
	r := &report.Report{
		Title: fmt.Sprintf("a client that pauses for %v at %g book updates/s, flow window %d bytes", cfg.Pause, cfg.Rate, cfg.Window), System: edge.system(),
	}
	for _, way := range []struct {
		how    string
		window int
		reads  bool
	}{
		{"window, does not read", cfg.Window, false},
		{"window, reads and does not handle", cfg.Window, true},
		{"no window, does not read", 0, false},
	} {
		rec.Phase(way.how)
		x, err := cfg.run(ctx, way.window, way.reads)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.how, err)
		}
		row := report.Row{Name: way.how}
		row.Record(x.measures())
		r.Rows = append(r.Rows, row)
	}
	return r, nil
}

func (cfg *FlowConfig) run(ctx context.Context, window int, reads bool) (*flowRow, error) {
	server, started, err := startTarget(ctx, target.Config{Kind: target.Edge, Topics: 1, Size: 154, Channel: "book"})
	if err != nil {
		return nil, err
	}
	defer server.Kill()
	if err := server.Call("publish", target.Plan{Schedule: schedule.Constant(cfg.Rate), Start: time.Now().UnixMicro()}, nil); err != nil {
		return nil, err
	}
	c, err := dialFlow(ctx, started.Addr, window)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if reads {
		c.readAhead()
	}
	return c.pauseAndSee(ctx, cfg, server)
}

// flowClient is one careful client.
type flowClient struct {
	conn   *net.TCPConn
	in     *bufio.Reader
	row    flowRow
	last   uint64 // sequence
	counts bool   // the window's count has begun
	done   uint64 // bytes handled since
	acked  uint64

	reading sync.WaitGroup
	mu      sync.Mutex // guards what follows, and writes
	ahead   bool       // a goroutine reads into queue
	queue   []flowFrame
	queued  int
	failed  error
	wake    chan struct{}
}

type flowFrame struct {
	op      byte
	payload []byte
}

func dialFlow(ctx context.Context, addr string, window int) (*flowClient, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &flowClient{conn: conn.(*net.TCPConn), in: bufio.NewReaderSize(conn, 512), wake: make(chan struct{}, 1)}
	c.row.Window = window
	if err := c.hello(addr); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// hello upgrades, and asks for the book.
func (c *flowClient) hello(addr string) error {
	_, err := fmt.Fprintf(c.conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", addr, wire.SubprotocolSBE)
	for line := ""; err == nil && line != "\r\n"; {
		line, err = c.in.ReadString('\n')
		if strings.HasPrefix(line, "HTTP/1.1 ") && !strings.HasPrefix(line, "HTTP/1.1 101 ") {
			return fmt.Errorf("refused: %q", line)
		}
	}
	if err != nil {
		return err
	}
	if c.row.Window > 0 {
		err = c.request(&wire.Request{Op: wire.OpFlow, ID: "1", Window: uint32(c.row.Window)})
	}
	return errors.Join(err, c.request(&wire.Request{Op: wire.OpSub, ID: "2", Topics: []wire.TopicRequest{
		{Topic: wire.Topic{Channel: market.Books, Sym: target.Sym(0)}},
	}}))
}

func (c *flowClient) request(r *wire.Request) error { return c.write(1, wire.AppendRequest(nil, r)) }

func (c *flowClient) write(op byte, payload []byte) error {
	b := []byte{0x80 | op, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	if n := len(payload); n > 125 {
		b = append(binary.BigEndian.AppendUint16([]byte{0x80 | op, 0x80 | 126}, uint16(n)), 0, 0, 0, 0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(append(b, payload...))
	return err
}

// read reads one frame from the connection; pings are answered at once.
func (c *flowClient) read() (f flowFrame, err error) {
	for {
		var h [10]byte
		if _, err := io.ReadFull(c.in, h[:2]); err != nil {
			return f, err
		}
		n := int(h[1])
		switch n {
		case 126:
			_, err = io.ReadFull(c.in, h[2:4])
			n = int(binary.BigEndian.Uint16(h[2:]))
		case 127:
			return f, errors.New("a frame of more than 64 KiB")
		}
		if err != nil {
			return f, err
		}
		f = flowFrame{op: h[0] & 0xF, payload: make([]byte, n)}
		if _, err := io.ReadFull(c.in, f.payload); err != nil {
			return f, err
		}
		switch f.op {
		case 9:
			if err := c.write(10, f.payload); err != nil {
				return f, err
			}
		case 8:
			return f, fmt.Errorf("closed: %q", f.payload)
		default:
			return f, nil
		}
	}
}

// readAhead reads into a queue from now on, as a browser does for a tab in the background.
func (c *flowClient) readAhead() {
	c.ahead = true
	c.reading.Go(func() {
		for {
			f, err := c.read()
			c.mu.Lock()
			if c.failed = err; err == nil {
				c.queue = append(c.queue, f)
				c.queued += len(f.payload)
				c.row.Queued = max(c.row.Queued, c.queued)
			}
			c.mu.Unlock()
			select {
			case c.wake <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	})
}

func (c *flowClient) next() (flowFrame, error) {
	if !c.ahead {
		return c.read()
	}
	for {
		c.mu.Lock()
		err := c.failed
		if len(c.queue) > 0 {
			f := c.queue[0]
			c.queue = c.queue[1:]
			c.queued -= len(f.payload)
			c.mu.Unlock()
			return f, nil
		}
		c.mu.Unlock()
		if err != nil {
			return flowFrame{}, err
		}
		<-c.wake
	}
}

func (c *flowClient) close() {
	_ = c.conn.Close() // the reader ends by it
	c.reading.Wait()
}

// pauseAndSee handles messages, pauses, and handles on.
func (c *flowClient) pauseAndSee(ctx context.Context, cfg *FlowConfig, server *proc.Proc) (*flowRow, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	for begin := time.Now(); time.Since(begin) < min(2*time.Second, cfg.Pause); {
		if _, err := c.handle(); err != nil {
			return nil, err
		}
	}
	memory := server.RSS()
	if err := schedule.Pause(ctx, cfg.Pause); err != nil {
		return nil, err
	}
	resumed := time.Now()
	c.row.Growth = server.RSS() - memory
	c.row.Kernel = unread(c.conn)
	c.row.Lags = 0
	old := true
	for time.Since(resumed) < cfg.After {
		due, err := c.handle()
		if err != nil {
			return nil, err
		}
		if due.at.IsZero() {
			continue
		}
		c.row.Messages++
		if resumed.Sub(due.at) > fresh && old {
			c.row.Old += due.bytes
			continue
		}
		old = false
		c.row.Age = max(c.row.Age, time.Since(due.at))
	}
	return &c.row, nil
}

// unread is how many bytes the kernel holds for us.
func unread(conn *net.TCPConn) (n int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // a failure leaves 0
		var v int32
		//nolint:gosec // FIONREAD, ioctl_list(2), writes an int
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&v))); e == 0 {
			n = int(v)
		}
	})
	return n
}

// due is a message that was handled: when it was meant to be sent, and its length.
type due struct {
	at    time.Time
	bytes int
}

// handle handles one message.
func (c *flowClient) handle() (d due, err error) {
	f, err := c.next()
	if err != nil {
		return d, err
	}
	c.row.Largest = max(c.row.Largest, len(f.payload))
	if f.op == 1 {
		if bytes.HasPrefix(f.payload, []byte(`{"ev":"lag"`)) {
			c.row.Lags++
		}
		if bytes.HasPrefix(f.payload, []byte(`{"id":1,`)) {
			c.counts = true
			return d, nil
		}
		return d, c.count(f)
	}
	le := binary.LittleEndian
	prev, seq := le.Uint64(f.payload[16:]), le.Uint64(f.payload[24:])
	if wire.Template(le.Uint16(f.payload[2:])) != wire.TemplateBookSnapshot && prev > c.last {
		c.row.Gaps++
	}
	c.last = seq
	return due{time.UnixMicro(int64(le.Uint64(f.payload[32:]))), len(f.payload)}, c.count(f)
}

// count acknowledges at each half of the window.
func (c *flowClient) count(f flowFrame) error {
	if !c.counts {
		return nil
	}
	c.done += uint64(len(f.payload))
	if c.done-c.acked < uint64(c.row.Window/2) {
		return nil
	}
	c.acked = c.done
	return c.request(&wire.Request{Op: wire.OpAck, Bytes: c.done})
}

// measures are the figures by their names in report.Kinds. How old the data is behind the old ones is a matter of the machine's
// speed too, and no fault unless it is out of all proportion.
func (x *flowRow) measures() map[string]float64 {
	bound := x.Window + x.Largest
	if x.Window == 0 {
		bound = x.Kernel + kernelSlack
	}
	broken := 0
	for _, is := range []bool{
		x.Old > bound, x.Age > tooOld, x.Lags == 0, x.Queued > x.Window+x.Largest+kernelSlack, x.Messages == 0,
	} {
		if is {
			broken++
		}
	}
	return map[string]float64{
		"in_kernel": float64(x.Kernel), "in_queue": float64(x.Queued), "old_bytes": float64(x.Old), "age_max": float64(x.Age.Microseconds()) / 1000,
		"lag_notices": float64(x.Lags), "gaps": float64(x.Gaps), "rss_growth": float64(x.Growth) / (1 << 20), "broken_bounds": float64(broken),
	}
}
