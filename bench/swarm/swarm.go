// Package swarm is thousands of WebSocket or SSE clients that cost next to nothing: one loop over epoll, one read per wake-up,
// frames looked at in place. They check that nothing is missing, and measure how old each message is against the time at
// which it was meant to be sent; beyond that they do nothing with it. A swarm runs in a process of its own, on one thread.
//
// It knows the market's messages only as far as that needs: topic, sequence and time of book updates and trades.
package swarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
)

// Name is the part's, for proc.Start.
const Name = "swarm"

// MaxClients is how many fit into a process, whose open files are limited to 20,000; MaxSecureClients is how many do with TLS.
const (
	MaxClients       = 9_500
	MaxSecureClients = 6_000
)

// Config says which clients there are. A client's topics are a random choice that depends on Seed and its number alone.
type Config struct {
	Number   int // of the swarm: decides its source address on the loopback, 127.0.1.(1+Number)
	Clients  int
	First    int    // number of the first client
	Protocol string // that the server speaks: "" for an edge's, of which SSE says which, or the kind of another server, as target.Floor
	Channel  string // book or trades
	JSON     bool
	SSE      bool          // read event streams, of trades alone
	Rate     time.Duration // of the streams
	Deflate  bool          // offer permessage-deflate, or take gzip
	Topics   int           // that there are
	Symbols  []string      // of the topics' instruments; nil is the lab's
	Base     []uint64      // of target.Started
	Each     int           // that each client has
	Seed     uint64
	Aged     bool   // nobody knows when messages were meant to be sent: ages are taken of all that arrives meanwhile
	Acks     string // tell there what all clients have; needs one topic

	Sources  []string // addresses that clients come from, in turn; without any the kernel chooses, but for the loopback of IPv4
	Token    string   // a bearer's
	Insecure bool     // take any certificate

	// Of other servers.
	TopicName        string // what they call a topic; see target.TopicName
	SubscribeMessage string // sent first, by clients of a plain broadcast; with {topic} in it, once for each topic
}

// Connect is the argument of connect and of failover.
type Connect struct {
	Addr      string  // HOST:PORT, or a URL: ws, wss, http or https
	AtOnce    int     // connections being made at a time; 0 is no limit
	PerSecond float64 // connections being begun; 0 is no limit
	Deadline  time.Duration
}

// Connected is the answer to connect.
type Connected struct {
	Ready    int           // clients that have everything they asked for
	Elapsed  time.Duration // until the last of them was ready
	Failures int           // attempts that failed
	Why      string        // the last one
}

// Report is the answer to report: what was seen since the last begin.
type Report struct {
	Messages  int64  // market messages
	Updates   int64  // updates that they stand for: more when some were merged
	Bytes     int64  // read, with everything around the messages
	Histogram string // of their ages in µs, encoded; see Decode
	Faults
	Lags   int64  // lag notices
	Early  int64  // messages whose time was still to come: its clock is ahead of ours
	Why    string // the last close frame, or error
	Behind int    // clients that do not have everything up to the published count given
}

// Faults count what must not happen.
type Faults struct {
	Gaps       int64 // messages that did not follow
	GapNotices int64 // losses that the server told
	Again      int64 // messages that a client had already; behind a resumption a WebSocket's replay may overlap
	Closed     int64 // connections that the server ended
	Malformed  int64
}

// Add adds others.
func (f *Faults) Add(g Faults) {
	f.Gaps += g.Gaps
	f.GapNotices += g.GapNotices
	f.Again += g.Again
	f.Closed += g.Closed
	f.Malformed += g.Malformed
}

// Sum is how many there are.
func (f *Faults) Sum() int64 { return f.Gaps + f.GapNotices + f.Again + f.Closed + f.Malformed }

// Sample is the answer to sample: how it stands.
type Sample struct {
	Report        // of everything since the last begin, but for the histogram: of what came since the last sample
	Connected int // clients that have everything they asked for
}

// Decode reads Report.Histogram.
func Decode(s string) (*hdrhistogram.Histogram, error) { return hdrhistogram.Decode([]byte(s)) }

