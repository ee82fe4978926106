package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// raw writes the messages to md.raw, as a market's connector does, for servers that run elsewhere. The sequences that ingest
// gives them follow those of the base, one by one: each record makes one message.
type raw struct {
	cluster   *stream.Cluster
	w         *stream.RawWriter
	subscribe string
	headers   []stream.Header
	session   string
	topics    []topic
	keys      [][]byte // of records, by topic
	firstID   uint64   // of the first topic's trades, which count
	base      []uint64

	stop    context.CancelFunc
	beating sync.WaitGroup
	records atomic.Uint64

	// Of publish alone.
	trade market.Trade
	delta market.Delta
	buf   []byte
}

const (
	rawSource  = "tickwire" // of native records
	rawScale   = 5          // of sizes, as all our instruments have it, so that no scenario renumbers another's
	throughIn  = 30 * time.Second
	closeLimit = 10 * time.Second
)

// startRaw lists the instruments, each with a whole book and a trade, which end what an earlier session has left behind, and
// waits until ingest has put them into md.events: no gap is told later on.
func startRaw(cfg *Config, m *maker) (_ *raw, err error) {
	if len(cfg.Kafka.Brokers) == 0 {
		return nil, errors.New("no Kafka brokers are named")
	}
	r := &raw{subscribe: cfg.Subscribe, topics: m.topics, base: make([]uint64, len(m.topics)), stop: func() {}}
	to, err := cfg.Kafka.Stream("tickwire-bench")
	if err != nil {
		return nil, err
	}
	if r.cluster, err = stream.Open(to); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = r.close() // nothing is written any more
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), throughIn)
	defer cancel()
	if r.w, err = r.cluster.RawWriter(ctx, r.cluster.Topics().Raw, stream.RawWriterConfig{}); err != nil {
		return nil, err
	}
	ends, err := r.ends(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	// In nanoseconds: of two loads that begin within as many microseconds as there are topics, each would take the other's trades for its own.
	r.firstID, r.session = uint64(now.UnixNano()), fmt.Sprintf("bench-%d", now.UnixNano())
	r.headers = []stream.Header{{Key: "source", Value: []byte(rawSource)}, {Key: "session", Value: []byte(r.session)}}
	for i := range r.topics {
		r.keys = append(r.keys, []byte(r.topics[i].inst.Sym))
		if err := r.list(i, market.FromTime(now)); err != nil {
			return nil, fmt.Errorf("write to %s: %w", r.cluster.Topics().Raw, err)
		}
	}
	if err := r.await(ctx, m.channel, ends); err != nil {
		return nil, err
	}
	ctx, r.stop = context.WithCancel(context.Background())
	r.beating.Go(func() { r.beat(ctx, slices.Sorted(maps.Keys(ends))) })
	return r, nil
}

// ends tells how far md.events has come in the partitions of the instruments.
func (r *raw) ends(ctx context.Context) (map[int]int64, error) {
	ends := map[int]int64{}
	for i := range r.topics {
		p := r.partition(i)
		if _, known := ends[p]; known {
			continue
		}
		_, end, err := r.cluster.Offsets(ctx, r.cluster.Topics().Events, p)
		if err != nil {
			return nil, err
		}
		ends[p] = end
	}
	return ends, nil
}

func (r *raw) partition(n int) int { return r.w.Partition([]byte(r.topics[n].inst.Sym)) }

// list writes what an instrument begins with.
func (r *raw) list(n int, now market.Time) error {
	t := &r.topics[n]
	r.begin("instrument", &t.inst)
	b := strconv.AppendUint(append(r.buf, `,"source":"`+rawSource+`","ps":`...), uint64(t.inst.PriceScale), 10)
	r.buf = append(strconv.AppendUint(append(b, `,"ss":`...), rawScale, 10), `,"tick":"0.01"`...)
	if err := r.write(n, now); err != nil {
		return err
	}
	d := market.Delta{
		Head: market.Head{Time: now, Seq: 1}, Bids: t.book.AppendLevels(nil, market.Bid, 0), Asks: t.book.AppendLevels(nil, market.Ask, 0),
	}
	if len(d.Bids) == 0 { // nobody follows it, but the instrument has one
		d.Bids, d.Asks = []market.Level{{Price: midPrice, Size: 1}}, []market.Level{{Price: midPrice + 1, Size: 1}}
	}
	if err := r.writeBook(n, &d, `,"snapshot":true`); err != nil {
		return err
	}
	return r.writeTrade(n, &market.Trade{Head: market.Head{Time: now}, Price: midPrice, Size: 1, Side: market.Bid})
}

// await waits until what list wrote has come through ingest, and takes from there where the messages' topics stand.
func (r *raw) await(ctx context.Context, channel market.Channel, ends map[int]int64) error {
	left := len(r.topics)
	for p, end := range ends {
		expected := 0
		for n := range r.topics {
			if r.partition(n) == p {
				expected++
			}
		}
		if err := r.awaitPartition(ctx, channel, p, end, expected); err != nil {
			return fmt.Errorf("%d instruments written to %s, and not all have come to %s: does ingest run on these brokers? %w",
				left, r.cluster.Topics().Raw, r.cluster.Topics().Events, err)
		}
	}
	return nil
}

