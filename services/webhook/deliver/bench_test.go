package deliver

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// sink is a receiver that costs as little as it can: it looks for the end of a request, tells which it was, and answers 204.
func sink(b *testing.B, got func(id []byte)) (url string) {
	b.Helper()
	return "http://" + hostile(b, func(c net.Conn) { drain(c, got) }) + "/hook"
}

func drain(c net.Conn, got func(id []byte)) {
	r := bufio.NewReaderSize(c, 16<<10)
	for {
		n := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if text, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				n, _ = strconv.Atoi(string(bytes.TrimSpace(text)))
			}
			if id, ok := bytes.CutPrefix(line, []byte("Webhook-Id: ")); ok && got != nil {
				got(bytes.TrimSpace(id))
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(n); err != nil {
			return
		}
		if _, err := c.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n")); err != nil {
			return
		}
	}
}

// BenchmarkPost is one signed request to a local receiver and its answer, without the outbox.
func BenchmarkPost(b *testing.B) {
	s := sender(b, newMemory(), nil)
	ep := endpoint(1, sink(b, nil))
	ep.Signatures = nil
	tg := s.target(&ep)
	m := message{id: "evt_1", contentType: "application/json", body: []byte(firedBody)}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r := tg.post(b.Context(), &m); !r.OK() {
				b.Error(r.Err)
			}
		}
	})
}

// BenchmarkDeliver goes from a durable outbox to a local receiver and back: read, sent, answered, committed. deliveries/s is
// the figure.
func BenchmarkDeliver(b *testing.B) {
	for _, endpoints := range []int{1, 10, 100} {
		b.Run(strconv.Itoa(endpoints), func(b *testing.B) {
			st := openStore(b, b.TempDir())
			defer func() { _ = st.Close() }()
			url := sink(b, nil)
			urls := make([]string, endpoints)
			for i := range urls {
				urls[i] = url
			}
			tenant, _ := fill(b, st, (b.N+endpoints-1)/endpoints, func(_ int, ep *store.Endpoint) { ep.MaxInFlight = 50 }, urls...)
			s := sender(b, st, nil)
			b.ReportAllocs()
			b.ResetTimer()
			begin := time.Now()
			stop := start(b, s)
			for {
				list, err := st.Deliveries(b.Context(), store.DeliveryFilter{Tenant: tenant, State: store.DeliveryQueued, Page: store.Page{Limit: 1}})
				if err != nil {
					b.Fatal(err)
				}
				if len(list) == 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "deliveries/s")
			b.StopTimer()
			stop()
		})
	}
}