// Swarm is the clients and their loop.
type Swarm struct {
	cfg     Config
	dialect dialect // that is one of the following two
	sockets sockets // nil for event streams
	streams streams // nil for WebSocket
	adopts  bool    // the first message of a topic says where it begins
	since   int64   // µs: what was due before is no first message
	symbols symbols
	sources []netip.Addr
	epoll   int
	pipe    [2]int        // a command waits when it can be read
	do      chan func()   // room for one
	dead    chan struct{} // closed when the loop has ended
	failed  error         // why, set before dead is closed
	clients []*client
	buf     []byte
	ackFD   int
	arrived []int  // how many clients have message i, at i modulo the length
	all     uint64 // how many messages every client has

	goal      *goal
	path      string    // goal's
	waiting   []*client // to be connected
	later     []*client // to be connected when their pause is over, the first one first
	opening   int       // being connected
	atOnce    int
	perSecond float64
	begun     time.Time // when the goal was set
	attempts  int       // since then
	heardOf   bool      // something has ever come from a server
	heardAt   time.Time // the last time that a client that was not ready yet has heard something
	gaveUp    error     // why no more connections are made
	ready     int
	readyAt   time.Time
	failover  bool // those whose connection ends connect again
	paused    bool // nothing is read

	life    context.Context // of the tunnels
	tunnels sync.WaitGroup

	inflated map[string][]byte // of compressed messages, which are the same for all clients
	known    map[string]*known // of event streams' text, by itself
	heard    event             // being dealt with

	lastSnapshot struct { // of an event stream
		text []byte
		seqs map[int]uint32 // by topic
	}

	report    Report
	measuring bool                    // what arrives is counted
	windows   []window                // the ages of what was due then are taken, whenever it arrives
	hist      *hdrhistogram.Histogram // since the last sample

	// Of the commands, of which there is one at a time.
	spare *hdrhistogram.Histogram // takes the place of hist, which is looked at beside the loop
	total *hdrhistogram.Histogram // since the last begin, without hist

	failures int
	why      string
}

// Serve is the child: it does what it is asked until the input ends.
func Serve(in io.Reader, out io.Writer) error {
	life, hangUp := context.WithCancel(context.Background())
	defer hangUp()
	s := &Swarm{life: life, do: make(chan func(), 1), dead: make(chan struct{}), hist: schedule.NewHistogram(), spare: schedule.NewHistogram(), total: schedule.NewHistogram(), buf: make([]byte, 2<<20), ackFD: -1, inflated: map[string][]byte{}, known: map[string]*known{}}
	handlers := proc.Handlers{
		"start": proc.Handle(func(cfg Config) (any, error) {
			if err := s.start(cfg); err != nil {
				return nil, err
			}
			go func() { // ends when do is closed, and is waited for below
				s.failed = s.loop()
				close(s.dead)
			}()
			return nil, nil
		}),
		"connect":  proc.Handle(s.connect),
		"failover": proc.Handle(s.prepare),
		"settled":  proc.Handle(s.settled),
		"begin":    s.command(func() any { return s.begin() }),
		"sample":   func(json.RawMessage) (any, error) { return s.sample() },
		"scatter":  s.command(func() any { s.scatter(); return nil }),
		"on":       s.command(func() any { s.measure(true); return nil }),
		"off":      s.command(func() any { s.measure(false); return nil }),
		"pause":    s.command(func() any { s.paused = true; return nil }),
		"resume":   s.command(func() any { s.paused = false; return nil }),
		"report":   proc.Handle(s.result),
	}
	err := proc.Serve(in, out, handlers)
	if s.epoll == 0 {
		return err
	}
	close(s.do)
	s.nudge()
	<-s.dead
	hangUp()
	s.tunnels.Wait()
	return errors.Join(err, s.failed)
}

// command makes a handler of something that the loop does.
func (s *Swarm) command(f func() any) func(json.RawMessage) (any, error) {
	return func(json.RawMessage) (reply any, err error) {
		return reply, s.ask(func() { reply = f() })
	}
}

// ask has the loop do something and waits for it.
func (s *Swarm) ask(f func()) error {
	done := make(chan struct{})
	s.do <- func() { f(); close(done) }
	s.nudge()
	select {
	case <-done:
		return nil
	case <-s.dead:
		return fmt.Errorf("the clients' loop has ended: %w", s.failed)
	}
}

func (s *Swarm) nudge() { _, _ = syscall.Write(s.pipe[1], []byte{0}) } // a full pipe has been heard

