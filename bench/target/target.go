// Package target publishes the messages of a measurement on a schedule, in a process of its own: to a real edge that is part
// of it, to the floor beneath that, to Kafka, or to other servers; or nothing, where a market runs already. What it offers is
// called through package proc.
package target

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/all"
)

// Name is the part's, for proc.Start.
const Name = "target"

// The kinds of servers. Those of the lab run in this process; with the others the servers run elsewhere, and this process only
// publishes to them.
const (
	Edge  = "edge"
	Floor = "floor"
	Kafka = "kafka" // raw records to md.raw
	None  = "none"  // nothing: their market runs already
)

// Config says what to start.
type Config struct {
	Kind    string
	SSE     bool // the public edge and its event streams, not the WebSocket's; of trades alone
	Topics  int
	Size    int    // bytes of a frame, about
	Channel string // book or trades
	Flush   time.Duration
	Stream  time.Duration // the clients' event streams have this rate: the floor gathers as long
	Shards  int
	Swarms  int // how many send acknowledgements, for a Plan with InFlight

	// Of servers that run elsewhere.
	Subscribe string    // URL that clients go to: Started.Addr
	Kafka     all.Kafka // the cluster that has md.raw
	Symbols   []string  // of the topics' instruments; nil is Sym

	// Of servers that are not ours.
	Publish    string // URL that messages are published to
	PublishKey string // that the server wants for it
	TopicName  string // what the server calls a topic; see the function
	Binary     bool   // messages are in SBE rather than in JSON
	Insecure   bool   // take any certificate
}

// Started is the answer to start.
type Started struct {
	Addr string
	Acks string   // where swarms tell what all their clients have, for a Plan with InFlight
	Base []uint64 // by topic, the sequence that the first message published follows; nil is what Last counts from
}

// Counters by name, without what an edge's own metrics begin with; they have more.
const (
	Writes  = "writes_total"
	Frames  = "frames_total"
	Records = "records_total" // written to Kafka
)

// Stats is the answer to stats.
type Stats struct {
	Published     uint64
	LateP99       time.Duration // of what was published since the last begin: how much later than it was due
	LateMax       time.Duration
	Counters      map[string]float64
	MallocsBefore uint64 // this was asked for, which allocates too
	MallocsAfter  uint64
	Goroutines    int
}

// Ack is what a swarm sends to Started.Acks: that each of its clients has so many messages.
type Ack struct {
	Swarm uint8
	Done  uint64
}

// Append appends the datagram.
func (a Ack) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(b, a.Swarm), a.Done)
}

// server is a server that can be measured.
type server interface {
	sink
	address() string
	counters() map[string]float64
	close() error
}

// peer is the state of the child.
type peer struct {
	server  server
	pub     publisher
	acks    *net.UnixConn
	halt    context.CancelFunc
	failed  error
	profile *os.File

	publishing sync.WaitGroup
	listening  sync.WaitGroup
}

// Serve is the child: it does what it is asked until the input ends.
func Serve(in io.Reader, out io.Writer) error {
	p := &peer{}
	// The publisher's thread sleeps in the kernel; its processor slot should not be missing to the server.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	err := proc.Serve(in, out, proc.Handlers{
		"start":     proc.Handle(p.start),
		"publish":   proc.Handle(p.publish),
		"halt":      func(json.RawMessage) (any, error) { return p.stop() },
		"stats":     func(json.RawMessage) (any, error) { return p.stats(), nil },
		"published": func(json.RawMessage) (any, error) { return p.pub.count.Load(), nil }, // disturbs nobody, unlike stats
		"begin":     func(json.RawMessage) (any, error) { p.pub.late.reset(); return nil, nil },
		"free":      func(json.RawMessage) (any, error) { debug.FreeOSMemory(); return nil, nil },
		"heap":      proc.Handle(writeHeap),
		"profile":   proc.Handle(p.startProfile),
		"profiled": func(json.RawMessage) (any, error) {
			pprof.StopCPUProfile()
			return nil, p.profile.Close()
		},
	})
	return errors.Join(err, p.close())
}