// awaitPartition is await for the instruments of a partition. Each has its trade with an id of its own, behind its book.
func (r *raw) awaitPartition(ctx context.Context, channel market.Channel, partition int, from int64, left int) error {
	f, err := r.cluster.Resume(ctx, partition, from)
	if err != nil {
		return err
	}
	defer f.Close()
	books := map[uint32]uint64{} // sequences, by instrument
	var trade market.Trade
	var snapshot market.Snapshot
	for left > 0 {
		batch, err := f.Next(ctx)
		if err != nil {
			return errors.Join(err, f.Trouble())
		}
		var ev stream.Event
		for batch.Next(&ev) {
			switch ev.Template {
			case wire.TemplateBookSnapshot:
				if err := wire.DecodeSnapshot(ev.Value, &snapshot); err != nil {
					return err
				}
				books[snapshot.Inst] = snapshot.Seq
			case wire.TemplateTrade:
				if err := wire.DecodeTrade(ev.Value, &trade); err != nil {
					return err
				}
				id, _ := trade.ID.Number()
				n := id - r.firstID // far out of range when it is somebody else's
				if n >= uint64(len(r.topics)) {
					continue
				}
				if r.base[n] = trade.Seq; channel == market.Books {
					r.base[n] = books[trade.Inst]
				}
				left--
			}
		}
	}
	return nil
}

// beat tells each second that the connection is alive.
func (r *raw) beat(ctx context.Context, partitions []int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := time.Now(); ; {
		value := fmt.Appendf(nil, `{"type":"clock","source":%q,"session":%q,"ts":%d}`, rawSource, r.session, now.UnixMicro())
		for _, p := range partitions {
			_ = r.w.WriteTo(p, &stream.Record{Value: value, Headers: r.headers}) // what ends the writer ends publish too
		}
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
	}
}

func (r *raw) publish(n int, t wire.Template, payload []byte) error {
	if t == wire.TemplateTrade {
		if err := wire.DecodeTrade(payload, &r.trade); err != nil {
			return err
		}
		return r.writeTrade(n, &r.trade)
	}
	if err := wire.DecodeDelta(payload, &r.delta); err != nil {
		return err
	}
	return r.writeBook(n, &r.delta, "")
}

// writeTrade writes a trade. The ids of an instrument count, and begin at its own.
func (r *raw) writeTrade(n int, t *market.Trade) error {
	in := &r.topics[n].inst
	r.begin("trade", in)
	b := market.AppendFixed(append(r.buf, `,"price":"`...), t.Price, in.PriceScale)
	b = market.AppendFixed(append(b, `","size":"`...), t.Size, in.SizeScale)
	if t.Side == market.Bid {
		b = append(b, `","side":"buy","id":`...)
	} else {
		b = append(b, `","side":"sell","id":`...)
	}
	r.buf = strconv.AppendUint(b, r.firstID+uint64(n)+t.Seq, 10)
	return r.write(n, t.Time)
}

// writeBook writes an update, or a whole book where fields says so.
func (r *raw) writeBook(n int, d *market.Delta, fields string) error {
	in := &r.topics[n].inst
	r.begin("book", in)
	b := strconv.AppendUint(append(append(r.buf, fields...), `,"last":`...), d.Seq, 10)
	b = appendLevels(append(b, `,"bids":[`...), in, d.Bids)
	r.buf = append(appendLevels(append(b, `],"asks":[`...), in, d.Asks), ']')
	return r.write(n, d.Time)
}

func appendLevels(b []byte, in *market.Instrument, levels []market.Level) []byte {
	for i := range levels {
		if i > 0 {
			b = append(b, ',')
		}
		b = market.AppendFixed(append(b, `["`...), levels[i].Price, in.PriceScale)
		b = market.AppendFixed(append(b, `","`...), levels[i].Size, in.SizeScale)
		b = append(b, `"]`...)
	}
	return b
}

// begin begins a record in r.buf.
func (r *raw) begin(kind string, in *market.Instrument) {
	b := append(append(r.buf[:0], `{"type":"`...), kind...)
	r.buf = append(append(append(b, `","sym":"`...), in.Sym...), '"')
}

// write ends the record in r.buf and sends it.
func (r *raw) write(n int, at market.Time) error {
	r.buf = append(strconv.AppendInt(append(r.buf, `,"ts":`...), at.Micros(), 10), '}')
	r.records.Add(1)
	return r.w.Write(&stream.Record{Key: r.keys[n], Value: r.buf, Headers: r.headers})
}

func (r *raw) address() string { return r.subscribe }

// counters is what was written; what the servers do is theirs to tell.
func (r *raw) counters() map[string]float64 {
	return map[string]float64{Records: float64(r.records.Load())}
}

func (r *raw) close() error {
	r.stop()
	r.beating.Wait()
	defer r.cluster.Close()
	if r.w == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	return r.w.Close(ctx)
}