func (s *Swarm) start(cfg Config) (err error) {
	s.cfg = cfg
	if s.sources, err = cfg.parseSources(); err != nil {
		return err
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the token has characters that no header may have")
	}
	if s.symbols, err = newSymbols(cfg.Symbols, cfg.Topics); err != nil {
		return err
	}
	if err := s.speak(); err != nil {
		return err
	}
	if s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create: %w", err)
	}
	if err := syscall.Pipe2(s.pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	if err := s.watch(s.pipe[0], -1, syscall.EPOLLIN, syscall.EPOLL_CTL_ADD); err != nil {
		return err
	}
	if cfg.Acks != "" {
		if s.ackFD, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		if err := syscall.Connect(s.ackFD, &syscall.SockaddrUnix{Name: cfg.Acks}); err != nil {
			return fmt.Errorf("connect %s: %w", cfg.Acks, err)
		}
		s.arrived = make([]int, 1<<14)
	}
	for i := range cfg.Clients {
		number := cfg.First + i
		random := rand.New(rand.NewPCG(cfg.Seed, uint64(number))) //nolint:gosec // a reproducible choice
		s.clients = append(s.clients, &client{
			index: int32(i), fd: -1, topics: random.Perm(cfg.Topics)[:cfg.Each], seqs: make([]uint32, cfg.Topics),
		})
	}
	return nil
}

func (s *Swarm) watch(fd int, index int32, events uint32, op int) error {
	ev := syscall.EpollEvent{Events: events, Fd: index}
	if err := syscall.EpollCtl(s.epoll, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// loop does everything that concerns the clients, until do is closed.
func (s *Swarm) loop() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer s.closeAll()
	events := make([]syscall.EpollEvent, 512)
	for {
		n, err := syscall.EpollWait(s.epoll, events, s.patience())
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		asked := false
		for i := range max(0, n) {
			if ev := &events[i]; ev.Fd < 0 {
				asked = true
			} else {
				s.event(s.clients[ev.Fd], ev.Events)
			}
		}
		if asked && !s.commands() {
			return nil
		}
		s.open()
		s.despair(time.Now())
	}
}

// patience is how long the loop waits for something to happen, in ms.
func (s *Swarm) patience() int {
	const most = 100
	if len(s.waiting) == 0 || s.gaveUp != nil {
		return most
	}
	if wait := s.wait(time.Now()); wait > 0 {
		return min(most, int(wait.Milliseconds())+1)
	}
	return most // somebody must be ready first
}

// commands does what has been asked for, and nothing else while the swarm is paused; false when the end was.
func (s *Swarm) commands() bool {
	var b [64]byte
	_, _ = syscall.Read(s.pipe[0], b[:]) // only to empty it
	for more := true; more; {
		var f func()
		if s.paused {
			f, more = <-s.do
		} else {
			select {
			case f, more = <-s.do:
			default:
				return true
			}
		}
		if more {
			f()
		}
	}
	return false
}

func (s *Swarm) closeAll() {
	for _, c := range s.clients {
		s.drop(c)
	}
	_ = syscall.Close(s.epoll)
	_ = syscall.Close(s.pipe[0])
	_ = syscall.Close(s.pipe[1])
	if s.ackFD >= 0 {
		_ = syscall.Close(s.ackFD)
	}
}

// connect makes all connections and waits until every client is ready.
func (s *Swarm) connect(arg Connect) (any, error) {
	goal, err := s.cfg.aim(s.life, arg.Addr)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := s.ask(func() {
		s.head(goal, &arg, begin)
		s.waiting = append(s.waiting, s.clients...)
	}); err != nil {
		return nil, err
	}
	return s.await(begin, arg.Deadline)
}

// head sets where clients go from now on.
func (s *Swarm) head(to *goal, arg *Connect, now time.Time) {
	s.goal, s.path, s.atOnce, s.perSecond = to, to.path, arg.AtOnce, arg.PerSecond
	s.begun, s.attempts, s.gaveUp = now, 0, nil
}

// prepare has the clients go to another server, all at once, when their connection ends, and ask it for what they miss.
func (s *Swarm) prepare(arg Connect) (any, error) {
	goal, err := s.cfg.aim(s.life, arg.Addr)
	if err != nil {
		return nil, err
	}
	return nil, s.ask(func() {
		s.head(goal, &arg, time.Now())
		s.failover = true
	})
}

// Settled is the argument of settled. A client is ready again when it has a message that was due after its connection ended.
type Settled struct {
	Begin    int64 // µs since 1970, from when on Connected.Elapsed counts
	Deadline time.Duration
}

// settled waits until all clients are ready again after a failover.
func (s *Swarm) settled(arg Settled) (any, error) {
	return s.await(time.UnixMicro(arg.Begin), arg.Deadline)
}

func (s *Swarm) await(begin time.Time, limit time.Duration) (any, error) {
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		var c Connected
		var gaveUp error
		if err := s.ask(func() {
			gaveUp = s.gaveUp
			c = Connected{Ready: s.ready, Failures: s.failures, Why: s.why, Elapsed: s.readyAt.Sub(begin)}
		}); err != nil {
			return nil, err
		}
		if gaveUp != nil && c.Ready < len(s.clients) {
			return nil, gaveUp
		}
		if c.Ready == len(s.clients) || time.Now().After(deadline) {
			return c, nil
		}
	}
}

