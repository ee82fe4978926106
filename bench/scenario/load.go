// Package scenario measures the edges under load: the WebSocket's, and the public one with its event streams, alone or in a
// deployment. A scenario starts what serves, what publishes and the clients in processes of their own, lets them run, and
// says what it saw. Slow is not wrong: what is too much for the machine shows in the figures alone.
//
// A scenario runs several times, with fresh servers if it starts them. Where a floor is measured it and the edge take turns within each run: a
// shared machine's speed changes from second to second, and the ratio of neighbours stays.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
)

// The systems that are started for a measurement, when no running one is named.
const (
	EdgeAlone  = "edge" // one edge, without Kafka, fed by hand
	Everything = "all"  // tickwire all: raw records through broker and ingest
)

// repeat does so many runs of a row. One that the user interrupts may fail, and is the last; the ones before it are reported.
func repeat(ctx context.Context, runs int, row *report.Row, run func(n int) error) error {
	for n := range runs {
		if n > 0 && schedule.Interrupted(ctx) {
			break
		}
		err := run(n)
		if err != nil && n > 0 && schedule.Interrupted(ctx) {
			row.Notes = append(row.Notes, fmt.Sprintf("run %d has no figures: %v", n+1, err))
			break
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gathers is how long an edge gathers what it sends.
func (l *Load) gathers() time.Duration { return max(l.Flush, l.Stream) }

// Load is light clients, what is published to them, and who serves them.
type Load struct {
	Deployment  deployment.Config
	System      string  // EdgeAlone or Everything, when Deployment names nothing
	Edge        string  // ws or sse
	Topics      int     // that are published
	Each        int     // topics of each client, at random
	Rate        float64 // messages per second over all topics
	Channel     string  // book or trades
	Format      string  // sbe or json
	Size        int     // bytes of a message in SBE, about
	Compress    bool    // clients offer compression
	Stream      time.Duration
	Flush       time.Duration // the pause of a started edge between writes to a client
	Shards      int           // of a started edge
	ConnectRate float64       // connections per second; 0 is as fast as it goes
	Seed        uint64        // of the choice of topics
}

// DefaultLoad is a market of 200 topics, of which each client of the WebSocket edge has 20.
func DefaultLoad() Load {
	return Load{System: EdgeAlone, Edge: "ws", Topics: 200, Each: 20, Rate: 1000, Channel: "book", Size: 154, Shards: 1, Seed: 1}
}

// DefaultStreams is one event stream of trades.
func DefaultStreams() Load {
	l := DefaultLoad()
	l.Edge, l.Topics, l.Each, l.Rate, l.Size = "sse", 1, 1, 100, 80
	return l
}

// RegisterFlags adds the flags that scenarios with light clients have.
func (l *Load) RegisterFlags(f *pflag.FlagSet) {
	l.Deployment.RegisterFlags(f)
	f.Lookup("alerts").Hidden = true // nothing is measured there
	l.Deployment.Rival.RegisterFlags(f)
	f.StringVar(&l.System, "system", l.System, "what to start when no running servers are named: `edge|all`: one edge alone, fed by hand, or everything, with raw records through broker and ingest")
	f.IntVar(&l.Topics, "topics", l.Topics, "topics that are published")
	f.IntVar(&l.Each, "each", l.Each, "topics of each client, at random")
	f.Float64Var(&l.Rate, "rate", l.Rate, "messages per second, over all topics")
	f.IntVar(&l.Size, "size", l.Size, "bytes of a message in SBE, as near as those of the channel come")
	f.IntVar(&l.Shards, "shards", l.Shards, "loops that write to the clients, of a started edge")
	f.Float64Var(&l.ConnectRate, "connect-rate", 0, "connections made per second; 0 is as fast as it goes")
	f.Uint64Var(&l.Seed, "seed", l.Seed, "of the choice of topics")
}

// RegisterEdge adds the flag that chooses the edge, for scenarios that know both.
func (l *Load) RegisterEdge(f *pflag.FlagSet) {
	f.StringVar(&l.Edge, "edge", l.Edge, "whose clients: `ws|sse`")
	l.registerFormat(f)
	l.registerStream(f)
	f.DurationVar(&l.Flush, "flush", 0, "the pause of a started edge between writes to a client")
}

func (l *Load) registerFormat(f *pflag.FlagSet) {
	f.StringVar(&l.Channel, "channel", l.Channel, "`book|trades`; event streams have trades")
	f.StringVar(&l.Format, "format", l.Format, "of WebSocket messages: `sbe|json`; by default sbe, and json with --protocol")
}

func (l *Load) registerStream(f *pflag.FlagSet) {
	f.DurationVar(&l.Stream, "stream", l.Stream, "rate of the event streams: 0 (each event as it comes), 100ms, 250ms, 1s or 5s")
}

// maxClients is what the open files of one server process allow.
const maxClients = 19_500

// Validate says what is wrong, and settles what follows from the edge.
func (l *Load) Validate() error {
	switch l.Edge {
	case "sse":
		l.Channel, l.Format = "trades", "json" // streams have nothing else that is measured here
	case "ws":
		l.Stream = 0
	default:
		return fmt.Errorf("--edge: %q is neither ws nor sse", l.Edge)
	}
	switch l.Format = strings.ToLower(l.Format); {
	case l.Format != "":
	case l.Deployment.Rival.Protocol != "":
		l.Format = "json"
	default:
		l.Format = "sbe"
	}
	if err := l.Deployment.Validate(); err != nil {
		return err
	}
	if n := len(l.Deployment.Symbols); n > 0 {
		l.Topics, l.Each = n, min(l.Each, n)
	}
	switch {
	case l.Deployment.Named() && l.sse() && l.Deployment.SSE == "":
		return errors.New("--sse: the URL of the public edge is missing, whose event streams are measured")
	case l.Deployment.Named() && !l.sse() && l.Deployment.WS == "":
		return errors.New("--ws: the URL of the WebSocket edge is missing, which is measured")
	case l.Edge == "sse" && l.Each > 64:
		return errors.New("--each: an event stream has at most 64 symbols")
	case l.System != EdgeAlone && l.System != Everything:
		return fmt.Errorf("--system: %q is neither edge nor all", l.System)
	case l.Format != "sbe" && l.Format != "json":
		return fmt.Errorf("--format: %q is neither sbe nor json", l.Format)
	case l.Channel != "book" && l.Channel != "trades":
		return fmt.Errorf("--channel: %q is neither book nor trades", l.Channel)
	case l.Topics < 1 || l.Topics > 10_000:
		return errors.New("--topics: from 1 to 10,000")
	case l.Each < 1 || l.Each > l.Topics:
		return errors.New("--each: from 1 to --topics")
	case !(l.Rate > 0) || l.Rate > 1e7:
		return errors.New("--rate: above 0, and at most 10,000,000")
	case l.Stream < 0 || l.Flush < 0 || l.ConnectRate < 0:
		return errors.New("--stream, --flush and --connect-rate: not negative")
	case l.Edge == "sse" && l.Compress && l.Stream == 0:
		return errors.New("--gzip: event streams are compressed with a --stream above 0 only")
	}
	return l.validateRival()
}

// validateRival says what can not be had of a server that is not ours.
func (l *Load) validateRival() error {
	rival := &l.Deployment.Rival
	switch {
	case rival.Protocol == "":
	case l.Stream > 0:
		return fmt.Errorf("--stream: not with --protocol %s", rival.Protocol)
	case l.Compress:
		return fmt.Errorf("--deflate and --gzip: not with --protocol %s", rival.Protocol)
	case l.Format == "sbe" && rival.Protocol == target.Centrifugo:
		return fmt.Errorf("--format: %s carries JSON", rival.Protocol)
	case rival.Protocol == target.WS && l.Each < l.Topics && !strings.Contains(rival.SubscribeMessage, target.TopicMark):
		return errors.New("--each: a plain broadcast sends every topic to every client, as many as --topics")
	}
	return l.Deployment.ValidateRival(l.sse())
}

// sse tells whether the clients read event streams.
func (l *Load) sse() bool { return l.Edge == "sse" }

// alone tells whether the system is one edge, fed by hand.
func (l *Load) alone() bool {
	return !l.Deployment.Named() && l.System == EdgeAlone && len(l.Deployment.Kafka.Brokers) == 0
}

// Looks tells whether a market that runs already is looked at, rather than published.
func (l *Load) Looks() bool {
	return l.Deployment.Named() && len(l.Deployment.Kafka.Brokers) == 0 && l.Deployment.Rival.Publish == ""
}

// pace tells a reader how fast the market is.
func (l *Load) pace() string {
	if l.Looks() {
		return "the market's own pace"
	}
	return fmt.Sprintf("%g messages/s", l.Rate)
}

// offered is how many deliveries per second a schedule with that rate asks for.
func (l *Load) offered(clients int, rate float64) float64 {
	return rate * float64(clients*l.Each) / float64(l.Topics)
}

// target is the configuration of what publishes.
func (l *Load) target() target.Config {
	return target.Config{
		Kind: target.Edge, SSE: l.sse(), Topics: l.Topics, Size: l.Size, Channel: l.Channel, Flush: l.Flush, Stream: l.Stream, Shards: l.Shards,
	}
}

// what tells a reader what the clients get.
func (l *Load) what() string {
	each := fmt.Sprintf("%d of %d topics each", l.Each, l.Topics)
	if l.Looks() {
		each = "the market that runs there, at most " + each // it may have fewer
	}
	switch {
	case l.sse() && l.Stream > 0:
		return fmt.Sprintf("event streams of trades gathered over %v, %s", l.Stream, each)
	case l.sse():
		return "event streams of trades as they come, " + each
	case l.Looks() || l.Format != "sbe": // how long a message is in JSON, the figures tell
		return fmt.Sprintf("%s in %s, %s", l.Channel, strings.ToUpper(l.Format), each)
	}
	return fmt.Sprintf("%s in %s, %s, about %d bytes", l.Channel, strings.ToUpper(l.Format), each, target.FrameSize(l.Channel, l.Size))
}

// system is what the report says of what was measured.
func (l *Load) system() report.System {
	s := report.System{Name: "tickwire", Protocol: "WebSocket, " + strings.ToUpper(l.Format), Local: true}
	if l.sse() {
		s.Protocol = "event streams"
	}
	if rival := l.Deployment.Rival.Protocol; rival != "" {
		s.Name = rival
	}
	switch {
	case l.alone():
		s.Where = "one edge, started for this run and fed by hand"
	case l.Deployment.Named():
		s.Where, s.Local = l.Deployment.Addresses(), l.Deployment.PID > 0
	default:
		s.Where = "everything, started for this run"
	}
	return s
}