func (p *peer) start(cfg Config) (any, error) {
	channel, err := market.ParseChannel(cfg.Channel)
	if err != nil || channel != market.Books && channel != market.Trades {
		return nil, fmt.Errorf("channel %q is neither book nor trades", cfg.Channel)
	}
	if cfg.SSE && channel != market.Trades {
		return nil, fmt.Errorf("channel %q: event streams have no books", cfg.Channel)
	}
	if cfg.Symbols != nil && len(cfg.Symbols) != cfg.Topics {
		return nil, fmt.Errorf("%d symbols for %d topics", len(cfg.Symbols), cfg.Topics)
	}
	p.pub.maker, p.pub.moved = newMaker(channel, cfg.Topics, cfg.Size), make(chan struct{}, 1)
	for i, sym := range cfg.Symbols {
		p.pub.maker.topics[i].inst.Sym = sym
	}
	switch cfg.Kind {
	case Edge:
		p.server, err = asServer(startEdge(&cfg, &p.pub.maker))
	case Floor:
		p.server, err = asServer(startFloor(&cfg, &p.pub.maker))
	case Kafka:
		p.server, err = asServer(startRaw(&cfg, &p.pub.maker))
	case None:
		p.server = nothing(cfg.Subscribe)
	case Centrifugo, NATS, Mercure, Nchan, WS:
		p.server, err = asServer(startRival(&cfg, &p.pub.maker))
	default:
		err = fmt.Errorf("kind %q is not known", cfg.Kind)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Kind != None {
		p.pub.sink = p.server
	}
	var base []uint64
	if r, ok := p.server.(*raw); ok {
		base = r.base
	}
	acks := fmt.Sprintf("@tickwire-bench-%d", os.Getpid()) // no file: who is killed leaves nothing behind, see unix(7)
	if p.acks, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: acks, Net: "unixgram"}); err != nil {
		return nil, err
	}
	p.listening.Go(func() { p.listen(cfg.Swarms) })
	return Started{Addr: p.server.address(), Acks: acks, Base: base}, nil
}

// asServer keeps a nil pointer from becoming a server.
func asServer[S server](s S, err error) (server, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// listen takes what swarms tell.
func (p *peer) listen(swarms int) {
	have := make(map[uint8]uint64)
	var b [9]byte
	for {
		n, err := p.acks.Read(b[:])
		if err != nil {
			return // closed
		}
		if n != len(b) {
			continue
		}
		have[b[0]] = binary.LittleEndian.Uint64(b[1:])
		if len(have) < swarms {
			continue
		}
		least := have[b[0]]
		for _, n := range have {
			least = min(least, n)
		}
		p.pub.done.Store(least)
		select {
		case p.pub.moved <- struct{}{}:
		default:
		}
	}
}

func (p *peer) publish(plan Plan) (any, error) {
	if p.halt != nil {
		return nil, errors.New("is publishing already")
	}
	ctx, halt := context.WithCancel(context.Background())
	p.halt = halt
	p.publishing.Go(func() { p.failed = p.pub.run(ctx, plan) })
	return nil, nil
}

// stop ends publishing and tells how many messages there were since the start.
func (p *peer) stop() (any, error) {
	if p.halt == nil {
		return nil, errors.New("is not publishing")
	}
	p.halt()
	p.halt = nil
	p.publishing.Wait()
	return p.stats(), p.failed
}

func (p *peer) stats() Stats {
	s := Stats{Published: p.pub.count.Load(), Goroutines: runtime.NumGoroutine()}
	var m runtime.MemStats
	s.LateP99, s.LateMax = p.pub.late.read()
	runtime.ReadMemStats(&m)
	s.MallocsBefore = m.Mallocs
	s.Counters = p.server.counters()
	runtime.ReadMemStats(&m)
	s.MallocsAfter = m.Mallocs
	return s
}

// writeHeap writes a profile of the memory in use and of all allocations so far.
func writeHeap(file string) (any, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	runtime.GC()
	return nil, errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

func (p *peer) startProfile(file string) (_ any, err error) {
	if p.profile, err = os.Create(file); err != nil {
		return nil, err
	}
	return nil, pprof.StartCPUProfile(p.profile)
}

func (p *peer) close() error {
	if p.halt != nil {
		p.halt()
	}
	var errs []error
	if p.acks != nil {
		errs = append(errs, p.acks.Close())
	}
	p.publishing.Wait()
	p.listening.Wait()
	if p.server != nil {
		errs = append(errs, p.server.close())
	}
	return errors.Join(errs...)
}