// measure begins to measure, or ends it. What is late when it ends is no less late for that: the ages that count are those of the
// messages that were due meanwhile.
func (s *Swarm) measure(on bool) {
	now := time.Now().UnixMicro()
	last := len(s.windows) - 1
	if s.measuring && last >= 0 {
		s.windows[last].until = now
	}
	if s.measuring = on; on {
		s.windows = append(s.windows, window{now, math.MaxInt64})
	}
}

// window is a time that is measured, from its begin to before its end, in µs.
type window struct{ from, until int64 }

// wanted tells whether what was due then is measured. Most is of the last window; what is very late is of one before.
func (s *Swarm) wanted(due int64) bool {
	for i := len(s.windows) - 1; i >= 0; i-- {
		if w := &s.windows[i]; due >= w.from {
			return due < w.until
		}
	}
	return false
}

// begin begins anew, and returns what is forgotten by that: faults in it are faults nevertheless.
func (s *Swarm) begin() (forgotten Report) {
	forgotten, s.report, s.windows, s.measuring = s.report, Report{}, nil, false
	s.measure(true)
	s.hist.Reset()
	s.total.Reset()
	return forgotten
}

// forgive has the faults so far told, so that they are not told again.
func (r *Report) forgive() { r.Faults = Faults{} }

// collect has the loop do f, and returns what it measured since the last time, which is valid until the next one.
func (s *Swarm) collect(f func()) (taken *hdrhistogram.Histogram, err error) {
	s.spare.Reset()
	if err := s.ask(func() {
		f()
		s.hist, s.spare = s.spare, s.hist
	}); err != nil {
		return nil, err
	}
	s.total.Merge(s.spare)
	return s.spare, nil
}

func (s *Swarm) sample() (any, error) {
	var now Sample
	taken, err := s.collect(func() { now = Sample{Report: s.report, Connected: s.ready} })
	if err != nil {
		return nil, err
	}
	now.Histogram, err = encode(taken)
	return now, err
}

// encode is what Decode reads.
func encode(h *hdrhistogram.Histogram) (string, error) {
	b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	return string(b), err
}

// scatter ends all connections at once, as a network that fails does, and has the clients come back for what they miss.
func (s *Swarm) scatter() {
	now := time.Now().UnixMicro()
	for _, c := range s.clients {
		if c.state != running {
			continue
		}
		s.drop(c)
		c.lost = now
		s.waiting = append(s.waiting, c)
	}
}

// Have is the argument of report: what has been published in all, to find clients that do not have it; 0 asks for nothing.
type Have struct {
	Published uint64
	Take      bool // faults are told once: they are in no later report
}

func (s *Swarm) result(arg Have) (any, error) {
	var r Report
	_, err := s.collect(func() {
		r = s.report
		if arg.Take {
			s.report.forgive()
		}
		if arg.Published == 0 {
			return
		}
		for _, c := range s.clients {
			if !c.complete(&s.cfg, arg.Published) {
				r.Behind++
			}
		}
	})
	if err != nil {
		return nil, err
	}
	r.Histogram, err = encode(s.total)
	return r, err
}

// base is the sequence that a topic's first message follows.
func (cfg *Config) base(topic int) uint64 {
	if cfg.Base == nil {
		return target.Last(cfg.Channel, cfg.Topics, topic, 0)
	}
	return cfg.Base[topic]
}

// complete tells whether a client has all of what was published, which went round the topics.
func (c *client) complete(cfg *Config, published uint64) bool {
	for _, t := range c.topics {
		want := cfg.base(t) + target.Share(cfg.Topics, t, published)
		if uint64(c.seqs[t]) != want {
			return false
		}
	}
	return true
}
