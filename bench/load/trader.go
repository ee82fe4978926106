package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/stream"
)

// trader writes trades beneath and above the limit of alerts.
type trader struct {
	w       *stream.RawWriter
	session string
	headers []stream.Header
	syms    []string
	sent    atomic.Int64

	late   *hdrhistogram.Histogram // read when run has returned
	trades int
}

// newTrader makes one, with names that begin with Prefix.
func newTrader(ctx context.Context, cluster *stream.Cluster, instruments int) (*trader, error) {
	w, err := cluster.RawWriter(ctx, cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		return nil, err
	}
	t := &trader{w: w, session: "bench-" + strconv.FormatInt(time.Now().UnixMicro(), 10), late: schedule.NewHistogram()}
	t.headers = []stream.Header{{Key: "source", Value: []byte("tickwire")}, {Key: "session", Value: []byte(t.session)}}
	for i := range instruments {
		t.syms = append(t.syms, fmt.Sprintf("%sALERT-%d", Prefix, i))
	}
	return t, nil
}

// list tells the servers of the instruments, each with a trade below the limit.
func (t *trader) list() error {
	for _, sym := range t.syms {
		now := time.Now()
		err := t.write(sym, fmt.Appendf(nil, `{"type":"instrument","sym":%q,"source":"tickwire","ps":2,"ss":5,"tick":"0.01","ts":%d}`, sym, now.UnixMicro()))
		if err := errors.Join(err, t.trade(sym, low, now)); err != nil {
			return err
		}
	}
	return nil
}

// trade writes one. Its id is a name, and another one in each run.
func (t *trader) trade(sym, price string, at time.Time) error {
	t.trades++
	return t.write(sym, fmt.Appendf(nil, `{"type":"trade","sym":%q,"price":%q,"size":"0.1","side":"buy","id":"%s-%d","ts":%d}`, sym, price, t.session[len("bench-"):], t.trades, at.UnixMicro()))
}

func (t *trader) write(sym string, value []byte) error {
	if err := t.w.Write(&stream.Record{Key: []byte(sym), Value: value, Headers: t.headers}); err != nil {
		return fmt.Errorf("write to md.raw: %w", err)
	}
	t.sent.Add(1)
	return nil
}

// tick is a trade that is due.
type tick struct {
	at   time.Time
	sym  string
	high bool
}

// run writes ticks when they are due, until next has no more, and measures how late it is from from on.
func (t *trader) run(ctx context.Context, from time.Time, next func() (tick, bool)) error {
	runtime.LockOSThread() // see schedule.SleepUntil
	defer runtime.UnlockOSThread()
	for {
		due, ok := next()
		if !ok {
			return nil
		}
		schedule.SleepUntil(ctx, due.at)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !due.at.Before(from) {
			schedule.Record(t.late, due.at.UnixMicro(), time.Now().UnixMicro())
		}
		price := low
		if due.high {
			price = high
		}
		if err := t.trade(due.sym, price, due.at); err != nil {
			return err
		}
	}
}
