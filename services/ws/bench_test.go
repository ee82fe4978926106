package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// BenchmarkDeliver sends trades of 200 instruments, 10,000 a second at an even pace, to 100 clients on 10 instruments each:
// 50,000 deliveries a second over loopback sockets. It reports the CPU time of the whole process, clients included, per
// delivery, and the median time from a trade's record to a client's read.
func BenchmarkDeliver(b *testing.B) {
	const instruments, clients, each, perSecond = 200, 100, 10, 10_000
	e := startEdge(b, nil)
	defer e.end()
	m := e.s.mirror
	m.Expect(1)
	m.Phase(0, stream.PhaseReset, nil)
	for i := range instruments {
		def := btc
		def.ID, def.Sym = uint32(i+1), fmt.Sprintf("S%d", i)
		h := head(1)
		h.Inst = def.ID
		e.record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: h, Instrument: def}))
	}
	m.Phase(0, stream.PhaseReady, nil)
	var got atomic.Int64
	var mu sync.Mutex
	var ages []time.Duration
	frame := len(wire.AppendTrade(nil, &market.Trade{Head: head(1), Price: 1, Size: 1})) + 2
	start := time.Now()
	for c := range clients {
		p := e.connect(wire.SubprotocolSBE)
		topics := ""
		for i := range each {
			topics += fmt.Sprintf(`,{"ch":"trades","sym":"S%d"}`, (c*each+i)%instruments)
		}
		p.send(`{"op":"sub","id":1,"topics":[` + topics[1:] + `]}`)
		p.expect(wire.KindAck)
		_ = p.conn.SetDeadline(time.Time{})
		go func() {
			for {
				op, payload, err := p.frame()
				if err != nil {
					return
				}
				if op != opBinary || len(payload)+2 != frame {
					continue
				}
				// The trade's time is when it was due, in microseconds since start.
				if n := got.Add(1); n%16 == 0 {
					age := time.Since(start) - time.Duration(binary.LittleEndian.Uint64(payload[8+24:]))*time.Microsecond
					mu.Lock()
					ages = append(ages, age)
					mu.Unlock()
				}
			}
		}()
	}
	var seqs [instruments]uint64
	var buf []byte
	b.ResetTimer()
	before, begin := cpu(), time.Now()
	for i := range b.N {
		if due := begin.Add(time.Duration(i) * time.Second / perSecond); time.Until(due) > 0 {
			time.Sleep(time.Until(due))
		}
		inst := i % instruments
		seqs[inst]++
		due := market.Time(begin.Add(time.Duration(i) * time.Second / perSecond).Sub(start))
		buf = wire.AppendTrade(buf[:0], &market.Trade{
			Head:  market.Head{Inst: uint32(inst + 1), Epoch: epoch, Prev: seqs[inst] - 1, Seq: seqs[inst], Time: due},
			Price: 1, Size: 1,
		})
		e.record(wire.TemplateTrade, buf)
	}
	want := int64(b.N) * clients * each / instruments
	for deadline := time.Now().Add(5 * time.Second); got.Load() < want && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	spent := cpu() - before
	b.StopTimer()
	if got.Load() < want {
		b.Errorf("%d of %d deliveries", got.Load(), want)
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(want), "cpu-ns/delivery")
	mu.Lock()
	defer mu.Unlock()
	b.ReportMetric(float64(quantile(ages, 0.5).Microseconds()), "p50-µs")
	b.ReportMetric(float64(quantile(ages, 0.99).Microseconds()), "p99-µs")
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := append([]time.Duration(nil), d...)
	slices.Sort(sorted)
	return sorted[int(q*float64(len(sorted)-1))]
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReconnect is what it costs when clients come back, each with 20 topics of which it says where it stands: accept,
// handshake, and all answers. It reports the CPU time of the whole process, clients included, per connection, and how many
// there are in a second, 64 at a time.
func BenchmarkReconnect(b *testing.B) {
	e := startEdge(b, func(c *Config) { c.MaxPerIP = 0 }).instruments(crowdInstruments)
	defer e.end()
	requests := make([][]byte, 64)
	for i := range requests {
		request := strings.ReplaceAll(string(crowdRequest(i)), `{"ch":"trades",`, fmt.Sprintf(`{"ch":"trades","from":{"ep":%d,"seq":1},`, epoch))
		requests[i] = append([]byte(upgradeRequest("/v1/ws", "")), masked(0x81, []byte(request))...)
	}
	var next atomic.Int64
	var clients sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for i := range requests {
		clients.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := reconnect(e.s.Addr(), requests[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/connection")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connections/s")
}

// reconnect connects, reads up to the acknowledgement, and hangs up.
func reconnect(addr string, request []byte) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // ports run out otherwise
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, []byte(`{"id":1,`)) {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("behind %q: %w", got, err)
		}
		got = append(got, buf[:n]...)
	}
	return nil
}
